//! What answers do to a member.

use std::collections::BTreeMap;

use bytes::Bytes;
use messaging_core::{Error, ErrorKind};
use tokio::time::Instant;

use super::super::assign::assign;
use super::super::assignment::Assignment;
use super::super::claim::Claim;
use super::super::codes::{Asked, Meaning, meaning};
use super::{Action, Answer, Call, Fault, Joined, Member, Pending, Phase, Request};

impl Member {
    pub(super) fn answered(&mut self, now: Instant, call: Call, answer: Result<Answer, Fault>) {
        if let Some(beat) = self.beat.take_if(|beat| beat.call == call) {
            self.beat_answered(now, &beat, &answer);
            return;
        }
        let Some(pending) = self.pending.take_if(|pending| pending.call == call) else { return };
        match (pending.asked, answer) {
            (Asked::Leave, Ok(_)) => self.end(),
            (_, Ok(Answer::Found)) => self.coordinator = true,
            (_, Ok(Answer::Named(id) | Answer::Joined(Joined { member: id, .. })))
                if self.phase == Phase::Leaving =>
            {
                self.id = id;
            }
            (_, Ok(Answer::Named(id))) => {
                self.id = id;
                self.phase = Phase::Out;
            }
            (_, Ok(Answer::Joined(joined))) => self.joined(now, &pending, joined),
            (_, Ok(Answer::Synced(bytes))) => self.synced(now, &pending, &bytes),
            (_, Ok(Answer::Alive | Answer::Left)) => {}
            (_, Err(fault)) => self.failed(now, &pending, fault),
        }
    }

    fn failed(&mut self, now: Instant, pending: &Pending, fault: Fault) {
        let asked = pending.asked;
        let meaning = self.meaning(fault, asked);
        if self.phase == Phase::Leaving
            && (now >= self.goodbye_until || !matches!(meaning, Meaning::Later | Meaning::Moved))
        {
            // Our silence tells the group as well.
            return self.end();
        }
        if matches!(self.phase, Phase::Joining | Phase::Syncing) {
            self.phase = Phase::Out;
        }
        match meaning {
            Meaning::Later => self.back_off(now),
            Meaning::Moved => {
                if asked != Asked::Find {
                    self.actions.push(Action::Reconnect);
                }
                self.lose_coordinator();
                // Where it was waited for an answer, that was long enough.
                if now < pending.until {
                    self.back_off(now);
                }
            }
            // A rebalance is joined at once, but not in a circle.
            Meaning::Rebalance if self.failures == 0 => self.failures = 1,
            Meaning::Rebalance => self.back_off(now),
            Meaning::Missed => {
                self.fall_out();
                self.back_off(now);
            }
            Meaning::Forgotten => {
                self.forgotten(now);
                self.back_off(now);
            }
            Meaning::Fatal(error) => self.fail(now, error),
        }
    }

    fn meaning(&self, fault: Fault, asked: Asked) -> Meaning {
        match fault {
            Fault::Code(code) => meaning(code, asked, &self.settings.name),
            Fault::Broken => Meaning::Moved,
        }
    }

    /// The group went on without us.
    fn fall_out(&mut self) {
        self.lose();
        self.generation = -1;
        if self.phase == Phase::Stable {
            self.phase = Phase::Out;
        }
    }

    /// The group went on without us, or its coordinator has not found us yet.
    fn forgotten(&mut self, now: Instant) {
        self.fall_out();
        let since = *self.forgotten.get_or_insert(now);
        if now >= since + super::DOUBT {
            self.id.clear();
            self.forgotten = None;
        }
    }

    pub(super) fn fail(&mut self, now: Instant, error: Error) {
        self.lose();
        self.actions.push(Action::Failed(error));
        self.leave(now);
    }

    fn joined(&mut self, now: Instant, pending: &Pending, joined: Joined) {
        self.renew(pending.sent);
        self.id = joined.member;
        self.forgotten = None;
        self.generation = joined.generation;
        self.leads = joined.members.is_some();
        self.phase = Phase::Syncing;
        self.next_beat = now + self.settings.heartbeat;
        let assignments = joined.members.map(|members| self.plan(members)).unwrap_or_default();
        let (member, generation) = (self.id.clone(), self.generation);
        let request = Request::Sync { member, generation, assignments };
        self.pending = Some(self.request(now, Asked::Sync, request));
    }

    fn plan(&self, members: Vec<(String, Bytes)>) -> Vec<(String, Bytes)> {
        let claims: BTreeMap<String, Option<Claim>> =
            members.into_iter().map(|(id, told)| (id, Claim::decode(&told))).collect();
        let plan = assign(&claims, &self.known);
        plan.into_iter().map(|(id, assignment)| (id, assignment.encode())).collect()
    }

    fn synced(&mut self, now: Instant, pending: &Pending, bytes: &[u8]) {
        self.renew(pending.sent);
        // What can't be read was written by no leader of ours: nothing is ours then.
        let assignment = Assignment::decode(bytes).unwrap_or_default();
        if let Some(theirs) = assignment.theirs {
            let error = self.conflict(&theirs);
            return self.fail(now, error);
        }
        self.phase = Phase::Stable;
        self.shaken = false;
        self.failures = 0;
        self.moving = assignment.moving;
        let changed = self.holdings.adopt(self.generation, assignment.partitions);
        if !changed.revoked.is_empty() {
            self.actions.push(Action::Revoked(changed.revoked));
        }
        if !changed.assigned.is_empty() {
            self.actions.push(Action::Assigned(changed.assigned));
        }
        self.next_beat =
            now + if self.moving { super::MOVING_BEAT } else { self.settings.heartbeat };
        // What was released or lost since the join is free for others only after another one.
        if self.holdings.told_more() {
            self.want_rejoin(now);
        }
    }

    /// The group has other patterns: nothing of it is for us.
    fn conflict(&self, theirs: &[String]) -> Error {
        let ours = self.settings.patterns.join(" ");
        let group = self.settings.name.clone();
        let theirs = theirs.join(" ");
        let text = format!("group {group} receives {theirs}, and this member asks for {ours}");
        let kind = ErrorKind::GroupConflict { group, theirs: Some(theirs), ours };
        Error::new(kind, text)
    }

    fn beat_answered(&mut self, now: Instant, beat: &Pending, answer: &Result<Answer, Fault>) {
        let current = self.phase == Phase::Stable && beat.generation == self.generation;
        let fault = match answer {
            Ok(_) => {
                self.alive = self.alive.max(beat.sent);
                if current {
                    self.settled = self.settled.max(beat.sent);
                }
                return;
            }
            Err(fault) => *fault,
        };
        let meaning = self.meaning(fault, Asked::Beat);
        if matches!(meaning, Meaning::Rebalance) {
            // The coordinator heard us, and waits for our join.
            self.alive = self.alive.max(beat.sent);
        }
        self.disturbed(now, meaning, current);
    }

    /// A commit was refused. One of an earlier generation says nothing about this one (G2).
    pub(super) fn refused(&mut self, now: Instant, generation: i32, code: i16) {
        let current = self.phase == Phase::Stable && generation == self.generation;
        let meaning = meaning(code, Asked::Commit, &self.settings.name);
        self.disturbed(now, meaning, current);
    }

    /// What a refusal does to a member that is not joining. While it joins, the group may be in a
    /// new generation already, so only what the join brings counts.
    fn disturbed(&mut self, now: Instant, meaning: Meaning, current: bool) {
        match meaning {
            Meaning::Fatal(error) if self.phase != Phase::Leaving => self.fail(now, error),
            Meaning::Moved if self.pending.is_none() => {
                self.lose_coordinator();
                self.back_off(now);
            }
            Meaning::Rebalance if current => self.want_rejoin(now),
            Meaning::Missed if current => self.fall_out(),
            Meaning::Forgotten if current => self.forgotten(now),
            Meaning::Later
            | Meaning::Moved
            | Meaning::Rebalance
            | Meaning::Missed
            | Meaning::Forgotten
            | Meaning::Fatal(_) => {}
        }
    }

    /// What was sent then was answered, and no join or sync of ours from before is waited for.
    fn renew(&mut self, sent: Instant) {
        self.alive = self.alive.max(sent);
        self.settled = self.settled.max(sent);
    }
}
