//! The task that publishes: takes what was handed over, sends it in pieces, passes answers on.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use messaging_core::driver::{Assurance, Backoff, Outgoing, Receipt};
use messaging_core::{Confirm, Result};
use redis::aio::MultiplexedConnection;
use redis::{Cmd, Pipeline, Value};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use super::driver::{NAME, Shared};
use super::envelope;
use crate::connection::{Traffic, alongside};
use crate::error::{closed, from_server, unexpected};

/// How many pieces may be on the wire. They keep their order: it is one connection.
const PIECES: usize = 4;
/// The most messages of one piece.
const PIECE_MESSAGES: usize = 1_024;
/// While others are on the wire, a piece waits for so many, or for an answer: many small pieces cost
/// both sides more than the wait does.
const PIECE_WORTH_SENDING: usize = 256;
/// A message of so many bytes is a piece worth sending.
const LARGE: usize = 16 * 1024;
/// The most bytes of one piece; one message more may be in it.
const PIECE_BYTES: usize = 256 * 1024;
/// After this silence the server is asked whether it is there, before anything is sent: what then
/// waits is known to be not sent.
const SILENCE: Duration = Duration::from_secs(1);
/// How long it may take to answer that.
const PING: Duration = Duration::from_secs(2);
/// A connection that lasted so long starts the growing waits anew.
const STABLE: Duration = Duration::from_secs(1);

/// Codes after which another connection may find a server that serves.
const MOVED_ON: [&str; 6] =
    ["READONLY", "LOADING", "MASTERDOWN", "CLUSTERDOWN", "NOREPLICAS", "NOAUTH"];

pub(super) struct Publishing {
    shared: Arc<Shared>,
    queue: UnboundedReceiver<Outgoing>,
    /// Taken from the queue and not on the wire.
    waiting: VecDeque<Outgoing>,
    /// Whether the queue is closed and empty.
    drained: bool,
    channel: String,
}

/// Messages on their way to the wire, and where their outcomes go.
struct Piece {
    pipeline: Pipeline,
    confirms: Vec<Confirm<Receipt>>,
    /// Whether an answer of 0 says that nobody listens: a cluster's node knows only its own.
    counts_all: bool,
}

/// A connection and its traffic.
type Opened = (MultiplexedConnection, Traffic);

/// Why a connection is not used any more.
enum Ended {
    /// Everything is sent and answered, or time is up.
    Done,
    Lost(String),
}

impl Publishing {
    pub(super) fn new(shared: Arc<Shared>, queue: UnboundedReceiver<Outgoing>) -> Self {
        Self { shared, queue, waiting: VecDeque::new(), drained: false, channel: String::new() }
    }

    pub(super) async fn run(mut self, mut opened: Opened) {
        let mut backoff = Backoff::default();
        loop {
            let since = Instant::now();
            let Ended::Lost(reason) = self.serve(opened).await else { break };
            if since.elapsed() > STABLE {
                backoff.reset();
            }
            let Some(new) = self.reconnect(&reason, &mut backoff).await else { break };
            opened = new;
        }
        self.refuse_rest();
    }

    async fn serve(&mut self, (connection, mut traffic): Opened) -> Ended {
        let (closing, abort) = (self.shared.closing.clone(), self.shared.abort.clone());
        let mut in_flight = FuturesUnordered::new();
        let mut heard = Instant::now();
        let mut taken = Vec::new();
        let (mut closed, mut aborted) = (pin!(closing.cancelled()), pin!(abort.cancelled()));
        let mut has_ended = false;
        loop {
            while !has_ended
                && in_flight.len() < PIECES
                && self.is_worth_sending(in_flight.is_empty())
            {
                if in_flight.is_empty() && heard.elapsed() > SILENCE {
                    let answered = alongside(&mut traffic, ping(connection.clone()));
                    match abort.run_until_cancelled(answered).await {
                        None => return Ended::Done,
                        Some(Err(error)) => return Ended::Lost(error.to_string()),
                        Some(Ok(Err(reason))) => return Ended::Lost(reason),
                        Some(Ok(Ok(()))) => heard = Instant::now(),
                    }
                }
                let piece = self.next_piece();
                if !piece.confirms.is_empty() {
                    // They reach the connection in this order, as they are polled in it.
                    in_flight.push(publish(connection.clone(), piece));
                }
            }
            if self.drained && self.waiting.is_empty() && in_flight.is_empty() {
                return Ended::Done;
            }
            if has_ended && in_flight.is_empty() {
                return Ended::Lost("the server ended it".to_owned());
            }
            let room = PIECE_MESSAGES.saturating_sub(self.waiting.len());
            tokio::select! {
                biased;
                () = &mut aborted => return Ended::Done,
                () = &mut closed, if !self.queue.is_closed() => self.queue.close(),
                Some(answered) = in_flight.next() => match answered {
                    Ok(()) => heard = Instant::now(),
                    Err(reason) => return Ended::Lost(reason),
                },
                count = self.queue.recv_many(&mut taken, room), if room > 0 && !self.drained => {
                    self.drained = count == 0;
                    self.waiting.extend(taken.drain(..));
                }
                () = &mut traffic, if !has_ended => has_ended = true,
            }
        }
    }

    fn is_worth_sending(&self, idle: bool) -> bool {
        let large = |one: &Outgoing| one.message.bytes() >= LARGE;
        self.waiting.len() >= PIECE_WORTH_SENDING
            || self.waiting.front().is_some_and(|first| idle || large(first))
    }

    /// Begins what fits into one piece and was not reported as expired.
    fn next_piece(&mut self) -> Piece {
        let now = Instant::now();
        let mut pipeline = Pipeline::with_capacity(self.waiting.len().min(PIECE_MESSAGES));
        let mut confirms = Vec::with_capacity(self.waiting.len().min(PIECE_MESSAGES));
        let mut bytes = 0;
        while confirms.len() < PIECE_MESSAGES
            && bytes < PIECE_BYTES
            && let Some(mut one) = self.waiting.pop_front()
        {
            let payload = match envelope::write(&one.message, self.shared.format) {
                Ok(payload) => payload,
                Err(error) => {
                    one.resolve(Err(error.at(NAME, "publish")));
                    continue;
                }
            };
            if !one.begin(now) {
                continue;
            }
            self.channel.clear();
            // Writing to a string does not fail.
            write!(self.channel, "{}.{}", self.shared.prefix, one.message.subject).ok();
            let size = self.channel.len() + payload.len();
            let mut command = Cmd::with_capacity(3, "PUBLISH".len() + size);
            command.arg("PUBLISH").arg(&self.channel).arg(&payload[..]);
            pipeline.add_command(command);
            confirms.push(one.confirm);
            bytes += size;
        }
        Piece { pipeline, confirms, counts_all: !self.shared.connector.is_cluster() }
    }

    /// Connects anew; `None` when nothing is left to be sent, or time is up.
    async fn reconnect(&mut self, reason: &str, backoff: &mut Backoff) -> Option<Opened> {
        let shared = Arc::clone(&self.shared);
        let address = shared.connector.address();
        let mut outage = shared.outages.begin("the publishing connection", address, reason);
        loop {
            let wait = backoff.next();
            let attempt = async {
                sleep(wait).await;
                shared.connector.any_node().await
            };
            tokio::pin!(attempt);
            let mut look = interval(Duration::from_millis(250));
            look.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    biased;
                    () = shared.abort.cancelled() => return None,
                    opened = &mut attempt => match opened {
                        Ok(opened) => {
                            outage.end();
                            return Some(opened);
                        }
                        Err(error) => {
                            outage.lasts(&error);
                            break;
                        }
                    },
                    _ = look.tick() => {
                        self.forget_late();
                        if self.drained && self.waiting.is_empty() {
                            return None;
                        }
                    }
                }
            }
        }
    }

    /// Frees the room of what was reported as not sent, so that others can wait in its place.
    fn forget_late(&mut self) {
        if self.shared.closing.is_cancelled() {
            self.queue.close();
        }
        self.take_all();
        let now = Instant::now();
        self.waiting.retain_mut(|one| now < one.deadline || one.begin(now));
    }

    fn take_all(&mut self) {
        loop {
            match self.queue.try_recv() {
                Ok(one) => self.waiting.push_back(one),
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Disconnected) => {
                    self.drained = true;
                    return;
                }
            }
        }
    }

    fn refuse_rest(&mut self) {
        self.queue.close();
        self.take_all();
        for one in self.waiting.drain(..) {
            one.resolve(Err(closed(NAME, "publish")));
        }
    }
}

/// Sends a piece and passes the answers on. What has no answer is dropped, and so unknown.
async fn publish(mut connection: MultiplexedConnection, piece: Piece) -> Result<(), String> {
    let Piece { pipeline, confirms, counts_all } = piece;
    let answers = connection.send_packed_commands(&pipeline, 0, confirms.len()).await;
    let answers = answers.map_err(|error| error.to_string())?;
    let mut ended = Ok(());
    for (confirm, answer) in confirms.into_iter().zip(answers) {
        confirm.resolve(match answer {
            Value::Int(0) if counts_all => Ok(Receipt::new(Assurance::NoReceiver, None)),
            Value::Int(_) => Ok(Receipt::new(Assurance::Accepted, None)),
            Value::ServerError(error) => {
                if MOVED_ON.contains(&error.code()) {
                    ended = Err(format!("the server answers {}", error.code()));
                }
                Err(from_server(&error, "a message").at(NAME, "publish"))
            }
            _ => Err(unexpected("a message").at(NAME, "publish")),
        });
    }
    ended
}

async fn ping(mut connection: MultiplexedConnection) -> Result<(), String> {
    match timeout(PING, connection.send_packed_command(&redis::cmd("PING"))).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("the server did not answer in time".to_owned()),
    }
}
