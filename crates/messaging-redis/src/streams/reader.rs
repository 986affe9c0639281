//! Reads what is new in a group's lanes.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::future::join;
use messaging_core::driver::{Backoff, Event, Gap};
use messaging_core::{Error, ErrorKind, Result};
use redis::aio::ConnectionLike;
use redis::{Cmd, Value};
use tokio::time::sleep;

use super::desk::Fetched;
use super::groups;
use super::keeper::tell_trimmed;
use super::member::{Accepting, Member};
use super::scripts::{TAKE_AGAIN, call};
use crate::connection::Link;
use crate::error::from_client;
use crate::wire::{EntryId, array, elements, number, text};

/// How long a read waits at the server for something new.
const BLOCK: Duration = Duration::from_secs(2);

/// The most entries of a lane fetched in one piece.
const MOST: usize = 1_024;

/// The most entries taken again in one piece.
const PIECE: usize = 256;

/// Reads until the subscription ends. `only` is the lane of this reader where each has its own, as
/// on a cluster.
pub(super) async fn run(member: Arc<Member>, only: Option<u32>) {
    let mut backoff = Backoff::default();
    let mut was_connected = false;
    while !member.desk.has_left() {
        match member.shared.connector.connect(BLOCK).await {
            Ok(mut link) => {
                if std::mem::replace(&mut was_connected, true) {
                    member.desk.tell(Event::Reconnected);
                    member.may_have_lost();
                }
                backoff.reset();
                match read(&member, &mut link, only).await {
                    Ok(()) => return,
                    Err(Broken::Connection) => {
                        let (group, address) =
                            (&*member.group.name, member.shared.connector.address());
                        tracing::warn!(
                            backend = super::NAME,
                            group,
                            address,
                            "a reader's connection is lost"
                        );
                        member.may_have_lost();
                    }
                    Err(Broken::Subscription(error)) => {
                        let jobs = member.desk.fail(error);
                        return member.push(jobs);
                    }
                }
            }
            Err(error) if *error.kind() == ErrorKind::Denied => {
                let jobs = member.desk.fail(error);
                return member.push(jobs);
            }
            Err(_) => {}
        }
        tokio::select! {
            () = sleep(backoff.next()) => {}
            () = member.ended.cancelled() => return,
        }
    }
}

/// Why reading ended.
enum Broken {
    Connection,
    Subscription(Error),
}

async fn read(member: &Arc<Member>, link: &mut Link, only: Option<u32>) -> Result<(), Broken> {
    let _unblock = member.shared.unblock(member, link, only).await;
    let mut brought = None;
    loop {
        if member.desk.has_left() {
            take_in(member, brought.take());
            return Ok(());
        }
        if member.lost_answer.swap(false, Ordering::AcqRel) {
            take_in(member, brought.take());
            recover(member, link).await?;
        }
        let mut room = pin!(member.desk.room.notified());
        // From here on it is told of, so that nothing is missed between looking and waiting.
        room.as_mut().enable();
        let wanted = member.desk.worth_reading(brought.as_ref().map_or(0, Brought::len));
        let lanes = member.desk.begin_reading(only);
        if wanted == 0 || lanes.is_empty() {
            member.desk.end_reading(&lanes);
            if brought.is_some() {
                take_in(member, brought.take());
            } else if !member.desk.has_left() {
                room.await;
            }
            continue;
        }
        let command = command(member, &lanes, wanted);
        // What the read before brought is taken in while the server answers.
        let meanwhile = async { take_in(member, brought.take()) };
        let (answer, ()) = join(link.req_packed_command(&command), meanwhile).await;
        match check(answer) {
            Ok(Some(answer)) => brought = Some(Brought { lanes, answer }),
            Ok(None) => {
                member.desk.end_reading(&lanes);
                recreate(member, link).await?;
            }
            Err(broken) => {
                member.desk.end_reading(&lanes);
                return Err(broken);
            }
        }
    }
}

/// What a read brought and nobody has seen yet.
struct Brought {
    lanes: Vec<u32>,
    answer: Value,
}

impl Brought {
    fn len(&self) -> usize {
        let of_stream = |stream| elements(stream).get(1).map_or(0, |all| elements(all).len());
        elements(&self.answer).iter().map(of_stream).sum()
    }
}

fn take_in(member: &Member, brought: Option<Brought>) {
    if let Some(Brought { lanes, answer }) = brought {
        member.deliver(entries(member, &lanes, answer));
        member.desk.end_reading(&lanes);
    }
}

/// Whether an answer brings entries; `None` if the group is gone.
fn check(answer: redis::RedisResult<Value>) -> Result<Option<Value>, Broken> {
    match answer {
        Ok(Value::ServerError(error)) if groups::is_gone(&error) => Ok(None),
        Err(error) if error.code() == Some("NOGROUP") => Ok(None),
        Err(error) if error.code() == Some("NOPERM") => {
            Err(Broken::Subscription(from_client(error, "subscribe")))
        }
        Ok(Value::ServerError(_)) | Err(_) => Err(Broken::Connection),
        Ok(answer) => Ok(Some(answer)),
    }
}

fn command(member: &Member, lanes: &[u32], wanted: usize) -> Cmd {
    let count = wanted.div_ceil(lanes.len()).clamp(1, MOST);
    let mut command = redis::cmd("XREADGROUP");
    command.arg("GROUP").arg(&member.group.name).arg(&member.consumer);
    command.arg("COUNT").arg(count).arg("BLOCK").arg(BLOCK.as_millis() as u64).arg("STREAMS");
    for lane in lanes.iter().filter_map(|lane| member.lane(*lane)) {
        command.arg(lane.key);
    }
    lanes.iter().for_each(|_| {
        command.arg(">");
    });
    command
}

/// The messages of an answer `[[key, [[id, fields], …]], …]`.
fn entries(member: &Member, lanes: &[u32], answer: Value) -> Vec<Fetched> {
    let mut fetched = Vec::new();
    let all = member.lanes();
    for stream in array(answer) {
        let mut parts = array(stream).into_iter();
        let (Some(key), Some(entries)) = (parts.next(), parts.next()) else { continue };
        let key = text(&key);
        let of_key = |lane: &&u32| all.get(**lane as usize).map(|lane| &*lane.key) == key;
        let Some(lane) = lanes.iter().find(of_key) else { continue };
        let Some(place) = all.get(*lane as usize) else { continue };
        let mut accepting = Accepting::new(member, *lane, place);
        let entries = array(entries);
        fetched.reserve(entries.len());
        for entry in entries {
            let mut parts = array(entry).into_iter();
            if let (Some(id), Some(fields)) = (parts.next(), parts.next())
                && let Some(id) = EntryId::of(&id)
            {
                fetched.extend(accepting.accept(id, fields, 1));
            }
        }
    }
    fetched
}

/// Takes in what the server delivered to us in answers that were lost. Only this task and the keeper
/// fetch, and the keeper does not while the lock is held.
async fn recover(member: &Member, link: &mut Link) -> Result<(), Broken> {
    let _fetching = member.fetching.lock().await;
    for (lane, place) in (0..).zip(&*member.lanes()) {
        // What we left in a lane that we gave up waits for its owner.
        if !member.desk.is_ours(lane) {
            continue;
        }
        let mut command = redis::cmd("XPENDING");
        command.arg(&place.key).arg(&member.group.name).arg("-").arg("+").arg(10_000);
        command.arg(&member.consumer);
        let Ok(pending) = link.run(&command, "recover").await else {
            member.may_have_lost();
            return Ok(());
        };
        let listed = array(pending).into_iter().map(array);
        let unknown = listed.filter_map(|entry| entry.first().and_then(EntryId::of));
        let unknown: Vec<EntryId> = unknown.filter(|id| !member.desk.knows(lane, *id)).collect();
        let mut lost = Vec::new();
        for some in unknown.chunks(PIECE) {
            let mut command = call(TAKE_AGAIN, &[&place.key]);
            command.arg(&member.group.name).arg(&member.consumer);
            for id in some {
                command.arg(id.to_string());
            }
            let Ok(answer) = link.run(&command, "recover").await else {
                member.may_have_lost();
                return Ok(());
            };
            let mut parts = array(answer).into_iter();
            let taken = parts.next().map(|entries| member.accept_all(lane, entries));
            let taken = taken.unwrap_or_default().into_iter();
            lost.extend(taken.map(|(fetched, _)| (fetched, Duration::ZERO)));
            tell_trimmed(member, parts.next().as_ref().and_then(number));
        }
        member.desk.inherited(lost);
    }
    Ok(())
}

/// Creates a group anew that somebody has deleted, from the first entry there is.
async fn recreate(member: &Member, link: &mut Link) -> Result<(), Broken> {
    let mut group = member.group.clone();
    group.start = messaging_core::Start::Earliest;
    group.create(link).await.map_err(|_| Broken::Connection)?;
    let reason = format!("group {} was deleted and begins anew", group.name);
    member.desk.tell(Event::Gap(Gap::new(None, reason)));
    Ok(())
}
