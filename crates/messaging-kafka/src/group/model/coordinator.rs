//! The coordinator as Kafka's classic one behaves.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::super::member::{Answer, Call, Fault, Joined, Request};
use super::{REBALANCE, SESSION};

pub(super) struct Reply {
    pub(super) client: usize,
    pub(super) connection: u64,
    pub(super) call: Call,
    pub(super) answer: Result<Answer, Fault>,
}

/// To whom an answer goes.
#[derive(Clone, Copy)]
struct Route {
    client: usize,
    connection: u64,
    call: Call,
}

impl Route {
    fn answer(self, answer: Result<Answer, Fault>) -> Reply {
        let Self { client, connection, call } = self;
        Reply { client, connection, call, answer }
    }

    fn refuse(self, code: i16) -> Vec<Reply> {
        vec![self.answer(Err(Fault::Code(code)))]
    }
}

#[derive(Default, PartialEq, Eq, Clone, Copy)]
enum State {
    #[default]
    Empty,
    Preparing {
        until: u64,
    },
    Completing,
    Stable,
}

struct Known {
    claim: Bytes,
    joining: Option<Route>,
    syncing: Option<Route>,
    assignment: Bytes,
    expires: u64,
}

#[derive(Default)]
pub(super) struct Coordinator {
    state: State,
    generation: i32,
    leader: String,
    members: BTreeMap<String, Known>,
    named: Vec<String>,
    names: u64,
}

impl Coordinator {
    pub(super) fn ask(
        &mut self,
        now: u64,
        client: usize,
        connection: u64,
        call: Call,
        request: Request,
    ) -> Vec<Reply> {
        let route = Route { client, connection, call };
        match request {
            Request::Find => vec![route.answer(Ok(Answer::Found))],
            Request::Join { member, claim } => self.join(now, route, &member, claim),
            Request::Sync { member, generation, assignments } => {
                self.sync(now, route, &member, generation, assignments)
            }
            Request::Beat { member, generation } => self.beat(now, route, &member, generation),
            Request::Leave { member } => {
                let mut replies = vec![route.answer(Ok(Answer::Left))];
                if self.members.remove(&member).is_some() {
                    replies.extend(self.prepare(now));
                }
                replies
            }
        }
    }

    fn join(&mut self, now: u64, route: Route, member: &str, claim: Bytes) -> Vec<Reply> {
        if member.is_empty() {
            self.names += 1;
            let name = format!("member-{}", self.names);
            self.named.push(name.clone());
            return vec![route.answer(Ok(Answer::Named(name)))];
        }
        let new = self.named.iter().position(|name| name == member);
        if let Some(at) = new {
            self.named.swap_remove(at);
            let none = Bytes::new();
            let known = Known {
                claim: none.clone(),
                joining: None,
                syncing: None,
                assignment: none,
                expires: now + SESSION,
            };
            self.members.insert(member.to_owned(), known);
        }
        let Some(known) = self.members.get_mut(member) else { return route.refuse(25) };
        let same = known.claim == claim && new.is_none();
        known.claim = claim;
        known.expires = now + SESSION;
        let leads = self.leader == member;
        match self.state {
            State::Stable if same && !leads => vec![self.joined(route, member, false)],
            State::Completing if same => vec![self.joined(route, member, leads)],
            State::Empty | State::Preparing { .. } | State::Completing | State::Stable => {
                known.joining = Some(route);
                self.prepare(now)
            }
        }
    }

    fn joined(&self, route: Route, member: &str, leads: bool) -> Reply {
        let all = || self.members.iter().map(|(id, known)| (id.clone(), known.claim.clone()));
        let joined = Joined {
            generation: self.generation,
            member: member.to_owned(),
            members: leads.then(|| all().collect()),
        };
        route.answer(Ok(Answer::Joined(joined)))
    }

    fn prepare(&mut self, now: u64) -> Vec<Reply> {
        let mut replies = Vec::new();
        if !matches!(self.state, State::Preparing { .. }) {
            self.state = State::Preparing { until: now + REBALANCE };
            for known in self.members.values_mut() {
                if let Some(route) = known.syncing.take() {
                    replies.extend(route.refuse(27));
                }
            }
        }
        replies.extend(self.complete(now));
        replies
    }

    fn complete(&mut self, now: u64) -> Vec<Reply> {
        let State::Preparing { until } = self.state else { return Vec::new() };
        let all = self.members.values().all(|known| known.joining.is_some());
        if !all && now < until {
            return Vec::new();
        }
        self.members.retain(|_, known| known.joining.is_some());
        self.generation += 1;
        if self.members.is_empty() {
            self.state = State::Empty;
            return Vec::new();
        }
        self.state = State::Completing;
        if !self.members.contains_key(&self.leader) {
            self.leader = self.members.keys().next().unwrap().clone();
        }
        let mut routes = Vec::new();
        for (id, known) in &mut self.members {
            known.expires = now + SESSION;
            routes.push((id.clone(), known.joining.take().unwrap()));
        }
        let leader = self.leader.clone();
        routes.into_iter().map(|(id, route)| self.joined(route, &id, id == leader)).collect()
    }

    fn sync(
        &mut self,
        now: u64,
        route: Route,
        member: &str,
        generation: i32,
        assignments: Vec<(String, Bytes)>,
    ) -> Vec<Reply> {
        let current = self.generation;
        let Some(known) = self.members.get_mut(member) else { return route.refuse(25) };
        if generation != current {
            return route.refuse(22);
        }
        known.expires = now + SESSION;
        match self.state {
            State::Stable => {
                let assignment = known.assignment.clone();
                vec![route.answer(Ok(Answer::Synced(assignment)))]
            }
            State::Completing if member == self.leader => {
                known.syncing = Some(route);
                self.state = State::Stable;
                let mut assignments: BTreeMap<_, _> = assignments.into_iter().collect();
                let mut replies = Vec::new();
                for (id, known) in &mut self.members {
                    known.assignment = assignments.remove(id).unwrap_or_default();
                    if let Some(route) = known.syncing.take() {
                        known.expires = now + SESSION;
                        let answer = Ok(Answer::Synced(known.assignment.clone()));
                        replies.push(route.answer(answer));
                    }
                }
                replies
            }
            State::Completing => {
                known.syncing = Some(route);
                Vec::new()
            }
            State::Empty | State::Preparing { .. } => route.refuse(27),
        }
    }

    fn beat(&mut self, now: u64, route: Route, member: &str, generation: i32) -> Vec<Reply> {
        let current = self.generation;
        let Some(known) = self.members.get_mut(member) else { return route.refuse(25) };
        if generation != current {
            return route.refuse(22);
        }
        known.expires = now + SESSION;
        if matches!(self.state, State::Preparing { .. }) {
            return route.refuse(27);
        }
        vec![route.answer(Ok(Answer::Alive))]
    }

    /// Forgets who was silent for too long, and ends a rebalance that waited long enough.
    pub(super) fn tick(&mut self, now: u64) -> Vec<Reply> {
        let before = self.members.len();
        self.members.retain(|_, known| known.joining.is_some() || known.expires > now);
        if self.members.len() < before { self.prepare(now) } else { self.complete(now) }
    }
}
