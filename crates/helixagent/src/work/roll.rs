//! Who was heard: every line of an at-most-once run, known by its message's id.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use messaging::schema::parse_json;
use messaging::{Bytes, Gap, Message, MessageId, Result, Verdict};
use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, sleep};

use super::ledger::SHOWN;
use super::pieces::Pieces;
use super::summary::Tally;
use super::track::{Track, Unfinished};

/// How long after the last traffic a line that was not heard is given up.
pub(super) const QUIET: Duration = Duration::from_secs(5);

/// How many lines may be on their way. Publishing faster would only outrun the listener.
pub(super) const ON_THEIR_WAY: usize = 1_024;

/// The lines of one run.
#[derive(Debug)]
pub(super) struct Roll {
    books: Mutex<Books>,
    room: Semaphore,
    changed: Notify,
    pieces: Pieces,
}

#[derive(Debug)]
struct Books {
    open: BTreeMap<u64, Open>,
    /// The lines of an id, as nothing keeps two lines from having the same.
    ids: HashMap<String, VecDeque<u64>>,
    tally: Tally,
    input_ended: bool,
    last_traffic: Instant,
}

/// A line whose command has not ended.
#[derive(Debug)]
struct Open {
    bytes: Bytes,
    since: Instant,
    sent: Option<Instant>,
    heard: bool,
    holds_room: bool,
}

impl Roll {
    pub(super) fn new(pieces: Pieces) -> Self {
        let books = Books {
            open: BTreeMap::new(),
            ids: HashMap::new(),
            tally: Tally { lost: Some(0), ..Tally::default() },
            input_ended: false,
            last_traffic: Instant::now(),
        };
        let room = Semaphore::new(ON_THEIR_WAY);
        Self { books: Mutex::new(books), room, changed: Notify::new(), pieces }
    }

    /// A message was heard; the line it was made from, if it is one of ours.
    pub(super) fn heard(&self, message: &Message) -> Option<u64> {
        let mut books = self.books();
        // Where the broker carries no ids, the payload's own is the message's id.
        let line = books.take(&message.id.to_string());
        let line =
            line.or_else(|| books.take(parse_json(&message.body).ok()?.get("id")?.as_str()?));
        if line.is_some() {
            books.last_traffic = Instant::now();
        }
        line
    }

    /// The command for a message has ended.
    pub(super) fn ended(&self, line: Option<u64>, id: &MessageId, verdict: &Verdict) {
        let mut books = self.books();
        let books = &mut *books;
        if let Some(reason) = failure(verdict)
            && books.tally.reasons.len() < SHOWN
        {
            books.tally.reasons.push(format!("{id}: {reason}"));
        }
        let succeeded = matches!(verdict, Verdict::Ack);
        let Some(open) = line.and_then(|line| books.open.remove(&line)) else {
            return books.tally.foreign.count_end(succeeded);
        };
        // It may have been heard before its hand-over has returned.
        if open.sent.is_none() {
            books.tally.published += 1;
        }
        books.tally.ours.count_end(succeeded);
        if succeeded {
            books.tally.latencies.push(open.since.elapsed());
        }
        books.last_traffic = Instant::now();
        self.pieces.progress(books.tally.ours.settled(), books.tally.published);
        self.room.add_permits(usize::from(open.holds_room));
        self.changed.notify_one();
    }

    /// Messages were missed; at least one where their number is not known.
    pub(super) fn missed(&self, gap: &Gap) {
        let mut books = self.books();
        books.tally.missed += gap.missed.unwrap_or(1);
    }

    /// Waits until every line is accounted for, or nothing was heard of the rest for long enough.
    pub(super) async fn all_heard(&self) {
        loop {
            tokio::select! {
                () = self.changed.notified() => {}
                () = sleep(Duration::from_millis(100)) => {}
            }
            let mut books = self.books();
            self.room.add_permits(books.give_up());
            if books.is_done() {
                return;
            }
        }
    }

    /// The figures, and the lines that were lost. Without a file every message is its own.
    pub(super) fn close(&self, without_file: bool) -> (Tally, Vec<Unfinished>) {
        let mut books = self.books();
        let mut tally = std::mem::take(&mut books.tally);
        let open = std::mem::take(&mut books.open);
        if without_file {
            tally.ours = std::mem::take(&mut tally.foreign);
            tally.lost = Some(tally.missed);
            tally.published = tally.ours.settled() + tally.missed;
        } else {
            let lost = open.values().filter(|open| open.sent.is_some()).count();
            tally.lost = Some(lost as u64);
        }
        let unfinished = |(line, open): (u64, Open)| {
            let state = if open.sent.is_some() { "lost" } else { "not published" };
            Unfinished { line, bytes: open.bytes, state }
        };
        (tally, open.into_iter().map(unfinished).collect())
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Track for Roll {
    fn add(&self, line: u64, message: Message) -> Result<Message> {
        let open = Open {
            bytes: message.body.clone(),
            since: Instant::now(),
            sent: None,
            heard: false,
            holds_room: true,
        };
        let mut books = self.books();
        books.open.insert(line, open);
        books.ids.entry(message.id.to_string()).or_default().push_back(line);
        Ok(message)
    }

    fn sent(&self, line: u64) {
        let now = Instant::now();
        let mut books = self.books();
        books.last_traffic = now;
        if let Some(open) = books.open.get_mut(&line)
            && open.sent.is_none()
        {
            open.sent = Some(now);
            books.tally.published += 1;
        }
    }

    fn bad(&self, line: u64, text: &str) {
        let mut books = self.books();
        let open = books.open.remove(&line);
        if open.as_ref().is_some_and(|open| open.sent.is_some()) {
            books.tally.published -= 1;
        }
        books.tally.bad += 1;
        drop(books);
        self.room.add_permits(usize::from(open.is_none_or(|open| open.holds_room)));
        self.pieces.say(text);
        self.changed.notify_one();
    }

    fn end_of_input(&self) {
        let mut books = self.books();
        books.input_ended = true;
        drop(books);
        self.changed.notify_one();
    }

    fn room(&self) -> Option<&Semaphore> {
        Some(&self.room)
    }
}

impl Books {
    /// The first line of this id that was not heard yet.
    fn take(&mut self, id: &str) -> Option<u64> {
        let lines = self.ids.get_mut(id)?;
        let found = std::iter::from_fn(|| lines.pop_front()).find_map(|line| {
            let open = self.open.get_mut(&line)?;
            open.heard = true;
            Some(line)
        });
        if lines.is_empty() {
            self.ids.remove(id);
        }
        found
    }

    /// How many lines make room for others, as they are late. They still count if they come.
    fn give_up(&mut self) -> usize {
        let late = |open: &&mut Open| {
            let long_ago = open.sent.is_some_and(|sent| sent.elapsed() >= QUIET);
            open.holds_room && !open.heard && long_ago
        };
        self.open.values_mut().filter(late).map(|open| open.holds_room = false).count()
    }

    fn is_done(&self) -> bool {
        let runs = || self.open.values().any(|open| open.heard);
        let quiet = || self.last_traffic.elapsed() >= QUIET && !runs();
        self.input_ended && (self.open.is_empty() || quiet())
    }
}

fn failure(verdict: &Verdict) -> Option<&str> {
    match verdict {
        Verdict::Fail { reason } | Verdict::Retry { reason, .. } | Verdict::Reject { reason } => {
            Some(reason)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use messaging::Subject;

    use super::*;

    fn message(id: &str) -> Message {
        let body = format!("{{\"id\":\"{id}\"}}");
        Message::new(Subject::from_static("tasks.x"), body).with_id(id.parse().unwrap())
    }

    /// The lines 1, 2, … of messages with these ids, all of them sent.
    fn roll(ids: &[&str]) -> Roll {
        let roll = Roll::new(Pieces::new(false).0);
        for (line, id) in (1..).zip(ids) {
            roll.add(line, message(id)).unwrap();
            roll.sent(line);
        }
        roll.end_of_input();
        roll
    }

    fn hear(roll: &Roll, heard: &Message) -> Option<u64> {
        let line = roll.heard(heard);
        roll.ended(line, &heard.id, &Verdict::Ack);
        line
    }

    #[tokio::test(start_paused = true)]
    async fn when_every_line_was_heard_there_is_nothing_to_wait_for() {
        let roll = roll(&["a", "a", "b"]);
        for (id, line) in [("a", Some(1)), ("b", Some(3)), ("c", None), ("a", Some(2))] {
            assert_eq!(hear(&roll, &message(id)), line);
        }
        let began = Instant::now();
        roll.all_heard().await;
        assert!(began.elapsed() < Duration::from_secs(1));
        let (tally, open) = roll.close(false);
        assert_eq!((tally.published, tally.ours.settled(), tally.lost), (3, 3, Some(0)));
        assert_eq!((tally.foreign.settled(), open.len()), (1, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_heard_until_5_s_after_the_last_traffic_is_lost() {
        let roll = roll(&["a", "b"]);
        let began = Instant::now();
        let late = async {
            sleep(Duration::from_secs(3)).await;
            hear(&roll, &message("a"));
        };
        tokio::join!(roll.all_heard(), late);
        let waited = began.elapsed();
        assert!(Duration::from_secs(8) <= waited && waited < Duration::from_secs(9), "{waited:?}");
        let (tally, open) = roll.close(false);
        assert_eq!((tally.published, tally.lost), (2, Some(1)));
        assert_eq!((open[0].line, open[0].state), (2, "lost"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_command_that_runs_long_is_waited_for() {
        let roll = roll(&["a"]);
        let line = roll.heard(&message("a"));
        let ends = async {
            sleep(Duration::from_secs(60)).await;
            roll.ended(line, &"a".parse().unwrap(), &Verdict::fail("exit status 1"));
        };
        tokio::join!(roll.all_heard(), ends);
        let (tally, _) = roll.close(false);
        assert_eq!((tally.ours.settled(), tally.lost), (1, Some(0)));
        assert_eq!(tally.reasons, ["a: exit status 1"]);
    }

    #[tokio::test]
    async fn the_payloads_own_id_is_enough() {
        let roll = roll(&["a"]);
        let other = message("a").with_id("made-up-on-the-way".parse().unwrap());
        assert_eq!(hear(&roll, &other), Some(1));
    }

    #[tokio::test(start_paused = true)]
    async fn lines_that_are_late_make_room_for_others() {
        let roll = roll(&["a", "b"]);
        roll.room.forget_permits(2);
        tokio::join!(roll.all_heard(), async {
            sleep(Duration::from_secs(1)).await;
            hear(&roll, &message("b"));
        });
        assert_eq!(roll.room.available_permits(), ON_THEIR_WAY);
    }
}
