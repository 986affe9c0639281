//! One stream: its log, its bound, and what waits until there is room.

use std::collections::{HashMap, VecDeque};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use messaging_core::driver::Outgoing;
use messaging_core::topology::StreamKind;
use messaging_core::{Message, StreamName, Subject};
use tokio::time::Instant;

use super::log::{Entry, Log};
use super::queue::Place;
use super::slots::Key;
use crate::config::MemoryConfig;

#[derive(Debug)]
pub(super) struct Stream {
    pub(super) name: StreamName,
    pub(super) kind: StreamKind,
    pub(super) lanes: NonZeroU32,
    pub(super) retention: Option<Duration>,
    pub(super) log: Log,
    /// Whether it was deleted. Its place and its numbers are kept for when it comes again.
    pub(super) gone: bool,
    /// Who receives a subject. Cleared whenever a group or listener comes, goes or changes.
    routes: HashMap<Subject, Arc<Route>>,
    /// The route that was asked for last, as the next message often goes the same way.
    latest: Option<(Subject, Arc<Route>)>,
    /// What came when there was no room, in order.
    pub(super) arrivals: VecDeque<Arrival>,
    bound: MemoryConfig,
    bytes: usize,
    /// Messages that no group needs, the longest settled first.
    idle: VecDeque<u64>,
}

/// Who receives a subject of a stream.
#[derive(Debug, Default)]
pub(super) struct Route {
    pub(super) groups: Vec<Key>,
    pub(super) listeners: Vec<Key>,
}

/// What waits for room.
#[derive(Debug)]
pub(super) enum Arrival {
    Published {
        connection: u64,
        outgoing: Outgoing,
    },
    /// A dead letter stays in its own stream until there is room here.
    DeadLetter {
        message: Arc<Message>,
        of: Place,
    },
}

/// A publisher that invents subjects must not fill the memory.
const MOST_ROUTES: usize = 4_096;

impl Stream {
    pub(super) fn new(name: StreamName, kind: StreamKind, bound: MemoryConfig) -> Self {
        Self {
            name,
            kind,
            lanes: NonZeroU32::MIN,
            retention: None,
            log: Log::default(),
            gone: false,
            routes: HashMap::new(),
            latest: None,
            arrivals: VecDeque::new(),
            bound,
            bytes: 0,
            idle: VecDeque::new(),
        }
    }

    /// Whether there is room for one more message, forgetting what nobody needs if that helps.
    pub(super) fn make_room(&mut self, now: Instant) -> bool {
        if let Some(retention) = self.retention {
            self.expire(retention, now);
        }
        while self.is_full() {
            let Some(seq) = self.idle.pop_front() else { return false };
            self.forget_if_idle(seq);
        }
        true
    }

    /// Keeps a message that `open` groups need.
    pub(super) fn append(&mut self, message: Arc<Message>, open: u32, stored: Instant) -> u64 {
        let bytes = message.bytes();
        self.bytes += bytes;
        let idle = open == 0;
        let seq = self.log.append(Entry { message, bytes, stored, open, idle });
        if idle {
            self.idle.push_back(seq);
        }
        seq
    }

    /// One more group needs a message that is kept.
    pub(super) fn need(&mut self, seq: u64) {
        if let Some(entry) = self.log.get_mut(seq) {
            entry.open += 1;
        }
    }

    /// One group needs it no more. Work that everybody has done is of no use, and is given back to
    /// be dropped where it holds nobody up.
    pub(super) fn settle(&mut self, seq: u64) -> Option<Entry> {
        let entry = self.log.get_mut(seq)?;
        entry.open -= 1;
        if entry.open > 0 {
            return None;
        }
        match self.kind {
            StreamKind::Work => return self.forget(seq),
            StreamKind::Log if entry.idle => {}
            StreamKind::Log => {
                entry.idle = true;
                self.idle.push_back(seq);
            }
        }
        None
    }

    pub(super) fn route(&mut self, subject: &Subject) -> Option<Arc<Route>> {
        if let Some((latest, route)) = &self.latest
            && latest == subject
        {
            return Some(Arc::clone(route));
        }
        let route = self.routes.get(subject)?;
        self.latest = Some((subject.clone(), Arc::clone(route)));
        Some(Arc::clone(route))
    }

    pub(super) fn remember(&mut self, subject: Subject, route: Arc<Route>) {
        if self.routes.len() >= MOST_ROUTES {
            self.routes.clear();
        }
        self.routes.insert(subject, route);
    }

    pub(super) fn forget_routes(&mut self) {
        self.routes.clear();
        self.latest = None;
    }

    /// Forgets everything, whoever needs it.
    pub(super) fn clear(&mut self) -> Vec<Entry> {
        self.idle.clear();
        let kept: Vec<u64> = self.log.from(0).map(|(seq, _)| seq).collect();
        kept.into_iter().filter_map(|seq| self.forget(seq)).collect()
    }

    fn is_full(&self) -> bool {
        self.log.len() >= self.bound.messages || self.bytes >= self.bound.bytes
    }

    fn expire(&mut self, retention: Duration, now: Instant) {
        while let Some(seq) = self.idle.front().copied() {
            let young = |entry: &Entry| entry.open == 0 && now - entry.stored < retention;
            if self.log.get(seq).is_some_and(young) {
                break;
            }
            self.idle.pop_front();
            self.forget_if_idle(seq);
        }
    }

    /// Forgets a message that was taken from the idle queue, unless a new group needs it again.
    fn forget_if_idle(&mut self, seq: u64) {
        match self.log.get_mut(seq) {
            Some(entry) if entry.open > 0 => entry.idle = false,
            Some(_) => drop(self.forget(seq)),
            None => {}
        }
    }

    fn forget(&mut self, seq: u64) -> Option<Entry> {
        let entry = self.log.remove(seq)?;
        self.bytes -= entry.bytes;
        Some(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(kind: StreamKind, messages: usize) -> Stream {
        let bound = MemoryConfig::default().messages(messages);
        Stream::new("tasks".parse().unwrap(), kind, bound)
    }

    fn message() -> Arc<Message> {
        Arc::new(Message::new(Subject::from_static("tasks"), "x"))
    }

    fn kept(stream: &Stream) -> Vec<u64> {
        stream.log.from(0).map(|(seq, _)| seq).collect()
    }

    #[test]
    fn a_full_log_forgets_what_nobody_needs_and_keeps_what_somebody_does() {
        let now = Instant::now();
        let mut stream = stream(StreamKind::Log, 3);
        for open in [1, 0, 1] {
            assert!(stream.make_room(now));
            stream.append(message(), open, now);
        }
        assert!(stream.make_room(now));
        assert_eq!(kept(&stream), [0, 2]);
        stream.append(message(), 1, now);
        assert!(!stream.make_room(now));
        stream.settle(2);
        stream.need(2);
        assert!(!stream.make_room(now), "a new group needs it again");
        stream.settle(2);
        assert!(stream.make_room(now));
        assert_eq!(kept(&stream), [0, 3]);
    }

    #[test]
    fn work_is_forgotten_when_it_is_done() {
        let now = Instant::now();
        let mut stream = stream(StreamKind::Work, 3);
        let seq = stream.append(message(), 2, now);
        stream.settle(seq);
        assert_eq!(kept(&stream), [0]);
        stream.settle(seq);
        assert_eq!(kept(&stream), [] as [u64; 0]);
        assert_eq!(stream.bytes, 0);
    }

    #[test]
    fn retention_forgets_what_is_old_and_not_needed() {
        let now = Instant::now();
        let mut stream = stream(StreamKind::Log, 10);
        stream.retention = Some(Duration::from_secs(60));
        stream.append(message(), 0, now);
        stream.append(message(), 1, now);
        stream.append(message(), 0, now + Duration::from_secs(30));
        assert!(stream.make_room(now + Duration::from_secs(61)));
        assert_eq!(kept(&stream), [1, 2]);
    }
}
