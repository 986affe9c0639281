//! What was out over a channel that is gone, so that it is known again when it comes back.
//!
//! The server returns everything unsettled of a lost channel. What comes back to us is handed out no
//! second time where it is still in hand, is acked where it had been, and has no failed attempt where
//! nobody but the connection failed.

use std::collections::{HashMap, VecDeque};

use messaging_core::{Message, Settlement};
use tokio::time::Instant;

use super::content::{Content, Print};
use super::ring::{Alias, Slot, State};

/// Deliveries of lost channels, by what they were handed out as.
#[derive(Debug, Default)]
pub(super) struct Past {
    known: HashMap<Alias, Known>,
    prints: HashMap<Print, VecDeque<Alias>>,
    /// Those that came back while they were in hand, and their tags now.
    back: HashMap<Alias, u64>,
}

/// One such delivery.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) fate: Fate,
    pub(super) attempt: u32,
    pub(super) content: Content,
    print: Print,
    pub(super) copy: u64,
    /// When it was to go out again, where its retry is in place.
    pub(super) not_before: Option<Instant>,
    /// The epoch in which its channel was lost.
    lost: u32,
}

/// What has become of it.
#[derive(Debug)]
pub(super) enum Fate {
    /// Nobody has it.
    Waiting,
    InHand,
    Copying,
    Settled(Settlement),
    /// Its queue was deleted; it does not come back.
    Gone,
}

impl Past {
    /// Remembers a delivery of a channel that was lost.
    pub(super) fn remember(&mut self, own: Alias, slot: Slot, not_before: Option<Instant>) {
        let fate = match slot.state {
            State::Waiting | State::Withheld => Fate::Waiting,
            State::InHand => Fate::InHand,
            State::Copying => Fate::Copying,
            State::Done | State::Acked => Fate::Settled(Settlement::Ack),
            // If it comes back, the server has not moved it, and it is another delivery.
            State::Rejected => return,
        };
        let alias = slot.alias.unwrap_or(own);
        let Slot { attempt, content, copy, .. } = slot;
        let Some(print) = content.print() else { return };
        self.prints.entry(print).or_default().push_back(alias);
        let lost = own.0;
        self.known.insert(alias, Known { fate, attempt, content, print, copy, not_before, lost });
    }

    /// A channel is lost once more: what did not come back over the last one is with somebody else,
    /// and what came back is told anew. What is in hand stays.
    pub(super) fn turn(&mut self, epoch: u32) {
        self.back.clear();
        let forgotten = |known: &Known| {
            known.lost < epoch && matches!(known.fate, Fate::Waiting | Fate::Settled(_))
        };
        let gone: Vec<Alias> = self
            .known
            .iter()
            .filter(|(_, known)| forgotten(known))
            .map(|(alias, _)| *alias)
            .collect();
        for alias in gone {
            self.forget(alias);
        }
    }

    /// The delivery that comes back as this message, if it is one of ours; it is forgotten here.
    /// Another copy of the message is another delivery: it may be what an acked one has become.
    pub(super) fn recognise(&mut self, message: &Message, copy: u64) -> Option<(Alias, Known)> {
        let aliases = self.prints.get(&Print::of(message))?;
        let same = |alias: &&Alias| self.known.get(*alias).is_some_and(|known| known.copy == copy);
        let alias = *aliases.iter().find(same)?;
        Some((alias, self.forget(alias)?))
    }

    /// It is out over this channel as this tag.
    pub(super) fn came_back(&mut self, alias: Alias, tag: u64) {
        self.back.insert(alias, tag);
    }

    /// The tag that it has now, if it came back.
    pub(super) fn tag_of(&self, alias: Alias) -> Option<u64> {
        self.back.get(&alias).copied()
    }

    pub(super) fn forget_tag(&mut self, alias: Alias) {
        self.back.remove(&alias);
    }

    pub(super) fn get_mut(&mut self, alias: Alias) -> Option<&mut Known> {
        self.known.get_mut(&alias)
    }

    pub(super) fn forget(&mut self, alias: Alias) -> Option<Known> {
        let known = self.known.remove(&alias)?;
        if let Some(aliases) = self.prints.get_mut(&known.print) {
            aliases.retain(|other| *other != alias);
            if aliases.is_empty() {
                self.prints.remove(&known.print);
            }
        }
        Some(known)
    }

    /// Nothing of it comes back.
    pub(super) fn is_gone(&mut self) {
        self.back.clear();
        self.prints.clear();
        self.known.retain(|_, known| matches!(known.fate, Fate::InHand | Fate::Gone));
        for known in self.known.values_mut() {
            known.fate = Fate::Gone;
        }
    }

    /// How many are in hand without having come back, and their bytes.
    pub(super) fn in_hand(&self) -> (usize, usize) {
        let in_hand = self.known.values().filter(|known| matches!(known.fate, Fate::InHand));
        in_hand.fold((0, 0), |(count, bytes), known| (count + 1, bytes + known.content.bytes()))
    }
}
