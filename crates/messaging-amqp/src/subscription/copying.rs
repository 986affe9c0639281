//! Copies: what brings a message back to its group, or to the dead letters, before its original is
//! acked.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use messaging_core::driver::{Backoff, Event, Parked};
use messaging_core::headers::ours;
use messaging_core::{ErrorKind, Message, Settled};
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
    loop {
        match attempt(member, &copy).await {
            Outcome::Confirmed => break,
            Outcome::Failed(error) if *error.kind() == ErrorKind::Closed => return None,
            Outcome::Failed(error) if matches!(error.kind(), ErrorKind::TooLarge { .. }) => {
                match repair_dead_letters(member, &copy).await {
                    Ok(()) => {
                        made = Err(error);
                        break;
                    }
                    Err(error) => tracing::debug!(%error, "dead letters can't be declared"),
                }
            }
            outcome @ (Outcome::Returned(_) | Outcome::Unknown(_) | Outcome::Failed(_)) => {
                tracing::debug!(?outcome, "a copy is repeated");
                // It may be that something of its way is missing.
                repair(member, &copy).await;
            }
            Outcome::Nacked => {}
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
            return Err(messaging_core::Error::new(ErrorKind::Other, text));
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

/// Declares what the copy's way consists of. If that fails, the next try fails too, and is repeated.
async fn repair(member: &Member, copy: &Copy) {
    let repaired = match copy.to {
        Target::DeadLetters { .. } => repair_dead_letters(member, copy).await,
        Target::Group | Target::Tier(_) | Target::Suspects => member.declare().await,
    };
    if let Err(error) = repaired {
        tracing::debug!(%error, "the way of a copy can't be declared");
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
