//! A history, arranged by message and subscription in one pass.

use std::collections::BTreeMap;

use messaging::{Patterns, Subject};

use super::history::{End, Event, Fate, History, Id, Outcome, Tenure, What};

/// A history, arranged.
#[derive(Debug, Default)]
pub(super) struct Index {
    pub(super) messages: BTreeMap<Id, Published>,
    pub(super) subscriptions: BTreeMap<String, Subscription>,
    pub(super) faults: Vec<Fault>,
    /// Every call of a publish, in order.
    pub(super) calls: Vec<u64>,
    /// Every confirmation, in order.
    pub(super) confirmations: Vec<u64>,
    pub(super) processes: BTreeMap<String, Process>,
    draining: bool,
    /// When the last event was.
    pub(super) end: u64,
}

/// What a process took and said.
#[derive(Debug, Default)]
pub(super) struct Process {
    pub(super) samples: Vec<Sample>,
    pub(super) lines: Vec<String>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    pub(super) at: u64,
    pub(super) resident: u64,
    pub(super) descriptors: u64,
    pub(super) log_lines: u64,
}

/// What a producer did with a message.
#[derive(Debug, Default)]
pub(super) struct Published {
    pub(super) subject: String,
    pub(super) key: Option<String>,
    pub(super) digest: u64,
    /// The first call.
    pub(super) invoked: u64,
    /// How often it was called.
    pub(super) calls: u64,
    /// The call that has not returned.
    pub(super) open: Option<u64>,
    /// How long the longest call took.
    pub(super) longest: u64,
    /// The first confirmation.
    pub(super) confirmed: Option<u64>,
    /// How many calls have definitely failed.
    pub(super) failed: u64,
}

/// What a subscription saw.
#[derive(Debug, Default)]
pub(super) struct Subscription {
    patterns: Option<Patterns>,
    pub(super) lossy: bool,
    pub(super) ordered: bool,
    since: u64,
    until: Option<u64>,
    pub(super) stories: BTreeMap<Id, Story>,
    /// When handlers began and ended where lanes have owners, in order.
    pub(super) work: Vec<Work>,
    /// When it got something, in order.
    pub(super) delivered: Vec<u64>,
    /// When it was told that it missed messages, in order, and how many where it was said.
    pub(super) gaps: Vec<(u64, Option<u64>)>,
}

/// A step of a handler whose lane has an owner.
#[derive(Clone, Copy, Debug)]
pub(super) struct Work {
    pub(super) at: u64,
    pub(super) id: Id,
    pub(super) tenure: Tenure,
    pub(super) step: Step,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Began,
    Succeeded,
    Failed,
}

/// What one subscription did with one message.
#[derive(Debug, Default)]
pub(super) struct Story {
    /// When it was delivered, and with which digest.
    pub(super) deliveries: Vec<(u64, u64)>,
    /// When handlers succeeded.
    pub(super) successes: Vec<u64>,
    pub(super) acks: Vec<u64>,
    pub(super) given_back: Vec<u64>,
    pub(super) fates: Vec<Fate>,
}

#[derive(Debug)]
pub(super) struct Fault {
    pub(super) name: String,
    pub(super) began: u64,
    pub(super) ended: Option<u64>,
}

impl Index {
    pub(super) fn of(history: &History) -> Self {
        let mut index = Self::default();
        for Event { at, what } in &history.0 {
            index.add(*at, what);
        }
        index
    }

    fn add(&mut self, at: u64, what: &What) {
        self.end = self.end.max(at);
        match what {
            What::Publishing { id, subject, key, digest } => {
                let message = self.messages.entry(*id).or_insert_with(|| Published {
                    subject: subject.clone(),
                    key: key.clone(),
                    digest: *digest,
                    invoked: at,
                    ..Published::default()
                });
                message.calls += 1;
                message.open = Some(at);
                self.calls.push(at);
            }
            What::Published { id, outcome } => {
                let Some(message) = self.messages.get_mut(id) else { return };
                if let Some(called) = message.open.take() {
                    message.longest = message.longest.max(at.saturating_sub(called));
                }
                match outcome {
                    Outcome::Ok => {
                        message.confirmed.get_or_insert(at);
                        self.confirmations.push(at);
                    }
                    Outcome::Failed => message.failed += 1,
                    Outcome::Unknown => {}
                }
            }
            What::Subscribed { subscription, patterns, lossy, ordered } => {
                let entry = self.subscriptions.entry(subscription.clone()).or_default();
                let (lossy, ordered) = (*lossy, *ordered);
                let patterns = Patterns::new(patterns).ok();
                *entry =
                    Subscription { patterns, lossy, ordered, since: at, ..Subscription::default() };
            }
            What::Unsubscribed { subscription } => {
                self.subscriptions.entry(subscription.clone()).or_default().until = Some(at);
            }
            What::Delivered { subscription, id, digest, tenure } => {
                self.work(at, subscription, *id, *tenure, Step::Began);
                self.story(subscription, *id).deliveries.push((at, *digest));
                self.subscriptions.entry(subscription.clone()).or_default().delivered.push(at);
            }
            What::Handled { subscription, id, end, tenure } => {
                let step = if *end == End::Ok { Step::Succeeded } else { Step::Failed };
                self.work(at, subscription, *id, *tenure, step);
                if *end == End::Ok {
                    self.story(subscription, *id).successes.push(at);
                }
            }
            What::Acking { subscription, id } => self.story(subscription, *id).acks.push(at),
            What::GivenBack { subscription, id } => {
                self.story(subscription, *id).given_back.push(at);
            }
            What::Ended { subscription, id, fate } => {
                self.story(subscription, *id).fates.push(*fate);
            }
            What::Gap { subscription, missed } => {
                let entry = self.subscriptions.entry(subscription.clone()).or_default();
                entry.gaps.push((at, *missed));
            }
            What::FaultBegan { fault } => {
                self.faults.push(Fault { name: fault.clone(), began: at, ended: None });
            }
            What::FaultEnded { fault } => {
                let open = self.faults.iter_mut().rev();
                let mut open = open.filter(|known| known.name == *fault && known.ended.is_none());
                if let Some(fault) = open.next() {
                    fault.ended = Some(at);
                }
            }
            What::Draining => self.draining = true,
            What::Drained => self.draining = false,
            What::Sampled { process, resident, descriptors, log_lines } => {
                let (resident, descriptors, log_lines) = (*resident, *descriptors, *log_lines);
                let sample = Sample { at, resident, descriptors, log_lines };
                self.processes.entry(process.clone()).or_default().samples.push(sample);
            }
            What::Logged { process, line } => {
                self.processes.entry(process.clone()).or_default().lines.push(line.clone());
            }
        }
    }

    fn work(&mut self, at: u64, subscription: &str, id: Id, tenure: Option<Tenure>, step: Step) {
        let Some(tenure) = tenure else { return };
        let entry = self.subscriptions.entry(subscription.to_owned()).or_default();
        entry.work.push(Work { at, id, tenure, step });
    }

    fn story(&mut self, subscription: &str, id: Id) -> &mut Story {
        let entry = self.subscriptions.entry(subscription.to_owned()).or_default();
        entry.stories.entry(id).or_default()
    }

    /// Whether the run was brought to its end: every fault is over, everything that was on its way
    /// has arrived, and somebody was subscribed.
    pub(super) fn is_complete(&self) -> bool {
        let is_over = self.faults.iter().all(|fault| fault.ended.is_some());
        !self.subscriptions.is_empty() && is_over && !self.draining
    }

    /// Whether everything has arrived that was told to.
    pub(super) const fn is_drained(&self) -> bool {
        !self.draining
    }

    /// How much of a time faults were on.
    pub(super) fn faulty_time(&self, from: u64, to: u64) -> u64 {
        let mut times: Vec<(u64, u64)> =
            self.faults.iter().filter_map(|f| f.within(from, to)).collect();
        times.sort_unstable();
        let (mut sum, mut until) = (0, from);
        for (began, ended) in times {
            sum += ended.saturating_sub(began.max(until));
            until = until.max(ended);
        }
        sum
    }
}

impl Fault {
    /// Whether it was on at any time between `from` and `to`.
    pub(super) fn meets(&self, from: u64, to: u64) -> bool {
        self.within(from, to).is_some()
    }

    fn within(&self, from: u64, to: u64) -> Option<(u64, u64)> {
        let ended = self.ended.unwrap_or(u64::MAX);
        (self.began <= to && ended >= from).then(|| (self.began.max(from), ended.min(to)))
    }
}

impl Subscription {
    /// Whether it must get a message: it was there when the publish was called.
    pub(super) fn expects(&self, message: &Published) -> bool {
        let there =
            self.since <= message.invoked && self.until.is_none_or(|until| until > message.invoked);
        let subject = message.subject.parse::<Subject>();
        let matches = |patterns: &Patterns| subject.is_ok_and(|subject| patterns.matches(&subject));
        there && self.patterns.as_ref().is_some_and(matches)
    }
}
