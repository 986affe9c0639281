use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::Instant;

use super::history::{End, Event, Fate, History, Id, Outcome, What};

/// Writes down what happens. Clones write into the same history.
///
/// Write an event before the side effect that it announces, so that a crash in between is seen.
#[derive(Clone, Debug)]
pub struct Recorder {
    began: Instant,
    events: Arc<Mutex<Vec<Event>>>,
}

impl Default for Recorder {
    fn default() -> Self {
        Self { began: Instant::now(), events: Arc::default() }
    }
}

impl Recorder {
    /// Writes an event down with the time of now.
    pub fn record(&self, what: What) {
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        // The clock is read under the lock, so the order of events is that of time.
        let at = u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        events.push(Event { at, what });
    }

    /// An at-least-once subscription without order exists from now on.
    pub fn subscribed(&self, subscription: &str, patterns: &[&str]) {
        self.record(What::Subscribed {
            subscription: subscription.to_owned(),
            patterns: patterns.iter().map(|pattern| (*pattern).to_owned()).collect(),
            lossy: false,
            ordered: false,
        });
    }

    /// A publish is about to be called.
    pub fn publishing(&self, id: Id, subject: &str, key: Option<&str>, digest: u64) {
        let (subject, key) = (subject.to_owned(), key.map(str::to_owned));
        self.record(What::Publishing { id, subject, key, digest });
    }

    /// A publish has returned.
    pub fn published(&self, id: Id, outcome: Outcome) {
        self.record(What::Published { id, outcome });
    }

    /// A message is about to be handled.
    pub fn delivered(&self, subscription: &str, id: Id, digest: u64) {
        let subscription = subscription.to_owned();
        self.record(What::Delivered { subscription, id, digest, tenure: None });
    }

    /// A handler has ended.
    pub fn handled(&self, subscription: &str, id: Id, end: End) {
        let subscription = subscription.to_owned();
        self.record(What::Handled { subscription, id, end, tenure: None });
    }

    /// An ack is about to be called.
    pub fn acking(&self, subscription: &str, id: Id) {
        self.record(What::Acking { subscription: subscription.to_owned(), id });
    }

    /// A message is about to be given back.
    pub fn given_back(&self, subscription: &str, id: Id) {
        self.record(What::GivenBack { subscription: subscription.to_owned(), id });
    }

    /// A message has ended without being handled.
    pub fn ended(&self, subscription: &str, id: Id, fate: Fate) {
        self.record(What::Ended { subscription: subscription.to_owned(), id, fate });
    }

    /// What was written down so far.
    #[must_use]
    pub fn history(&self) -> History {
        History(self.events.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }
}
