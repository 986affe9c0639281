//! The state machine of one member.
//!
//! It owns no socket and reads no clock. Whoever runs it passes answers and the time, carries the
//! actions out in order, and calls it again by [`Member::deadline`] at the latest. An answer names
//! the call it belongs to; one of any other call is ignored, so lost, late and repeated answers
//! can do no harm.

mod answers;
mod holdings;
mod terms;

use std::time::Duration;

use tokio::time::Instant;

use self::holdings::Holdings;
pub(crate) use self::terms::{Action, Answer, Call, Event, Fault, Joined, Request, Settings};
use super::Partitions;
use super::codes::Asked;

/// How often a member says that it lives while partitions move, so that it learns soon of the
/// rebalance that brings them.
const MOVING_BEAT: Duration = Duration::from_millis(300);
/// How long releases are gathered before the group is asked to rebalance for them.
const GATHER: Duration = Duration::from_millis(50);
/// How long the coordinator has to say that it does not know us before we take another name. One that
/// is still loading its groups can say so too, and would then wait a rebalance long for a name that
/// nobody uses any more.
const DOUBT: Duration = Duration::from_secs(1);
/// How long a coordinator that was lost and found has to answer a join or a sync before it is asked
/// again. One that is still loading its groups can lose a request without a word.
const PATIENCE: Duration = Duration::from_secs(2);
/// The most that anything may take that waits for nobody else.
const SHORT: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Not in a generation, and to join one.
    Out,
    Joining,
    Syncing,
    /// In a generation, with an assignment.
    Stable,
    Leaving,
    Ended,
}

#[derive(Clone, Copy, Debug)]
struct Pending {
    call: Call,
    asked: Asked,
    generation: i32,
    sent: Instant,
    until: Instant,
}

/// One member of a group.
#[derive(Debug)]
pub(crate) struct Member {
    settings: Settings,
    phase: Phase,
    /// Whether the coordinator is known and reached.
    coordinator: bool,
    /// Whether it was lost since our last assignment.
    shaken: bool,
    /// Our name in the group; empty until the coordinator gave one.
    id: String,
    /// The generation we are in; −1: none.
    generation: i32,
    leads: bool,
    known: Partitions,
    holdings: Holdings,
    moving: bool,
    /// The last time at which the coordinator surely heard from us.
    alive: Instant,
    /// The last time at which it surely waited for nothing else of us: no join, no sync.
    settled: Instant,
    pending: Option<Pending>,
    beat: Option<Pending>,
    next_beat: Instant,
    /// Before this nothing but beats is asked.
    not_before: Instant,
    /// When a stable member joins again.
    rejoin: Option<Instant>,
    /// Whether it takes nothing more.
    retired: bool,
    /// Since when the coordinator says that it does not know us.
    forgotten: Option<Instant>,
    /// Until when a coordinator that moves or loads is told again that we leave.
    goodbye_until: Instant,
    failures: u32,
    calls: Call,
    jitter: u64,
    actions: Vec<Action>,
}

impl Member {
    /// A member that is to join.
    pub(crate) fn new(settings: Settings, now: Instant) -> Self {
        let jitter = settings.seed | 1;
        Self {
            settings,
            phase: Phase::Out,
            coordinator: false,
            shaken: false,
            id: String::new(),
            generation: -1,
            leads: false,
            known: Partitions::new(),
            holdings: Holdings::default(),
            moving: false,
            alive: now,
            settled: now,
            pending: None,
            beat: None,
            next_beat: now,
            not_before: now,
            rejoin: None,
            retired: false,
            forgotten: None,
            goodbye_until: now,
            failures: 0,
            calls: 0,
            jitter,
            actions: Vec::new(),
        }
    }

    /// Takes an event in and says what is to be done.
    pub(crate) fn on(&mut self, now: Instant, event: Event) -> Vec<Action> {
        if self.phase == Phase::Ended {
            return Vec::new();
        }
        // Whatever came, what the clock says comes first: a process that was stopped for a while
        // must not act on what it held then.
        self.fence(now);
        self.expire(now);
        match event {
            Event::Answered { call, answer } => self.answered(now, call, answer),
            Event::Released(partition) => {
                if self.holdings.release(&partition) {
                    self.rejoin_for_moves(now);
                }
            }
            Event::Discovered(known) => self.discovered(now, known),
            Event::Stuck(partitions) => self.stuck(now, &partitions),
            Event::Refused { generation, code } => self.refused(now, generation, code),
            Event::Denied(error) if self.phase != Phase::Leaving => self.fail(now, error),
            Event::Retire if !self.retired => {
                self.retired = true;
                self.want_rejoin(now);
            }
            Event::Retire | Event::Denied(_) => {}
            Event::Leave => self.leave(now),
            Event::Tick => {}
        }
        self.drive(now);
        std::mem::take(&mut self.actions)
    }

    /// When it is to be called again if nothing happens before.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        if self.phase == Phase::Ended {
            return None;
        }
        let fence = (!self.holdings.is_empty()).then(|| self.fenced_at());
        let call = match self.pending {
            Some(pending) => Some(pending.until),
            None => match self.phase {
                Phase::Stable if self.coordinator => self.rejoin.map(|at| at.max(self.not_before)),
                _ => Some(self.not_before),
            },
        };
        let beat = match self.beat {
            Some(beat) => Some(beat.until),
            None => self.may_beat().then_some(self.next_beat),
        };
        [fence, call, beat].into_iter().flatten().min()
    }

    /// What commits carry: the generation and our name in it. `None` while we are in none.
    pub(crate) fn identity(&self) -> Option<(i32, &str)> {
        (self.generation >= 0).then_some((self.generation, self.id.as_str()))
    }

    /// Until when what we hold is surely ours, by our own clock (G1): the coordinator gives it to
    /// others after a session's silence, or when a rebalance has waited for our join long enough,
    /// however often we say that we live.
    pub(crate) fn fenced_at(&self) -> Instant {
        (self.alive + self.settings.session).min(self.settled + self.settings.rebalance)
    }

    /// Whether the assignment of the current generation is known.
    pub(crate) fn is_stable(&self) -> bool {
        self.phase == Phase::Stable
    }

    /// What is ours, with what is being handed over.
    #[cfg(test)]
    pub(super) fn held(&self) -> Partitions {
        self.holdings.held()
    }

    #[cfg(test)]
    pub(super) fn leaving(&self) -> &Partitions {
        &self.holdings.leaving
    }

    /// Gives everything up if the group may have given it to others by now.
    fn fence(&mut self, now: Instant) {
        if now >= self.fenced_at() && !self.holdings.is_empty() {
            self.lose();
            if self.phase == Phase::Stable {
                self.phase = Phase::Out;
            }
        }
    }

    /// Counts calls as broken that were not answered in time.
    fn expire(&mut self, now: Instant) {
        for pending in [self.pending, self.beat].into_iter().flatten() {
            if now >= pending.until {
                self.answered(now, pending.call, Err(Fault::Broken));
            }
        }
    }

    fn discovered(&mut self, now: Instant, known: Partitions) {
        if known == self.known {
            return;
        }
        let deleted = self.holdings.retain(|partition| known.contains(partition));
        let first = self.known.is_empty();
        self.known = known;
        if !deleted.is_empty() {
            self.actions.push(Action::Lost(deleted));
        }
        // Only the leader's knowledge counts, so only the leader's change makes the group move.
        if self.leads && !first {
            self.want_rejoin(now);
        }
        if self.holdings.told_more() {
            self.want_rejoin(now);
        }
    }

    fn stuck(&mut self, now: Instant, partitions: &Partitions) {
        let lost = self.holdings.retain(|partition| !partitions.contains(partition));
        if !lost.is_empty() {
            self.actions.push(Action::Lost(lost));
            self.want_rejoin(now);
        }
    }

    fn leave(&mut self, now: Instant) {
        if self.phase == Phase::Leaving {
            return;
        }
        drop(self.holdings.lose());
        self.phase = Phase::Leaving;
        self.goodbye_until = now + SHORT;
        // The group waits for everybody whom it has given a name, so it has to be told by that name.
        if let Some(join) = self.pending.as_mut().filter(|pending| pending.asked == Asked::Join)
            && self.id.is_empty()
            && self.settings.instance.is_none()
        {
            join.until = join.until.min(now + SHORT);
            return;
        }
        // The coordinator itself answers a join of ours that waits there when it hears that we leave.
        self.pending = None;
    }

    fn want_rejoin(&mut self, at: Instant) {
        self.rejoin = Some(self.rejoin.map_or(at, |other| other.min(at)));
    }

    /// Some of what was asked back is released: at once if it was the last, else soon.
    fn rejoin_for_moves(&mut self, now: Instant) {
        let gather = if self.holdings.leaving.is_empty() { Duration::ZERO } else { GATHER };
        self.want_rejoin(now + gather);
    }

    fn lose(&mut self) {
        let lost = self.holdings.lose();
        if !lost.is_empty() {
            self.actions.push(Action::Lost(lost));
        }
    }

    /// Asks what is to be asked next, at most one thing beside a beat.
    fn drive(&mut self, now: Instant) {
        if self.may_beat() && self.beat.is_none() && now >= self.next_beat {
            let request = Request::Beat { member: self.id.clone(), generation: self.generation };
            self.beat = Some(self.request(now, Asked::Beat, request));
            let every = if self.moving { MOVING_BEAT } else { self.settings.heartbeat };
            self.next_beat = now + every.min(self.settings.heartbeat);
        }
        let is_unknown = self.id.is_empty() && self.pending.is_none();
        if self.phase == Phase::Leaving && (is_unknown || self.settings.instance.is_some()) {
            // Nobody knows us, or our place is kept for when we are back.
            self.end();
        }
        if self.pending.is_some() || now < self.not_before {
            return;
        }
        if !self.coordinator && self.phase != Phase::Ended {
            self.pending = Some(self.request(now, Asked::Find, Request::Find));
            return;
        }
        match self.phase {
            Phase::Stable if self.rejoin.is_none_or(|at| now < at) => {}
            Phase::Out | Phase::Stable => self.join(now),
            Phase::Leaving => {
                let request = Request::Leave { member: self.id.clone() };
                self.pending = Some(self.request(now, Asked::Leave, request));
            }
            Phase::Joining | Phase::Syncing | Phase::Ended => {}
        }
    }

    fn join(&mut self, now: Instant) {
        self.phase = Phase::Joining;
        self.rejoin = None;
        let patterns: &[String] = if self.retired { &[] } else { &self.settings.patterns };
        let claim = self.holdings.claim(patterns);
        let mut topics: Vec<&str> = self.known.iter().map(|partition| &*partition.topic).collect();
        topics.dedup();
        let claim = claim.encode(topics.into_iter());
        let request = Request::Join { member: self.id.clone(), claim };
        self.pending = Some(self.request(now, Asked::Join, request));
    }

    fn request(&mut self, now: Instant, asked: Asked, request: Request) -> Pending {
        self.calls += 1;
        let call = self.calls;
        let within = match asked {
            Asked::Join | Asked::Sync if self.shaken => PATIENCE,
            // They wait for all members, or for the leader.
            Asked::Join | Asked::Sync => self.settings.rebalance + Duration::from_secs(5),
            _ => (self.settings.session / 3).min(SHORT),
        };
        let within = match self.phase {
            Phase::Leaving => within.min(self.goodbye_until.saturating_duration_since(now)),
            _ => within,
        };
        self.actions.push(Action::Request { call, within, request });
        Pending { call, asked, generation: self.generation, sent: now, until: now + within }
    }

    const fn may_beat(&self) -> bool {
        self.coordinator
            && self.generation >= 0
            && !matches!(self.phase, Phase::Leaving | Phase::Ended)
    }

    fn end(&mut self) {
        if self.phase != Phase::Ended {
            self.phase = Phase::Ended;
            self.pending = None;
            self.beat = None;
            self.actions.push(Action::Ended);
        }
    }

    /// The coordinator is elsewhere, or may be.
    fn lose_coordinator(&mut self) {
        self.coordinator = false;
        self.shaken = true;
    }

    /// Waits before the next try, longer each time, with a jitter of a half.
    fn back_off(&mut self, now: Instant) {
        self.failures += 1;
        let full = Duration::from_millis(100).saturating_mul(1 << (self.failures - 1).min(5));
        let full = full.min(Duration::from_secs(2));
        self.jitter ^= self.jitter << 13;
        self.jitter ^= self.jitter >> 7;
        self.jitter ^= self.jitter << 17;
        let share = u32::try_from(self.jitter % 512).unwrap_or(0);
        self.not_before = now + full * (512 + share) / 1_024;
    }
}

#[cfg(test)]
mod tests;
