//! Which publishes of a channel are unconfirmed.

use std::collections::VecDeque;

use super::Publication;
use crate::error::Refusal;

/// The unconfirmed publishes of a channel, by their dense numbers from 1 on.
#[derive(Debug)]
pub(super) struct Tracker<P> {
    /// In the order of their numbers; `None` is confirmed. The first is never `None`.
    entries: VecDeque<Option<Entry<P>>>,
    /// The number of the first entry.
    first: u64,
    /// Returns come in the order of publishing, so the next is looked for from here on.
    returned: u64,
    unconfirmed: usize,
    bytes: usize,
    /// How many answers there were.
    answers: u64,
}

/// An unconfirmed publish.
#[derive(Debug)]
pub(super) struct Entry<P> {
    pub(super) publication: P,
    /// The bytes of its body.
    pub(super) body: usize,
    /// What it counts against the budget.
    pub(super) bytes: usize,
    /// Nobody receives it; its ack follows.
    pub(super) returned: Option<Box<Refusal>>,
}

impl<P> Default for Tracker<P> {
    fn default() -> Self {
        let entries = VecDeque::new();
        Self { entries, first: 1, returned: 1, unconfirmed: 0, bytes: 0, answers: 0 }
    }
}

impl<P> Tracker<P> {
    /// Adds the next publish, before it is handed over. Returns its number.
    pub(super) fn push(&mut self, publication: P, body: usize, bytes: usize) -> u64 {
        let number = self.first + self.entries.len() as u64;
        self.entries.push_back(Some(Entry { publication, body, bytes, returned: None }));
        self.unconfirmed += 1;
        self.bytes += bytes;
        number
    }

    /// Takes one back that was not handed over; only the latest can be.
    pub(super) fn take_back(&mut self, number: u64) -> Option<P> {
        if number + 1 != self.first + self.entries.len() as u64 {
            return None;
        }
        let entry = self.entries.pop_back()??;
        self.unconfirmed -= 1;
        self.bytes -= entry.bytes;
        self.trim();
        Some(entry.publication)
    }

    /// Takes what an answer of the server is about.
    pub(super) fn settle(&mut self, tag: u64, multiple: bool, into: &mut Vec<Entry<P>>) {
        self.answers += 1;
        // A number that was never given or is settled already says nothing.
        let Some(last) = tag.checked_sub(self.first) else { return };
        let last = usize::try_from(last).unwrap_or(usize::MAX);
        let start = if multiple { 0 } else { last };
        let before = into.len();
        let range = start..last.saturating_add(1).min(self.entries.len());
        if range.start < range.end {
            into.extend(self.entries.range_mut(range).filter_map(Option::take));
        }
        self.unconfirmed -= into.len() - before;
        self.bytes -= into.iter().skip(before).map(|entry| entry.bytes).sum::<usize>();
        self.trim();
    }

    /// Keeps the first entry an unconfirmed one.
    fn trim(&mut self) {
        while let Some(None) = self.entries.front() {
            self.entries.pop_front();
            self.first += 1;
        }
    }

    /// Takes all that is left, in order.
    pub(super) fn drain(&mut self) -> Vec<Entry<P>> {
        let all: Vec<_> = self.entries.drain(..).flatten().collect();
        self.unconfirmed = 0;
        self.bytes = 0;
        all
    }

    pub(super) const fn unconfirmed(&self) -> usize {
        self.unconfirmed
    }

    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) const fn answers(&self) -> u64 {
        self.answers
    }
}

impl<P: Publication> Tracker<P> {
    /// Notes that nobody receives a publish. Two with one id and subject at once can't be told
    /// apart; the earlier is taken.
    pub(super) fn note_return(&mut self, refusal: Refusal, id: Option<&str>, routing_key: &str) {
        let start = self.returned.max(self.first);
        let skipped = usize::try_from(start - self.first).unwrap_or(usize::MAX);
        let found = self.entries.iter_mut().enumerate().skip(skipped).find_map(|(at, entry)| {
            let entry = entry.as_mut()?;
            entry.publication.is(id, routing_key).then_some((at, entry))
        });
        if let Some((at, entry)) = found {
            entry.returned = Some(Box::new(refusal));
            self.returned = self.first + at as u64 + 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use messaging_core::Result;
    use proptest::prelude::*;
    use tokio::time::Instant;

    use super::super::{Outcome, Publish};
    use super::*;

    impl Publication for u64 {
        fn begin(&mut self, _: Instant) -> bool {
            true
        }
        fn wire(&mut self, _: usize) -> Result<Publish> {
            unreachable!()
        }
        fn is(&self, id: Option<&str>, _: &str) -> bool {
            id == Some(&self.to_string())
        }
        fn route(&self) -> (&str, &str) {
            unreachable!()
        }
        fn deadline(&self) -> Instant {
            unreachable!()
        }
        fn finish(self, _: Outcome) {}
    }

    fn refusal() -> Refusal {
        Refusal { code: 312, text: "NO_ROUTE".to_owned() }
    }

    #[test]
    fn a_return_belongs_to_the_ack_that_follows() {
        let mut tracker = Tracker::default();
        for n in 1..=4 {
            tracker.push(n, 3, 10);
        }
        tracker.note_return(refusal(), Some("3"), "");
        let mut settled = Vec::new();
        tracker.settle(3, true, &mut settled);
        let returned: Vec<bool> = settled.iter().map(|entry| entry.returned.is_some()).collect();
        assert_eq!(returned, [false, false, true]);
        assert_eq!((tracker.unconfirmed(), tracker.bytes()), (1, 10));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Push,
        TakeBack,
        Settle(u64, bool),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => Just(Step::Push),
            1 => Just(Step::TakeBack),
            2 => (0_u64..40, any::<bool>()).prop_map(|(tag, multiple)| Step::Settle(tag, multiple)),
        ]
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_set_of_numbers(steps in prop::collection::vec(step(), 0..120)) {
            let mut tracker = Tracker::default();
            let mut open = BTreeSet::new();
            let mut next = 1_u64;
            for step in steps {
                match step {
                    Step::Push => {
                        prop_assert_eq!(tracker.push(next, 3, 7), next);
                        open.insert(next);
                        next += 1;
                    }
                    Step::TakeBack => {
                        // A publish that was confirmed can't be taken back.
                        if open.contains(&(next - 1)) {
                            prop_assert_eq!(tracker.take_back(next - 1), Some(next - 1));
                            open.remove(&(next - 1));
                            next -= 1;
                        }
                    }
                    Step::Settle(tag, multiple) => {
                        let mut settled = Vec::new();
                        tracker.settle(tag, multiple, &mut settled);
                        let settled: Vec<u64> = settled.iter().map(|it| it.publication).collect();
                        let expected: Vec<u64> = open
                            .iter()
                            .copied()
                            .filter(|&n| n == tag || (multiple && n < tag))
                            .collect();
                        open.retain(|n| !expected.contains(n));
                        prop_assert_eq!(settled, expected);
                    }
                }
                prop_assert_eq!(tracker.unconfirmed(), open.len());
                prop_assert_eq!(tracker.bytes(), open.len() * 7);
            }
            let left: Vec<u64> = tracker.drain().iter().map(|entry| entry.publication).collect();
            prop_assert_eq!(left, open.into_iter().collect::<Vec<_>>());
        }
    }
}
