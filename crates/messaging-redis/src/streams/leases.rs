//! Who owns which lane of an ordered group.

use std::time::Duration;

use tokio::time::Instant;

use super::desk::Fetched;
use super::keeper::tell_trimmed;
use super::keys;
use super::member::Member;
use super::scripts::{LEASE, MEMBERS, TAKE_LANE, UNLEASE, call};
use crate::connection::Link;
use crate::wire::{array, number, text};

/// How long a lease holds without being renewed. The owner counts by its own clock from before it
/// asked, so it stops before the server lets another in.
const LEASE_TIME: Duration = Duration::from_secs(10);

/// How old a lease is when it is renewed.
const RENEWAL: Duration = Duration::from_secs(1);

/// The leases of one member. An unordered group has none.
#[derive(Debug)]
pub(super) struct Leases {
    /// For each lane, until when it is ours.
    ours: Vec<Option<Owned>>,
}

#[derive(Debug)]
struct Owned {
    until: Instant,
    revoked: bool,
}

/// What an owner takes of its lane.
#[derive(Clone, Copy, Debug)]
enum Takes {
    /// Everything, as it is new. What a vanished owner held is suspect.
    Lane { vanished: bool },
    /// What has reached others since.
    Stray,
}

impl Leases {
    pub(super) fn new(member: &Member) -> Self {
        Self { ours: member.lanes().iter().map(|_| None).collect() }
    }

    /// Renews what is ours, asks for our share, and gives back what is more. `None` if the
    /// connection broke.
    pub(super) async fn turn(&mut self, member: &Member, link: &mut Link) -> Option<()> {
        self.check_clock(member);
        self.ours.resize_with(member.lanes().len(), || None);
        let share = if member.desk.has_left() { 0 } else { self.share(member, link).await? };
        let now = Instant::now();
        for lane in 0..self.ours.len() {
            let held = self.ours.iter().flatten().filter(|owned| !owned.revoked).count();
            let due = match self.ours.get(lane) {
                Some(Some(owned)) => owned.until - now < LEASE_TIME - RENEWAL,
                // What a read brings that began before must not come twice.
                _ => held < share && !member.desk.is_read(lane as u32),
            };
            if due {
                self.renew(member, link, lane).await?;
            }
        }
        self.revoke_surplus(member, share);
        self.give_back(member, link).await
    }

    /// Loses what was not renewed in time.
    pub(super) fn check_clock(&mut self, member: &Member) {
        let now = Instant::now();
        for (number, lane) in (0..).zip(&mut self.ours) {
            if lane.take_if(|owned| owned.until <= now).is_some() {
                member.desk.lose(number);
            }
        }
    }

    /// Gives everything back at the end.
    pub(super) async fn leave(&mut self, member: &Member, link: &mut Link) {
        for number in (0..).take(self.ours.len()) {
            if self.take(number).is_some() {
                member.desk.give_up(number);
                // If this fails, the lease runs out.
                unlease(member, link, number).await.unwrap_or_default();
            }
        }
        if let Some(shape) = &member.group.shape {
            let mut command = redis::cmd("ZREM");
            command.arg(keys::members(shape)).arg(&member.consumer);
            link.run(&command, "leave").await.ok();
        }
    }

    fn take(&mut self, number: u32) -> Option<Owned> {
        self.ours.get_mut(number as usize).and_then(Option::take)
    }

    /// How many lanes are for us, as every member counts it.
    async fn share(&self, member: &Member, link: &mut Link) -> Option<usize> {
        let lanes = self.ours.len();
        // Nobody shares a broadcast.
        let Some(shape) = &member.group.shape else { return Some(lanes) };
        let mut command = call(MEMBERS, &[&keys::members(shape)]);
        command.arg(&member.consumer).arg(LEASE_TIME.as_millis() as u64);
        let members = array(link.run(&command, "members").await.ok()?);
        let ours = members.iter().position(|name| text(name) == Some(&member.consumer))?;
        let extra = usize::from(ours < lanes % members.len());
        Some(lanes / members.len() + extra)
    }

    async fn renew(&mut self, member: &Member, link: &mut Link, lane: usize) -> Option<()> {
        let number_of_lane = lane as u32;
        let place = member.lane(number_of_lane)?;
        let asked = Instant::now();
        let mut command = call(LEASE, &[&place.lease(&member.group.name)]);
        command.arg(&member.consumer).arg(LEASE_TIME.as_millis() as u64);
        let answer = array(link.run(&command, "lease").await.ok()?);
        let epoch = answer.first().and_then(number)?;
        let vanished = answer.get(1).and_then(number)? == 1;
        // What the server gives us is on the desk before anybody looks for what was lost on its way.
        let _fetching = member.fetching.lock().await;
        let slot = self.ours.get_mut(lane)?;
        match slot {
            Some(_) if epoch == 0 => {
                *slot = None;
                member.desk.lose(number_of_lane);
            }
            Some(owned) => {
                owned.until = asked + LEASE_TIME;
                member.desk.renew(number_of_lane, owned.until);
                let stray = self.inherit(member, link, number_of_lane, Takes::Stray).await?;
                member.desk.inherited(stray);
            }
            None if epoch > 0 => {
                // Nothing of it is read before that, or it would come twice.
                let takes = Takes::Lane { vanished };
                let held = self.inherit(member, link, number_of_lane, takes).await?;
                member.desk.assign(number_of_lane, asked + LEASE_TIME, held);
                if let Some(slot) = self.ours.get_mut(lane) {
                    *slot = Some(Owned { until: asked + LEASE_TIME, revoked: false });
                }
            }
            None => {}
        }
        Some(())
    }

    /// Takes what others hold of a lane of ours: what its last owner left, and what reached a former
    /// owner after that.
    async fn inherit(
        &self,
        member: &Member,
        link: &mut Link,
        lane: u32,
        what: Takes,
    ) -> Option<Vec<(Fetched, Duration)>> {
        let place = member.lane(lane)?;
        let group = &member.group.name;
        let keys = [&place.key, &place.due(group), &place.suspects(group), &place.lease(group)];
        let mut command = call(TAKE_LANE, &keys.map(String::as_str));
        let vanished = matches!(what, Takes::Lane { vanished: true });
        let is_new = matches!(what, Takes::Lane { .. });
        command.arg(group).arg(&member.consumer).arg(i32::from(vanished)).arg(i32::from(is_new));
        let Ok(answer) = link.run(&command, "lane").await else {
            member.may_have_lost();
            return None;
        };
        let mut parts = array(answer).into_iter();
        let taken = member.accept_all(lane, parts.next()?);
        tell_trimmed(member, parts.next().as_ref().and_then(number));
        let wait = |millis| Duration::from_millis(u64::try_from(millis).unwrap_or_default());
        Some(taken.into_iter().map(|(fetched, millis)| (fetched, wait(millis))).collect())
    }

    fn revoke_surplus(&mut self, member: &Member, share: usize) {
        let held = self.ours.iter().flatten().filter(|owned| !owned.revoked).count();
        let surplus = held.saturating_sub(share);
        let ours = (0..).zip(&mut self.ours).filter_map(|(n, lane)| Some((n, lane.as_mut()?)));
        for (number, owned) in ours.filter(|(_, owned)| !owned.revoked).take(surplus) {
            owned.revoked = true;
            member.desk.revoke(number);
            member.interrupt.notify_one();
        }
    }

    /// Gives revoked lanes back of which nothing is in hand.
    async fn give_back(&mut self, member: &Member, link: &mut Link) -> Option<()> {
        for number in (0..).take(self.ours.len()) {
            let revoked =
                self.ours.get(number as usize).and_then(Option::as_ref).is_some_and(|o| o.revoked);
            if revoked && member.desk.is_free(number) {
                member.desk.give_up(number);
                self.take(number);
                unlease(member, link, number).await?;
            }
        }
        Some(())
    }
}

async fn unlease(member: &Member, link: &mut Link, number: u32) -> Option<()> {
    let place = member.lane(number)?;
    let mut command = call(UNLEASE, &[&place.lease(&member.group.name)]);
    command.arg(&member.consumer);
    link.run(&command, "lease").await.ok().map(drop)
}
