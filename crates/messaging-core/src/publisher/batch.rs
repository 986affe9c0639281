//! Publishing many: as few hand-overs as the window allows, an outcome for each message.

use std::sync::Arc;

use tokio::time::Instant;

use super::SendLane;
use crate::confirm::{PendingAll, publish_many};
use crate::driver::{Outgoing, Receipt};
use crate::error::{Error, Result};
use crate::message::Message;
use crate::window::Room;

/// The most messages handed over in one piece.
const MOST: usize = 1_024;

/// What became of one piece.
enum Batch {
    Sent(PendingAll<Receipt>),
    Refused(usize, Error),
}

/// Messages on their way, and those that never were, by their place in the input.
#[derive(Default)]
pub(super) struct Encoded {
    accepted: Vec<Arc<Message>>,
    refused: Vec<(usize, Error)>,
}

impl FromIterator<Result<Arc<Message>>> for Encoded {
    fn from_iter<I: IntoIterator<Item = Result<Arc<Message>>>>(messages: I) -> Self {
        let messages = messages.into_iter();
        let mut all = Self::default();
        all.accepted.reserve(messages.size_hint().0);
        for (index, message) in messages.enumerate() {
            match message {
                Ok(message) => all.accepted.push(message),
                Err(error) => all.refused.push((index, error)),
            }
        }
        all
    }
}

/// Publishes what could be encoded, and tells each outcome in input order.
pub(super) async fn publish_all(lane: &SendLane, messages: Encoded) -> Vec<Result<Receipt>> {
    let Encoded { accepted, refused } = messages;
    let mut outcomes = publish_accepted(lane, accepted).await;
    // In input order, so each index counts the refused before it too.
    for (index, error) in refused {
        outcomes.insert(index, Err(error));
    }
    outcomes
}

async fn publish_accepted(lane: &SendLane, messages: Vec<Arc<Message>>) -> Vec<Result<Receipt>> {
    let mut outcomes = Vec::new();
    let mut outgoing = Vec::with_capacity(MOST.min(messages.len()));
    let mut batches = Vec::new();
    let mut messages = messages.into_iter();
    // One for all of them, however many pieces they are.
    let deadline = Instant::now() + lane.spec.timeout;
    while let Some((count, room)) = next_batch(messages.as_slice(), lane.broker.window.limit()) {
        if let Err(error) = lane.take_room(room, deadline).await {
            messages.by_ref().take(count).for_each(drop);
            batches.push(Batch::Refused(count, error));
            continue;
        }
        let (mut confirm, pending) = publish_many(&lane.broker.window, count, deadline);
        outgoing.extend(messages.by_ref().take(count).map(|message| {
            let confirm = confirm(message.bytes());
            Outgoing::new(message, deadline, confirm)
        }));
        lane.sender.send_all(&mut outgoing);
        batches.push(Batch::Sent(pending));
    }
    for batch in batches {
        match batch {
            // One piece is the rule, and its outcomes are those of all.
            Batch::Sent(pending) if outcomes.is_empty() => outcomes = pending.await,
            Batch::Sent(pending) => outcomes.extend(pending.await),
            Batch::Refused(count, error) => {
                let again = || Err(Error::new(error.kind().clone(), error.to_string()));
                outcomes.extend(std::iter::repeat_with(again).take(count));
            }
        }
    }
    outcomes
}

/// How many of the messages go in one piece, and the room they take; a message that is larger than
/// the whole window goes alone.
fn next_batch(messages: &[Arc<Message>], limit: Room) -> Option<(usize, Room)> {
    let mut room = Room { messages: 0, bytes: 0 };
    for message in messages.iter().take(limit.messages.min(MOST)) {
        let bytes = room.bytes + message.bytes();
        if room.messages > 0 && bytes > limit.bytes {
            break;
        }
        room = Room { messages: room.messages + 1, bytes };
    }
    (room.messages > 0).then_some((room.messages, room))
}
