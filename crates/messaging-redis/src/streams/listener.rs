//! Listening at most once: what is new, without a group; what was trimmed before it was read is a
//! gap.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, UNIX_EPOCH};

use futures::{Stream, StreamExt};
use messaging_core::driver::{Arrivals, Backoff, Event, Gap, Incoming, Subscription, Token};
use messaging_core::spec::{Source, SubscribeSpec};
use messaging_core::{Patterns, Result, Start};
use redis::Value;
use redis::aio::ConnectionLike;
use tokio::sync::mpsc;
use tokio::time::sleep;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::NAME;
use super::admin::all_lanes;
use super::driver::Shared;
use super::groups::{lanes_for, lanes_of, wants_all};
use super::keys::Lane;
use crate::connection::Link;
use crate::error::unexpected;
use crate::wire::{EntryId, LaneReader, array, field, number, text};

/// How long a read waits at the server for something new.
const BLOCK: Duration = Duration::from_secs(1);

/// How often a listener to every stream looks for new ones.
const NEW_STREAMS: Duration = Duration::from_secs(5);

/// The most entries of a lane fetched in one piece.
const MOST: usize = 256;

/// How many pieces may wait for the application; then nothing more is read.
const WAITING: usize = 4;

/// A lane and how far it has been read.
#[derive(Debug)]
struct Reading {
    lane: Lane,
    after: EntryId,
    /// How many entries the lane had ever had up to there.
    count: i64,
}

pub(super) async fn open(shared: &Arc<Shared>, spec: &SubscribeSpec) -> Result<Subscription> {
    let topology = shared.topology();
    let prefix = &shared.config.prefix;
    let patterns = spec.source.patterns()?;
    let lanes = match &spec.source {
        Source::Subjects(patterns) => lanes_for(prefix, &topology, patterns)?,
        Source::DeadLetters(stream) => lanes_of(prefix, &topology, stream)?,
    };
    let mut link = shared.connect().await?;
    let mut readings = Vec::with_capacity(lanes.len());
    for lane in lanes {
        readings.push(begin(&mut link, lane, spec.start.unwrap_or(Start::Latest)).await?);
    }
    let known = match wants_all(&patterns) {
        true => Some(all_lanes(&mut link, prefix).await?),
        false => None,
    };
    let (events, queue) = mpsc::channel(WAITING);
    let stop = CancellationToken::new();
    let listening = Listening { shared: Arc::clone(shared), patterns, events, stop: stop.clone() };
    listening.read(readings);
    if let Some(known) = known {
        listening.spawn(listening.clone().join_new_streams(known));
    }
    let heard = Heard { queue, _stop: stop.drop_guard() };
    Ok(Subscription::at_most_once(heard.boxed()))
}

/// What reads for one listener.
#[derive(Clone)]
struct Listening {
    shared: Arc<Shared>,
    patterns: Patterns,
    events: mpsc::Sender<Result<Event>>,
    stop: CancellationToken,
}

impl Listening {
    /// Reads lanes over one connection; on a cluster each over its own.
    fn read(&self, readings: Vec<Reading>) {
        let groups: Vec<Vec<Reading>> = if self.shared.connector.is_cluster() {
            readings.into_iter().map(|reading| vec![reading]).collect()
        } else {
            vec![readings]
        };
        for readings in groups {
            let Self { shared, patterns, events, .. } = self.clone();
            self.spawn(async move { listen(&shared, readings, &patterns, &events).await });
        }
    }

    /// Joins the streams that have come since these were known, from their beginning.
    async fn join_new_streams(self, mut known: Vec<Lane>) {
        loop {
            sleep(NEW_STREAMS).await;
            let Ok(mut link) = self.shared.connector.command().await else { continue };
            let Ok(mut new) = all_lanes(&mut link, &self.shared.config.prefix).await else {
                continue;
            };
            new.retain(|lane| !lane.stream.is_dead_letters() && !known.contains(lane));
            if !new.is_empty() {
                known.extend(new.iter().cloned());
                let begin = |lane| Reading { lane, after: EntryId::ZERO, count: 0 };
                self.read(new.into_iter().map(begin).collect());
            }
        }
    }

    /// Runs a task until the listener is dropped or the connection closed.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let (stop, shared) = (self.stop.clone(), Arc::clone(&self.shared));
        self.shared.tasks.spawn(async move {
            tokio::select! {
                () = task => {}
                () = stop.cancelled() => {}
                () = shared.closing.cancelled() => {}
            }
        });
    }
}

/// Where reading begins, as an entry that is there by then.
async fn begin(link: &mut Link, lane: Lane, start: Start) -> Result<Reading> {
    let (last, added, kept) = state(link, &lane).await?;
    let (after, count) = match start {
        Start::Latest => (last, added),
        Start::Position(position) if position.lane() == lane.number => {
            (EntryId::from_bits(position.id()).before(), added - kept)
        }
        Start::Position(_) => (last, added),
        Start::Time(time) => {
            let millis = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
            let millis = u64::try_from(millis).unwrap_or(u64::MAX);
            (EntryId { millis, number: 0 }.before(), added - kept)
        }
        _ => (EntryId::ZERO, added - kept),
    };
    Ok(Reading { lane, after, count })
}

/// The last entry of a lane, how many it has ever had, and how many it keeps.
async fn state(link: &mut Link, lane: &Lane) -> Result<(EntryId, i64, i64)> {
    let mut command = redis::cmd("XINFO");
    command.arg("STREAM").arg(&lane.key);
    let answer = array(link.run(&command, "listen").await?);
    let get = |name| field(&answer, name);
    let last = get("last-generated-id").and_then(EntryId::of);
    let kept = get("length").and_then(number);
    let (Some(last), Some(kept)) = (last, kept) else { return Err(unexpected("listen")) };
    // Before 7.0 the server does not count.
    let added = get("entries-added").and_then(number).unwrap_or(kept);
    Ok((last, added, kept))
}

async fn listen(
    shared: &Shared,
    mut readings: Vec<Reading>,
    patterns: &Patterns,
    events: &mpsc::Sender<Result<Event>>,
) {
    let mut backoff = Backoff::default();
    let mut was_connected = false;
    loop {
        if let Ok(mut link) = shared.connector.connect(BLOCK).await {
            let event = Event::Reconnected;
            if std::mem::replace(&mut was_connected, true) && events.send(Ok(event)).await.is_err()
            {
                return;
            }
            backoff.reset();
            while let Some(found) = turn(&mut link, &mut readings, patterns).await {
                for event in found {
                    if events.send(Ok(event)).await.is_err() {
                        return;
                    }
                }
            }
        }
        sleep(backoff.next()).await;
    }
}

/// Reads once; `None` if the connection broke.
async fn turn(
    link: &mut Link,
    readings: &mut [Reading],
    patterns: &Patterns,
) -> Option<Vec<Event>> {
    let mut command = redis::cmd("XREAD");
    command.arg("COUNT").arg(MOST).arg("BLOCK").arg(BLOCK.as_millis() as u64).arg("STREAMS");
    for reading in readings.iter() {
        command.arg(&reading.lane.key);
    }
    for reading in readings.iter() {
        command.arg(reading.after.to_string());
    }
    let answer = link.req_packed_command(&command).await.ok()?;
    if matches!(answer, Value::ServerError(_)) {
        return None;
    }
    let mut events = Vec::new();
    for stream in array(answer) {
        let mut parts = array(stream).into_iter();
        let (key, entries) = (parts.next()?, parts.next()?);
        let reading = readings.iter_mut().find(|r| text(&key) == Some(&r.lane.key))?;
        let entries = array(entries);
        events.extend(gap(link, reading, entries.len()).await?);
        let mut batch = Arrivals::with_capacity(entries.len());
        let Reading { lane, after, .. } = reading;
        let mut reader = LaneReader::new(&lane.stream, &lane.key);
        for entry in entries {
            let mut parts = array(entry).into_iter();
            let (id, fields) = (EntryId::of(&parts.next()?)?, parts.next()?);
            *after = id;
            let Some(message) = reader.message(id, fields) else { continue };
            if patterns.matches(&message.subject) || lane.stream.is_dead_letters() {
                let token = Token { lane: lane.number, epoch: 0, id: id.to_bits() };
                let stored = UNIX_EPOCH + Duration::from_millis(id.millis);
                let position = id.position(NAME, lane.number);
                batch.push(Incoming::new(message, token).stored(Some(position), Some(stored)));
            }
        }
        if !batch.is_empty() {
            events.push(Event::Messages(batch));
        }
    }
    Some(events)
}

/// What was trimmed between the last entry that was read and the next.
async fn gap(link: &mut Link, reading: &mut Reading, entries: usize) -> Option<Option<Event>> {
    let (_, added, kept) = state(link, &reading.lane).await.ok()?;
    let trimmed = added - kept;
    let missed = trimmed - reading.count;
    reading.count = reading.count.max(trimmed) + i64::try_from(entries).ok()?;
    let missed = u64::try_from(missed).ok().filter(|missed| *missed > 0);
    let event =
        |missed| Event::Gap(Gap::new(Some(missed), "they were trimmed before they were read"));
    Some(missed.map(event))
}

/// What a listener hears. Dropping it ends its tasks.
#[derive(Debug)]
struct Heard {
    queue: mpsc::Receiver<Result<Event>>,
    _stop: DropGuard,
}

impl Stream for Heard {
    type Item = Result<Event>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.queue.poll_recv(cx)
    }
}
