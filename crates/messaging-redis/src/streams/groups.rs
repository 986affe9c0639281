//! Groups at the server: what their members agree on, and where they are.

use messaging_core::spec::{Membership, Source};
use messaging_core::{
    Error, ErrorKind, GroupName, Patterns, Result, Start, StreamName, SubscribeSpec, Topology,
};
use redis::{ServerError, Value};

use super::NAME;
use super::keys::{self, Lane};
use super::scripts::{AGREE, call};
use crate::connection::{Link, Sharded};
use crate::error::{checked, from_client, from_server, unexpected, unknown_stream};
use crate::wire::{EntryId, text};

/// A group and the lanes it reads.
#[derive(Clone, Debug)]
pub(super) struct Group {
    /// Its name at the server.
    pub(super) name: String,
    /// The key of what its members agree on; a broadcast has nobody to agree with.
    pub(super) shape: Option<String>,
    pub(super) ordered: bool,
    pub(super) lanes: Vec<Lane>,
    pub(super) start: Start,
    /// Whether it wants every stream, those that come later too.
    pub(super) grows: bool,
}

/// What the names of groups begin with that end with their only member.
const BROADCAST: &str = "_broadcast-";

/// The lanes of a stream.
pub(super) fn lanes_of(
    prefix: &str,
    topology: &Topology,
    stream: &StreamName,
) -> Result<Vec<Lane>> {
    let known = topology.stream(stream.name()).ok_or_else(|| unknown_stream(stream))?;
    let count = if stream.is_dead_letters() { 1 } else { known.lanes.get() };
    Ok((0..count).map(|number| Lane::new(prefix, stream, number)).collect())
}

/// The lanes of every stream that patterns are about.
pub(super) fn lanes_for(
    prefix: &str,
    topology: &Topology,
    patterns: &Patterns,
) -> Result<Vec<Lane>> {
    let streams = topology.streams_for(patterns)?;
    let lanes = streams.into_iter().map(|stream| lanes_of(prefix, topology, &stream.name));
    Ok(lanes.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
}

impl Group {
    /// The group that a subscription wants.
    pub(super) fn of(
        spec: &SubscribeSpec,
        prefix: &str,
        topology: &Topology,
        consumer: &str,
    ) -> Result<Self> {
        let (lanes, dead_letters, grows) = match &spec.source {
            Source::Subjects(patterns) => {
                (lanes_for(prefix, topology, patterns)?, None, wants_all(patterns))
            }
            Source::DeadLetters(stream) => {
                (lanes_of(prefix, topology, stream)?, Some(stream), false)
            }
        };
        let (name, shape, start) = match &spec.membership {
            Membership::Group(group) => {
                let shape = keys::shape(prefix, group, dead_letters);
                (group.to_string(), Some(shape), Start::Earliest)
            }
            Membership::Broadcast => (format!("{BROADCAST}{consumer}"), None, Start::Latest),
        };
        let start = spec.start.unwrap_or(start);
        let group = Self { name, shape, ordered: spec.ordered, lanes, start, grows };
        group.check_start()?;
        Ok(group)
    }

    /// A group of the topology.
    pub(super) fn configured(
        name: &GroupName,
        patterns: &Patterns,
        ordered: bool,
        prefix: &str,
        topology: &Topology,
    ) -> Result<Self> {
        Ok(Self {
            name: name.to_string(),
            shape: Some(keys::shape(prefix, name, None)),
            ordered,
            lanes: lanes_for(prefix, topology, patterns)?,
            start: Start::Earliest,
            grows: wants_all(patterns),
        })
    }

    pub(super) const fn is_broadcast(&self) -> bool {
        self.shape.is_none()
    }

    /// A position means something in one stream only, and only in a stream of ours.
    fn check_start(&self) -> Result<()> {
        let Start::Position(position) = self.start else { return Ok(()) };
        let one = self.lanes.windows(2).all(|pair| matches!(pair, [a, b] if a.stream == b.stream));
        if one && position.backend() == NAME {
            return Ok(());
        }
        let reason = "it is no start for this subscription";
        let accepted = "a position of this backend, and patterns of one stream";
        let value = position.to_string();
        Err(Error::invalid(ErrorKind::InvalidConfig, "position", &value, reason, accepted))
    }

    /// Agrees on the shape and creates the group where it is not yet.
    pub(super) async fn open(&self, link: &mut Link, prefix: &str, shape: &str) -> Result<()> {
        if let Some(key) = &self.shape {
            let mut list = redis::cmd("SADD");
            list.arg(keys::groups(prefix)).arg(key);
            link.run(&list, "group").await?;
            let mut agree = call(AGREE, &[key]);
            agree.arg(shape);
            let answer = link.run(&agree, "group").await?;
            let theirs = text(&answer).ok_or_else(|| unexpected("group"))?;
            if theirs != shape {
                return Err(self.conflict(theirs, shape));
            }
        }
        self.create(link).await
    }

    /// Creates the group on every lane where it is not yet.
    pub(super) async fn create(&self, link: &mut Link) -> Result<()> {
        let commands: Vec<Sharded> = self
            .lanes
            .iter()
            .map(|lane| {
                let mut command = redis::cmd("XGROUP");
                command.arg("CREATE").arg(&lane.key).arg(&self.name);
                command.arg(start_of(self.start, lane)).arg("MKSTREAM");
                Sharded { shard: lane.shard, command }
            })
            .collect();
        let answers = link.run_all(commands).await.map_err(|e| from_client(e, "group"))?;
        for answer in answers {
            match answer {
                Value::ServerError(error) if exists(&error) => {}
                answer => drop(checked(answer, "group")?),
            }
        }
        Ok(())
    }

    fn conflict(&self, theirs: &str, ours: &str) -> Error {
        let group = self.name.clone();
        let text = format!(
            "group {group} receives {theirs}; this member wants {ours}; change it by provisioning"
        );
        let (theirs, ours) = (Some(theirs.to_owned()), ours.to_owned());
        Error::new(ErrorKind::GroupConflict { group, theirs, ours }, text)
    }
}

/// Whether a pattern is about every stream, those included that come later.
pub(super) fn wants_all(patterns: &Patterns) -> bool {
    patterns.iter().any(|pattern| pattern.stream().is_none())
}

/// What members of a group must agree on, as it is kept and shown.
pub(super) fn shape_of(patterns: &Patterns, ordered: bool) -> String {
    let mut all: Vec<String> = patterns.iter().map(ToString::to_string).collect();
    all.sort();
    let ordered = if ordered { ", ordered" } else { "" };
    format!("{}{ordered}", all.join(" "))
}

/// After which entry a new group begins.
fn start_of(start: Start, lane: &Lane) -> String {
    match start {
        Start::Latest => "$".to_owned(),
        Start::Position(position) if position.lane() == lane.number => {
            EntryId::from_bits(position.id()).before().to_string()
        }
        Start::Position(_) => "$".to_owned(),
        Start::Time(time) => {
            let millis = time.duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_millis();
            let millis = u64::try_from(millis).unwrap_or(u64::MAX);
            EntryId { millis, number: 0 }.before().to_string()
        }
        _ => EntryId::ZERO.to_string(),
    }
}

fn exists(error: &ServerError) -> bool {
    error.code() == "BUSYGROUP"
}

/// Whether a server's error says that a group, or its stream, is gone.
pub(super) fn is_gone(error: &ServerError) -> bool {
    error.code() == "NOGROUP"
}

/// The error of the server as one of ours.
pub(super) fn failed(error: &ServerError, what: &str) -> Error {
    from_server(error, what)
}
