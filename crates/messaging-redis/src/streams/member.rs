//! One subscription to a group, as its tasks share it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use messaging_core::Patterns;
use messaging_core::driver::{Event, Parked, Settlement};
use redis::Value;
use tokio::sync::{Mutex, Notify, mpsc};
use tokio_util::sync::CancellationToken;

use super::alarm::Alarm;
use super::desk::{Desk, Fetched, Job};
use super::driver::Shared;
use super::groups::Group;
use super::keys::Lane;
use crate::wire::{EntryId, LaneReader, array, number};

#[derive(Debug)]
pub(super) struct Member {
    pub(super) shared: Arc<Shared>,
    pub(super) group: Group,
    /// The lanes that are read, as tokens number them. They grow with the streams there are.
    lanes: RwLock<Arc<Vec<Lane>>>,
    /// Our name in the group.
    pub(super) consumer: String,
    /// What is delivered; what does not match is settled unseen.
    pub(super) patterns: Patterns,
    pub(super) desk: Desk,
    /// How many attempts a message gets; one more is only counted, to be refused.
    pub(super) max_attempts: u32,
    /// When retries are to be looked for.
    pub(super) due: Alarm,
    /// Set when an answer was lost that may have brought entries.
    pub(super) lost_answer: AtomicBool,
    /// Held while entries are on their way from the server to the desk.
    pub(super) fetching: Mutex<()>,
    /// Ends a read that waits, so that it begins anew with other lanes.
    pub(super) interrupt: Notify,
    /// Told of a settlement that is not to wait for others.
    pub(super) hurry: Notify,
    /// Cancelled when nobody takes messages any more.
    pub(super) left: CancellationToken,
    /// Cancelled when nothing of the subscription is left.
    pub(super) ended: CancellationToken,
    jobs: mpsc::UnboundedSender<Job>,
}

impl Member {
    /// Makes a member and the queue of its settlements, which the desk bounds: what is settled was
    /// in hand before.
    #[expect(clippy::disallowed_methods, reason = "the prefetch bounds what can be settled")]
    pub(super) fn new(
        shared: Arc<Shared>,
        group: Group,
        consumer: String,
        patterns: Patterns,
        desk: Desk,
        max_attempts: u32,
    ) -> (Arc<Self>, mpsc::UnboundedReceiver<Job>) {
        let (jobs, queue) = mpsc::unbounded_channel();
        let ended = CancellationToken::new();
        let member = Self {
            shared,
            lanes: RwLock::new(Arc::new(group.lanes.clone())),
            group,
            consumer,
            patterns,
            desk,
            max_attempts,
            due: Alarm::default(),
            lost_answer: AtomicBool::new(false),
            fetching: Mutex::new(()),
            interrupt: Notify::new(),
            hurry: Notify::new(),
            left: CancellationToken::new(),
            ended,
            jobs,
        };
        (Arc::new(member), queue)
    }

    pub(super) fn lanes(&self) -> Arc<Vec<Lane>> {
        Arc::clone(&self.lanes.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn lane(&self, number: u32) -> Option<Lane> {
        self.lanes().get(number as usize).cloned()
    }

    /// Reads the lanes of a new stream too.
    pub(super) fn add_lanes(&self, new: Vec<Lane>) {
        let mut lanes = self.lanes.write().unwrap_or_else(PoisonError::into_inner);
        for lane in new {
            Arc::make_mut(&mut lanes).push(lane);
            self.desk.add_lane();
        }
        drop(lanes);
        self.interrupt.notify_one();
    }

    /// Hands settlements over to the task that brings them to the server.
    pub(super) fn push(&self, jobs: impl IntoIterator<Item = Job>) {
        for job in jobs {
            let can_wait = job.can_wait();
            // Without the task everything has ended, and a dropped confirm reads as unknown.
            if self.jobs.send(job).is_err() {
                return;
            }
            if !can_wait {
                self.hurry.notify_one();
            }
        }
    }

    /// Nobody takes messages any more.
    pub(super) fn leave(&self) {
        self.push(self.desk.leave());
        self.left.cancel();
        self.due.set(tokio::time::Instant::now());
    }

    /// An answer was lost that may have brought entries.
    pub(super) fn may_have_lost(&self) {
        self.lost_answer.store(true, Ordering::Release);
    }

    /// Settles an entry that nobody was to see.
    fn pass(&self, lane: u32, id: EntryId) {
        self.push([Job::new(lane, id, 1, Settlement::Ack)]);
    }

    /// Takes entries in that came as `{id, fields, attempt, …}`; gives what follows the attempt.
    pub(super) fn accept_all(&self, lane: u32, entries: Value) -> Vec<(Fetched, i64)> {
        let Some(place) = self.lane(lane) else { return Vec::new() };
        let mut accepting = Accepting::new(self, lane, &place);
        let accept = |entry| {
            let mut parts = array(entry).into_iter();
            let id = EntryId::of(&parts.next()?)?;
            let fields = parts.next()?;
            let attempt = number(&parts.next()?).and_then(|n| u32::try_from(n).ok())?;
            let rest = parts.next().as_ref().and_then(number).unwrap_or_default();
            Some((accepting.accept(id, fields, attempt)?, rest))
        };
        array(entries).into_iter().filter_map(accept).collect()
    }

    /// Puts fetched messages on the desk; those that come too late go back.
    pub(super) fn deliver(&self, messages: Vec<Fetched>) {
        for Fetched { lane, id, attempt, .. } in self.desk.fetched(messages) {
            // In an ordered group the lane's owner takes what others hold.
            if !self.group.ordered {
                self.push([Job::new(lane, id, attempt, Settlement::Release)]);
            }
        }
    }
}

/// Takes in entries of one lane.
#[derive(Debug)]
pub(super) struct Accepting<'a> {
    member: &'a Member,
    lane: u32,
    place: &'a Lane,
    reader: LaneReader<'a>,
}

impl<'a> Accepting<'a> {
    pub(super) fn new(member: &'a Member, lane: u32, place: &'a Lane) -> Self {
        Self { member, lane, place, reader: LaneReader::new(&place.stream, &place.key) }
    }

    /// Turns an entry into a message, or settles it where it concerns nobody.
    pub(super) fn accept(&mut self, id: EntryId, fields: Value, attempt: u32) -> Option<Fetched> {
        let Self { member, lane, place, reader } = self;
        let Some(message) = reader.message(id, fields) else {
            let reason = format!("entry {id} of {} has no fields", place.key);
            member.desk.tell(Event::Parked(Parked::new(reason)));
            member.pass(*lane, id);
            return None;
        };
        if !place.stream.is_dead_letters() && !member.patterns.matches(&message.subject) {
            member.pass(*lane, id);
            return None;
        }
        let message = Arc::new(message);
        Some(Fetched { lane: *lane, number: place.number, id, attempt, message })
    }
}
