//! Members against a model of the coordinator, over a network that loses, delays, repeats and
//! reorders, with every error code, with members that freeze, die, join and leave.

mod coordinator;

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use tokio::time::Instant;

use self::coordinator::{Coordinator, Reply};
use super::member::{Action, Answer, Call, Event, Fault, Member, Request, Settings};
use super::{Partition, Partitions};

const SESSION: u64 = 6_000;
const REBALANCE: u64 = 12_000;
/// The code of a coordinator that waits for joins.
const REBALANCING: i16 = 27;

/// A small generator of numbers, so that a seed names a run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 16) % bound
    }

    /// True `share` times of a thousand.
    fn chance(&mut self, share: u64) -> bool {
        self.below(1_000) < share
    }
}

#[derive(Clone)]
enum Message {
    Asked { client: usize, connection: u64, call: Call, request: Request },
    Answered { client: usize, connection: u64, call: Call, answer: Result<Answer, Fault> },
    Released { client: usize, partition: Partition },
}

struct Client {
    member: Member,
    /// The connection of joins; a later one is another one.
    connection: u64,
    /// Whether it has found the coordinator since it gave its connection up.
    linked: bool,
    frozen_until: u64,
    retired: bool,
    gone: bool,
    joins: u64,
}

struct World {
    base: Instant,
    now: u64,
    random: Random,
    faults: bool,
    broker: Coordinator,
    clients: Vec<Client>,
    queue: BTreeMap<(u64, u64), Message>,
    sequence: u64,
    known: Partitions,
}

impl World {
    fn new(seed: u64, partitions: i32) -> Self {
        let known = (0..partitions).map(|number| Partition::new("t", number)).collect();
        Self {
            base: Instant::now(),
            now: 0,
            random: Random(seed | 1),
            faults: true,
            broker: Coordinator::default(),
            clients: Vec::new(),
            queue: BTreeMap::new(),
            sequence: 0,
            known,
        }
    }

    fn at(&self, millis: u64) -> Instant {
        self.base + Duration::from_millis(millis)
    }

    fn send(&mut self, after: u64, message: Message) {
        self.sequence += 1;
        self.queue.insert((self.now + after, self.sequence), message);
    }

    /// How long a message is on its way; `None` if it is lost.
    fn way(&mut self) -> Option<u64> {
        if !self.faults {
            return Some(1 + self.random.below(5));
        }
        if self.random.chance(40) {
            return None;
        }
        let slow = self.random.chance(50);
        Some(self.random.below(if slow { 3_000 } else { 60 }))
    }

    fn add(&mut self) {
        let settings = Settings {
            group: "g".into(),
            name: "g".into(),
            instance: None,
            patterns: vec!["t.#".into()],
            session: Duration::from_millis(SESSION),
            rebalance: Duration::from_millis(REBALANCE),
            heartbeat: Duration::from_millis(1_000),
            seed: self.random.next(),
        };
        let member = Member::new(settings, self.at(self.now));
        let client = Client {
            member,
            connection: 0,
            linked: false,
            frozen_until: 0,
            retired: false,
            gone: false,
            joins: 0,
        };
        self.clients.push(client);
        let client = self.clients.len() - 1;
        self.event(client, Event::Discovered(self.known.clone()));
    }

    fn event(&mut self, client: usize, event: Event) {
        let now = self.at(self.now);
        let actions = self.clients[client].member.on(now, event);
        for action in actions {
            self.act(client, action);
        }
    }

    fn act(&mut self, client: usize, action: Action) {
        match action {
            Action::Request { call, request, .. } => {
                let state = &mut self.clients[client];
                let anywhere = matches!(request, Request::Beat { .. } | Request::Find);
                assert!(state.linked || anywhere, "{request:?} to a coordinator that is not known");
                state.joins += u64::from(matches!(request, Request::Join { .. }));
                // Beats have a connection of their own, which is never the problem here.
                let beat = matches!(request, Request::Beat { .. } | Request::Find);
                let connection = if beat { u64::MAX } else { state.connection };
                let message = Message::Asked { client, connection, call, request };
                if let Some(way) = self.way() {
                    self.send(way, message);
                }
            }
            Action::Reconnect => {
                self.clients[client].connection += 1;
                self.clients[client].linked = false;
            }
            Action::Revoked(partitions) => {
                for partition in partitions {
                    let after = self.random.below(2) * self.random.below(4_000);
                    self.send(after, Message::Released { client, partition });
                }
            }
            Action::Failed(error) => panic!("{error}"),
            Action::Ended => self.clients[client].gone = true,
            Action::Assigned(_) | Action::Lost(_) => {}
        }
    }

    fn deliver(&mut self, message: Message) {
        match message {
            Message::Asked { client, connection, call, request } => {
                // What a closed connection still carried is never carried out.
                let open = connection == u64::MAX || connection == self.clients[client].connection;
                if !open {
                    return;
                }
                let injected = self.faults && self.random.chance(30);
                if injected && !matches!(request, Request::Leave { .. }) {
                    let codes = [-1, 7, 13, 14, 15, 16, 22, 25, REBALANCING, 69, 89, 3_000];
                    let code = codes[self.random.below(codes.len() as u64) as usize];
                    // A coordinator says this to a beat only after it has heard it.
                    let heard = code == REBALANCING && matches!(request, Request::Beat { .. });
                    if !heard {
                        let answer = Err(Fault::Code(code));
                        self.reply(Reply { client, connection, call, answer });
                        return;
                    }
                }
                let replies = self.broker.ask(self.now, client, connection, call, request);
                replies.into_iter().for_each(|reply| self.reply(reply));
            }
            Message::Answered { client, connection, call, answer } => {
                let state = &mut self.clients[client];
                let open = connection == u64::MAX || connection == state.connection;
                state.linked |= matches!(answer, Ok(Answer::Found));
                if open && !state.gone {
                    self.event(client, Event::Answered { call, answer });
                }
            }
            Message::Released { client, partition } => {
                if !self.clients[client].gone {
                    self.event(client, Event::Released(partition));
                }
            }
        }
    }

    fn reply(&mut self, reply: Reply) {
        let Reply { client, connection, call, answer } = reply;
        let message = Message::Answered { client, connection, call, answer };
        let twice = self.faults && self.random.chance(50);
        for _ in 0..1 + u64::from(twice) {
            if let Some(way) = self.way() {
                self.send(way, message.clone());
            }
        }
    }

    fn run(&mut self, until: u64) {
        while self.now < until {
            self.now += 10;
            let later = self.queue.split_off(&(self.now + 1, 0));
            let due = std::mem::replace(&mut self.queue, later);
            for message in due.into_values() {
                let (Message::Asked { client, .. }
                | Message::Answered { client, .. }
                | Message::Released { client, .. }) = &message;
                let asks = matches!(message, Message::Asked { .. });
                let frozen = self.clients[*client].frozen_until;
                if !asks && frozen > self.now {
                    self.send(frozen - self.now + 1, message);
                } else {
                    self.deliver(message);
                }
                self.check();
            }
            let replies = self.broker.tick(self.now);
            replies.into_iter().for_each(|reply| self.reply(reply));
            for client in 0..self.clients.len() {
                let state = &self.clients[client];
                let idle = state.gone || state.frozen_until > self.now;
                let due = state.member.deadline().is_some_and(|at| at <= self.at(self.now));
                if !idle && due {
                    self.event(client, Event::Tick);
                }
            }
            self.check();
        }
    }

    /// Who runs, and what each may hand out now.
    fn active(&self) -> impl Iterator<Item = &Client> {
        let runs = |client: &&Client| !client.gone && client.frozen_until <= self.now;
        self.clients.iter().filter(runs)
    }

    fn check(&self) {
        let mut owners: BTreeMap<Partition, usize> = BTreeMap::new();
        for client in self.active().filter(|c| self.at(self.now) < c.member.fenced_at()) {
            for partition in client.member.held() {
                *owners.entry(partition).or_default() += 1;
            }
        }
        let twice: Vec<_> = owners.iter().filter(|(_, owners)| **owners > 1).collect();
        assert!(twice.is_empty(), "held twice at {}: {twice:?}", self.now);
    }

    /// Something happens to somebody.
    fn disturb(&mut self) {
        let running: Vec<usize> =
            (0..self.clients.len()).filter(|at| !self.clients[*at].gone).collect();
        let pick = running.get(self.random.below(running.len().max(1) as u64) as usize).copied();
        match (self.random.below(10), pick) {
            (0 | 1, _) if running.len() < 4 => self.add(),
            (2, Some(client)) => self.event(client, Event::Leave),
            (3, Some(client)) => self.clients[client].gone = true,
            (4 | 5, Some(client)) => {
                self.clients[client].frozen_until = self.now + self.random.below(2 * SESSION);
            }
            (7, Some(client)) => {
                let held = self.clients[client].member.held().into_iter().take(1).collect();
                self.event(client, Event::Stuck(held));
            }
            (8, Some(client)) => {
                self.clients[client].retired = true;
                self.event(client, Event::Retire);
            }
            (6, _) => {
                self.known.insert(Partition::new("t", self.known.len() as i32));
                for client in running {
                    self.event(client, Event::Discovered(self.known.clone()));
                }
            }
            _ => {}
        }
    }

    /// Nothing fails any more: in the end everything has one owner, and nothing moves.
    fn come_to_rest(&mut self) {
        self.faults = false;
        for client in 0..self.clients.len() {
            if self.clients[client].retired && !self.clients[client].gone {
                self.event(client, Event::Leave);
            }
        }
        // Perhaps all others are gone or about to leave.
        self.add();
        self.run(self.now + 2 * SESSION + 60_000);
        let held: Vec<Partition> = self.active().flat_map(|c| c.member.held()).collect();
        let unique: Partitions = held.iter().cloned().collect();
        assert_eq!(unique, self.known, "every partition has an owner");
        assert_eq!(held.len(), unique.len(), "and only one");
        assert!(self.active().all(|client| client.member.is_stable()));
        assert!(self.active().all(|client| client.member.leaving().is_empty()));
        let sizes = || self.active().map(|client| client.member.held().len());
        assert!(sizes().max().unwrap() - sizes().min().unwrap() <= 1, "the shares are equal");
        let joins = |world: &Self| world.active().map(|client| client.joins).sum::<u64>();
        let before = joins(self);
        self.run(self.now + 20_000);
        assert_eq!(joins(self), before, "nobody joins again without a reason");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn no_partition_is_held_twice_and_every_one_finds_an_owner(
        seed: u64,
        partitions in 1..7_i32,
        disturbances in 0..24_u64,
    ) {
        let mut world = World::new(seed, partitions);
        world.add();
        world.add();
        for _ in 0..disturbances {
            world.disturb();
            let until = world.now + world.random.below(4_000);
            world.run(until);
        }
        // At most a few requests a second, whatever fails.
        let joins = world.clients.iter().map(|client| client.joins).max().unwrap_or_default();
        prop_assert!(joins <= 10 + 10 * world.now / 1_000, "{joins} joins in {} ms", world.now);
        world.come_to_rest();
    }
}
