//! One group: what is next, what waits for its retry, and who has what in hand.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::sync::Arc;
use std::task::Waker;

use bytes::Bytes;
use messaging_core::driver::{Arrivals, Event, Incoming, Lanes as LaneSet, Token};
use messaging_core::spec::{Source, SubscribeSpec};
use messaging_core::{Message, StreamName, Subject};
use tokio::time::Instant;

use super::lanes::{Lanes, Transfer};
use super::queue::{Place, Queue};
use super::slots::{Key, Slots};
use super::stream::Stream;
use super::{BATCH, Clock, Taken, Wakers, position};

#[derive(Debug)]
pub(super) struct Group {
    /// The group's name; a broadcast has none.
    pub(super) name: Option<String>,
    pub(super) shape: Shape,
    pub(super) members: Slots<Member>,
    pub(super) hands: Slots<Hand>,
    order: Order,
    delayed: BinaryHeap<Reverse<Due>>,
    /// The failed hand-overs of messages that have any.
    failed: HashMap<Place, u32>,
    /// Whether a member that is not full may wait for a message.
    hungry: bool,
}

/// What a group receives and how. Every member presents the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) source: Source,
    pub(super) ordered: bool,
    pub(super) priority: bool,
}

#[derive(Debug)]
enum Order {
    Queue(Queue),
    Lanes(Lanes),
}

/// A subscription.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) connection: u64,
    prefetch: usize,
    prefetch_bytes: usize,
    max_attempts: u32,
    in_hand: usize,
    bytes: usize,
    events: VecDeque<Event>,
    waker: Option<Waker>,
}

/// A message in the hands of a member.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hand {
    pub(super) place: Place,
    pub(super) attempt: u32,
    member: Key,
    bytes: usize,
    lane: u32,
}

/// A message that waits for its retry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Due {
    at: Instant,
    place: Place,
    lane: u32,
}

impl Order {
    /// About how many messages are next.
    fn len(&self) -> usize {
        match self {
            Self::Queue(queue) => queue.len(),
            Self::Lanes(_) => 1,
        }
    }
}

impl Shape {
    /// Whether messages to `subject` of `stream` are received.
    pub(super) fn receives(&self, stream: &StreamName, subject: &Subject) -> bool {
        match &self.source {
            Source::Subjects(patterns) => !stream.is_dead_letters() && patterns.matches(subject),
            Source::DeadLetters(name) => stream == name,
        }
    }

    /// Whether any message of `stream` may be received.
    pub(super) fn concerns(&self, stream: &StreamName) -> bool {
        match &self.source {
            Source::Subjects(patterns) => {
                let about = |name: &str| name == stream.name();
                !stream.is_dead_letters() && patterns.iter().any(|p| p.stream().is_none_or(about))
            }
            Source::DeadLetters(name) => stream == name,
        }
    }

    pub(super) fn describe(&self) -> String {
        let what = match &self.source {
            Source::Subjects(patterns) => patterns.to_string(),
            Source::DeadLetters(stream) => stream.to_string(),
        };
        let ordered = if self.ordered { ", ordered" } else { "" };
        let priority = if self.priority { ", by priority" } else { "" };
        format!("{what}{ordered}{priority}")
    }
}

impl Member {
    pub(super) fn new(connection: u64, spec: &SubscribeSpec) -> Self {
        Self {
            connection,
            prefetch: spec.prefetch.get() as usize,
            prefetch_bytes: spec.prefetch_bytes.unwrap_or(usize::MAX),
            max_attempts: spec.max_attempts.get(),
            in_hand: 0,
            bytes: 0,
            events: VecDeque::new(),
            waker: None,
        }
    }

    const fn is_full(&self) -> bool {
        self.in_hand >= self.prefetch || self.bytes >= self.prefetch_bytes
    }
}

impl Group {
    pub(super) fn new(name: Option<String>, shape: Shape) -> Self {
        let order = if shape.ordered {
            Order::Lanes(Lanes::default())
        } else {
            Order::Queue(Queue::new(shape.priority))
        };
        Self {
            name,
            shape,
            members: Slots::default(),
            hands: Slots::default(),
            order,
            delayed: BinaryHeap::new(),
            failed: HashMap::new(),
            hungry: false,
        }
    }

    /// A message arrived.
    pub(super) fn push(
        &mut self,
        place: Place,
        stream: &Stream,
        message: &Message,
        wakers: &mut Wakers,
    ) {
        match &mut self.order {
            Order::Queue(queue) => queue.push_back(place, message.priority),
            Order::Lanes(lanes) => {
                let is_new = lanes.add(place.stream, stream.lanes);
                lanes.push(place, message.key.as_ref());
                if is_new {
                    self.balance(wakers);
                }
            }
        }
        self.wake_hungry(wakers);
    }

    pub(super) fn join(&mut self, member: Member, streams: &[Stream], wakers: &mut Wakers) -> Key {
        let key = self.members.insert(member);
        if let Order::Lanes(lanes) = &mut self.order {
            for (number, stream) in (0..).zip(streams) {
                if !stream.gone && self.shape.concerns(&stream.name) {
                    lanes.add(number, stream.lanes);
                }
            }
        }
        self.balance(wakers);
        key
    }

    /// A member left. What it has in hand can still be settled.
    pub(super) fn leave(&mut self, key: Key, wakers: &mut Wakers) {
        let left = self.members.remove(key);
        wakers.extend(left.and_then(|member| member.waker));
        self.balance(wakers);
    }

    /// What there is for a member now.
    pub(super) fn take(&mut self, key: Key, streams: &[Stream], clock: &Clock) -> Taken {
        self.release_due(streams);
        let Some(member) = self.members.get_mut(key) else { return Taken::Ended };
        if let Some(event) = member.events.pop_front() {
            return Taken::Event(event);
        }
        let free = member.prefetch.saturating_sub(member.in_hand);
        let mut batch = Arrivals::with_capacity(self.order.len().min(free).min(BATCH));
        while batch.len() < BATCH && !member.is_full() {
            let next = match &mut self.order {
                Order::Queue(queue) => queue.pop().map(|place| (0, place)),
                Order::Lanes(lanes) => lanes.next(key, |place| key_at(streams, place)),
            };
            let Some((lane, place)) = next else { break };
            let Some(stream) = streams.get(place.stream as usize) else { continue };
            let Some(entry) = stream.log.get(place.seq) else { continue };
            let failed = if self.failed.is_empty() { None } else { self.failed.get(&place) };
            let attempt = 1 + failed.copied().unwrap_or_default();
            let bytes = entry.bytes;
            member.in_hand += 1;
            member.bytes += bytes;
            let hand = self.hands.insert(Hand { place, attempt, member: key, bytes, lane });
            let token = Token { lane, epoch: 0, id: hand.to_bits() };
            batch.push(
                Incoming::new(Arc::clone(&entry.message), token)
                    .with_attempt(attempt)
                    .stored(Some(position(place.seq)), Some(clock.system_time(entry.stored))),
            );
        }
        if batch.is_empty() {
            let next_due = self.delayed.peek().map(|Reverse(due)| due.at);
            Taken::Nothing { until: next_due }
        } else {
            Taken::Event(Event::Messages(batch))
        }
    }

    /// A member found nothing and is to be woken when there is something.
    pub(super) fn sleep(&mut self, key: Key, waker: &Waker) {
        let Some(member) = self.members.get_mut(key) else { return };
        self.hungry |= !member.is_full();
        match &mut member.waker {
            Some(known) => known.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
    }

    /// Takes a message out of its member's hands; `None` if it is in nobody's.
    pub(super) fn leave_hand(&mut self, token: &Token, wakers: &mut Wakers) -> Option<Hand> {
        let hand = self.hands.remove(Key::from_bits(token.id))?;
        if let Some(member) = self.members.get_mut(hand.member) {
            let was_full = member.is_full();
            member.in_hand -= 1;
            member.bytes -= hand.bytes;
            if was_full {
                wakers.extend(member.waker.take());
            }
        }
        if let Order::Lanes(lanes) = &mut self.order
            && let Some(transfer) = lanes.leave_hand(hand.lane)
        {
            self.announce(&[transfer], wakers);
        }
        Some(hand)
    }

    /// How many attempts were made; one more than allowed is only counted, to be refused.
    pub(super) fn attempts_made(&self, hand: &Hand) -> u32 {
        let most = self.members.get(hand.member).map(|member| member.max_attempts);
        hand.attempt.min(most.unwrap_or(hand.attempt))
    }

    /// A message is settled for good in this group.
    pub(super) fn finish(&mut self, hand: &Hand, key: Option<&Bytes>, wakers: &mut Wakers) {
        if !self.failed.is_empty() {
            self.failed.remove(&hand.place);
        }
        if let Order::Lanes(lanes) = &mut self.order
            && key.is_some()
        {
            lanes.finish(hand.lane, key);
            self.wake_hungry(wakers);
        }
    }

    /// The attempt failed.
    pub(super) fn count_failure(&mut self, hand: &Hand) {
        self.failed.insert(hand.place, hand.attempt);
    }

    /// A message comes again: now, ahead of the others, or at a time.
    pub(super) fn come_again(
        &mut self,
        hand: &Hand,
        at: Option<Instant>,
        streams: &[Stream],
        wakers: &mut Wakers,
    ) {
        match at {
            Some(at) => {
                self.delayed.push(Reverse(Due { at, place: hand.place, lane: hand.lane }));
            }
            None => self.put_back(hand.place, hand.lane, streams),
        }
        // Those who wait take the message, or set their timers to its time.
        self.wake_hungry(wakers);
    }

    fn put_back(&mut self, place: Place, lane: u32, streams: &[Stream]) {
        match &mut self.order {
            Order::Queue(queue) => queue.push_front(place, priority_at(streams, place)),
            Order::Lanes(lanes) => lanes.put_back(lane, place),
        }
    }

    fn release_due(&mut self, streams: &[Stream]) {
        if self.delayed.is_empty() {
            return;
        }
        let now = Instant::now();
        while let Some(Reverse(due)) = self.delayed.peek().copied()
            && due.at <= now
        {
            self.delayed.pop();
            self.put_back(due.place, due.lane, streams);
        }
    }

    /// Forgets messages that wait and are no longer received.
    pub(super) fn retain_waiting(&mut self, mut keep: impl FnMut(Place) -> bool) {
        self.delayed.retain(|Reverse(due)| keep(due.place));
        match &mut self.order {
            Order::Queue(queue) => queue.retain(keep),
            Order::Lanes(lanes) => lanes.retain(keep),
        }
    }

    /// Every message that waits, for its turn or its retry.
    pub(super) fn waiting(&self) -> Box<dyn Iterator<Item = Place> + '_> {
        let delayed = self.delayed.iter().map(|Reverse(due)| due.place);
        match &self.order {
            Order::Queue(queue) => Box::new(queue.iter().chain(delayed)),
            Order::Lanes(lanes) => Box::new(lanes.iter().chain(delayed)),
        }
    }

    pub(super) fn wake_all(&mut self, wakers: &mut Wakers) {
        wakers.extend(self.members.iter_mut().filter_map(|(_, member)| member.waker.take()));
        self.hungry = false;
    }

    fn wake_hungry(&mut self, wakers: &mut Wakers) {
        if !self.hungry {
            return;
        }
        self.hungry = false;
        let hungry = self.members.iter_mut().filter(|(_, member)| !member.is_full());
        wakers.extend(hungry.filter_map(|(_, member)| member.waker.take()));
    }

    fn balance(&mut self, wakers: &mut Wakers) {
        if let Order::Lanes(lanes) = &mut self.order {
            let members: Vec<Key> = self.members.iter().map(|(key, _)| key).collect();
            let transfers = lanes.balance(&members);
            self.announce(&transfers, wakers);
        }
    }

    /// Tells each member what it gives and what it gets, each in one event.
    fn announce(&mut self, transfers: &[Transfer], wakers: &mut Wakers) {
        if transfers.is_empty() {
            return;
        }
        for (key, member) in self.members.iter_mut() {
            let revoked: LaneSet = transfers.iter().filter_map(|t| t.revoked_from(key)).collect();
            let assigned: LaneSet = transfers.iter().filter_map(|t| t.assigned_to(key)).collect();
            let events = [
                (!revoked.is_empty()).then(|| Event::Revoked(revoked)),
                (!assigned.is_empty()).then(|| Event::Assigned(assigned)),
            ];
            member.events.extend(events.into_iter().flatten());
        }
        self.wake_all(wakers);
    }
}

fn key_at(streams: &[Stream], place: Place) -> Option<Bytes> {
    streams.get(place.stream as usize)?.log.get(place.seq)?.message.key.clone()
}

fn priority_at(streams: &[Stream], place: Place) -> u8 {
    let entry = streams.get(place.stream as usize).and_then(|stream| stream.log.get(place.seq));
    entry.map_or(0, |entry| entry.message.priority)
}
