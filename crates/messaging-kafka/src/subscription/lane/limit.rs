//! How far a partition's messages may go out: as far as a commit has said, so that whoever takes over
//! knows which of them may have been in hand.

use super::{Fetched, Lane, State};
use crate::offsets::metadata::{MOST_OPEN, Progress};
use crate::offsets::resume::Standing;

/// How far ahead of what is handed out a commit allows more. Half of it is used while the next
/// commit is on its way.
const WINDOW: i64 = 8_192;
/// The most suspects whose raised attempts one commit stores.
const STAGE: usize = 256;

impl Lane {
    /// Whether something waits for a commit with a higher limit.
    pub(in super::super) fn wants_commit(&self) -> bool {
        if self.state != State::Open || self.limit == i64::MAX {
            return false;
        }
        let reached = |fetched: &Fetched| fetched.offset.max(self.ledger.next());
        match self.ready.front() {
            Some(front) if is_suspect(front) => {
                let possible = self.is_free() || !front.standing.is_on_trial();
                front.offset >= self.limit && self.trial.is_none() && possible
            }
            Some(front) => reached(front) + WINDOW / 2 >= self.limit,
            None => self.read_at + WINDOW / 2 >= self.limit && !self.is_among_suspects(),
        }
    }

    fn is_among_suspects(&self) -> bool {
        self.resume.limit().is_some_and(|limit| self.read_at < limit)
    }

    /// What a commit says now. It raises the attempts of the suspects that go out next.
    pub(in super::super) fn progress(&mut self, patterns: u64) -> Progress {
        // What was read and is not ready any more is in the ledger, or needs no settling.
        self.ledger.pass(self.ready.front().map_or(self.read_at, |front| front.offset));
        // What is unsettled and was not handed out by us may wait for its raised attempt to be stored.
        let out = self.ledger.last_in_hand().max(self.copying.last_key_value().map(|(at, _)| *at));
        let out = out.map_or(i64::MIN, |at| at + 1);
        let limit = match self.state {
            State::Open => Some(self.next_limit().max(self.limit).max(out)),
            // Nothing more goes out, and nothing is in hand: a clean end.
            _ if self.is_free() => None,
            _ => Some(out),
        };
        self.dirty = false;
        self.ledger.progress(patterns, limit, MOST_OPEN)
    }

    fn next_limit(&mut self) -> i64 {
        let Some(front) = self.ready.front() else {
            let ahead = if self.is_among_suspects() { 0 } else { WINDOW };
            return self.read_at + ahead;
        };
        if !is_suspect(front) {
            return front.offset.max(self.ledger.next()) + WINDOW;
        }
        // What waits for the trial of another is not blamed for it.
        let waits = self.trial.is_some() && !self.is_free();
        if front.offset < self.limit || waits {
            return self.limit;
        }
        if front.standing.is_on_trial() {
            if !self.is_free() {
                return self.limit;
            }
            self.trial = Some(front.offset);
        }
        let alone = self.trial.is_some();
        let mut end = self.limit;
        for fetched in self.ready.iter().take(if alone { 1 } else { STAGE }) {
            if !is_suspect(fetched) || (!alone && fetched.standing.is_on_trial()) {
                break;
            }
            self.ledger.take(fetched.offset, fetched.attempt);
            self.ledger.set_attempt(fetched.offset, fetched.attempt);
            end = fetched.offset + 1;
        }
        end
    }

    /// A commit with this limit was answered.
    pub(in super::super) fn committed(&mut self, limit: Option<i64>) {
        self.placed = true;
        match limit {
            Some(limit) => self.limit = self.limit.max(limit),
            // It may have gone on since, and been asked back again.
            None => self.ended = self.state == State::Revoked && self.is_free() && !self.dirty,
        }
    }
}

const fn is_suspect(fetched: &Fetched) -> bool {
    matches!(fetched.standing, Standing::Open { suspect: true, .. })
}
