//! The deliveries of one channel, by their tags: what of them waits, is in hand, and is to be acked.
//!
//! The server numbers the deliveries of a channel one by one, so a place is the tag minus the first.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use messaging_core::Message;
use tokio::time::Instant;

use super::content::Content;

/// A delivery that is not settled at the server, or whose ack stands behind one that is not.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) state: State,
    pub(super) attempt: u32,
    pub(super) content: Content,
    /// When it came, as the server bounds how long it may stay.
    pub(super) arrived: Instant,
    /// As what it was handed out, where that was over an earlier channel.
    pub(super) alias: Option<Alias>,
    /// Which copy of ours it is, as copies share an id; 0 is none.
    pub(super) copy: u64,
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
    /// The server moves it to the dead letters.
    Rejected,
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

#[derive(Debug)]
pub(super) struct Ring {
    /// The tag of the first slot.
    first: u64,
    /// Everything before is acked. What the server may not know of yet is kept for a while.
    floor: u64,
    slots: VecDeque<Slot>,
    /// How many deliveries the server leaves unsettled at most, so that the ack of one that is
    /// further back has reached it.
    window: u64,
    /// What became done since acks were taken last.
    done: Vec<u64>,
    /// Before this, nothing waits.
    next: u64,
}

impl Ring {
    pub(super) const fn new(window: u64) -> Self {
        Self { first: 1, floor: 1, slots: VecDeque::new(), window, done: Vec::new(), next: 1 }
    }

    /// Takes a delivery in and gives its tag, which is the one the server has for it.
    pub(super) fn push(&mut self, mut slot: Slot) -> u64 {
        let tag = self.first + self.slots.len() as u64;
        if slot.state == State::Done {
            slot.content.finish();
            self.done.push(tag);
        }
        self.slots.push_back(slot);
        while self.first < self.floor && self.first + self.window <= tag {
            self.slots.pop_front();
            self.first += 1;
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

    /// How many deliveries may wait, at most.
    pub(super) fn most_waiting(&self) -> usize {
        let end = self.first + self.slots.len() as u64;
        usize::try_from(end.saturating_sub(self.next)).unwrap_or_default()
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

    /// It is settled for good and is to be acked.
    pub(super) fn finish(&mut self, tag: u64) {
        if let Some(slot) = self.get_mut(tag)
            && !matches!(slot.state, State::Done | State::Acked)
        {
            slot.state = State::Done;
            slot.content.finish();
            self.done.push(tag);
        }
    }

    /// The server moves it to the dead letters, and does not wait for an ack.
    pub(super) fn reject(&mut self, tag: u64) {
        if let Some(slot) = self.get_mut(tag) {
            slot.state = State::Rejected;
        }
        let is_over = |slot: &Slot| matches!(slot.state, State::Acked | State::Rejected);
        while self.get(self.floor).is_some_and(is_over) {
            self.floor += 1;
        }
    }

    /// How many are to be acked.
    pub(super) const fn acks(&self) -> usize {
        self.done.len()
    }

    /// What is to be acked, which counts as acked from then on. What is done at the front goes with
    /// one ack; the server knows nothing but the front.
    pub(super) fn take_acks(&mut self) -> Acks {
        let mut acks = Acks::default();
        let mut done = 0;
        while let Some(slot) = self.place(self.floor).and_then(|place| self.slots.get_mut(place)) {
            match slot.state {
                State::Done => {
                    done += 1;
                    acks.up_to = Some((self.floor, done > 1));
                    slot.state = State::Acked;
                }
                State::Acked | State::Rejected => {}
                State::Waiting | State::Withheld | State::InHand | State::Copying => break,
            }
            self.floor += 1;
        }
        let mut rest = std::mem::take(&mut self.done);
        rest.retain(|tag| *tag >= self.floor);
        for tag in &rest {
            if let Some(slot) = self.get_mut(*tag) {
                slot.state = State::Acked;
            }
        }
        if rest.is_empty() {
            // Its room is used again.
            self.done = rest;
        } else {
            acks.single = rest;
        }
        acks
    }

    /// When the delivery came that has been unsettled longest.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.get(self.floor).map(|slot| slot.arrived)
    }

    /// All deliveries whose acks are not out, with their tags.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &Slot)> {
        let place = self.place(self.floor).unwrap_or_default();
        (self.floor..).zip(self.slots.range(place.min(self.slots.len())..))
    }

    /// Empties it for a new channel.
    pub(super) fn take(&mut self) -> impl Iterator<Item = (u64, Slot)> + use<> {
        let ring = std::mem::replace(self, Self::new(self.window));
        (ring.first..).zip(ring.slots)
    }
}

impl Slot {
    pub(super) const fn new(
        state: State,
        attempt: u32,
        message: Arc<Message>,
        arrived: Instant,
    ) -> Self {
        let content = Content::Message(message);
        Self { state, attempt, content, arrived, alias: None, copy: 0 }
    }

    /// The key, where those count.
    pub(super) fn key(&self, keyed: bool) -> Option<&Bytes> {
        self.content.message().filter(|_| keyed)?.key.as_ref()
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
        Slot::new(State::Waiting, 1, message, Instant::now())
    }

    fn ring(count: u64) -> Ring {
        let mut ring = Ring::new(8);
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
        assert_eq!(ring.take_acks(), Acks::default());
        ring.finish(4);
        assert_eq!(ring.take_acks(), Acks { up_to: Some((4, false)), single: vec![] });
        ring.finish(6);
        assert_eq!(ring.take_acks(), Acks { up_to: Some((6, false)), single: vec![] });
        assert_eq!(ring.iter().count(), 0);
    }

    #[test]
    fn each_delivery_is_taken_once() {
        let mut ring = ring(2);
        ring.finish(1);
        assert_eq!((ring.next_waiting(), ring.next_waiting()), (Some(2), None));
        ring.push(slot());
        assert_eq!(ring.next_waiting(), Some(3));
    }

    #[test]
    fn an_acked_delivery_is_kept_until_the_server_must_know() {
        let mut ring = Ring::new(2);
        for tag in 1..=5 {
            ring.push(slot());
            ring.finish(tag);
            ring.take_acks();
        }
        assert_eq!(ring.take().map(|(tag, _)| tag).collect::<Vec<_>>(), [4, 5]);
    }

    #[test]
    fn what_is_done_keeps_no_message_though_it_was_done_when_it_came() {
        let mut ring = ring(1);
        ring.finish(1);
        ring.push(Slot { state: State::Done, ..slot() });
        assert!(ring.iter().all(|(_, slot)| slot.content.message().is_none()));
        assert_eq!(ring.acks(), 2);
    }

    proptest! {
        /// A server that checks each ack: it must name a delivery that is out, and all that it covers
        /// must be done.
        #[test]
        fn every_ack_covers_what_is_done_once_and_nothing_else(
            steps in prop::collection::vec((0_u8..4, any::<prop::sample::Index>()), 1..200),
        ) {
            let mut ring = Ring::new(8);
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
