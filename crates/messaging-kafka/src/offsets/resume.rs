//! What a new owner makes of what the last one stored.

use super::ledger::Ledger;
use super::metadata::Progress;

/// From the attempt on at which one suspect is tried at a time.
const TRIAL: u32 = 3;

/// How a partition is taken up: where reading begins, and how each offset is handed out.
#[derive(Debug)]
pub(crate) struct Resume {
    /// What was unsettled, in order; empty behind what is done.
    open: Vec<super::metadata::Open>,
    /// Where reading begins.
    start: i64,
    cut: i64,
    /// Unsettled offsets below it were perhaps in a dead member's hands.
    limit: i64,
}

/// How an offset is handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It was settled before.
    Done,
    /// It is handed out as this attempt.
    Open {
        attempt: u32,
        /// Whether a dead member may have had it in hand.
        suspect: bool,
    },
}

impl Standing {
    /// Whether nothing else of the partition may be in hand while this is: it killed its worker, or
    /// was near one that died, more than once.
    pub(crate) const fn is_on_trial(self) -> bool {
        matches!(self, Self::Open { attempt, suspect: true } if attempt >= TRIAL)
    }
}

impl Resume {
    /// Begins at an offset without a history.
    pub(crate) const fn at(start: i64) -> Self {
        Self { open: Vec::new(), start, cut: start, limit: i64::MIN }
    }

    /// Goes on where a group stood.
    pub(crate) fn after(progress: Progress) -> Self {
        let Progress { base, limit, open, cut, .. } = progress;
        Self { open, start: base, cut, limit: limit.unwrap_or(i64::MIN) }
    }

    /// What is stored from `end` on, which was the end of the log when the last owner had lost it, was
    /// in nobody's hands.
    pub(crate) fn stored_before(mut self, end: i64) -> Self {
        self.limit = self.limit.min(end);
        self
    }

    /// Where reading begins.
    pub(crate) const fn start(&self) -> i64 {
        self.start
    }

    /// Where everything that the last owner may have had in hand ends.
    pub(crate) const fn limit(&self) -> Option<i64> {
        if self.limit > self.start { Some(self.limit) } else { None }
    }

    /// A ledger in which everything is unsettled that was. The attempt of a suspect is raised, and
    /// that is stored, just before it is handed out again: so one that waits for the trial of
    /// another is not blamed for it.
    pub(crate) fn ledger<T>(&self) -> Ledger<T> {
        let mut ledger = Ledger::new(self.start);
        self.open.iter().for_each(|open| ledger.take(open.offset, open.attempt));
        ledger.pass(self.cut);
        ledger
    }

    /// What is unsettled and is to be read again, in order.
    pub(crate) fn open(&self) -> impl Iterator<Item = i64> + '_ {
        self.open.iter().map(|open| open.offset)
    }

    /// How an offset stands that was read at or behind the start, and was `first` handed out as this
    /// attempt.
    pub(crate) fn standing(&self, offset: i64, first: u32) -> Standing {
        let suspect = offset < self.limit;
        let known = if offset >= self.cut {
            first
        } else {
            match self.open.binary_search_by_key(&offset, |open| open.offset) {
                Ok(at) => self.open.get(at).map_or(1, |open| open.attempt.max(1)),
                Err(_) => return Standing::Done,
            }
        };
        Standing::Open { attempt: known.saturating_add(u32::from(suspect)), suspect }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::metadata::Open;
    use super::*;

    fn open(offset: i64, attempt: u32) -> Open {
        Open { offset, attempt }
    }

    #[test]
    fn after_a_clean_end_only_the_gaps_come_again_as_they_were() {
        let gaps = vec![open(10, 1), open(12, 2)];
        let progress = Progress { base: 10, patterns: 0, limit: None, open: gaps, cut: 14 };
        let resume = Resume::after(progress);
        assert_eq!(resume.standing(10, 1), Standing::Open { attempt: 1, suspect: false });
        assert_eq!(resume.standing(11, 1), Standing::Done);
        assert_eq!(resume.standing(12, 1), Standing::Open { attempt: 2, suspect: false });
        assert_eq!(resume.standing(13, 1), Standing::Done);
        assert_eq!(resume.standing(14, 1), Standing::Open { attempt: 1, suspect: false });
    }

    #[test]
    fn after_a_crash_what_may_have_been_in_hand_counts_one_attempt_more() {
        let gaps = vec![open(10, 1), open(12, 2)];
        let progress = Progress { base: 10, patterns: 0, limit: Some(16), open: gaps, cut: 14 };
        let resume = Resume::after(progress);
        assert_eq!(resume.standing(10, 1), Standing::Open { attempt: 2, suspect: true });
        assert_eq!(resume.standing(11, 1), Standing::Done);
        assert!(resume.standing(12, 1).is_on_trial());
        assert_eq!(resume.standing(15, 1), Standing::Open { attempt: 2, suspect: true });
        assert_eq!(resume.standing(16, 1), Standing::Open { attempt: 1, suspect: false });
        let ledger: Ledger<()> = resume.ledger();
        assert_eq!((ledger.mark(), ledger.next(), ledger.len()), (10, 14, 2));
    }

    #[test]
    fn what_was_stored_after_a_crash_was_in_nobodys_hands() {
        let progress =
            Progress { base: 10, patterns: 0, limit: Some(9_000), open: vec![], cut: 10 };
        let resume = Resume::after(progress).stored_before(12);
        assert_eq!(resume.limit(), Some(12));
        assert_eq!(resume.standing(11, 1), Standing::Open { attempt: 2, suspect: true });
        assert_eq!(resume.standing(12, 1), Standing::Open { attempt: 1, suspect: false });
    }

    proptest! {
        /// Members that die anywhere: what was settled before the last commit never comes again,
        /// and what was not settled always does.
        #[test]
        fn a_restart_never_skips(
            ends in prop::collection::vec((1..60_usize, any::<u64>(), any::<bool>()), 1..6),
        ) {
            let mut settled = std::collections::BTreeSet::new();
            let mut stored = (0, String::new());
            for (count, choice, clean) in ends {
                let (base, text) = &stored;
                let resume = Progress::decode(text, *base).map_or(Resume::at(*base), Resume::after);
                let mut ledger: Ledger<()> = resume.ledger();
                let mut handed = Vec::new();
                for offset in resume.start()..resume.start() + i64::try_from(count).unwrap() {
                    match resume.standing(offset, 1) {
                        Standing::Done => prop_assert!(settled.contains(&offset), "{offset} skipped"),
                        Standing::Open { attempt, .. } => {
                            ledger.take(offset, attempt);
                            handed.push(offset);
                        }
                    }
                }
                for (at, offset) in handed.into_iter().enumerate() {
                    if choice >> (at % 64) & 1 == 1 {
                        ledger.settle(offset);
                        settled.insert(offset);
                    }
                }
                let limit = (!clean).then(|| ledger.next() + 5);
                stored = (ledger.mark(), ledger.progress(1, limit, usize::MAX).encode());
                prop_assert!((0..stored.0).all(|offset| settled.contains(&offset)));
            }
        }
    }
}
