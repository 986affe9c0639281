//! Publishes the lines of a file, each on the books until it is done.

use std::collections::HashMap;
use std::sync::Arc;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use messaging::{
    Broker, Bytes, Error, ErrorKind, Message, Patterns, Pending, Publisher, Receipt, SendSpec,
};
use tokio::sync::mpsc;

use super::document;
use super::track::Track;
use crate::exit::Failure;
use crate::lines::Line;

/// The lines on their way to the broker.
pub(super) struct Feed {
    publishers: HashMap<String, Publisher<Bytes>>,
    broker: Broker,
    name: String,
    lines: mpsc::Receiver<Line>,
    patterns: Patterns,
    books: Arc<dyn Track>,
}

/// What was read and never published.
pub(super) struct Unread {
    pub(super) line: u64,
    pub(super) bytes: Bytes,
}

impl Feed {
    pub(super) async fn new(
        broker: &Broker,
        name: String,
        lines: mpsc::Receiver<Line>,
        patterns: Patterns,
        books: Arc<dyn Track>,
    ) -> Result<Self, Failure> {
        let broker = broker.clone();
        let mut feed = Self { publishers: HashMap::new(), broker, name, lines, patterns, books };
        for stream in ["tasks", "events"] {
            if feed.broker.topology().stream(stream).is_some() {
                let publisher = feed.broker.publisher(SendSpec::to(stream)?).await?;
                feed.publishers.insert(stream.to_owned(), publisher);
            }
        }
        Ok(feed)
    }

    /// Publishes everything. A bad line is named and the others go on.
    ///
    /// # Cancellation
    /// A line whose hand-over was cut off is not sent; it counts among the unread.
    pub(super) async fn publish_all(&mut self) {
        let mut unconfirmed = FuturesUnordered::new();
        loop {
            tokio::select! {
                biased;
                Some((line, message, outcome)) = unconfirmed.next() => {
                    if let Some(pending) = self.confirmed(line, &message, outcome).await {
                        unconfirmed.push(answer(line, message, pending));
                    }
                }
                line = next(&*self.books, &mut self.lines) => {
                    let Some(Line { number, bytes }) = line else { break };
                    if let Some((message, pending)) = self.publish_line(number, bytes).await {
                        unconfirmed.push(answer(number, message, pending));
                    }
                }
            }
        }
        while let Some((line, message, outcome)) = unconfirmed.next().await {
            if let Some(pending) = self.confirmed(line, &message, outcome).await {
                unconfirmed.push(answer(line, message, pending));
            }
        }
        self.books.end_of_input();
    }

    async fn publish_line(
        &mut self,
        line: u64,
        bytes: Result<Bytes, String>,
    ) -> Option<(Message, Pending<Receipt>)> {
        let made = bytes
            .map_err(|why| Error::new(ErrorKind::Undecodable, why))
            .and_then(|bytes| document::message(&bytes, &self.patterns))
            .and_then(|message| self.books.add(line, message));
        match made {
            Ok(message) => {
                let pending = self.hand_over(line, &message).await?;
                Some((message, pending))
            }
            Err(error) => {
                self.refuse(line, &error);
                None
            }
        }
    }

    /// Hands a message over, waiting for room as long as it takes.
    async fn hand_over(&self, line: u64, message: &Message) -> Option<Pending<Receipt>> {
        let known = self.publishers.get(message.subject.stream());
        let Some(publisher) = known else {
            let streams = self.broker.topology();
            if let Err(error) = streams.require(message.subject.stream()) {
                self.refuse(line, &error);
            }
            return None;
        };
        loop {
            match publisher.enqueue_message(message.clone()).await {
                Ok(pending) => {
                    self.books.sent(line);
                    return Some(pending);
                }
                Err(error) if *error.kind() == ErrorKind::NotSent => {}
                Err(error) => {
                    self.refuse(line, &error);
                    return None;
                }
            }
        }
    }

    /// What was definitely not sent is sent again; what may have been stays in the ledger.
    async fn confirmed(
        &self,
        line: u64,
        message: &Message,
        outcome: messaging::Result<Receipt>,
    ) -> Option<Pending<Receipt>> {
        match outcome {
            Ok(_) => None,
            Err(error) if error.is_outcome_unknown() => None,
            Err(error) if *error.kind() == ErrorKind::NotSent => {
                self.hand_over(line, message).await
            }
            Err(error) => {
                self.refuse(line, &error);
                None
            }
        }
    }

    fn refuse(&self, line: u64, error: &Error) {
        self.books.bad(line, &format!("{}:{line}: {error}", self.name));
    }

    /// What is left to read, of standard input only what has been read already.
    pub(super) async fn unread(mut self, is_stdin: bool) -> Vec<Unread> {
        let mut unread = Vec::new();
        loop {
            let next = if is_stdin { self.lines.try_recv().ok() } else { self.lines.recv().await };
            let Some(line) = next else { return unread };
            // A line that can't be read is named by the run that reaches it.
            if let Ok(bytes) = line.bytes {
                unread.push(Unread { line: line.number, bytes });
            }
        }
    }
}

/// The next line, once there is room for it. Cancelling it loses neither.
async fn next(books: &dyn Track, lines: &mut mpsc::Receiver<Line>) -> Option<Line> {
    let Some(room) = books.room() else { return lines.recv().await };
    // The room is never closed.
    let permit = room.acquire().await.ok()?;
    let line = lines.recv().await?;
    // It is given back with the line.
    permit.forget();
    Some(line)
}

async fn answer(
    line: u64,
    message: Message,
    pending: Pending<Receipt>,
) -> (u64, Message, messaging::Result<Receipt>) {
    let outcome = pending.await;
    (line, message, outcome)
}
