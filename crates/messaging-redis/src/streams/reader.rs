//! Reads what is new in a group's lanes.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use messaging_core::driver::{Event, Gap};
use messaging_core::{Error, ErrorKind, Result};
use redis::aio::ConnectionLike;
use redis::{Cmd, Value};
use tokio::time::sleep;

use super::desk::Fetched;
use super::groups;
use super::keeper::tell_trimmed;
use super::member::Member;
use super::scripts::{TAKE_AGAIN, call};
use crate::backoff::Backoff;
use crate::connection::Link;
use crate::error::from_client;
use crate::wire::{EntryId, array, number, text};

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
                    Err(Broken::Connection) => member.may_have_lost(),
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
    loop {
        if member.desk.has_left() {
            return Ok(());
        }
        if member.lost_answer.swap(false, Ordering::AcqRel) {
            recover(member, link).await?;
        }
        let mut room = pin!(member.desk.room.notified());
        // From here on it is told of, so that nothing is missed between looking and waiting.
        room.as_mut().enable();
        let wanted = member.desk.worth_reading();
        let lanes = member.desk.begin_reading(only);
        if wanted == 0 || lanes.is_empty() {
            member.desk.end_reading(&lanes);
            if !member.desk.has_left() {
                room.await;
            }
            continue;
        }
        let answer = link.req_packed_command(&command(member, &lanes, wanted)).await;
        let taken = take(member, &lanes, answer);
        member.desk.end_reading(&lanes);
        if !taken? {
            recreate(member, link).await?;
        }
    }
}

/// Takes in what a read brought; `false` if the group is gone.
fn take(member: &Member, lanes: &[u32], answer: redis::RedisResult<Value>) -> Result<bool, Broken> {
    match answer {
        Ok(Value::ServerError(error)) if groups::is_gone(&error) => Ok(false),
        Err(error) if error.code() == Some("NOGROUP") => Ok(false),
        Err(error) if error.code() == Some("NOPERM") => {
            Err(Broken::Subscription(from_client(error, "subscribe")))
        }
        Ok(Value::ServerError(_)) | Err(_) => Err(Broken::Connection),
        Ok(answer) => {
            member.deliver(entries(member, lanes, answer));
            Ok(true)
        }
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
        for entry in array(entries) {
            let mut parts = array(entry).into_iter();
            if let (Some(id), Some(fields)) = (parts.next(), parts.next())
                && let Some(id) = EntryId::of(&id)
            {
                fetched.extend(member.accept(*lane, id, fields, 1));
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
