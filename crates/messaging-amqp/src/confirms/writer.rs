//! The task that hands over.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use amqprs::channel::BasicPublishArguments;
use futures::poll;
use messaging_core::driver::Backoff;
use messaging_core::{Error, ErrorKind, Result};
use tokio::sync::mpsc;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::hearing::{Books, Hearing};
use super::{Outcome, Publication, Publish, Setup};
use crate::connection::{Channel, Link, Session};
use crate::error::{Fault, closed};

/// The most publishes taken from the queue at once.
const BATCH: usize = 256;
/// How often unconfirmed publishes are looked at: a stall is seen within two seconds.
const LOOK: Duration = Duration::from_millis(400);
/// Without any answer for this long, nothing more is handed over: the server has stopped reading.
const STALL: u32 = 3;
/// How long the first publish of a channel is alone, unless it is answered before: if the server
/// refuses it, it is known to be meant, and what follows is not on the wire. A refusal comes at once.
const ALONE: Duration = Duration::from_millis(500);
/// What a publish takes on the wire beside its body, about.
const OVERHEAD: usize = 512;

/// The task that hands over.
pub(super) struct Writer<P> {
    link: Arc<Link>,
    setup: Setup,
    queue: mpsc::UnboundedReceiver<P>,
    closed: CancellationToken,
    /// What was not handed over, or not read by the server; it goes first.
    waiting: VecDeque<P>,
}

impl<P: Publication> Writer<P> {
    pub(super) fn new(
        link: Arc<Link>,
        setup: Setup,
        queue: mpsc::UnboundedReceiver<P>,
        closed: CancellationToken,
    ) -> Self {
        Self { link, setup, queue, closed, waiting: VecDeque::new() }
    }

    /// Hands over until it is closed and everything is out, or the link is closed.
    pub(super) async fn run(mut self) {
        let mut backoff = Backoff::default();
        loop {
            if self.waiting.is_empty() && !self.receive().await {
                return;
            }
            let deadline = Instant::now() + self.link.config().timeout;
            let session = match self.link.session(deadline).await {
                Ok(session) => session,
                Err(error) if *error.kind() == ErrorKind::Closed => {
                    return self.refuse().await;
                }
                Err(_) => {
                    self.forget_expired();
                    continue;
                }
            };
            match open(&session, &self.setup, deadline).await {
                Ok((channel, books)) => {
                    backoff.reset();
                    let is_done = self.hand_over(&channel, &books).await;
                    if is_done {
                        return;
                    }
                    // What the channel has heard an end of is out of the books before this.
                    drop(channel);
                    books.ended.cancelled().await;
                    // What was handed over after it may have been written still.
                    for entry in books.tracker().drain() {
                        let why = "the connection ended before the server answered".to_owned();
                        entry.publication.finish(Outcome::Unknown(why));
                    }
                    for publication in books.unread().into_iter().rev() {
                        self.waiting.push_front(publication);
                    }
                }
                Err(error) => {
                    if error.is_retryable() {
                        self.forget_expired();
                    } else {
                        self.fail(&error);
                    }
                    sleep(backoff.next()).await;
                }
            }
        }
    }

    /// Waits for something to hand over; `false` once it is closed and nothing is left.
    async fn receive(&mut self) -> bool {
        tokio::select! {
            biased;
            received = self.queue.recv() => {
                self.waiting.extend(received);
                !self.waiting.is_empty()
            }
            () = self.closed.cancelled() => {
                self.take_last().await;
                !self.waiting.is_empty()
            }
            () = self.link.closing() => {
                self.refuse().await;
                false
            }
        }
    }

    /// What has expired is reported already; a long outage holds no memory.
    fn forget_expired(&mut self) {
        self.take_queued();
        let now = Instant::now();
        self.waiting
            .retain_mut(|publication| publication.deadline() > now || publication.begin(now));
    }

    /// What the server refuses for good fails.
    fn fail(&mut self, error: &Error) {
        self.take_queued();
        for publication in self.waiting.drain(..) {
            let again = Error::new(error.kind().clone(), error.to_string());
            publication.finish(Outcome::Failed(again));
        }
    }

    fn take_queued(&mut self) {
        while let Ok(next) = self.queue.try_recv() {
            self.waiting.push_back(next);
        }
    }

    /// Takes what was added until now, with what is being added; nothing is any more.
    async fn take_last(&mut self) {
        self.queue.close();
        while let Some(next) = self.queue.recv().await {
            self.waiting.push_back(next);
        }
    }

    async fn refuse(&mut self) {
        self.take_last().await;
        for publication in self.waiting.drain(..) {
            publication.finish(Outcome::Failed(closed("publish")));
        }
    }

    /// Hands over on one channel until it ends, or `true`: until all is confirmed after closing.
    async fn hand_over(&mut self, channel: &Channel, books: &Books<P>) -> bool {
        let mut batch = Vec::with_capacity(BATCH);
        let mut watch = Watch::new();
        loop {
            if !self.send_waiting(channel, books, &mut watch).await {
                return false;
            }
            let is_closed = self.closed.is_cancelled();
            let is_stalled = watch.is_stalled();
            if !is_stalled && self.take_some() {
                continue;
            }
            let is_ending = is_closed && !is_stalled;
            if is_ending && books.tracker().unconfirmed() == 0 {
                self.take_last().await;
                if self.waiting.is_empty() {
                    return true;
                }
                continue;
            }
            let answers = watch.answers;
            tokio::select! {
                biased;
                () = books.ended.cancelled() => return false,
                () = books.wait(|tracker| tracker.answers() != answers), if is_stalled => {
                    watch.goes_on(channel);
                }
                () = books.wait(|tracker| tracker.unconfirmed() == 0), if is_ending => {}
                _ = self.queue.recv_many(&mut batch, BATCH), if !is_stalled && !is_closed => {
                    self.waiting.extend(batch.drain(..));
                }
                () = watch.look(channel, books) => {}
                () = self.closed.cancelled(), if !is_closed => {}
            }
        }
    }

    /// Takes what is in the queue, without waiting; `false` if there is nothing.
    fn take_some(&mut self) -> bool {
        for _ in 0..BATCH {
            let Ok(next) = self.queue.try_recv() else { break };
            self.waiting.push_back(next);
        }
        !self.waiting.is_empty()
    }

    /// Hands over what waits, in order; `false` if the channel ended.
    async fn send_waiting(
        &mut self,
        channel: &Channel,
        books: &Books<P>,
        watch: &mut Watch,
    ) -> bool {
        if self.waiting.is_empty() {
            return true;
        }
        let limit = self.link.config().max_unconfirmed_bytes;
        let mut now = Instant::now();
        while let Some(mut publication) = self.waiting.pop_front() {
            if books.ended.is_cancelled() {
                self.waiting.push_front(publication);
                return false;
            }
            if !publication.begin(now) {
                continue;
            }
            let Publish { exchange, routing_key, mandatory, properties, body } =
                match publication.wire(channel.session().frame_max()) {
                    Ok(publish) => publish,
                    Err(error) => {
                        publication.finish(Outcome::Failed(error));
                        continue;
                    }
                };
            let size = body.len();
            let (number, bytes, is_first) = {
                let mut tracker = books.tracker();
                let is_first = tracker.answers() == 0 && tracker.unconfirmed() == 0;
                let number = tracker.push(publication, size, size + OVERHEAD);
                (number, tracker.bytes(), is_first)
            };
            let immediate = false;
            let route = BasicPublishArguments { exchange, routing_key, mandatory, immediate };
            let mut sent = pin!(channel.publish(properties, body, route));
            let sent = match poll!(&mut sent) {
                std::task::Poll::Ready(sent) => sent.is_ok(),
                std::task::Poll::Pending => {
                    let sent = loop {
                        tokio::select! {
                            biased;
                            sent = &mut sent => break sent.is_ok(),
                            () = books.ended.cancelled() => break false,
                            () = watch.look(channel, books) => {}
                        }
                    };
                    now = Instant::now();
                    sent
                }
            };
            if !sent {
                channel.session().end("it takes no more publishes");
                // It was not handed over. If it is gone, its caller has been told that it is unknown.
                if let Some(publication) = books.tracker().take_back(number) {
                    self.waiting.push_front(publication);
                }
                return false;
            }
            if is_first {
                timeout(ALONE, books.wait(|tracker| tracker.answers() > 0)).await.ok();
                now = Instant::now();
            }
            if bytes > limit {
                loop {
                    tokio::select! {
                        biased;
                        () = books.wait(|tracker| tracker.bytes() <= limit) => break,
                        () = watch.look(channel, books) => {}
                    }
                }
                now = Instant::now();
            }
        }
        !books.ended.is_cancelled()
    }
}

/// Opens a channel in confirm mode, with everything that is published to.
async fn open<P: Publication>(
    session: &Session,
    setup: &Setup,
    deadline: Instant,
) -> Result<(Channel, Arc<Books<P>>)> {
    let books = Books::new();
    let hearing = Hearing::new(Arc::clone(&books));
    let at = |fault: Fault| fault.at("publish");
    let channel = session.channel_for(hearing, deadline).await.map_err(at)?;
    setup(channel.clone(), deadline).await?;
    channel.select_confirms(deadline).await.map_err(at)?;
    Ok((channel, books))
}

/// Sees that the server has stopped answering.
#[derive(Debug)]
struct Watch {
    ticks: Interval,
    answers: u64,
    silent: u32,
}

impl Watch {
    fn new() -> Self {
        let mut ticks = interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { ticks, answers: 0, silent: 0 }
    }

    /// Looks at the books when it is time to, and says where the server has come to a stop.
    async fn look<P>(&mut self, channel: &Channel, books: &Books<P>) {
        self.ticks.tick().await;
        let (unconfirmed, answers) = {
            let tracker = books.tracker();
            (tracker.unconfirmed(), tracker.answers())
        };
        if unconfirmed == 0 || answers != self.answers {
            self.answers = answers;
            return self.goes_on(channel);
        }
        self.silent += 1;
        if self.silent == STALL {
            channel.session().set_blocked(true);
        }
    }

    /// The server answers, perhaps again.
    fn goes_on(&mut self, channel: &Channel) {
        if self.is_stalled() {
            channel.session().set_blocked(false);
        }
        self.silent = 0;
    }

    const fn is_stalled(&self) -> bool {
        self.silent >= STALL
    }
}
