//! The deliveries of one channel, by their tags: what of them waits, is in hand, and is to be acked.
//!
//! The server numbers the deliveries of a channel one by one, so a place is the tag minus the first.

use std::collections::VecDeque;
use std::sync::Arc;

use messaging_core::Message;
use tokio::time::Instant;

/// A delivery that is not settled at the server, or whose ack stands behind one that is not.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) state: State,
    pub(super) attempt: u32,
    pub(super) message: Arc<Message>,
    /// When it came, as the server bounds how long it may stay.
    pub(super) arrived: Instant,
    /// As what it was handed out, where that was over an earlier channel.
    pub(super) alias: Option<Alias>,
}

/// The epoch of a channel and the tag in it.
pub(super) type Alias = (u32, u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It came and nobody has it.
    Waiting,
    /// It came and is kept back: behind its key, or until its time.
    Withheld,
    InHand,
    /// A copy is on its way; once that is confirmed, it is done.
    Copying,
    /// It is to be acked.
    Done,
    /// It is acked, behind one that is not.
    Acked,
}

/// What is to be acked now.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Acks {
    /// Everything up to this tag, and whether that is more than the one.
    pub(super) up_to: Option<(u64, bool)>,
    /// These alone.
    pub(super) single: Vec<u64>,
}

impl Acks {
    pub(super) fn is_empty(&self) -> bool {
        self.up_to.is_none() && self.single.is_empty()
    }
}

#[derive(Debug)]
pub(super) struct Ring {
    first: u64,
    slots: VecDeque<Slot>,
    /// What became done since acks were taken last.
    done: Vec<u64>,
    /// Before this, nothing waits.
    next: u64,
}

impl Ring {
    pub(super) const fn new() -> Self {
        Self { first: 1, slots: VecDeque::new(), done: Vec::new(), next: 1 }
    }

    /// Takes a delivery in and gives its tag, which is the one the server has for it.
    pub(super) fn push(&mut self, slot: Slot) -> u64 {
        let tag = self.first + self.slots.len() as u64;
        let state = slot.state;
        self.slots.push_back(slot);
        if state == State::Done {
            self.done.push(tag);
        }
        tag
    }

    pub(super) fn get(&self, tag: u64) -> Option<&Slot> {
        self.slots.get(self.place(tag)?)
    }

    pub(super) fn get_mut(&mut self, tag: u64) -> Option<&mut Slot> {
        let place = self.place(tag)?;
        self.slots.get_mut(place)
    }

    fn place(&self, tag: u64) -> Option<usize> {
        usize::try_from(tag.checked_sub(self.first)?).ok()
    }

    /// The next delivery that waits, which is no longer looked at after this.
    pub(super) fn next_waiting(&mut self) -> Option<u64> {
        loop {
            let tag = self.next;
            let slot = self.get(tag)?;
            let waits = slot.state == State::Waiting;
            self.next += 1;
            if waits {
                return Some(tag);
            }
        }
    }

    /// Looks at a delivery again, as it waits once more.
    pub(super) fn rewind(&mut self, tag: u64) {
        self.next = self.next.min(tag);
    }

    /// It is settled for good and is to be acked.
    pub(super) fn finish(&mut self, tag: u64) {
        if let Some(slot) = self.get_mut(tag)
            && !matches!(slot.state, State::Done | State::Acked)
        {
            slot.state = State::Done;
            self.done.push(tag);
        }
    }

    /// Whether something is to be acked.
    pub(super) fn has_acks(&self) -> bool {
        !self.done.is_empty()
    }

    /// What is to be acked, which counts as acked from then on. What is done at the front goes with
    /// one ack; the server knows nothing but the front.
    pub(super) fn take_acks(&mut self) -> Acks {
        let mut acks = Acks::default();
        let mut done = 0;
        while let Some(slot) = self.slots.front() {
            match slot.state {
                State::Done => {
                    done += 1;
                    acks.up_to = Some((self.first, done > 1));
                }
                State::Acked => {}
                State::Waiting | State::Withheld | State::InHand | State::Copying => break,
            }
            self.slots.pop_front();
            self.first += 1;
        }
        self.next = self.next.max(self.first);
        let mut rest = std::mem::take(&mut self.done);
        rest.retain(|tag| *tag >= self.first);
        for tag in &rest {
            if let Some(slot) = self.get_mut(*tag) {
                slot.state = State::Acked;
            }
        }
        acks.single = rest;
        acks
    }

    /// When the delivery came that stands longest.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.slots.front().map(|slot| slot.arrived)
    }

    /// All deliveries with their tags.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &Slot)> {
        (self.first..).zip(&self.slots)
    }

    /// Empties it for a new channel.
    pub(super) fn take(&mut self) -> impl Iterator<Item = (u64, Slot)> + use<> {
        let ring = std::mem::replace(self, Self::new());
        (ring.first..).zip(ring.slots)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use messaging_core::Subject;
    use proptest::prelude::*;

    use super::*;

    fn slot() -> Slot {
        let message = Arc::new(Message::new(Subject::from_static("tasks.n"), ""));
        Slot { state: State::Waiting, attempt: 1, message, arrived: Instant::now(), alias: None }
    }

    fn ring(count: u64) -> Ring {
        let mut ring = Ring::new();
        (1..=count).for_each(|tag| assert_eq!(ring.push(slot()), tag));
        ring
    }

    #[test]
    fn what_is_done_from_the_front_goes_with_one_ack_and_the_rest_alone() {
        let mut ring = ring(6);
        for tag in [3, 1, 2, 5] {
            ring.finish(tag);
        }
        assert_eq!(ring.take_acks(), Acks { up_to: Some((3, true)), single: vec![5] });
        assert!(ring.take_acks().is_empty());
        ring.finish(4);
        assert_eq!(ring.take_acks(), Acks { up_to: Some((4, false)), single: vec![] });
        ring.finish(6);
        assert_eq!(ring.take_acks(), Acks { up_to: Some((6, false)), single: vec![] });
        assert!(ring.is_empty());
    }

    #[test]
    fn each_delivery_is_taken_once_and_again_when_it_waits_again() {
        let mut ring = ring(3);
        assert_eq!((ring.next_waiting(), ring.next_waiting()), (Some(1), Some(2)));
        ring.rewind(1);
        ring.finish(1);
        assert_eq!((ring.next_waiting(), ring.next_waiting()), (Some(2), Some(3)));
        assert_eq!(ring.next_waiting(), None);
        ring.push(slot());
        assert_eq!(ring.next_waiting(), Some(4));
    }

    proptest! {
        /// A server that checks each ack: it must name a delivery that is out, and all that it covers
        /// must be done.
        #[test]
        fn every_ack_covers_what_is_done_once_and_nothing_else(
            steps in prop::collection::vec((0_u8..4, any::<prop::sample::Index>()), 1..200),
        ) {
            let mut ring = Ring::new();
            let (mut out, mut done): (BTreeSet<u64>, BTreeSet<u64>) = Default::default();
            for (what, which) in steps {
                match what {
                    0 | 1 => drop(out.insert(ring.push(slot()))),
                    2 if !out.is_empty() => {
                        let tag = *which.get(&out.iter().copied().collect::<Vec<_>>());
                        ring.finish(tag);
                        done.insert(tag);
                    }
                    _ => {
                        let acks = ring.take_acks();
                        if let Some((tag, multiple)) = acks.up_to {
                            prop_assert!(out.contains(&tag));
                            let covered: Vec<u64> = match multiple {
                                true => out.range(..=tag).copied().collect(),
                                false => vec![tag],
                            };
                            for tag in covered {
                                prop_assert!(done.remove(&tag), "{tag} is not done");
                                out.remove(&tag);
                            }
                        }
                        for tag in acks.single {
                            prop_assert!(done.remove(&tag) && out.remove(&tag), "{tag}");
                        }
                        prop_assert!(done.is_empty(), "left: {done:?}");
                    }
                }
            }
        }
    }
}
