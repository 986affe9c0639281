//! Settlements on their way to the server, in batches.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use messaging_core::driver::{Backoff, Settle, Settled, Settlement, Settler};
use messaging_core::headers::ours;
use messaging_core::{Message, Result};
use redis::{Cmd, Value};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, sleep};

use super::desk::Job;
use super::keeper::tell_trimmed;
use super::keys::Lane;
use super::member::Member;
use super::scripts::{GIVE_BACK, IS_OURS, KEEP, call};
use crate::connection::{Link, Sharded};
use crate::error::{checked, is_passing, stale, unexpected};
use crate::wire::{EntryId, append, number};

/// The most settlements sent in one piece.
const BATCH: usize = 1_024;

/// How long an ack waits for others while the application has more in hand.
const LINGER: Duration = Duration::from_millis(1);

/// Settles what one subscription handed out. It outlives the subscription, as deliveries do.
#[derive(Debug)]
pub(super) struct StreamsSettler(pub(super) Arc<Member>);

impl Settler for StreamsSettler {
    fn settle(&self, one: Settle) {
        match self.0.desk.settle(one) {
            Ok(job) => self.0.push([job]),
            Err(Settle { confirm, .. }) => {
                if let Some(confirm) = confirm {
                    confirm.resolve(Err(stale()));
                }
            }
        }
    }

    /// The last comes first: what is given back goes to the front, so its order stays.
    fn settle_all(&self, many: &mut Vec<Settle>) {
        many.drain(..).rev().for_each(|one| self.settle(one));
    }
}

/// Brings settlements to the server until nothing of the subscription is left. What the server did
/// not answer, or could not serve then, is repeated: acks are idempotent, and the scripts look whether the entry is
/// still ours.
pub(super) async fn run(member: Arc<Member>, mut queue: UnboundedReceiver<Job>) {
    let mut link = None;
    let mut backoff = Backoff::default();
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        let received = tokio::select! {
            biased;
            received = queue.recv_many(&mut batch, BATCH) => received,
            () = member.ended.cancelled() => return,
        };
        if received == 0 {
            return;
        }
        if batch.iter().all(Job::can_wait) && member.desk.has_more_in_hand() {
            gather(&member, &mut queue, &mut batch).await;
        }
        while !batch.is_empty() {
            if flush(&member, &mut link, &mut batch).await {
                backoff.reset();
                continue;
            }
            link = None;
            tokio::select! {
                () = sleep(backoff.next()) => {}
                // Dropped confirms read as unknown.
                () = member.shared.dead.cancelled() => return,
            }
        }
        if member.desk.has_left() {
            member.due.set(Instant::now());
        }
    }
}

/// Lets acks gather that nobody waits for: a command for each would cost more than the work does.
async fn gather(member: &Member, queue: &mut UnboundedReceiver<Job>, batch: &mut Vec<Job>) {
    tokio::select! {
        () = sleep(LINGER) => {}
        () = member.hurry.notified() => {}
        () = member.left.cancelled() => {}
    }
    while batch.len() < BATCH
        && let Ok(job) = queue.try_recv()
    {
        batch.push(job);
    }
}

/// Settles a batch; `false` if the server did not answer everything, with the rest in the batch.
async fn flush(member: &Member, link: &mut Option<Link>, batch: &mut Vec<Job>) -> bool {
    let link = match link {
        Some(link) => link,
        None => match member.shared.connect().await {
            Ok(opened) => link.insert(opened),
            Err(_) => return false,
        },
    };
    let lanes = member.lanes();
    let Ok(mut refused) = copy_rejected(member, &lanes, link, batch).await else { return false };
    let (commands, of) = commands(member, &lanes, batch, &refused);
    let Ok(answers) = link.run_all(commands).await else { return false };
    let trimmed = answers.iter().filter_map(number).filter(|answer| *answer < 0).count();
    tell_trimmed(member, i64::try_from(trimmed).ok());
    let mut rest = Vec::new();
    let mut done = Vec::with_capacity(batch.len());
    for ((index, job), command) in batch.drain(..).enumerate().zip(of) {
        let answer = command.and_then(|command| answers.get(command));
        if matches!(answer, Some(Value::ServerError(error)) if is_passing(error)) {
            rest.push(job);
            continue;
        }
        done.extend(job.of);
        match job.how {
            Settlement::Ack => {}
            Settlement::Retry { after } => member.due.set(Instant::now() + after),
            _ => member.due.set(Instant::now()),
        }
        if let Some(confirm) = job.confirm {
            let outcome = match refused.remove(&index) {
                Some(error) => Err(error),
                None => answer.map_or(Ok(Settled::Durable), judge),
            };
            confirm.resolve(outcome);
        }
    }
    member.desk.settled(done);
    batch.append(&mut rest);
    batch.is_empty()
}

/// Why jobs must not be acked, by their place in the batch.
type Refused = BTreeMap<usize, messaging_core::Error>;

/// Copies what is rejected to the dead letters, before anything is settled.
async fn copy_rejected(
    member: &Member,
    lanes: &[Lane],
    link: &mut Link,
    batch: &[Job],
) -> redis::RedisResult<Refused> {
    let mut refused = Refused::new();
    let mut asked = Vec::new();
    let mut checks = Vec::new();
    let rejected = |(_, job): &(usize, &Job)| matches!(job.how, Settlement::Reject { .. });
    for (index, job) in batch.iter().enumerate().filter(rejected) {
        // A dead letter that is rejected stays where it is.
        if let Some(lane) = lanes.get(job.lane as usize)
            && !lane.stream.is_dead_letters()
            && let Some(message) = &job.message
        {
            let mut command = call(IS_OURS, &[&lane.key]);
            command.arg(&member.group.name).arg(&member.consumer).arg(job.id);
            checks.push(Sharded { shard: lane.shard, command });
            asked.push((index, job, message, lane));
        }
    }
    if asked.is_empty() {
        return Ok(refused);
    }
    let answers = link.run_all(checks).await?;
    let (mut copied, mut copies) = (Vec::new(), Vec::new());
    for (answer, (index, job, message, lane)) in answers.iter().zip(asked) {
        if number(answer) == Some(1) {
            copies.push(dead_letter(member, job, message, lane));
            copied.push(index);
        } else {
            refused.insert(index, stale());
        }
    }
    let answers = link.run_all(copies).await?;
    for (answer, index) in answers.into_iter().zip(copied) {
        if let Err(error) = checked(answer, "dead letter") {
            refused.insert(index, error);
        }
    }
    Ok(refused)
}

fn dead_letter(member: &Member, job: &Job, message: &Message, lane: &Lane) -> Sharded {
    let mut message = message.clone();
    let reason = match &job.how {
        Settlement::Reject { reason } => reason.as_str(),
        _ => "",
    };
    let group = if member.group.is_broadcast() { "broadcast" } else { &member.group.name };
    let origin = format!("{} {}", lane.stream, job.id.position(super::NAME, lane.number));
    message.headers.stamp(ours::DEAD_LETTER_GROUP, group.to_owned());
    message.headers.stamp(ours::DEAD_LETTER_REASON, reason.to_owned());
    let made = job.attempt.min(member.max_attempts);
    message.headers.stamp(ours::DEAD_LETTER_ATTEMPTS, made.to_string());
    message.headers.stamp(ours::DEAD_LETTER_ORIGIN, origin);
    let target = Lane::new(&member.shared.config.prefix, &lane.stream.to_dead_letters(), 0);
    Sharded { shard: target.shard, command: append(&target.key, &message) }
}

/// A delay in whole milliseconds that is never too short: the server's clock is rounded down.
fn millis(after: Duration) -> i64 {
    let millis = after.as_nanos().div_ceil(1_000_000);
    i64::try_from(millis).map_or(i64::MAX, |millis| millis.saturating_add(millis.signum()))
}

/// The commands of a batch, and for each job which of them settles it.
fn commands(
    member: &Member,
    lanes: &[Lane],
    batch: &[Job],
    refused: &Refused,
) -> (Vec<Sharded>, Vec<Option<usize>>) {
    let mut commands = Vec::new();
    let mut of = vec![None; batch.len()];
    let mut acked: Vec<Vec<usize>> = lanes.iter().map(|_| Vec::new()).collect();
    for ((index, job), of) in batch.iter().enumerate().zip(&mut of) {
        let (after, copy_failed) = match &job.how {
            Settlement::Reject { .. } if refused.contains_key(&index) => (1_000, true),
            Settlement::Ack | Settlement::Reject { .. } => {
                if let Some(acked) = acked.get_mut(job.lane as usize) {
                    acked.push(index);
                }
                continue;
            }
            Settlement::Retry { after } => (millis(*after), false),
            Settlement::Abandon | Settlement::Release => (-1, false),
        };
        let stays = member.group.ordered && !copy_failed;
        if stays && matches!(job.how, Settlement::Release) {
            continue;
        }
        let Some(lane) = lanes.get(job.lane as usize) else { continue };
        let script = if stays { KEEP } else { GIVE_BACK };
        let mut command = call(script, &[&lane.key, &lane.due(&member.group.name)]);
        command.arg(&member.group.name).arg(&member.consumer).arg(job.id);
        command.arg(job.attempt).arg(after);
        *of = Some(commands.len());
        commands.push(Sharded { shard: lane.shard, command });
    }
    for (lane, indexes) in lanes.iter().zip(&acked).filter(|(_, indexes)| !indexes.is_empty()) {
        let group = &member.group.name;
        let jobs = || indexes.iter().filter_map(|index| batch.get(*index));
        let again: Vec<EntryId> = jobs().filter(|job| job.attempt > 1).map(|job| job.id).collect();
        if !again.is_empty() {
            for (name, key) in [("HDEL", lane.suspects(group)), ("ZREM", lane.due(group))] {
                let mut command = redis::cmd(name);
                command.arg(key).arg(&again);
                commands.push(Sharded { shard: lane.shard, command });
            }
        }
        for index in indexes {
            if let Some(of) = of.get_mut(*index) {
                *of = Some(commands.len());
            }
        }
        // An id takes 15 bytes or a few more.
        let mut command = Cmd::with_capacity(3 + indexes.len(), 64 + 20 * indexes.len());
        command.arg("XACK").arg(&lane.key).arg(group);
        jobs().for_each(|job| {
            command.arg(job.id);
        });
        commands.push(Sharded { shard: lane.shard, command });
    }
    (commands, of)
}

/// What an answer says of the settlements that it is about.
fn judge(answer: &Value) -> Result<Settled> {
    match answer {
        Value::ServerError(error) => Err(super::groups::failed(error, "settle")),
        answer => match number(answer) {
            Some(0) => Err(stale()),
            Some(_) => Ok(Settled::Durable),
            None => Err(unexpected("settle")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delay_is_never_too_short_and_none_stays_none() {
        let micros = [0, 1, 1_000, 1_000_001];
        assert_eq!(micros.map(|micros| millis(Duration::from_micros(micros))), [0, 2, 2, 1_002]);
    }
}
