//! The task of a subscription: deliveries come in, acks and copies go out, and what breaks is opened
//! anew. Nothing in it waits for the application.

mod channels;

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use messaging_core::driver::{Backoff, Event, Parked};
use messaging_core::{Error, ErrorKind, Gap, Result};
use tokio::time::{Instant, sleep_until, timeout};

use self::channels::{Received, leave, part, receive, take_in};
use super::copying;
use super::desk::{Copied, MAIN, Work};
use super::line::Line;
use super::member::{Member, Unopened};
use crate::connection::{Link, Session, State};
use crate::error::Refusal;

/// The most deliveries taken in one piece.
const BATCH: usize = 512;

/// How long leaving in order may take once nothing is in hand.
const LEAVING: Duration = Duration::from_secs(5);

/// How long an ack waits for others where a handful more can be expected.
const LINGER: Duration = Duration::from_millis(5);

/// How often it is looked for what stands too long, at most.
const EXPIRING: Duration = Duration::from_millis(500);

/// A connection that ends within this time of consuming, while others live, may have met a message
/// that the client library can't read.
const SUSPICIOUS: Duration = Duration::from_secs(5);

/// Within what time a connection notices what another has noticed that ended with it.
const NOTICE: Duration = Duration::from_secs(1);

/// How many such ends in a row are one message.
const POISON: u32 = 3;

type Copies = FuturesUnordered<BoxFuture<'static, Option<Copied>>>;

/// Why a subscription's channels were given up.
#[derive(Debug)]
enum End {
    /// Nothing of it is left.
    Done,
    /// A channel or the connection is lost.
    Lost,
    /// The server has ended the consumer of this lane.
    Cancelled(u32),
    /// Something stood unsettled for too long, and the server would soon close the channel.
    Expired,
    /// Nobody may wait for the server any more.
    Dead,
}

/// One subscription at work.
struct Task {
    member: Arc<Member>,
    link: Arc<Link>,
    lines: Vec<Line>,
    copies: Copies,
    strikes: u32,
}

/// Runs a subscription until nothing of it is left.
pub(super) async fn run(member: Arc<Member>, link: Arc<Link>, lines: Vec<Line>) {
    let copies = Copies::new();
    let mut task = Task { member, link, lines, copies, strikes: 0 };
    loop {
        let began = Instant::now();
        let published = task.member.shared.publishing_session();
        let end = task.serve().await;
        if let End::Done | End::Dead = end {
            break;
        }
        if !task.recover(end, began, published).await {
            break;
        }
    }
    task.member.desk.abandon();
    task.lines.clear();
    task.link.close(LEAVING).await;
}

impl Task {
    /// Works over the channels there are until that ends.
    async fn serve(&mut self) -> End {
        let Self { member, lines, copies, .. } = self;
        let limit = member.shared.config.consumer_timeout.mul_f64(0.9);
        let mut buffer = Vec::with_capacity(BATCH);
        let mut leaving = false;
        // When due messages and those that stand too long were looked at last.
        let mut looked = Instant::now();
        // Until when acks wait for others.
        let mut lingers: Option<Instant> = None;
        loop {
            let desk = &member.desk;
            let work = desk.take_work(lingers.is_some_and(|until| until <= looked));
            lingers = match work.has_later {
                true => lingers.filter(|it| *it > looked).or_else(|| Some(Instant::now() + LINGER)),
                false => None,
            };
            flush(member, lines, copies, work).await;
            desk.flushed();
            if desk.has_left() {
                if !std::mem::replace(&mut leaving, true) && !member.source.is_ordered() {
                    leave(member, lines).await;
                    continue;
                }
                if desk.is_done() && copies.is_empty() {
                    part(member, lines).await;
                    return End::Done;
                }
            }
            let expiry = desk.oldest().map(|at| (at + limit).max(looked + EXPIRING));
            let due = [desk.next_due(looked), expiry, lingers].into_iter().flatten().min();
            let (main, rest) = match lines.split_first_mut() {
                Some((main, rest)) => (main, rest.first_mut()),
                None => return End::Lost,
            };
            tokio::select! {
                biased;
                () = member.shared.dead.cancelled() => return End::Dead,
                () = desk.work.notified() => {}
                Some(copied) = copies.next(), if !copies.is_empty() => {
                    copied.into_iter().for_each(|copied| desk.copied(copied));
                }
                (lane, received) = receive(main, rest, &mut buffer, leaving) => match received {
                    Received::Deliveries => {
                        if let Some(line) = lines.iter_mut().find(|line| line.lane == lane) {
                            take_in(member, line, &mut buffer);
                        }
                    }
                    Received::Ended(End::Lost) if leaving => {
                        desk.abandon();
                        return End::Done;
                    }
                    Received::Ended(end) => return end,
                },
                () = sleep_until(due.unwrap_or(looked)), if due.is_some() => {
                    looked = Instant::now();
                    desk.wake();
                    if expiry.is_some_and(|at| at <= looked) && desk.expire(limit) {
                        return End::Expired;
                    }
                }
            }
        }
    }

    /// Opens everything anew; `false` if the subscription ends here.
    async fn recover(&mut self, end: End, began: Instant, published: Option<Session>) -> bool {
        let deleted = match end {
            // The server ends a consumer of a quorum queue only as the queue is deleted, which
            // takes a moment: until then it can still be found.
            End::Cancelled(lane) if self.member.source.is_quorum(lane) => Some(lane),
            End::Cancelled(lane) => {
                let patience = self.member.shared.config.timeout;
                is_deleted(&mut self.lines, lane, patience).await.then_some(lane)
            }
            _ => None,
        };
        let poisoned = matches!(end, End::Lost)
            && began.elapsed() < SUSPICIOUS
            && !self.is_ended()
            && is_still_there(published).await;
        self.strikes = if poisoned { self.strikes + 1 } else { 0 };
        for line in self.lines.drain(..) {
            if deleted == Some(line.lane) {
                self.member.desk.deleted(line.lane);
            } else {
                self.member.desk.disconnected(line.lane);
            }
        }
        if self.strikes >= POISON {
            park(&self.member);
            return false;
        }
        if !self.reopen().await {
            return false;
        }
        let desk = &self.member.desk;
        desk.tell(Event::Reconnected);
        if deleted == Some(MAIN) {
            let reason = "its queue was deleted with everything in it; it is consumed anew";
            desk.tell(Event::Gap(Gap::new(None, reason)));
        } else if self.member.source.is_own() {
            let reason = "the connection was lost, and the subscription's own queue with it";
            desk.tell(Event::Gap(Gap::new(None, reason)));
        }
        true
    }

    /// Tries until it succeeds. Copies go on meanwhile.
    async fn reopen(&mut self) -> bool {
        let Self { member, link, copies, lines, strikes } = self;
        let mut backoff = Backoff::default();
        loop {
            let published = member.shared.publishing_session();
            let again = {
                let opening = member.open(link);
                tokio::pin!(opening);
                match meanwhile(member, copies, opening).await {
                    Some(opened) => opened,
                    None => return false,
                }
            };
            match again {
                Ok(opened) => {
                    *lines = opened;
                    return true;
                }
                Err(Unopened { error, .. }) if is_final(&error) => {
                    member.desk.fail(error.at(crate::NAME, "subscribe"));
                    return false;
                }
                Err(Unopened { error, is_cut }) => {
                    // A connection that is down says so itself.
                    if matches!(*link.state().borrow(), State::Up(_)) {
                        tracing::warn!(%error, "consuming is not possible yet");
                    }
                    let poisoned = is_cut && is_still_there(published).await;
                    *strikes = if poisoned { *strikes + 1 } else { 0 };
                    if *strikes >= POISON {
                        park(member);
                        return false;
                    }
                }
            }
            let waiting = tokio::time::sleep(backoff.next());
            if meanwhile(member, copies, waiting).await.is_none() {
                return false;
            }
        }
    }

    /// Whether it was the server or we who ended a channel or the connection, and not the client
    /// library.
    fn is_ended(&self) -> bool {
        self.lines
            .iter()
            .any(|Line { channel, .. }| channel.refusal().is_some() || channel.session().is_ended())
    }
}

/// Whether the connection that published when another ended lives on: then that was not the network.
async fn is_still_there(published: Option<Session>) -> bool {
    match published {
        Some(session) => timeout(NOTICE, session.ended()).await.is_err(),
        None => false,
    }
}

/// Ends the subscription over a message that the client library can't read.
fn park(member: &Member) {
    let error = poisoned(member);
    member.desk.tell(Event::Parked(Parked::new(error.to_string())));
    member.desk.fail(error);
}

fn poisoned(member: &Member) -> Error {
    let queue = member.source.name();
    let text = format!(
        "queue {queue} has a message that ends the connection of whoever receives it: its \
         properties are not what AMQP allows, or not text; take it out with another client"
    );
    Error::new(ErrorKind::Undecodable, text).at(crate::NAME, "consume")
}

/// Whether a lane's queue is gone, and not only moved.
async fn is_deleted(lines: &mut [Line], lane: u32, patience: Duration) -> bool {
    let Some(line) = lines.iter_mut().find(|line| line.lane == lane) else { return false };
    let deadline = Instant::now() + patience;
    let Ok((channel, _events)) = line.channel.session().channel(deadline).await else {
        return false;
    };
    let found = channel.find_queue(&line.queue, deadline).await;
    found.is_err_and(|fault| fault.code() == Some(Refusal::NOT_FOUND))
}

/// Waits for something while copies go on; nothing if the subscription has ended by then.
async fn meanwhile<T>(
    member: &Arc<Member>,
    copies: &mut Copies,
    waited_for: impl Future<Output = T>,
) -> Option<T> {
    tokio::pin!(waited_for);
    loop {
        let desk = &member.desk;
        // There is no channel to ack over.
        copies.extend(desk.take_work(true).copies.into_iter().map(|copy| begin(member, copy)));
        if desk.has_left() && copies.is_empty() {
            return None;
        }
        tokio::select! {
            biased;
            () = member.shared.dead.cancelled() => return None,
            Some(copied) = copies.next(), if !copies.is_empty() => {
                copied.into_iter().for_each(|copied| desk.copied(copied));
            }
            () = desk.work.notified() => {}
            came = &mut waited_for => return Some(came),
        }
    }
}

fn begin(member: &Arc<Member>, copy: super::desk::Copy) -> BoxFuture<'static, Option<Copied>> {
    let member = Arc::clone(member);
    Box::pin(async move { copying::publish(&member, copy).await })
}

/// Whether opening anew is of no use.
fn is_final(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::GroupConflict { .. }
            | ErrorKind::InvalidConfig
            | ErrorKind::InvalidName
            | ErrorKind::Denied
            | ErrorKind::Closed
    )
}

/// Brings acks to the server and begins copies.
async fn flush(member: &Arc<Member>, lines: &[Line], copies: &mut Copies, work: Work) {
    for (lane, tag) in work.rejects {
        if let Some(line) = lines.iter().find(|line| line.lane == lane) {
            line.channel.reject(tag).await.ok();
        }
    }
    for (lane, acks) in work.acks {
        let Some(line) = lines.iter().find(|line| line.lane == lane) else { continue };
        if let Some((tag, multiple)) = acks.up_to {
            // A lost channel is seen where deliveries end, and they come again.
            line.channel.ack(tag, multiple).await.ok();
        }
        for tag in acks.single {
            line.channel.ack(tag, false).await.ok();
        }
    }
    for confirm in work.confirms {
        confirm.resolve(Ok(messaging_core::Settled::HandedOver));
    }
    copies.extend(work.copies.into_iter().map(|copy| begin(member, copy)));
}

/// Opens the first channels, and gives the task that runs them.
pub(super) async fn start(member: &Arc<Member>) -> Result<BoxFuture<'static, ()>> {
    let link =
        Link::open(Arc::clone(&member.shared.config), crate::connection::Role::Consume).await?;
    let mut strikes = 0;
    loop {
        let published = member.shared.publishing_session();
        let Unopened { error, is_cut } = match member.open(&link).await {
            Ok(lines) => return Ok(Box::pin(run(Arc::clone(member), link, lines))),
            Err(unopened) => unopened,
        };
        let suspicious = is_cut && is_still_there(published).await;
        strikes += u32::from(suspicious);
        if suspicious && strikes < POISON {
            continue;
        }
        let error = if suspicious { poisoned(member) } else { error };
        link.close(LEAVING).await;
        return Err(error);
    }
}
