//! Copies: what brings a message back to its group, or to the dead letters, before its original is
//! acked.

#[cfg(test)]
mod tests;

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use messaging_core::driver::{Backoff, Event, Parked};
use messaging_core::headers::ours;
use messaging_core::{Error, ErrorKind, Message, Settled};
use tokio::time::{Instant, sleep};

use super::desk::{Copied, Copy, Target};
use super::member::{Member, declare};
use super::source::Source;
use crate::confirms::{Outcome, Publish};
use crate::topology;
use crate::wire::{self, Marks};

/// How long the answer to one publish may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Publishes a copy until it is confirmed, under the same id. Nothing once that can't be any more.
///
/// What a foreign client has sent may fit into a frame only without what a copy adds. The server then
/// moves the original to the dead letters as it is, so these have to be there: from a queue by
/// priority it moves nothing safely.
pub(super) async fn publish(member: &Member, copy: Copy) -> Option<Copied> {
    let mut backoff = Backoff::default();
    let mut made = Ok(Settled::Durable);
    let mut turn = None;
    loop {
        let outcome = attempt(member, &copy).await;
        let kind = match &outcome {
            Outcome::Failed(error) => Some(error.kind()),
            _ => None,
        };
        let repaired = match (&outcome, kind) {
            (Outcome::Confirmed, _) => break,
            (_, Some(ErrorKind::Closed)) => return None,
            (_, Some(ErrorKind::TooLarge { .. })) => repair_dead_letters(member, &copy).await,
            (_, Some(ErrorKind::Denied)) => {
                turn = match turn {
                    None => tokio::select! {
                        turn = member.desk.denied.lock() => Some(turn),
                        () = member.shared.dead.cancelled() => return None,
                    },
                    held => held,
                };
                Ok(())
            }
            (Outcome::Nacked, _) => Ok(()),
            // It may be that something of its way is missing.
            (Outcome::Returned(_) | Outcome::Unknown(_) | Outcome::Failed(_), _) => {
                repair(member, &copy).await
            }
        };
        match (outcome, repaired) {
            (Outcome::Failed(error), Ok(()))
                if matches!(error.kind(), ErrorKind::TooLarge { .. }) =>
            {
                made = Err(error);
                break;
            }
            (outcome, repaired) => report(member, &outcome, repaired.err().as_ref()),
        }
        tokio::select! {
            () = sleep(backoff.next()) => {}
            () = member.shared.dead.cancelled() => return None,
        }
    }
    let is_made = made.is_ok();
    if let Err(error) = &made {
        let queue = member.source.name();
        let reason = format!("a message of queue {queue} becomes a dead letter as it is: {error}");
        member.desk.tell(Event::Parked(Parked::new(reason)));
    }
    if let Some(confirm) = copy.confirm {
        confirm.resolve(made);
    }
    let moved = copy.to == Target::Suspects;
    Some(Copied { lane: copy.lane, of: copy.of, moved, is_made })
}

async fn attempt(member: &Member, copy: &Copy) -> Outcome {
    let publish = match prepare(member, copy) {
        Ok(publish) => publish,
        Err(error) => return Outcome::Failed(error),
    };
    let answer = member.shared.copies.publish(publish, Instant::now() + PATIENCE);
    match answer.await {
        Ok(outcome) => outcome,
        Err(_) => Outcome::Unknown("the connection ended".to_owned()),
    }
}

fn prepare(member: &Member, copy: &Copy) -> messaging_core::Result<Publish> {
    let names = &member.shared.names;
    let group = match &member.source {
        Source::Group(group) => Some(&group.name),
        Source::DeadLetters { .. } | Source::Own { .. } => None,
    };
    let (exchange, outbound) = match (&copy.to, group) {
        (Target::Group, Some(group)) => (names.returned(group), counted(copy)?),
        (Target::Tier(tier), Some(group)) => (names.retry(group, *tier), counted(copy)?),
        (Target::Suspects, Some(group)) => {
            let mut marks = marks(copy);
            marks.is_suspect = true;
            (names.suspects(group), wire::outgoing(&copy.message, marks)?)
        }
        (Target::DeadLetters { reason }, _) => {
            let message = dead_letter(member, copy, reason);
            let marks = Marks { copy: unique(), ..Marks::default() };
            (names.dead_letter_exchange(), wire::outgoing(&message, marks)?)
        }
        (Target::Group | Target::Tier(_) | Target::Suspects, None) => {
            let text = "only a group takes copies back";
            return Err(Error::new(ErrorKind::Other, text));
        }
    };
    let wire::Outbound { properties, routing_key, body } = outbound;
    Ok(Publish { exchange, routing_key, mandatory: true, properties, body })
}

fn marks(copy: &Copy) -> Marks {
    Marks { attempts: copy.attempt.saturating_sub(1), is_suspect: false, copy: unique() }
}

/// What tells one copy of a message from the others.
fn unique() -> u64 {
    (RandomState::new().build_hasher().finish() >> 1).max(1)
}

fn counted(copy: &Copy) -> messaging_core::Result<wire::Outbound> {
    wire::outgoing(&copy.message, marks(copy))
}

fn dead_letter(member: &Member, copy: &Copy, reason: &str) -> Message {
    let mut message = Message::clone(&copy.message);
    let origin = format!("{}, queue {}", message.subject.stream(), member.source.name());
    let headers = &mut message.headers;
    headers.stamp(ours::DEAD_LETTER_GROUP, member.source.name().to_owned());
    headers.stamp(ours::DEAD_LETTER_REASON, reason.to_owned());
    let made = copy.attempt.min(member.max_attempts);
    headers.stamp(ours::DEAD_LETTER_ATTEMPTS, made.to_string());
    headers.stamp(ours::DEAD_LETTER_ORIGIN, origin);
    message
}

/// Tells the log what no further try is likely to change.
fn report(member: &Member, outcome: &Outcome, unrepaired: Option<&Error>) {
    let failed = match outcome {
        Outcome::Failed(error) => Some(error),
        _ => None,
    };
    let queue = member.source.name();
    match failed.into_iter().chain(unrepaired).find(|error| !error.is_retryable()) {
        Some(error) if member.desk.is_log_due() => {
            tracing::warn!(queue, %error, "a copy can't be made; its original stays in the queue");
        }
        _ => tracing::debug!(queue, ?outcome, ?unrepaired, "a copy is repeated"),
    }
}

/// Declares what the copy's way consists of. If that fails, the next try fails too, and is repeated.
async fn repair(member: &Member, copy: &Copy) -> messaging_core::Result<()> {
    match copy.to {
        Target::DeadLetters { .. } => repair_dead_letters(member, copy).await,
        Target::Group | Target::Tier(_) | Target::Suspects => member.declare().await,
    }
}

async fn repair_dead_letters(member: &Member, copy: &Copy) -> messaging_core::Result<()> {
    let shared = &member.shared;
    let deadline = Instant::now() + shared.config.timeout;
    let stream = copy.message.subject.stream().parse()?;
    let week = Duration::from_secs(7 * 24 * 3_600);
    let known = shared.topology();
    let retention =
        known.stream(copy.message.subject.stream()).map_or(week, |it| it.dead_letter_retention);
    let mut all = topology::exchanges(&shared.names);
    all.extend(topology::dead_letters(&shared.names, &stream, retention));
    let session = shared.consuming.session(deadline).await?;
    declare(&session, &shared.names, &all, deadline).await.map_err(|fault| fault.at("dead letters"))
}
