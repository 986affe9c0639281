//! Joining and leaving: members of groups, broadcasts, listeners.

use std::task::Waker;

use messaging_core::spec::{Membership, Mode, Source, SubscribeSpec};
use messaging_core::{Error, ErrorKind, Result, Start};

use super::group::{Group, Member, Shape};
use super::listener::Listener;
use super::queue::Place;
use super::stream::Stream;
use super::{Key, State, Taken, position};
use crate::driver::NAME;
use crate::error::unknown_stream;

/// A subscription's place in the store.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Seat {
    Member { group: Key, member: Key },
    Listener(Key),
}

impl State {
    /// Opens a subscription. What is kept from now on reaches it.
    pub(crate) fn subscribe(&mut self, spec: &SubscribeSpec, connection: u64) -> Result<Seat> {
        if let Source::DeadLetters(stream) = &spec.source {
            self.stream(stream).ok_or_else(|| unknown_stream(stream, "subscribe"))?;
        }
        if let (Mode::Listen, Source::Subjects(patterns)) = (spec.mode, &spec.source) {
            let mut listener =
                Listener::new(connection, patterns.clone(), spec.prefetch.get() as usize);
            self.play_back(&mut listener, spec)?;
            self.forget_routes();
            return Ok(Seat::Listener(self.listeners.insert(listener)));
        }
        let group = self.group(spec)?;
        let member = Member::new(connection, spec);
        let Self { groups, streams, wakers, .. } = self;
        let joined = groups.get_mut(group).map(|entry| entry.join(member, streams, wakers));
        let member = joined.ok_or_else(|| Error::new(ErrorKind::Other, "the group has gone"))?;
        Ok(Seat::Member { group, member })
    }

    /// Lets a listener hear what is kept from its start on.
    fn play_back(&self, listener: &mut Listener, spec: &SubscribeSpec) -> Result<()> {
        let shape = Shape { source: spec.source.clone(), ordered: false, priority: false };
        let start = spec.start.unwrap_or(Start::Latest);
        self.check_start(&shape, start)?;
        for Place { stream, seq } in self.kept_from(&shape, start) {
            let stream = self.streams.get(stream as usize);
            if let Some(entry) = stream.and_then(|stream| stream.log.get(seq)) {
                let stored = self.clock.system_time(entry.stored);
                listener.push(&entry.message, position(seq), stored);
            }
        }
        Ok(())
    }

    /// Finds the group, which must be of the same shape, or creates it.
    fn group(&mut self, spec: &SubscribeSpec) -> Result<Key> {
        let shape =
            Shape { source: spec.source.clone(), ordered: spec.ordered, priority: spec.priority };
        let Membership::Group(name) = &spec.membership else {
            return self.create_group(None, shape, spec.start.unwrap_or(Start::Latest));
        };
        let name = name.as_str().to_owned();
        let Some(key) = self.named.get(&identity(&name, &shape)).copied() else {
            return self.create_group(Some(name), shape, spec.start.unwrap_or(Start::Earliest));
        };
        match self.groups.get(key) {
            Some(group) if group.shape != shape => {
                let (theirs, ours) = (group.shape.describe(), shape.describe());
                let text = format!(
                    "group {name} receives {theirs}; this member wants {ours}; change it by \
                     provisioning"
                );
                let kind = ErrorKind::GroupConflict { group: name, theirs: Some(theirs), ours };
                Err(Error::new(kind, text).at(NAME, "subscribe"))
            }
            _ => Ok(key),
        }
    }

    pub(super) fn create_group(
        &mut self,
        name: Option<String>,
        shape: Shape,
        start: Start,
    ) -> Result<Key> {
        self.check_start(&shape, start)?;
        let kept = self.kept_from(&shape, start);
        let identity = name.as_deref().map(|name| identity(name, &shape));
        let mut group = Group::new(name, shape);
        for place in kept {
            let Some(stream) = self.streams.get_mut(place.stream as usize) else { continue };
            stream.need(place.seq);
            if let Some(entry) = stream.log.get(place.seq) {
                group.push(place, stream, &entry.message, &mut self.wakers);
            }
        }
        let key = self.groups.insert(group);
        if let Some(identity) = identity {
            self.named.insert(identity, key);
        }
        self.forget_routes();
        Ok(key)
    }

    /// A position means something in one stream only, and only in a stream of ours.
    fn check_start(&self, shape: &Shape, start: Start) -> Result<()> {
        let Start::Position(position) = start else { return Ok(()) };
        let concerned = |stream: &&Stream| !stream.gone && shape.concerns(&stream.name);
        let streams = self.streams.iter().filter(concerned).count();
        if streams == 1 && position.backend() == NAME {
            return Ok(());
        }
        let reason = "it is no start for this subscription";
        let accepted = "a position of this backend, and patterns of one stream";
        let value = position.to_string();
        let error = Error::invalid(ErrorKind::InvalidConfig, "position", &value, reason, accepted);
        Err(error.at(NAME, "subscribe"))
    }

    /// What is kept for a new group, in the order it was stored.
    fn kept_from(&self, shape: &Shape, start: Start) -> Vec<Place> {
        let mut kept = Vec::new();
        for (number, stream) in (0..).zip(&self.streams) {
            if !shape.concerns(&stream.name) {
                continue;
            }
            let messages = stream.log.from(self.start(stream, start));
            let received = messages
                .filter(|(_, entry)| shape.receives(&stream.name, &entry.message.subject))
                .map(|(seq, entry)| (entry.stored, Place { stream: number, seq }));
            kept.extend(received);
        }
        kept.sort_unstable();
        kept.into_iter().map(|(_, place)| place).collect()
    }

    /// What there is for a subscription; if nothing, `waker` is woken when there is.
    pub(crate) fn take(&mut self, seat: Seat, waker: &Waker) -> Taken {
        match seat {
            Seat::Member { group, member } => {
                let Some(entry) = self.groups.get_mut(group) else { return Taken::Ended };
                let taken = entry.take(member, &self.streams, &self.clock);
                if matches!(taken, Taken::Nothing { .. }) {
                    entry.sleep(member, waker);
                }
                taken
            }
            Seat::Listener(key) => {
                let Some(listener) = self.listeners.get_mut(key) else { return Taken::Ended };
                listener.take().map_or_else(
                    || {
                        listener.waker = Some(waker.clone());
                        Taken::Nothing { until: None }
                    },
                    Taken::Event,
                )
            }
        }
    }

    /// Ends a subscription. A broadcast ends with it, and needs nothing any more.
    pub(crate) fn unseat(&mut self, seat: Seat) {
        match seat {
            Seat::Member { group, member } => {
                let Some(entry) = self.groups.get_mut(group) else { return };
                entry.leave(member, &mut self.wakers);
                if entry.name.is_none() {
                    self.remove_group(group);
                }
            }
            Seat::Listener(key) => {
                if let Some(listener) = self.listeners.remove(key) {
                    self.wakers.extend(listener.waker);
                    self.forget_routes();
                }
            }
        }
    }

    pub(super) fn remove_group(&mut self, key: Key) {
        let Some(group) = self.groups.remove(key) else { return };
        self.forget_routes();
        let in_hand = group.hands.iter().map(|(_, hand)| hand.place);
        let places: Vec<Place> = group.waiting().chain(in_hand).collect();
        for place in places {
            if let Some(stream) = self.streams.get_mut(place.stream as usize) {
                self.garbage.extend(stream.settle(place.seq));
            }
            self.let_in(place.stream);
        }
    }

    pub(super) fn unseat_all(&mut self, connection: u64) {
        let mut seats: Vec<Seat> = Vec::new();
        for (group, entry) in self.groups.iter() {
            let ours = entry.members.iter().filter(|(_, member)| member.connection == connection);
            seats.extend(ours.map(|(member, _)| Seat::Member { group, member }));
        }
        let ours = self.listeners.iter().filter(|(_, l)| l.connection == connection);
        seats.extend(ours.map(|(key, _)| Seat::Listener(key)));
        seats.into_iter().for_each(|seat| self.unseat(seat));
    }
}

/// A group of dead letters is another group than one of subjects with its name.
pub(super) fn identity(name: &str, shape: &Shape) -> (String, Option<messaging_core::StreamName>) {
    let stream = match &shape.source {
        Source::Subjects(_) => None,
        Source::DeadLetters(stream) => Some(stream.clone()),
    };
    (name.to_owned(), stream)
}
