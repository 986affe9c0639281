//! Which message an ordered group hands out next, and which member owns which lane.

use std::collections::{HashMap, VecDeque};
use std::num::NonZeroU32;

use bytes::Bytes;
use messaging_core::lane::lane_of;

use super::queue::Place;
use super::slots::Key;

/// The lanes of every stream a group receives from, numbered through.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    all: Vec<Lane>,
    /// The first lane of a stream, and how many it has.
    of_stream: HashMap<u32, (u32, NonZeroU32)>,
    /// Where the search for the next message starts, so that no lane starves another.
    turn: usize,
}

/// A lane. Of each key at most one message is in hand, waiting for its retry, or in `next`; the
/// key's later ones are in `held`.
#[derive(Debug, Default)]
struct Lane {
    owner: Option<Key>,
    /// Who gets the lane once nothing of it is in hand.
    heir: Option<Key>,
    next: VecDeque<Place>,
    rest: VecDeque<Place>,
    held: HashMap<Bytes, VecDeque<Place>>,
    in_hand: u32,
}

/// A lane that changed hands, as its owner is to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transfer {
    Assigned { to: Key, lane: u32 },
    Revoked { from: Key, lane: u32 },
}

impl Transfer {
    pub(super) fn assigned_to(&self, member: Key) -> Option<u32> {
        match self {
            Self::Assigned { to, lane } => (*to == member).then_some(*lane),
            Self::Revoked { .. } => None,
        }
    }

    pub(super) fn revoked_from(&self, member: Key) -> Option<u32> {
        match self {
            Self::Revoked { from, lane } => (*from == member).then_some(*lane),
            Self::Assigned { .. } => None,
        }
    }
}

impl Lanes {
    /// Adds the lanes of a stream; `true` if it was new.
    pub(super) fn add(&mut self, stream: u32, lanes: NonZeroU32) -> bool {
        if self.of_stream.contains_key(&stream) {
            return false;
        }
        self.of_stream.insert(stream, (self.all.len() as u32, lanes));
        self.all.extend((0..lanes.get()).map(|_| Lane::default()));
        true
    }

    /// Adds a message to the lane of its key; those without one are spread.
    pub(super) fn push(&mut self, place: Place, key: Option<&Bytes>) {
        let Some((first, lanes)) = self.of_stream.get(&place.stream) else { return };
        let lane = match key {
            Some(key) => lane_of(key, *lanes),
            None => (place.seq % u64::from(lanes.get())) as u32,
        };
        if let Some(lane) = self.all.get_mut((first + lane) as usize) {
            lane.rest.push_back(place);
        }
    }

    /// The next message for a member, and its lane.
    pub(super) fn next(
        &mut self,
        member: Key,
        key_of: impl Fn(Place) -> Option<Bytes>,
    ) -> Option<(u32, Place)> {
        let count = self.all.len();
        for step in 0..count {
            let number = (self.turn + step) % count;
            let lane = self.all.get_mut(number)?;
            if lane.owner == Some(member)
                && lane.heir.is_none()
                && let Some(place) = lane.take(&key_of)
            {
                lane.in_hand += 1;
                self.turn = number + 1;
                return Some((number as u32, place));
            }
        }
        None
    }

    /// A message of this lane is in nobody's hands any more; perhaps the lane changes hands.
    pub(super) fn leave_hand(&mut self, lane: u32) -> Option<Transfer> {
        let entry = self.all.get_mut(lane as usize)?;
        entry.in_hand -= 1;
        if entry.in_hand > 0 {
            return None;
        }
        let heir = entry.heir.take()?;
        entry.owner = Some(heir);
        Some(Transfer::Assigned { to: heir, lane })
    }

    /// A message comes again before everything else of its key.
    pub(super) fn put_back(&mut self, lane: u32, place: Place) {
        if let Some(lane) = self.all.get_mut(lane as usize) {
            lane.next.push_front(place);
        }
    }

    /// A message is settled, so the next of its key may go.
    pub(super) fn finish(&mut self, lane: u32, key: Option<&Bytes>) {
        let Some(lane) = self.all.get_mut(lane as usize) else { return };
        let Some(key) = key else { return };
        match lane.held.get_mut(key).map(VecDeque::pop_front) {
            Some(Some(place)) => lane.next.push_back(place),
            Some(None) => drop(lane.held.remove(key)),
            None => {}
        }
    }

    /// Spreads the lanes evenly over the members, moving as few as possible.
    pub(super) fn balance(&mut self, members: &[Key]) -> Vec<Transfer> {
        let mut transfers = Vec::new();
        for (number, lane) in self.all.iter_mut().enumerate() {
            lane.owner = lane.owner.filter(|owner| members.contains(owner));
            if lane.heir.take_if(|heir| !members.contains(heir)).is_some()
                && let Some(to) = lane.owner
            {
                // It was revoked for somebody who has gone.
                transfers.push(Transfer::Assigned { to, lane: number as u32 });
            }
            if lane.owner.is_none()
                && let Some(to) = lane.heir.take()
            {
                lane.owner = Some(to);
                transfers.push(Transfer::Assigned { to, lane: number as u32 });
            }
        }
        loop {
            let load =
                |member: &Key| self.all.iter().filter(|l| l.future() == Some(*member)).count();
            let mut loads: Vec<(usize, Key)> = members.iter().map(|m| (load(m), *m)).collect();
            loads.sort_by_key(|(load, _)| *load);
            let (Some((least, to)), Some((most, from))) = (loads.first(), loads.last()) else {
                return transfers;
            };
            let orphan = self.all.iter().position(|lane| lane.future().is_none());
            let crowded = || {
                let spare = |lane: &Lane| lane.owner == Some(*from) && lane.heir.is_none();
                self.all.iter().rposition(spare).filter(|_| most - least > 1)
            };
            let Some(number) = orphan.or_else(crowded) else { return transfers };
            transfers.extend(self.give(number, *to));
        }
    }

    fn give(&mut self, number: usize, to: Key) -> impl Iterator<Item = Transfer> + use<> {
        let lane = number as u32;
        let mut revoked = None;
        let mut assigned = None;
        if let Some(entry) = self.all.get_mut(number) {
            revoked = entry.owner.map(|from| Transfer::Revoked { from, lane });
            if entry.owner.is_some() && entry.in_hand > 0 {
                entry.heir = Some(to);
            } else {
                entry.owner = Some(to);
                assigned = Some(Transfer::Assigned { to, lane });
            }
        }
        revoked.into_iter().chain(assigned)
    }

    /// Every message that is not in hand and not waiting for its retry.
    pub(super) fn iter(&self) -> impl Iterator<Item = Place> {
        self.all.iter().flat_map(|lane| {
            let held = lane.held.values().flatten();
            lane.next.iter().chain(&lane.rest).chain(held).copied()
        })
    }

    pub(super) fn retain(&mut self, mut keep: impl FnMut(Place) -> bool) {
        for lane in &mut self.all {
            lane.rest.retain(|place| keep(*place));
            for held in lane.held.values_mut() {
                held.retain(|place| keep(*place));
            }
        }
    }
}

impl Lane {
    fn take(&mut self, key_of: impl Fn(Place) -> Option<Bytes>) -> Option<Place> {
        if let Some(place) = self.next.pop_front() {
            return Some(place);
        }
        while let Some(place) = self.rest.pop_front() {
            let Some(key) = key_of(place) else { return Some(place) };
            match self.held.get_mut(&key) {
                Some(held) => held.push_back(place),
                None => {
                    self.held.insert(key, VecDeque::new());
                    return Some(place);
                }
            }
        }
        None
    }

    fn future(&self) -> Option<Key> {
        self.heir.or(self.owner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::slots::Slots;

    fn members(count: usize) -> Vec<Key> {
        let mut slots = Slots::default();
        (0..count).map(|_| slots.insert(())).collect()
    }

    fn lanes(count: u32) -> Lanes {
        let mut lanes = Lanes::default();
        lanes.add(0, NonZeroU32::new(count).unwrap());
        lanes
    }

    #[test]
    fn lanes_are_spread_evenly_and_as_few_as_possible_move() {
        let both = members(2);
        let mut lanes = lanes(4);
        assert_eq!(lanes.balance(&both[..1]).len(), 4);
        let moved = lanes.balance(&both);
        let assigned =
            moved.iter().filter(|t| matches!(t, Transfer::Assigned { to, .. } if *to == both[1]));
        assert_eq!((moved.len(), assigned.count()), (4, 2), "{moved:?}");
        assert!(lanes.balance(&both).is_empty());
    }

    #[test]
    fn a_lane_is_handed_over_only_when_nothing_of_it_is_in_hand() {
        let both = members(2);
        let mut lanes = lanes(1);
        lanes.balance(&both[..1]);
        for seq in 0..2 {
            lanes.push(Place { stream: 0, seq }, None);
        }
        let (lane, _) = lanes.next(both[0], |_| None).unwrap();
        let moved = lanes.balance(&both[1..]);
        assert_eq!(moved, [Transfer::Assigned { to: both[1], lane }], "its member has gone");

        lanes.balance(&both);
        lanes.all[0].heir = Some(both[0]);
        assert!(lanes.next(both[1], |_| None).is_none(), "it is revoked");
        assert_eq!(lanes.leave_hand(lane), Some(Transfer::Assigned { to: both[0], lane }));
        assert!(lanes.next(both[0], |_| None).is_some());
    }

    #[test]
    fn one_message_of_a_key_is_out_at_a_time() {
        let one = members(1);
        let mut lanes = lanes(1);
        lanes.balance(&one);
        let key_of = |place: Place| Some(Bytes::from(if place.seq == 2 { "b" } else { "a" }));
        for seq in 0..3 {
            let place = Place { stream: 0, seq };
            lanes.push(place, key_of(place).as_ref());
        }
        let mut next = || lanes.next(one[0], key_of).map(|(_, place)| place.seq);
        assert_eq!((next(), next(), next()), (Some(0), Some(2), None));
        lanes.finish(0, Some(&Bytes::from("a")));
        assert_eq!(lanes.next(one[0], key_of).map(|(_, place)| place.seq), Some(1));
    }
}
