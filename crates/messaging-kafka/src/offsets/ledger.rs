//! What of one partition is unsettled.

use std::collections::VecDeque;

use super::metadata::{Open, Progress};

/// The unsettled offsets of one partition, in order, with the attempt of each and what is kept of it
/// while somebody has it in hand.
///
/// It is a ring: what is settled in order costs nothing but its two ends, and what is settled out of
/// order is found by bisection. Settled entries between unsettled ones are removed once they are
/// more than half, so that one slow message does not let it grow.
#[derive(Debug)]
pub(crate) struct Ledger<T> {
    entries: VecDeque<Entry<T>>,
    /// Settled entries that are still in the ring.
    settled: usize,
    /// The first offset that is not known yet.
    next: i64,
}

#[derive(Clone, Debug)]
struct Entry<T> {
    offset: i64,
    /// 0: settled.
    attempt: u32,
    hand: Option<T>,
}

impl<T> Ledger<T> {
    /// Nothing is unsettled below `next`, and nothing is known from there on.
    pub(crate) const fn new(next: i64) -> Self {
        Self { entries: VecDeque::new(), settled: 0, next }
    }

    /// An offset is ours to settle, and in nobody's hands. Offsets come in order; those between that
    /// never come (control records, compaction) need no settling.
    pub(crate) fn take(&mut self, offset: i64, attempt: u32) {
        if offset >= self.next {
            self.entries.push_back(Entry { offset, attempt: attempt.max(1), hand: None });
            self.next = offset + 1;
        }
    }

    /// Everything below `next` is known.
    pub(crate) fn pass(&mut self, next: i64) {
        self.next = self.next.max(next);
    }

    /// An unsettled offset goes into somebody's hands, as this attempt; one that is new is taken.
    pub(crate) fn hand_out(&mut self, offset: i64, attempt: u32, hand: T) {
        if offset >= self.next {
            self.entries.push_back(Entry { offset, attempt: attempt.max(1), hand: Some(hand) });
            self.next = offset + 1;
        } else if let Some(entry) = self.unsettled(offset) {
            entry.attempt = attempt.max(1);
            entry.hand = Some(hand);
        }
    }

    /// An offset comes back from somebody's hands, still unsettled; `None` if nobody has it.
    pub(crate) fn take_back(&mut self, offset: i64) -> Option<(T, u32)> {
        let entry = self.unsettled(offset)?;
        Some((entry.hand.take()?, entry.attempt))
    }

    /// An offset needs no more hand-over; `false` if it needed none before.
    pub(crate) fn settle(&mut self, offset: i64) -> bool {
        let Some(entry) = self.unsettled(offset) else { return false };
        entry.attempt = 0;
        entry.hand = None;
        self.settled += 1;
        while self.entries.front().is_some_and(|entry| entry.attempt == 0) {
            self.entries.pop_front();
            self.settled -= 1;
        }
        if self.settled > 64 && self.settled * 2 > self.entries.len() {
            self.entries.retain(|entry| entry.attempt > 0);
            self.settled = 0;
        }
        true
    }

    /// An offset stays unsettled, and its next hand-over is this attempt.
    pub(crate) fn set_attempt(&mut self, offset: i64, attempt: u32) {
        if let Some(entry) = self.unsettled(offset) {
            entry.attempt = attempt.max(1);
        }
    }

    /// The lowest unsettled offset, or what comes next: everything below is settled.
    pub(crate) fn mark(&self) -> i64 {
        self.entries.front().map_or(self.next, |entry| entry.offset)
    }

    /// The first offset that is not known yet.
    pub(crate) const fn next(&self) -> i64 {
        self.next
    }

    /// How many are unsettled.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.entries.len() - self.settled
    }

    /// Takes everything back from everybody's hands, still unsettled.
    pub(crate) fn take_all_back(&mut self) {
        self.entries.iter_mut().for_each(|entry| entry.hand = None);
    }

    pub(crate) fn is_in_hand(&self, offset: i64) -> bool {
        let entry = self.find(offset).and_then(|at| self.entries.get(at));
        entry.is_some_and(|entry| entry.hand.is_some())
    }

    /// What is in somebody's hands.
    pub(crate) fn hands(&self) -> impl Iterator<Item = &T> {
        self.entries.iter().filter_map(|entry| entry.hand.as_ref())
    }

    /// The highest offset that is in somebody's hands.
    pub(crate) fn last_in_hand(&self) -> Option<i64> {
        let last = self.entries.iter().rev().find(|entry| entry.hand.is_some());
        last.map(|entry| entry.offset)
    }

    /// What a commit says now, with the lowest unsettled offsets, at most so many.
    pub(crate) fn progress(&self, patterns: u64, limit: Option<i64>, most: usize) -> Progress {
        let mut unsettled = self.entries.iter().filter(|entry| entry.attempt > 0);
        let open = unsettled.by_ref().take(most);
        let open = open.map(|entry| Open { offset: entry.offset, attempt: entry.attempt });
        let open = open.collect();
        let cut = unsettled.next().map_or(self.next, |entry| entry.offset);
        Progress { base: self.mark(), patterns, limit, open, cut }
    }

    fn unsettled(&mut self, offset: i64) -> Option<&mut Entry<T>> {
        let at = self.find(offset)?;
        self.entries.get_mut(at).filter(|entry| entry.attempt > 0)
    }

    fn find(&self, offset: i64) -> Option<usize> {
        // Settling in order finds the front.
        if self.entries.front().is_some_and(|entry| entry.offset == offset) {
            return Some(0);
        }
        self.entries.binary_search_by_key(&offset, |entry| entry.offset).ok()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Take { skip: i64, attempt: u32 },
        Pass(i64),
        Settle(i64),
        Fail(i64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0..3_i64, 1..4_u32).prop_map(|(skip, attempt)| Step::Take { skip, attempt }),
            1 => (0..5_i64).prop_map(Step::Pass),
            4 => (0..40_i64).prop_map(Step::Settle),
            1 => (0..40_i64).prop_map(Step::Fail),
        ]
    }

    proptest! {
        #[test]
        fn it_is_a_set_and_its_mark_never_skips_an_unsettled_offset(
            steps in prop::collection::vec(step(), 0..400),
        ) {
            let mut ledger: Ledger<()> = Ledger::new(100);
            let mut model: BTreeMap<i64, u32> = BTreeMap::new();
            let mut ever: BTreeSet<i64> = BTreeSet::new();
            let mut next = 100;
            let mut mark = 100;
            for step in steps {
                match step {
                    Step::Take { skip, attempt } => {
                        ledger.take(next + skip, attempt);
                        model.insert(next + skip, attempt);
                        ever.insert(next + skip);
                        next += skip + 1;
                    }
                    Step::Pass(by) => {
                        next += by;
                        ledger.pass(next);
                    }
                    // The latest first, so that gaps stay; some that never were.
                    Step::Settle(back) => {
                        let known = model.remove(&(next - back)).is_some();
                        prop_assert_eq!(ledger.settle(next - back), known);
                    }
                    Step::Fail(back) => {
                        if let Some(attempt) = model.get_mut(&(next - back)) {
                            *attempt += 1;
                            ledger.set_attempt(next - back, *attempt);
                        }
                    }
                }
                prop_assert_eq!(ledger.len(), model.len());
                let lowest = model.first_key_value().map_or(next, |(offset, _)| *offset);
                prop_assert_eq!(ledger.mark(), lowest);
                prop_assert!(ledger.mark() >= mark, "the mark never goes back");
                mark = ledger.mark();
                let progress = ledger.progress(7, None, usize::MAX);
                let open: BTreeMap<_, _> =
                    progress.open.iter().map(|open| (open.offset, open.attempt)).collect();
                prop_assert_eq!(&open, &model);
            }
            for offset in ever {
                ledger.settle(offset);
            }
            prop_assert_eq!(ledger.mark(), next, "with everything settled, nothing is left");
        }
    }

    #[test]
    fn one_slow_message_does_not_let_it_grow() {
        let mut ledger = Ledger::new(0);
        ledger.take(0, 1);
        for offset in 1..1_000_000 {
            ledger.hand_out(offset, 1, "message");
            ledger.settle(offset);
        }
        assert!(ledger.entries.capacity() < 1_024);
        assert_eq!((ledger.mark(), ledger.next()), (0, 1_000_000));
        ledger.settle(0);
        assert_eq!(ledger.mark(), 1_000_000);
    }
}
