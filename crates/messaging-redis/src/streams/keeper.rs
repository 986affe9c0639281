//! Keeps a subscription's membership: heartbeats, retries that are due, members that died, trimming.

use std::sync::Arc;
use std::time::Duration;

use messaging_core::Start;
use messaging_core::driver::{Event, Gap};
use messaging_core::topology::StreamKind;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::admin::all_lanes;
use super::groups::Group;
use super::keys::Lane;
use super::leases::Leases;
use super::member::Member;
use super::reader;
use super::scripts::{LEAVE, TAKE_DUE, TAKE_OVER, TRIM, call};
use crate::connection::{Link, Sharded};
use crate::wire::{array, number};

/// How often a member looks for retries of others, and for who else is a member.
const TICK: Duration = Duration::from_millis(250);

/// How often it says that it lives at least, and how often it does within the time after which it
/// would count as dead.
const HEARTBEAT: Duration = Duration::from_secs(3);
const HEARTBEATS: u32 = 8;

/// At which ticks it looks for new streams, and trims.
const STREAMS: u64 = 20;
const TRIMMING: u64 = 21;

/// Runs until nothing of the subscription is left, which it then says.
pub(super) async fn run(member: Arc<Member>) {
    let mut leases = Leases::new(&member);
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut link = None;
    let mut tick = 0;
    loop {
        let is_tick = tokio::select! {
            _ = ticks.tick() => true,
            () = member.due.wait() => false,
            () = sleep_until_due(&member) => { member.desk.wake(); continue }
            () = member.shared.dead.cancelled() => break,
        };
        if link.is_none() {
            link = member.shared.connect().await.ok();
        }
        let Some(open) = &mut link else {
            leases.check_clock(&member);
            continue;
        };
        let done = turn(&member, open, &mut leases, is_tick.then_some(tick)).await;
        tick += u64::from(is_tick);
        if done.is_none() {
            link = None;
        }
        if member.desk.is_done() {
            if let Some(open) = &mut link {
                leave(&member, open, &mut leases).await;
            }
            break;
        }
    }
    member.ended.cancel();
}

async fn sleep_until_due(member: &Member) {
    match member.desk.next_due() {
        Some(at) if !member.desk.has_left() => tokio::time::sleep_until(at).await,
        _ => std::future::pending().await,
    }
}

/// One look around; `None` if the connection broke.
async fn turn(
    member: &Arc<Member>,
    link: &mut Link,
    leases: &mut Leases,
    tick: Option<u64>,
) -> Option<()> {
    if let Some(tick) = tick {
        let silence = member.shared.config.dead_after;
        if tick.is_multiple_of(ticks(HEARTBEAT.min(silence / HEARTBEATS))) {
            heartbeat(member, link).await?;
        }
        if !member.group.ordered && tick.is_multiple_of(ticks(silence / 3)) {
            take_over(member, link).await?;
        }
        if tick % STREAMS == STREAMS - 1 && member.group.grows {
            join_new_streams(member, link).await?;
        }
        if tick % TRIMMING == TRIMMING - 1 {
            trim(member, link).await?;
        }
    }
    if member.group.ordered {
        leases.turn(member, link).await?;
    } else {
        take_due(member, link).await?;
    }
    Some(())
}

fn ticks(every: Duration) -> u64 {
    u64::try_from(every.as_millis() / TICK.as_millis()).unwrap_or(u64::MAX).max(1)
}

/// Says that we live. An empty history read refreshes the idle time and touches no entry, where a
/// read that finds nothing new does not on 7.0.
async fn heartbeat(member: &Member, link: &mut Link) -> Option<()> {
    let commands = each_lane(member, |lane| {
        let mut command = redis::cmd("XREADGROUP");
        command.arg("GROUP").arg(&member.group.name).arg(&member.consumer).arg("COUNT").arg(1);
        command.arg("STREAMS").arg(&lane.key).arg("18446744073709551615-0");
        command
    });
    link.run_all(&commands).await.ok().map(drop)
}

async fn take_over(member: &Member, link: &mut Link) -> Option<()> {
    let group = &member.group.name;
    let silence = member.shared.config.dead_after.as_millis() as u64;
    let commands = each_lane(member, |lane| {
        let mut command = call(TAKE_OVER, &[&lane.key, &lane.due(group), &lane.suspects(group)]);
        command.arg(group).arg(silence);
        command
    });
    let gone = link.run_all(&commands).await.ok()?;
    tell_trimmed(member, Some(gone.iter().filter_map(number).sum()));
    Some(())
}

/// Reads the lanes of streams that have come since.
async fn join_new_streams(member: &Arc<Member>, link: &mut Link) -> Option<()> {
    let known = member.lanes();
    let prefix = &member.shared.config.prefix;
    let all = all_lanes(link, prefix).await.ok()?;
    let new: Vec<Lane> = all
        .into_iter()
        .filter(|lane| !lane.stream.is_dead_letters() && !known.contains(lane))
        .collect();
    if new.is_empty() {
        return Some(());
    }
    let group = Group { lanes: new.clone(), start: Start::Earliest, ..member.group.clone() };
    group.create(link).await.ok()?;
    member.add_lanes(new);
    if member.shared.connector.is_cluster() {
        for lane in (0..).take(member.lanes().len()).skip(known.len()) {
            member.shared.tasks.spawn(reader::run(Arc::clone(member), Some(lane)));
        }
    }
    Some(())
}

/// Takes retries that are due, as many as there is room for.
async fn take_due(member: &Member, link: &mut Link) -> Option<()> {
    let group = &member.group.name;
    for (number_of_lane, lane) in (0..).zip(&*member.lanes()) {
        loop {
            let room = member.desk.wanted();
            if room == 0 {
                return Some(());
            }
            let keys = [&lane.key, &lane.due(group), &lane.suspects(group), &lane.trial(group)];
            let mut command = call(TAKE_DUE, &keys.map(String::as_str));
            command.arg(group).arg(&member.consumer).arg(room.min(256));
            let _fetching = member.fetching.lock().await;
            let Ok(answer) = link.run(&command, "retry").await else {
                member.may_have_lost();
                return None;
            };
            let mut parts = array(answer).into_iter();
            let taken = member.accept_all(number_of_lane, parts.next()?);
            tell_trimmed(member, parts.next().as_ref().and_then(number));
            let wait = parts.next().as_ref().and_then(number).unwrap_or(-1);
            let nothing = taken.is_empty();
            member.deliver(taken.into_iter().map(|(fetched, _)| fetched).collect());
            match u64::try_from(wait) {
                // Something is due that may not go out now: the next tick looks again.
                Ok(0) if nothing => break,
                Ok(0) => {}
                Ok(wait) => {
                    member.due.set(Instant::now() + Duration::from_millis(wait));
                    break;
                }
                Err(_) => break,
            }
        }
    }
    Some(())
}

pub(super) fn tell_trimmed(member: &Member, gone: Option<i64>) {
    if let Some(gone) = gone.and_then(|gone| u64::try_from(gone).ok()).filter(|gone| *gone > 0) {
        let reason = "they were trimmed before they were settled";
        member.desk.tell(Event::Gap(Gap::new(Some(gone), reason)));
    }
}

async fn trim(member: &Member, link: &mut Link) -> Option<()> {
    let topology = member.shared.topology();
    let commands = each_lane(member, |lane| {
        let stream = topology.stream(lane.stream.name());
        let dead = lane.stream.is_dead_letters();
        let work = stream.is_some_and(|stream| stream.kind == StreamKind::Work) && !dead;
        let retention = match stream {
            Some(stream) if dead => Some(stream.dead_letter_retention),
            Some(stream) => stream.retention,
            None => None,
        };
        let millis = retention.and_then(|kept| i64::try_from(kept.as_millis()).ok());
        let mut command = call(TRIM, &[&lane.key]);
        command.arg(i32::from(work)).arg(millis.unwrap_or(-1));
        command
    });
    link.run_all(&commands).await.ok().map(drop)
}

/// Nothing is left: forgets us, so that nobody waits for our silence.
async fn leave(member: &Member, link: &mut Link, leases: &mut Leases) {
    leases.leave(member, link).await;
    let group = &member.group.name;
    let commands = each_lane(member, |lane| {
        if member.group.is_broadcast() {
            let mut command = redis::cmd("XGROUP");
            command.arg("DESTROY").arg(&lane.key).arg(group);
            command
        } else {
            let mut command = call(LEAVE, &[&lane.key]);
            command.arg(group).arg(&member.consumer);
            command
        }
    });
    // If this fails, our silence tells the others.
    drop(link.run_all(&commands).await);
}

fn each_lane(member: &Member, command: impl Fn(&Lane) -> redis::Cmd) -> Vec<Sharded> {
    let lanes = member.lanes();
    lanes.iter().map(|lane| Sharded { shard: lane.shard, command: command(lane) }).collect()
}
