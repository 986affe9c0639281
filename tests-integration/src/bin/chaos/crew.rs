//! The consumers of a run: who is there, and who takes whose place.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use crate::child::Child;
use crate::consumer::Consumer;
use crate::group::{Group, MEMBERS};
use crate::identity::Identity;
use crate::inspector::Inspector;
use crate::ledger::{Ledger, Member};
use crate::listener::Listener;
use crate::publisher::{LINES, Publisher};
use crate::role::{Control, Order, Role};

/// Starts processes, and keeps the consumers.
pub(crate) struct Crew {
    pub(crate) ledger: Arc<Ledger>,
    /// Who gets messages.
    pub(crate) groups: &'static [Group],
    pub(crate) identity: Identity,
    pub(crate) control: Option<Control>,
    /// Whether lanes have owners that say since when.
    fenced: bool,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) places: Vec<Place>,
    /// Those who were told to leave their group and may still be about to.
    leaving: Vec<Place>,
    /// The number of the next process.
    next: Member,
    /// What went wrong beside the rules.
    pub(crate) troubles: Vec<String>,
}

/// A place in a group, in which one process after the other works.
pub(crate) struct Place {
    group: Group,
    number: u32,
    pub(crate) child: Child,
}

/// How many publishers there are.
const PUBLISHERS: u32 = 2;

/// How long a process may take until it is ready, or has ended.
const LIMIT: Duration = Duration::from_secs(60);

impl Crew {
    pub(crate) fn new(
        ledger: Arc<Ledger>,
        groups: &'static [Group],
        identity: Identity,
        control: Option<Control>,
        fenced: bool,
        env: Vec<(String, String)>,
    ) -> Self {
        let (places, leaving, troubles) = (Vec::new(), Vec::new(), Vec::new());
        Self { ledger, groups, identity, control, fenced, env, places, leaving, next: 0, troubles }
    }

    /// Starts every consumer and waits until all are subscribed.
    pub(crate) async fn gather(&mut self) -> Result<(), String> {
        for &group in self.groups {
            for number in 1..=group.members() {
                let child = self.consumer(group, number)?;
                self.places.push(Place { group, number, child });
            }
        }
        let members: Vec<Member> = self.places.iter().map(|place| place.child.member).collect();
        for member in members {
            self.ready(member).await?;
        }
        Ok(())
    }

    /// Starts the publishers and waits until they are connected.
    pub(crate) async fn publishers(&mut self) -> Result<Vec<Child>, String> {
        let mut publishers = Vec::new();
        for number in 0..PUBLISHERS {
            let (identity, control) = (self.identity, self.control);
            let role = Role::Publisher(Publisher { identity, first: number * LINES, control });
            let child = self.start(&format!("publisher-{}", number + 1), &role)?;
            self.ready(child.member).await?;
            publishers.push(child);
        }
        Ok(publishers)
    }

    pub(crate) fn inspector(&mut self, quiet: Duration, limit: Duration) -> Result<Child, String> {
        let role = Role::Inspector(Inspector { identity: self.identity, quiet, limit });
        self.start("inspector", &role)
    }

    /// Puts a new process into a place whose own was killed, and waits until it is subscribed.
    pub(crate) async fn replace(&mut self, place: usize) -> Result<(), String> {
        let Some((group, number)) = self.places.get(place).map(|it| (it.group, it.number)) else {
            return Ok(());
        };
        let child = self.consumer(group, number)?;
        let member = child.member;
        if let Some(place) = self.places.get_mut(place) {
            let old = std::mem::replace(&mut place.child, child);
            old.ended().await.map_err(|error| error.to_string())?;
        }
        self.ready(member).await
    }

    /// Ends the process of a place in order, while a new one takes the place some time later, and
    /// waits for both.
    pub(crate) async fn restart(&mut self, place: usize, later: Duration) -> Result<(), String> {
        let Some((group, number)) = self.places.get(place).map(|it| (it.group, it.number)) else {
            return Ok(());
        };
        if let Some(place) = self.places.get_mut(place) {
            let told = place.child.order(Order::End).await;
            told.map_err(|error| format!("{}: {error}", place.name()))?;
        }
        sleep(later).await;
        let child = self.consumer(group, number)?;
        let member = child.member;
        if let Some(place) = self.places.get_mut(place) {
            let (name, old) = (place.name(), std::mem::replace(&mut place.child, child));
            self.end(&name, old).await?;
        }
        self.ready(member).await
    }

    /// Whether one more may join the group of a place, and whether this one may leave it.
    pub(crate) fn may_join_or_leave(&self, place: usize) -> (bool, bool) {
        let group = self.places.get(place).map(|place| place.group);
        let members = self.places.iter().filter(|place| Some(place.group) == group).count();
        (members < *MEMBERS.end(), members > *MEMBERS.start())
    }

    /// Starts one more member of the group of a place, and waits for nothing.
    pub(crate) fn join(&mut self, place: usize) -> Result<(), String> {
        let Some(group) = self.places.get(place).map(|it| it.group) else { return Ok(()) };
        let others = self.places.iter().filter(|place| place.group == group);
        let number = others.map(|place| place.number).max().unwrap_or(0) + 1;
        let child = self.consumer(group, number)?;
        self.places.push(Place { group, number, child });
        Ok(())
    }

    /// Tells the process of a place to leave its group for good, and does not wait until it has.
    pub(crate) async fn leave(&mut self, place: usize) -> Result<(), String> {
        let mut place = self.places.remove(place);
        let told = place.child.order(Order::End).await;
        told.map_err(|error| format!("{}: {error}", place.name()))?;
        self.leaving.push(place);
        Ok(())
    }

    /// Ends every consumer in order; who does not end is killed.
    pub(crate) async fn dismiss(&mut self) -> Result<(), String> {
        for place in &mut self.places {
            if place.child.has_ended() {
                self.troubles.push(format!("{} ended by itself", place.name()));
            } else if let Err(error) = place.child.order(Order::End).await {
                self.troubles.push(format!("{}: {error}", place.name()));
            }
        }
        let leaving = std::mem::take(&mut self.leaving);
        for place in leaving.into_iter().chain(std::mem::take(&mut self.places)) {
            let name = place.name();
            self.end(&name, place.child).await?;
        }
        Ok(())
    }

    /// Waits until a process has ended, which it was told to; kills it if it does not.
    pub(crate) async fn end(&mut self, name: &str, child: Child) -> Result<(), String> {
        match timeout(LIMIT, child.ended()).await {
            Ok(Ok((status, _))) if status.success() => {}
            Ok(Ok((status, last))) => {
                self.troubles.push(format!("{name} ended with {status}: {last}"));
            }
            Ok(Err(error)) => return Err(format!("{name}: {error}")),
            // Its process is killed with it.
            Err(_) => self.troubles.push(format!("{name} did not end")),
        }
        Ok(())
    }

    fn consumer(&mut self, group: Group, number: u32) -> Result<Child, String> {
        let (identity, control) = (self.identity, self.control);
        let role = match group.is_lossy() {
            true => Role::Listener(Listener { identity, control }),
            false => {
                let fenced = self.fenced && group.is_ordered();
                Role::Consumer(Consumer { identity, group, number, control, fenced })
            }
        };
        self.start(&format!("{}-{number}", group.name()), &role)
    }

    fn start(&mut self, name: &str, role: &Role) -> Result<Child, String> {
        let member = self.next;
        self.next += 1;
        let known = format!("{name}#{member}");
        Child::start(known, member, role, &self.env, &self.ledger)
            .map_err(|error| format!("{name}: {error}"))
    }

    async fn ready(&self, member: Member) -> Result<(), String> {
        let is_ready = self.ledger.until(|_| self.ledger.ready_at(member).is_some());
        let in_time = timeout(LIMIT, is_ready).await;
        in_time.map_err(|_| format!("process {member} was not ready in {} s", LIMIT.as_secs()))
    }
}

impl Place {
    pub(crate) fn name(&self) -> String {
        format!("{}-{}", self.group.name(), self.number)
    }
}
