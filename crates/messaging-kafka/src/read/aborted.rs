//! Which transactions were aborted.

use std::collections::VecDeque;

/// The aborted transactions of one answer, as reading goes through it.
#[derive(Debug, Default)]
pub(crate) struct Aborted {
    /// Those that begin further on: first offset and producer, in order.
    ahead: VecDeque<(i64, i64)>,
    /// The producers whose transaction was aborted and has not ended yet.
    open: Vec<i64>,
}

impl Aborted {
    /// From pairs of producer and first offset.
    pub(crate) fn new(transactions: impl IntoIterator<Item = (i64, i64)>) -> Self {
        let turn = |(producer, first)| (first, producer);
        let mut ahead: Vec<(i64, i64)> = transactions.into_iter().map(turn).collect();
        ahead.sort_unstable();
        Self { ahead: ahead.into(), open: Vec::new() }
    }

    /// Whether the records of a transactional batch are skipped.
    pub(crate) fn skips(&mut self, producer: i64, last_offset: i64) -> bool {
        self.reach(last_offset);
        self.open.contains(&producer)
    }

    /// A control batch ends the transaction of its producer.
    pub(crate) fn end(&mut self, producer: i64, last_offset: i64) {
        self.reach(last_offset);
        if let Some(at) = self.open.iter().position(|open| *open == producer) {
            self.open.swap_remove(at);
        }
    }

    fn reach(&mut self, last_offset: i64) {
        while let Some((first, producer)) = self.ahead.front().copied()
            && first <= last_offset
        {
            self.open.push(producer);
            self.ahead.pop_front();
        }
    }
}
