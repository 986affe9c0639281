//! One subscription to a group, as its tasks share it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use messaging_core::driver::Settlement;
use messaging_core::{Message, Patterns};
use redis::Value;
use tokio::sync::{Mutex, Notify, mpsc};
use tokio_util::sync::CancellationToken;

use super::alarm::Alarm;
use super::desk::{Desk, Fetched, Job};
use super::driver::Shared;
use super::groups::Group;
use super::keys::Lane;
use crate::wire::{EntryId, array, number, read};

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
            // Without the task everything has ended, and a dropped confirm reads as unknown.
            if self.jobs.send(job).is_err() {
                return;
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

    /// Turns an entry into a message, or settles it where it concerns nobody.
    pub(super) fn accept(
        &self,
        lane: u32,
        id: EntryId,
        fields: Value,
        attempt: u32,
    ) -> Option<Fetched> {
        let lanes = self.lanes();
        let place = lanes.get(lane as usize)?;
        let Some(message) = read(fields, &place.stream, &place.key, id) else {
            let reason = format!("entry {id} of {} has no fields", place.key);
            self.desk.tell(messaging_core::driver::Event::Parked(
                messaging_core::driver::Parked::new(reason),
            ));
            self.pass(lane, id);
            return None;
        };
        if !place.stream.is_dead_letters() && !self.patterns.matches(&message.subject) {
            self.pass(lane, id);
            return None;
        }
        Some(Fetched { lane, number: place.number, id, attempt, message: Arc::new(message) })
    }

    /// Settles an entry that nobody was to see.
    fn pass(&self, lane: u32, id: EntryId) {
        let message = Arc::new(Message::new(messaging_core::Subject::from_static("passed"), ""));
        let how = Settlement::Ack;
        self.push([Job { lane, id, attempt: 1, message, how, confirm: None }]);
    }

    /// Takes entries in that came as `{id, fields, attempt, …}`; gives what follows the attempt.
    pub(super) fn accept_all(&self, lane: u32, entries: Value) -> Vec<(Fetched, i64)> {
        let accept = |entry| {
            let mut parts = array(entry).into_iter();
            let id = EntryId::of(&parts.next()?)?;
            let fields = parts.next()?;
            let attempt = number(&parts.next()?).and_then(|n| u32::try_from(n).ok())?;
            let rest = parts.next().as_ref().and_then(number).unwrap_or_default();
            Some((self.accept(lane, id, fields, attempt)?, rest))
        };
        array(entries).into_iter().filter_map(accept).collect()
    }

    /// Puts fetched messages on the desk; those that come too late go back.
    pub(super) fn deliver(&self, messages: Vec<Fetched>) {
        for Fetched { lane, id, attempt, message, .. } in self.desk.fetched(messages) {
            // In an ordered group the lane's owner takes what others hold.
            if !self.group.ordered {
                let how = Settlement::Release;
                self.push([Job { lane, id, attempt, message, how, confirm: None }]);
            }
        }
    }
}
