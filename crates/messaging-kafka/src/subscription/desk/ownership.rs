//! Which partitions are ours.

use std::collections::HashMap;
use std::time::Duration;

use messaging_core::driver::{Event, Lanes};
use tokio::time::Instant;

use super::super::lane::{Fetched, Lane, State as LaneState};
use super::super::place::Place;
use super::{Desk, Phase, State, Wanted};
use crate::cluster::BrokerId;
use crate::group::{Partition, Partitions};
use crate::offsets::resume::Resume;

/// How often a lane may be lost and be ours again within one generation before its epoch is that of
/// the next: a member that was not heard for a while loses what is still its own to the coordinator.
const LOSSES: u32 = 256;

impl Desk {
    /// Partitions become ours, once their places are known. One that was asked back goes on. Gives
    /// those whose places are to be looked up, with the epochs for which that counts. Epochs grow with
    /// the generation, so from one member to the next too.
    pub(in super::super) fn assign(
        &self,
        places: Vec<Place>,
        generation: u32,
    ) -> Vec<(Partition, u32)> {
        let mut state = self.lock();
        let mut new = Vec::new();
        let mut back = Vec::new();
        for place in places {
            let number = self.number(&mut state, &place);
            let Some(lane) = state.lanes.get_mut(number as usize) else { continue };
            if lane.state == LaneState::Revoked {
                lane.go_on();
                back.push(number);
            } else if lane.state == LaneState::Closed {
                lane.state = LaneState::Opening;
                lane.epoch = lane.epoch.max(generation.saturating_mul(LOSSES));
                new.push((place.partition, lane.epoch));
            }
        }
        if !back.is_empty() {
            state.events.push_back(Event::Assigned(back.into_iter().collect()));
        }
        state.wake();
        drop(state);
        self.room.notify_waiters();
        new
    }

    /// The number of a partition, which it keeps.
    fn number(&self, state: &mut State, place: &Place) -> u32 {
        if let Some(number) = state.numbers.get(&place.partition) {
            return *number;
        }
        let number = u32::try_from(state.lanes.len()).unwrap_or(u32::MAX);
        state.lanes.push(Lane::new(place.clone(), self.ordered));
        state.numbers.insert(place.partition.clone(), number);
        number
    }

    /// Reading of a partition that became ours begins.
    pub(in super::super) fn open(&self, opened: Vec<(Partition, u32, Resume)>) {
        let mut state = self.lock();
        let mut numbers = Vec::new();
        for (partition, epoch, resume) in opened {
            let Some(number) = state.numbers.get(&partition).copied() else { continue };
            let lane = state.lanes.get_mut(number as usize);
            let opening =
                |lane: &&mut Lane| lane.state == LaneState::Opening && lane.epoch == epoch;
            let Some(lane) = lane.filter(opening) else { continue };
            lane.open(resume, self.commits);
            // Looking for it says of which topic is read.
            state.leaders.remove(&number);
            numbers.push(number);
        }
        if !numbers.is_empty() {
            state.events.push_back(Event::Assigned(numbers.into_iter().collect()));
        }
        state.wake();
        drop(state);
        self.commit.notify_one();
        self.room.notify_waiters();
    }

    /// Partitions are asked back: they stay ours until nothing of them is in hand. Gives those of
    /// which nothing was ever handed out.
    pub(in super::super) fn revoke(&self, partitions: &Partitions) -> Vec<Partition> {
        let mut state = self.lock();
        let mut numbers = Vec::new();
        let mut unused = Vec::new();
        for partition in partitions {
            let Some(number) = state.numbers.get(partition).copied() else { continue };
            let Some(lane) = state.lanes.get_mut(number as usize) else { continue };
            match lane.state {
                LaneState::Open => {
                    lane.state = LaneState::Revoked;
                    lane.forget_fetched();
                    lane.dirty = true;
                    numbers.push(number);
                }
                LaneState::Opening => {
                    lane.close(true);
                    unused.push(partition.clone());
                }
                // Whoever is about to leave has ended it already.
                LaneState::Closed => unused.push(partition.clone()),
                LaneState::Revoked => {}
            }
        }
        if !numbers.is_empty() {
            state.events.push_back(Event::Revoked(numbers.into_iter().collect()));
        }
        state.wake();
        drop(state);
        self.commit.notify_one();
        unused
    }

    /// Partitions are no longer ours.
    pub(in super::super) fn lose<'a>(&self, partitions: impl IntoIterator<Item = &'a Partition>) {
        let mut guard = self.lock();
        let state = &mut *guard;
        let mut numbers = Vec::new();
        for partition in partitions {
            let Some(number) = state.numbers.get(partition).copied() else { continue };
            let Some(lane) = state.lanes.get_mut(number as usize) else { continue };
            if lane.state == LaneState::Closed {
                continue;
            }
            let hands = lane.ledger.hands();
            let bytes: usize = hands.map(|fetched| fetched.message.bytes()).sum();
            state.in_hand -= lane.in_hand;
            state.bytes -= bytes;
            lane.close(true);
            numbers.push(number);
        }
        let lanes: Lanes = numbers.iter().copied().collect();
        state.copies.retain(|copy| !lanes.contains(copy.lane));
        let stale: Vec<_> = state.confirms.extract_if(.., |one| lanes.contains(one.lane)).collect();
        if !lanes.is_empty() {
            state.events.push_back(Event::Lost(lanes));
        }
        state.wake();
        drop(guard);
        for one in stale {
            one.confirm.resolve(Err(super::settling::stale()));
        }
        self.room.notify_waiters();
    }

    /// Partitions of which something has been in hand for longer than this, and the first such offset.
    pub(in super::super) fn overdue(&self, limit: Duration) -> Vec<(Partition, i64)> {
        let now = Instant::now();
        let state = self.lock();
        let late = |lane: &Lane| {
            let mut hands = lane.ledger.hands();
            let late = |fetched: &&Fetched| {
                fetched.handed.is_some_and(|at| now.duration_since(at) > limit)
            };
            Some((lane.place.partition.clone(), hands.find(late)?.offset))
        };
        state.lanes.iter().filter_map(late).collect()
    }

    /// Says of which topic a partition is read. If that is another one of the same name than
    /// before, gives what was read of it.
    pub(in super::super) fn set_topic(&self, lane: u32, topic: u128) -> Option<Wanted> {
        let mut state = self.lock();
        let number = lane;
        let lane = state.lanes.get_mut(number as usize)?;
        if lane.is_of_another(topic) {
            let (epoch, place, offset) = (lane.epoch, lane.place.clone(), lane.fetch_at());
            return Some(Wanted { lane: number, epoch, place, offset });
        }
        if topic != 0 {
            lane.topic = topic;
        }
        None
    }

    /// Looks again for the leaders of partitions whose topics are other ones by now.
    pub(in super::super) fn doubt(&self, topics: &HashMap<&str, u128>) {
        let mut guard = self.lock();
        let state = &mut *guard;
        let known = state.leaders.len();
        for (number, lane) in (0..).zip(&state.lanes) {
            let now = topics.get(&*lane.place.partition.topic).copied().unwrap_or(0);
            if lane.is_of_another(now) {
                state.leaders.remove(&number);
            }
        }
        if state.leaders.len() < known {
            drop(guard);
            self.room.notify_waiters();
        }
    }

    /// Partitions that were asked back, of which nothing is in hand and whose clean end is
    /// committed.
    pub(in super::super) fn released(&self) -> Vec<Partition> {
        let mut state = self.lock();
        let mut released = Vec::new();
        for lane in &mut state.lanes {
            if lane.is_released() {
                released.push(lane.place.partition.clone());
                lane.close(false);
            }
        }
        released
    }

    /// Until when what we hold is surely ours.
    pub(in super::super) fn set_until(&self, until: Instant) {
        let mut state = self.lock();
        // What was held back while it was not sure may go out.
        if state.until.replace(until).is_some_and(|before| before <= Instant::now()) {
            state.wake();
        }
    }

    /// Open partitions whose leader is not known.
    pub(in super::super) fn leaderless(&self) -> Vec<(u32, Partition)> {
        let state = self.lock();
        let numbered = (0..).zip(&state.lanes);
        let without = numbered.filter(|(number, lane)| {
            lane.state == LaneState::Open && !state.leaders.contains_key(number)
        });
        without.map(|(number, lane)| (number, lane.place.partition.clone())).collect()
    }

    /// Who leads a partition; `None` if it turned out to be somebody else.
    pub(in super::super) fn set_leader(&self, lane: u32, leader: Option<BrokerId>) {
        let mut state = self.lock();
        match leader {
            Some(leader) => drop(state.leaders.insert(lane, leader)),
            None => drop(state.leaders.remove(&lane)),
        }
        drop(state);
        self.room.notify_waiters();
    }

    /// Everything that is ours now.
    pub(in super::super) fn held(&self) -> Vec<Partition> {
        let state = self.lock();
        let held = state.lanes.iter().filter(|lane| lane.state != LaneState::Closed);
        held.map(|lane| lane.place.partition.clone()).collect()
    }

    /// A partition was cut back or created anew: offsets mean something else from now on, so what is
    /// in hand of it is stale, and reading begins again.
    pub(in super::super) fn restart(&self, wanted: &Wanted, at: i64) {
        let current = |lane: &Lane| lane.epoch == wanted.epoch && lane.state == LaneState::Open;
        if !self.lock().lanes.get(wanted.lane as usize).is_some_and(current) {
            return;
        }
        self.lose([&wanted.place.partition]);
        for (partition, epoch) in self.assign(vec![wanted.place.clone()], 0) {
            self.open(vec![(partition, epoch, Resume::at(at))]);
        }
    }

    /// Whether nobody takes messages any more and nothing is ours: all is settled and committed.
    pub(in super::super) fn is_given_up(&self) -> bool {
        let state = self.lock();
        state.phase != Phase::Open
            && state
                .lanes
                .iter()
                .all(|lane| matches!(lane.state, LaneState::Closed | LaneState::Opening))
    }

    /// Takes back what is in hand, as if it was released: its settlements are stale from now on.
    pub(in super::super) fn let_go(&self) {
        let mut state = self.lock();
        for lane in &mut state.lanes {
            lane.ledger.take_all_back();
            lane.in_hand = 0;
        }
        state.in_hand = 0;
        state.bytes = 0;
        drop(state);
        self.leave();
    }

    /// Whether nothing is in hand, and no copy is on its way.
    pub(in super::super) fn is_settled(&self) -> bool {
        self.lock().lanes.iter().all(Lane::is_free)
    }

    /// Nothing of it is ours any more: what is settled from now on is stale.
    pub(in super::super) fn close(&self) {
        self.leave();
        let mut state = self.lock();
        state.phase = Phase::Closed;
        let confirms = std::mem::take(&mut state.confirms);
        let copies = std::mem::take(&mut state.copies);
        drop(state);
        // Their confirms read as unknown.
        drop((confirms, copies));
    }
}
