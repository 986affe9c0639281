//! Who owes what: every line of this run until it is settled.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use messaging::driver::Settlement;
use messaging::{Bytes, Message, MessageId, Outcome, Result, WorkerReport};
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;

use super::pieces::Pieces;
use super::summary::Tally;
use super::track::{Track, Unfinished};

/// The header that names the run which published a message.
const RUN: &str = "work-run";

/// The header that names the line a message was made from.
const LINE: &str = "work-line";

/// The lines of one run.
#[derive(Debug)]
pub(super) struct Ledger {
    run: String,
    books: Mutex<Books>,
    changed: Notify,
    pieces: Pieces,
}

#[derive(Debug, Default)]
struct Books {
    open: BTreeMap<u64, Open>,
    tally: Tally,
    input_ended: bool,
}

/// A line that is not settled.
#[derive(Debug)]
struct Open {
    bytes: Bytes,
    /// Whether the command was ever started for it.
    started: bool,
    /// Whether it was handed to the broker.
    sent: bool,
    since: Instant,
}

/// The first so many failures are shown with their reasons.
pub(super) const SHOWN: usize = 5;

impl Ledger {
    pub(super) fn new(pieces: Pieces) -> Self {
        let run = MessageId::generate().to_string();
        Self { run, books: Mutex::default(), changed: Notify::new(), pieces }
    }

    /// The command is started for a message.
    pub(super) fn started(&self, message: &Message) {
        if let Some(line) = self.line_of(message)
            && let Some(open) = self.books().open.get_mut(&line)
        {
            open.started = true;
        }
    }

    /// A worker's hand-over has ended.
    pub(super) fn settled(&self, outcome: &Outcome) {
        let line = self.line_of(&outcome.message);
        let mut books = self.books();
        let books = &mut *books;
        if let Settlement::Reject { reason } = &outcome.settlement
            && books.tally.reasons.len() < SHOWN
        {
            books.tally.reasons.push(format!("{}: {reason}", outcome.message.id));
        }
        let Some(line) = line.filter(|line| books.open.contains_key(line)) else {
            return books.tally.foreign.count(&outcome.settlement);
        };
        books.mark_sent(line);
        books.tally.ours.count(&outcome.settlement);
        if matches!(outcome.settlement, Settlement::Ack | Settlement::Reject { .. })
            && let Some(open) = books.open.remove(&line)
        {
            if outcome.settlement == Settlement::Ack {
                books.tally.latencies.push(open.since.elapsed());
            }
            let settled = books.tally.ours.settled();
            self.pieces.progress(settled, books.tally.published);
            self.changed.notify_one();
        }
    }

    /// Waits until everything is published and settled.
    pub(super) async fn all_settled(&self) {
        loop {
            let changed = self.changed.notified();
            if self.books().is_done() {
                return;
            }
            changed.await;
        }
    }

    /// Whether everything has been published.
    pub(super) fn has_input_ended(&self) -> bool {
        self.books().input_ended
    }

    /// The lines that are still open were taken by another member of the group.
    pub(super) fn all_elsewhere(&self) {
        let mut books = self.books();
        books.tally.elsewhere += books.open.len() as u64;
        books.open.clear();
        drop(books);
        self.changed.notify_one();
    }

    /// The figures, and the lines that were not settled. Without a file every message is its own.
    pub(super) fn close(
        &self,
        report: &Result<WorkerReport>,
        without_file: bool,
    ) -> (Tally, Vec<Unfinished>) {
        let mut books = self.books();
        let mut tally = std::mem::take(&mut books.tally);
        let open = std::mem::take(&mut books.open);
        if without_file {
            let released = report.as_ref().map_or(0, |report| report.released);
            tally.ours = std::mem::take(&mut tally.foreign);
            tally.returned = released;
            tally.published = tally.ours.settled() + released;
        } else {
            let sent = || open.values().filter(|open| open.sent);
            tally.returned = sent().filter(|open| open.started).count() as u64;
            tally.left = sent().filter(|open| !open.started).count() as u64;
        }
        let unfinished = |(line, open): (u64, Open)| {
            let state = match (open.sent, open.started) {
                (false, _) => "not published",
                (true, true) => "returned",
                (true, false) => "left",
            };
            Unfinished { line, bytes: open.bytes, state }
        };
        (tally, open.into_iter().map(unfinished).collect())
    }

    fn line_of(&self, message: &Message) -> Option<u64> {
        let ours = message.headers.text(RUN) == Some(&self.run);
        message.headers.text(LINE).filter(|_| ours)?.parse().ok()
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Track for Ledger {
    fn add(&self, line: u64, message: Message) -> Result<Message> {
        let message =
            message.with_header(RUN, self.run.clone())?.with_header(LINE, line.to_string())?;
        let bytes = message.body.clone();
        let open = Open { bytes, started: false, sent: false, since: Instant::now() };
        self.books().open.insert(line, open);
        Ok(message)
    }

    fn sent(&self, line: u64) {
        self.books().mark_sent(line);
    }

    fn bad(&self, line: u64, text: &str) {
        let mut books = self.books();
        if books.open.remove(&line).is_some_and(|open| open.sent) {
            books.tally.published -= 1;
        }
        books.tally.bad += 1;
        drop(books);
        self.pieces.say(text);
        self.changed.notify_one();
    }

    fn end_of_input(&self) {
        self.books().input_ended = true;
        self.changed.notify_one();
    }

    fn room(&self) -> Option<&Semaphore> {
        None
    }
}

impl Books {
    fn is_done(&self) -> bool {
        self.input_ended && self.open.is_empty()
    }

    /// A message may be settled before its hand-over has returned, so both say so.
    fn mark_sent(&mut self, line: u64) {
        if let Some(open) = self.open.get_mut(&line)
            && !open.sent
        {
            open.sent = true;
            self.tally.published += 1;
        }
    }
}
