//! The state of the broker: streams, groups and listeners, behind one lock.

mod delete;
mod garbage;
mod group;
mod lanes;
mod listener;
mod log;
mod provision;
mod queue;
mod slots;
mod stream;
mod subscribe;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::task::{Context, Poll, Waker};
use std::time::SystemTime;

use messaging_core::driver::{
    Assurance, Event, Outgoing, ReadSpec, Receipt, Record, Settle, Settled, Settlement,
};
use messaging_core::headers::ours;
use messaging_core::{Message, Position, Start, StreamName};
use smallvec::{SmallVec, smallvec};
use tokio::time::Instant;

use self::garbage::Garbage;
use self::group::Group;
use self::listener::Listener;
use self::queue::Place;
pub(crate) use self::slots::Key;
use self::slots::Slots;
use self::stream::{Arrival, Route, Stream};
pub(crate) use self::subscribe::Seat;
use crate::config::MemoryConfig;
use crate::driver::NAME;
use crate::error::{closed, stale, unknown_stream};

/// The broker. Every operation takes its one lock, briefly, and wakes others after it.
#[derive(Debug)]
pub(crate) struct Store(Mutex<State>);

/// What is behind the lock.
#[derive(Debug)]
pub(crate) struct State {
    bound: MemoryConfig,
    clock: Clock,
    streams: Vec<Stream>,
    groups: Slots<Group>,
    /// Groups by name, apart from those of dead letters, which are named per stream.
    named: HashMap<(String, Option<StreamName>), Key>,
    listeners: Slots<Listener>,
    wakers: Wakers,
    /// What is forgotten and not dropped yet.
    garbage: Garbage,
    /// Who waits until nothing of its connection waits for room.
    flushing: Vec<Waker>,
}

type Wakers = SmallVec<[Waker; 4]>;

/// The most messages handed over in one piece.
const BATCH: usize = 1_024;

/// How often the lock is tried before a thread sleeps on it.
const SPINS: usize = 1_000;

/// Ties the scheduling clock, which tests can pause, to the time of day.
#[derive(Debug)]
struct Clock {
    instant: Instant,
    time: SystemTime,
}

/// What a subscription found.
#[derive(Debug)]
pub(crate) enum Taken {
    Event(Event),
    Nothing {
        /// When to look again, if nobody wakes it before.
        until: Option<Instant>,
    },
    Ended,
}

impl Store {
    pub(crate) fn new(bound: MemoryConfig) -> Self {
        let clock = Clock { instant: Instant::now(), time: SystemTime::now() };
        Self(Mutex::new(State {
            bound,
            clock,
            streams: Vec::new(),
            groups: Slots::default(),
            named: HashMap::new(),
            listeners: Slots::default(),
            wakers: Wakers::new(),
            garbage: Garbage::default(),
            flushing: Vec::new(),
        }))
    }

    /// The lock is held for microseconds, and to sleep and be woken takes many times as long.
    fn lock(&self) -> MutexGuard<'_, State> {
        for _ in 0..SPINS {
            match self.0.try_lock() {
                Ok(state) => return state,
                Err(TryLockError::Poisoned(poisoned)) => return poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => std::hint::spin_loop(),
            }
        }
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes messages in, and drops what was forgotten since.
    pub(crate) fn publish(&self, act: impl FnOnce(&mut State)) {
        let garbage = self.with(|state| {
            let garbage = std::mem::take(&mut state.garbage);
            act(state);
            garbage
        });
        drop(garbage);
    }

    /// Does something with the state, then wakes whom it concerns.
    pub(crate) fn with<R>(&self, act: impl FnOnce(&mut State) -> R) -> R {
        let mut state = self.lock();
        let result = act(&mut state);
        let wakers = std::mem::take(&mut state.wakers);
        let surplus = state.garbage.surplus();
        drop(state);
        drop(surplus);
        wakers.into_iter().for_each(Waker::wake);
        result
    }
}

impl State {
    pub(crate) fn stream(&self, name: &StreamName) -> Option<u32> {
        let found = self.streams.iter().position(|stream| stream.name == *name && !stream.gone)?;
        Some(found as u32)
    }

    /// Keeps a message, or lets it wait for room behind those that wait already.
    pub(crate) fn publish(
        &mut self,
        stream: u32,
        connection: u64,
        mut outgoing: Outgoing,
        now: Instant,
    ) {
        let Some(entry) = self.streams.get_mut(stream as usize) else { return };
        if entry.gone {
            outgoing.resolve(Err(unknown_stream(&entry.name, "publish")));
        } else if !entry.arrivals.is_empty() || !entry.make_room(now) {
            entry.arrivals.push_back(Arrival::Published { connection, outgoing });
        } else if outgoing.begin(now) {
            self.keep_published(stream, outgoing, now);
        }
    }

    fn keep_published(&mut self, stream: u32, outgoing: Outgoing, now: Instant) {
        let Outgoing { message, confirm, .. } = outgoing;
        let seq = self.keep(stream, message, now);
        confirm.resolve(Ok(Receipt::new(Assurance::Accepted, Some(position(seq)))));
    }

    /// Appends a message for which there is room, and hands it to everybody it concerns.
    fn keep(&mut self, number: u32, message: Arc<Message>, now: Instant) -> u64 {
        let route = self.route(number, &message);
        let Some(stream) = self.streams.get_mut(number as usize) else { return 0 };
        let seq = stream.append(message, route.groups.len() as u32, now);
        let Some(entry) = stream.log.get(seq) else { return seq };
        let place = Place { stream: number, seq };
        for key in &route.groups {
            if let Some(group) = self.groups.get_mut(*key) {
                group.push(place, stream, &entry.message, &mut self.wakers);
            }
        }
        for key in &route.listeners {
            if let Some(listener) = self.listeners.get_mut(*key) {
                listener.push(&entry.message, position(seq), self.clock.system_time(now));
                self.wakers.extend(listener.waker.take());
            }
        }
        seq
    }

    fn route(&mut self, number: u32, message: &Message) -> Arc<Route> {
        let Some(stream) = self.streams.get_mut(number as usize) else { return Arc::default() };
        if let Some(route) = stream.route(&message.subject) {
            return route;
        }
        let receives = |group: &Group| group.shape.receives(&stream.name, &message.subject);
        let hears = |listener: &Listener| {
            !stream.name.is_dead_letters() && listener.patterns.matches(&message.subject)
        };
        let groups = self.groups.iter().filter(|(_, group)| receives(group));
        let listeners = self.listeners.iter().filter(|(_, listener)| hears(listener));
        let route = Arc::new(Route {
            groups: groups.map(|(key, _)| key).collect(),
            listeners: listeners.map(|(key, _)| key).collect(),
        });
        stream.remember(message.subject.clone(), Arc::clone(&route));
        route
    }

    fn forget_routes(&mut self) {
        self.streams.iter_mut().for_each(Stream::forget_routes);
    }

    /// Settles one hand-over. One that is over already touches nothing.
    pub(crate) fn settle(&mut self, key: Key, settle: Settle) {
        let Settle { token, how, confirm, .. } = settle;
        let Some(group) = self.groups.get_mut(key) else {
            return answer(confirm, Err(stale()));
        };
        let Some(hand) = group.leave_hand(&token, &mut self.wakers) else {
            return answer(confirm, Err(stale()));
        };
        match how {
            Settlement::Ack => self.finish(key, &hand),
            Settlement::Reject { reason } => self.reject(key, &hand, &reason),
            Settlement::Retry { after } => {
                group.count_failure(&hand);
                let at = (!after.is_zero()).then(|| Instant::now() + after);
                group.come_again(&hand, at, &self.streams, &mut self.wakers);
            }
            Settlement::Abandon => {
                group.count_failure(&hand);
                group.come_again(&hand, None, &self.streams, &mut self.wakers);
            }
            Settlement::Release => group.come_again(&hand, None, &self.streams, &mut self.wakers),
        }
        answer(confirm, Ok(Settled::Durable));
    }

    fn finish(&mut self, key: Key, hand: &group::Hand) {
        let Some(stream) = self.streams.get_mut(hand.place.stream as usize) else { return };
        if let Some(group) = self.groups.get_mut(key) {
            let key = stream.log.get(hand.place.seq).and_then(|entry| entry.message.key.as_ref());
            group.finish(hand, key, &mut self.wakers);
        }
        self.garbage.extend(stream.settle(hand.place.seq));
        self.let_in(hand.place.stream);
    }

    /// Moves a message to the dead letters of its stream. A dead letter itself stays where it is.
    fn reject(&mut self, key: Key, hand: &group::Hand, reason: &str) {
        let Place { stream, seq } = hand.place;
        let Some(group) = self.groups.get_mut(key) else { return };
        let Some(origin) = self.streams.get(stream as usize) else { return };
        let Some(entry) = origin.log.get(seq) else { return };
        let attempts = group.attempts_made(hand);
        group.finish(hand, entry.message.key.as_ref(), &mut self.wakers);
        let name = origin.name.to_dead_letters();
        let target = self.streams.iter().position(|known| known.name == name);
        let Some(target) = target.filter(|_| !origin.name.is_dead_letters()) else {
            if let Some(stream) = self.streams.get_mut(stream as usize) {
                self.garbage.extend(stream.settle(seq));
            }
            return self.let_in(stream);
        };
        let mut message = Message::clone(&entry.message);
        let group = group.name.clone().unwrap_or_else(|| "broadcast".to_owned());
        let origin = format!("{} {}", origin.name, position(seq));
        message.headers.stamp(ours::DEAD_LETTER_GROUP, group);
        message.headers.stamp(ours::DEAD_LETTER_REASON, reason.to_owned());
        message.headers.stamp(ours::DEAD_LETTER_ATTEMPTS, attempts.to_string());
        message.headers.stamp(ours::DEAD_LETTER_ORIGIN, origin);
        if let Some(stream) = self.streams.get_mut(target) {
            let message = Arc::new(message);
            stream.arrivals.push_back(Arrival::DeadLetter { message, of: hand.place });
        }
        self.let_in(target as u32);
    }

    /// Lets in what waits for room in a stream, and in those where that makes room.
    fn let_in(&mut self, stream: u32) {
        if self.streams.get(stream as usize).is_none_or(|stream| stream.arrivals.is_empty()) {
            return;
        }
        let now = Instant::now();
        let mut freed: SmallVec<[u32; 4]> = smallvec![stream];
        while let Some(number) = freed.pop() {
            while let Some(stream) = self.streams.get_mut(number as usize)
                && !stream.arrivals.is_empty()
                && stream.make_room(now)
                && let Some(arrival) = stream.arrivals.pop_front()
            {
                self.wakers.extend(self.flushing.drain(..));
                match arrival {
                    Arrival::Published { mut outgoing, .. } => {
                        if outgoing.begin(now) {
                            self.keep_published(number, outgoing, now);
                        }
                    }
                    Arrival::DeadLetter { message, of } => {
                        self.keep(number, message, now);
                        if let Some(origin) = self.streams.get_mut(of.stream as usize) {
                            self.garbage.extend(origin.settle(of.seq));
                            freed.push(of.stream);
                        }
                    }
                }
            }
        }
    }

    /// Reads what a stream keeps from a number on; `None` at the end.
    pub(crate) fn read(&self, stream: u32, from: u64, end: u64) -> Option<(u64, Vec<Record>)> {
        let stream = self.streams.get(stream as usize)?;
        let records: Vec<(u64, Record)> = stream
            .log
            .from(from)
            .take_while(|(seq, _)| *seq < end)
            .take(BATCH)
            .map(|(seq, entry)| {
                let stored = self.clock.system_time(entry.stored);
                (seq, Record::new(Message::clone(&entry.message), position(seq), Some(stored)))
            })
            .collect();
        let (last, _) = records.last()?;
        Some((last + 1, records.into_iter().map(|(_, record)| record).collect()))
    }

    /// Where a reading begins and ends: at what is kept now.
    pub(crate) fn range(&self, stream: u32, spec: &ReadSpec) -> (u64, u64) {
        let Some(stream) = self.streams.get(stream as usize) else { return (0, 0) };
        (self.start(stream, spec.from), stream.log.next())
    }

    /// The number of the first message that a start means.
    fn start(&self, stream: &Stream, start: Start) -> u64 {
        match start {
            Start::Latest => stream.log.next(),
            Start::Position(position) => position.id() as u64,
            Start::Time(time) => {
                let late = |at: Instant| self.clock.system_time(at) >= time;
                let first = stream.log.from(0).find(|(_, entry)| late(entry.stored));
                first.map_or(stream.log.next(), |(seq, _)| seq)
            }
            _ => 0,
        }
    }

    /// Ready when no message of a connection waits for room.
    pub(crate) fn poll_flushed(&mut self, connection: u64, cx: &Context<'_>) -> Poll<()> {
        let of_it = |arrival: &Arrival| matches!(arrival, Arrival::Published { connection: of, .. } if *of == connection);
        if !self.streams.iter().any(|stream| stream.arrivals.iter().any(of_it)) {
            return Poll::Ready(());
        }
        self.flushing.push(cx.waker().clone());
        Poll::Pending
    }

    /// Ends a connection: its subscriptions, and its messages that wait for room.
    pub(crate) fn disconnect(&mut self, connection: u64) {
        for stream in &mut self.streams {
            let arrivals = std::mem::take(&mut stream.arrivals);
            for arrival in arrivals {
                match arrival {
                    Arrival::Published { connection: of, outgoing } if of == connection => {
                        outgoing.resolve(Err(closed("publish")));
                    }
                    other => stream.arrivals.push_back(other),
                }
            }
        }
        self.unseat_all(connection);
    }
}

impl Clock {
    fn system_time(&self, at: Instant) -> SystemTime {
        self.time + at.saturating_duration_since(self.instant)
    }
}

const fn position(seq: u64) -> Position {
    Position::new(NAME, 0, seq as u128)
}

fn answer(
    confirm: Option<messaging_core::Confirm<Settled>>,
    outcome: messaging_core::Result<Settled>,
) {
    if let Some(confirm) = confirm {
        confirm.resolve(outcome);
    }
}
