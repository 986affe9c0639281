//! Settlements on their way to the server, in batches.

use std::sync::Arc;

use messaging_core::driver::{Settle, Settled, Settlement, Settler};
use messaging_core::headers::ours;
use messaging_core::{Message, Result};
use redis::Value;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, sleep};

use super::desk::Job;
use super::keeper::tell_trimmed;
use super::keys::Lane;
use super::member::Member;
use super::scripts::{GIVE_BACK, IS_OURS, KEEP, call};
use crate::backoff::Backoff;
use crate::connection::{Link, Sharded};
use crate::error::{checked, is_passing, stale, unexpected};
use crate::wire::{append, number};

/// The most settlements sent in one piece.
const BATCH: usize = 1_024;

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
        if self.0.left.is_cancelled() {
            self.0.due.set(Instant::now());
        }
    }

    /// The last comes first: what is given back goes to the front, so its order stays.
    fn settle_all(&self, many: &mut Vec<Settle>) {
        many.drain(..).rev().for_each(|one| self.settle(one));
    }
}

/// Brings settlements to the server until nothing of the subscription is left. What the server did
/// not answer, or could not serve then, is repeated: acks are idempotent, and the scripts look whether the entry is still ours.
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

/// Settles a batch; `false` if the server did not answer everything, with the rest in the batch.
async fn flush(member: &Member, link: &mut Option<Link>, batch: &mut Vec<Job>) -> bool {
    let link = match link {
        Some(link) => link,
        None => match member.shared.connect().await {
            Ok(opened) => link.insert(opened),
            Err(_) => return false,
        },
    };
    let Ok(refused) = copy_rejected(member, link, batch).await else { return false };
    let (commands, of) = commands(member, batch, &refused);
    let Ok(answers) = link.run_all(commands).await else { return false };
    let trimmed = answers.iter().filter_map(number).filter(|answer| *answer < 0).count();
    tell_trimmed(member, i64::try_from(trimmed).ok());
    let mut outcomes: Vec<Option<Result<Settled>>> = batch.iter().map(|_| None).collect();
    let mut again = vec![false; batch.len()];
    for (answer, jobs) in answers.into_iter().zip(of) {
        let is_passing = matches!(&answer, Value::ServerError(error) if is_passing(error));
        for (job, outcome) in jobs.into_iter().map(|job| (job, judge(&answer))) {
            if let (Some(slot), Some(again)) = (outcomes.get_mut(job), again.get_mut(job)) {
                *slot = Some(outcome);
                *again = is_passing;
            }
        }
    }
    let mut rest = Vec::new();
    let mut done = Vec::with_capacity(batch.len());
    let jobs = batch.drain(..).zip(outcomes).zip(refused).zip(again);
    for (((job, outcome), refused), again) in jobs {
        if again {
            rest.push(job);
            continue;
        }
        done.push((job.lane, job.id));
        if let Settlement::Retry { after } = job.how {
            member.due.set(Instant::now() + after);
        } else if !matches!(job.how, Settlement::Ack) {
            member.due.set(Instant::now());
        }
        if let Some(confirm) = job.confirm {
            let outcome = outcome.unwrap_or(Ok(Settled::Durable));
            confirm.resolve(refused.map_or(outcome, Err));
        }
    }
    member.desk.settled(&done);
    batch.append(&mut rest);
    batch.is_empty()
}

/// Copies what is rejected to the dead letters, before anything is settled. Tells for each job
/// whether it must not be acked, and why.
async fn copy_rejected(
    member: &Member,
    link: &mut Link,
    batch: &[Job],
) -> redis::RedisResult<Vec<Option<messaging_core::Error>>> {
    let mut refused: Vec<Option<messaging_core::Error>> = batch.iter().map(|_| None).collect();
    let mut asked = Vec::new();
    let mut checks = Vec::new();
    for (index, job) in batch.iter().enumerate() {
        let Some(lane) = member.lane(job.lane) else { continue };
        // A dead letter that is rejected stays where it is.
        if matches!(job.how, Settlement::Reject { .. }) && !lane.stream.is_dead_letters() {
            let mut command = call(IS_OURS, &[&lane.key]);
            command.arg(&member.group.name).arg(&member.consumer).arg(job.id.to_string());
            checks.push(Sharded { shard: lane.shard, command });
            asked.push((index, job, lane));
        }
    }
    if asked.is_empty() {
        return Ok(refused);
    }
    let answers = link.run_all(checks).await?;
    let (mut copied, mut copies) = (Vec::new(), Vec::new());
    for (answer, (index, job, lane)) in answers.iter().zip(asked) {
        if number(answer) == Some(1) {
            copies.push(dead_letter(member, job, &lane));
            copied.push(index);
        } else if let Some(slot) = refused.get_mut(index) {
            *slot = Some(stale());
        }
    }
    let answers = link.run_all(copies).await?;
    for (answer, index) in answers.into_iter().zip(copied) {
        if let (Err(error), Some(slot)) = (checked(answer, "dead letter"), refused.get_mut(index)) {
            *slot = Some(error);
        }
    }
    Ok(refused)
}

fn dead_letter(member: &Member, job: &Job, lane: &Lane) -> Sharded {
    let mut message = Message::clone(&job.message);
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

/// The commands of a batch, each with the jobs that it settles.
fn commands(
    member: &Member,
    batch: &[Job],
    refused: &[Option<messaging_core::Error>],
) -> (Vec<Sharded>, Vec<Vec<usize>>) {
    let mut commands = Vec::new();
    let mut of = Vec::new();
    let mut acked: Vec<Vec<usize>> = member.lanes().iter().map(|_| Vec::new()).collect();
    for ((index, job), refused) in batch.iter().enumerate().zip(refused) {
        let Some(lane) = member.lane(job.lane) else { continue };
        let (after, copy_failed) = match &job.how {
            Settlement::Reject { .. } if refused.is_some() => (1_000, true),
            Settlement::Ack | Settlement::Reject { .. } => {
                if let Some(acked) = acked.get_mut(job.lane as usize) {
                    acked.push(index);
                }
                continue;
            }
            Settlement::Retry { after } => (i64::try_from(after.as_millis()).unwrap_or(0), false),
            Settlement::Abandon | Settlement::Release => (-1, false),
        };
        let stays = member.group.ordered && !copy_failed;
        if stays && matches!(job.how, Settlement::Release) {
            continue;
        }
        let script = if stays { KEEP } else { GIVE_BACK };
        let mut command = call(script, &[&lane.key, &lane.due(&member.group.name)]);
        command.arg(&member.group.name).arg(&member.consumer).arg(job.id.to_string());
        command.arg(job.attempt).arg(after);
        commands.push(Sharded { shard: lane.shard, command });
        of.push(vec![index]);
    }
    for (lane, jobs) in (0..).zip(acked) {
        let Some(place) = member.lane(lane).filter(|_| !jobs.is_empty()) else { continue };
        let jobs_of = || jobs.iter().filter_map(|index| batch.get(*index));
        let again = || jobs_of().filter(|job| job.attempt > 1).map(|job| job.id.to_string());
        if again().next().is_some() {
            for (name, key) in [
                ("HDEL", place.suspects(&member.group.name)),
                ("ZREM", place.due(&member.group.name)),
            ] {
                let mut command = redis::cmd(name);
                command.arg(key);
                for id in again() {
                    command.arg(id);
                }
                commands.push(Sharded { shard: place.shard, command });
                of.push(Vec::new());
            }
        }
        let mut command = redis::cmd("XACK");
        command.arg(&place.key).arg(&member.group.name);
        for job in jobs_of() {
            command.arg(job.id.to_string());
        }
        commands.push(Sharded { shard: place.shard, command });
        of.push(jobs);
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
