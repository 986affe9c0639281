//! Streams and groups as the topology names them, and what waits in them.

use std::time::Duration;

use messaging_core::driver::{Action, Change, Lag, Plan, Target};
use messaging_core::spec::Source;
use messaging_core::topology::{GroupConfig, StreamConfig, StreamKind};
use messaging_core::{Error, ErrorKind, GroupName, Result, Start, Topology};
use tokio::time::Instant;

use super::State;
use super::group::{Group, Shape};
use super::stream::Stream;
use super::subscribe::identity;
use crate::driver::NAME;

impl State {
    /// What `apply` would do.
    pub(crate) fn plan(&self, topology: &Topology) -> Result<Plan> {
        let mut plan = Plan::default();
        for config in &topology.streams {
            plan.changes.extend(self.plan_stream(config)?);
        }
        for config in &topology.groups {
            plan.changes.extend(self.plan_group(config)?);
        }
        plan.unmanaged = self.unmanaged(topology)?;
        Ok(plan)
    }

    /// Makes it so.
    pub(crate) fn apply(&mut self, topology: &Topology) -> Result<Plan> {
        let plan = self.plan(topology)?;
        for config in &topology.streams {
            self.apply_stream(config);
        }
        for config in &topology.groups {
            self.apply_group(config)?;
        }
        self.forget_routes();
        Ok(plan)
    }

    /// Streams, then groups, that the topology does not name.
    fn unmanaged(&self, topology: &Topology) -> Result<Vec<String>> {
        let unnamed = |stream: &&Stream| {
            let known = || topology.stream(stream.name.name()).is_some();
            !stream.gone && !stream.name.is_dead_letters() && !known()
        };
        let streams = self.streams.iter().filter(unnamed);
        let mut all: Vec<String> =
            streams.map(|stream| Target::Stream(stream.name.clone()).to_string()).collect();
        let mut groups: Vec<&str> = self
            .named
            .keys()
            .filter(|(_, dead_letters_of)| dead_letters_of.is_none())
            .map(|(name, _)| &**name)
            .filter(|name| !topology.groups.iter().any(|group| group.name.as_str() == *name))
            .collect();
        groups.sort_unstable();
        for name in groups {
            all.push(Target::Group(name.parse()?).to_string());
        }
        Ok(all)
    }

    fn plan_stream(&self, config: &StreamConfig) -> Result<Option<Change>> {
        let target = format!("stream {}", config.name);
        let wanted = describe(config.kind, config.lanes.get(), config.retention);
        let Some(stream) = self.stream(&config.name).and_then(|n| self.streams.get(n as usize))
        else {
            return Ok(Some(Change::new(Action::Create, target, wanted)));
        };
        if stream.lanes != config.lanes {
            let text = format!(
                "{target} has {} lanes and is to have {}; keys would change lanes, so give the \
                 stream another name",
                stream.lanes, config.lanes
            );
            return Err(Error::new(ErrorKind::InvalidConfig, text).at(NAME, "provision"));
        }
        let found = describe(stream.kind, stream.lanes.get(), stream.retention);
        let drift = || Change::new(Action::Alter, target, moved(&found, &wanted));
        Ok((found != wanted).then(drift))
    }

    fn plan_group(&self, config: &GroupConfig) -> Result<Option<Change>> {
        let target = format!("group {}", config.name);
        let wanted = shape(config);
        let Some(group) = self.named_group(config.name.as_str(), &wanted) else {
            return Ok(Some(Change::new(Action::Create, target, wanted.describe())));
        };
        if group.shape == wanted {
            return Ok(None);
        }
        let (found, wanted_text) = (group.shape.describe(), wanted.describe());
        if (group.shape.ordered, group.shape.priority) != (wanted.ordered, wanted.priority) {
            let text = format!(
                "{target} is {found} and is to be {wanted_text}; only its patterns can change, so \
                 give the group another name"
            );
            return Err(Error::new(ErrorKind::InvalidConfig, text).at(NAME, "provision"));
        }
        Ok(Some(Change::new(Action::Alter, target, moved(&found, &wanted_text))))
    }

    fn apply_stream(&mut self, config: &StreamConfig) {
        let dead_letters = config.name.to_dead_letters();
        for (name, kind, retention) in [
            (&config.name, config.kind, config.retention),
            (&dead_letters, StreamKind::Log, Some(config.dead_letter_retention)),
        ] {
            let known = self.streams.iter().position(|stream| stream.name == *name);
            let number = known.unwrap_or_else(|| {
                self.streams.push(Stream::new(name.clone(), kind, self.bound));
                self.streams.len() - 1
            });
            if let Some(stream) = self.streams.get_mut(number) {
                stream.gone = false;
                stream.kind = kind;
                stream.lanes = config.lanes;
                stream.retention = retention;
            }
        }
    }

    fn apply_group(&mut self, config: &GroupConfig) -> Result<()> {
        let shape = shape(config);
        let name = config.name.as_str();
        let Some(key) = self.named.get(&identity(name, &shape)).copied() else {
            return self.create_group(Some(name.to_owned()), shape, Start::Earliest).map(drop);
        };
        let Some(group) = self.groups.get_mut(key) else { return Ok(()) };
        if group.shape == shape {
            return Ok(());
        }
        // What waits and is no longer received is settled, as if it had never come.
        let (streams, garbage) = (&mut self.streams, &mut self.garbage);
        group.retain_waiting(|place| {
            let Some(stream) = streams.get_mut(place.stream as usize) else { return false };
            let kept = stream
                .log
                .get(place.seq)
                .is_some_and(|entry| shape.receives(&stream.name, &entry.message.subject));
            if !kept {
                garbage.extend(stream.settle(place.seq));
            }
            kept
        });
        group.shape = shape;
        (0..self.streams.len() as u32).for_each(|stream| self.let_in(stream));
        Ok(())
    }

    /// What waits, per group and stream.
    pub(crate) fn lag(&self, wanted: Option<&GroupName>, now: Instant) -> Result<Vec<Lag>> {
        let mut rows = Vec::new();
        let mut found = false;
        for (_, group) in self.groups.iter() {
            let Some(name) = &group.name else { continue };
            if wanted.is_some_and(|wanted| wanted.as_str() != name) {
                continue;
            }
            found = true;
            let name: GroupName = name.parse()?;
            let streams = (0..).zip(&self.streams);
            let concerned =
                streams.filter(|(_, stream)| !stream.gone && group.shape.concerns(&stream.name));
            rows.extend(
                concerned.map(|(number, stream)| lag_of(group, &name, number, stream, now)),
            );
        }
        match wanted {
            Some(wanted) if !found => {
                let text = format!("group {wanted} does not exist");
                Err(Error::new(ErrorKind::NotFound, text).at(NAME, "lag"))
            }
            _ => Ok(rows),
        }
    }

    fn named_group(&self, name: &str, shape: &Shape) -> Option<&Group> {
        self.named.get(&identity(name, shape)).and_then(|key| self.groups.get(*key))
    }
}

fn lag_of(group: &Group, name: &GroupName, number: u32, stream: &Stream, now: Instant) -> Lag {
    let here = |place: &super::queue::Place| place.stream == number;
    let age =
        |place: super::queue::Place| stream.log.get(place.seq).map(|entry| now - entry.stored);
    let waiting = || group.waiting().filter(here);
    let in_hand = || group.hands.iter().map(|(_, hand)| hand.place).filter(here);
    let oldest = waiting().chain(in_hand()).filter_map(age).max();
    let counts = (waiting().count() as u64, in_hand().count() as u64);
    Lag::new(stream.name.clone(), name.clone(), counts.0, counts.1, oldest)
}

fn shape(config: &GroupConfig) -> Shape {
    Shape {
        source: Source::Subjects(config.patterns.clone()),
        ordered: config.ordered,
        priority: config.priority,
    }
}

fn moved(now: &str, asked: &str) -> String {
    format!("now {now}, asked {asked}")
}

fn describe(kind: StreamKind, lanes: u32, retention: Option<Duration>) -> String {
    let kind = match kind {
        StreamKind::Log => "log",
        StreamKind::Work => "work",
    };
    let retention = retention.map(messaging_core::duration::format_duration);
    let kept = retention.map_or_else(String::new, |time| format!(", kept {time}"));
    format!("{kind}, lanes {lanes}{kept}")
}
