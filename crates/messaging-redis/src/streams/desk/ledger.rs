//! The hand-overs of one subscription, from the application's hands to the server's answer.

use std::sync::Arc;

use messaging_core::Message;

use crate::wire::EntryId;

/// What is in hand, and what is settled here and not yet at the server.
///
/// An entry that stays ours may be handed out again while its last settlement is on its way, so each
/// hand-over has a place of its own.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    places: Vec<Place>,
    free: Vec<u32>,
    in_hand: usize,
    bytes: usize,
    /// How many hand-overs there were. It tells those apart that had the same place.
    count: u64,
}

/// Names one hand-over, of all there ever are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct HandOver {
    place: u32,
    number: u64,
}

#[derive(Debug)]
struct Place {
    /// The latest that was here.
    number: u64,
    what: What,
}

#[derive(Debug)]
enum What {
    Nothing,
    InHand(Hand),
    Settling { lane: u32, id: EntryId },
}

/// A message in the application's hands.
#[derive(Debug)]
pub(super) struct Hand {
    pub(super) lane: u32,
    pub(super) number: u32,
    pub(super) id: EntryId,
    pub(super) attempt: u32,
    pub(super) message: Arc<Message>,
}

impl HandOver {
    pub(super) const fn from_bits(bits: u128) -> Self {
        Self { place: bits as u32, number: (bits >> 32) as u64 }
    }

    pub(super) const fn to_bits(self) -> u128 {
        ((self.number as u128) << 32) | self.place as u128
    }
}

impl Ledger {
    /// How many messages are in hand.
    pub(super) const fn in_hand(&self) -> usize {
        self.in_hand
    }

    /// How many settlements are on their way to the server.
    pub(super) const fn settling(&self) -> usize {
        self.places.len() - self.free.len() - self.in_hand
    }

    /// How many bytes the messages in hand take.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether nothing is in hand or on its way.
    pub(super) const fn is_empty(&self) -> bool {
        self.places.len() == self.free.len()
    }

    pub(super) fn hand_out(&mut self, hand: Hand) -> HandOver {
        self.in_hand += 1;
        self.bytes += hand.message.bytes();
        self.put(What::InHand(hand))
    }

    /// Something goes back that was in nobody's hands.
    pub(super) fn return_unseen(&mut self, lane: u32, id: EntryId) -> HandOver {
        self.put(What::Settling { lane, id })
    }

    /// What a hand-over gave, unless it is settled or lost.
    pub(super) fn settle(&mut self, of: HandOver) -> Option<Hand> {
        let place = self.places.get_mut(of.place as usize)?;
        let What::InHand(Hand { lane, id, .. }) = place.what else { return None };
        if place.number != of.number {
            return None;
        }
        let what = std::mem::replace(&mut place.what, What::Settling { lane, id });
        let What::InHand(hand) = what else { return None };
        self.in_hand -= 1;
        self.bytes -= hand.message.bytes();
        Some(hand)
    }

    /// Settles everything that is in hand.
    pub(super) fn settle_all(&mut self) -> Vec<(HandOver, Hand)> {
        let all: Vec<HandOver> = (0..)
            .zip(&self.places)
            .map(|(place, at)| HandOver { place, number: at.number })
            .collect();
        all.into_iter().filter_map(|of| Some((of, self.settle(of)?))).collect()
    }

    /// A settlement is at the server.
    pub(super) fn settled(&mut self, of: HandOver) {
        if let Some(place) = self.places.get_mut(of.place as usize)
            && place.number == of.number
            && matches!(place.what, What::Settling { .. })
        {
            place.what = What::Nothing;
            self.free.push(of.place);
        }
    }

    /// Forgets what is in hand of a lane.
    pub(super) fn lose(&mut self, lane: u32) {
        for (number, place) in (0..).zip(&mut self.places) {
            if let What::InHand(hand) = &place.what
                && hand.lane == lane
            {
                self.in_hand -= 1;
                self.bytes -= hand.message.bytes();
                place.what = What::Nothing;
                self.free.push(number);
            }
        }
    }

    /// Whether something of a lane is on its way to the server.
    pub(super) fn is_settling(&self, lane: u32) -> bool {
        let of_lane =
            |place: &Place| matches!(place.what, What::Settling { lane: of, .. } if of == lane);
        self.places.iter().any(of_lane)
    }

    /// Whether an entry is in hand or on its way.
    pub(super) fn knows(&self, lane: u32, id: EntryId) -> bool {
        self.places.iter().any(|place| match &place.what {
            What::Nothing => false,
            What::InHand(hand) => (hand.lane, hand.id) == (lane, id),
            What::Settling { lane: of, id: known } => (*of, *known) == (lane, id),
        })
    }

    fn put(&mut self, what: What) -> HandOver {
        let number = self.count;
        self.count += 1;
        let new = Place { number, what };
        let free = self.free.pop();
        let place = free.and_then(|free| Some((free, self.places.get_mut(free as usize)?)));
        match place {
            Some((free, place)) => {
                *place = new;
                HandOver { place: free, number }
            }
            None => {
                self.places.push(new);
                // There are as many places as the prefetch and what is on its way.
                HandOver { place: (self.places.len() - 1) as u32, number }
            }
        }
    }
}
