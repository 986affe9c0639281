//! What the server has, as the management API lists it.

use std::collections::BTreeMap;

use messaging_core::{GroupName, Patterns, Result, StreamName};
use serde_json::Value;

use crate::management::{Api, Binding, Exchange, Queue};
use crate::topology::{self, Argument, Names};

/// Exchanges, queues and bindings of the virtual host.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) exchanges: BTreeMap<String, Exchange>,
    pub(super) queues: BTreeMap<String, Queue>,
    pub(super) bindings: Vec<Binding>,
}

impl Found {
    pub(super) async fn at(api: &Api) -> Result<Self> {
        let (exchanges, queues, bindings) =
            futures::try_join!(api.exchanges(), api.queues(), api.bindings())?;
        let exchanges = exchanges.into_iter().map(|it| (it.name.clone(), it)).collect();
        let queues = queues.into_iter().map(|it| (it.name.clone(), it)).collect();
        Ok(Self { exchanges, queues, bindings })
    }

    /// The groups there are: queues of their own name, kept by a marker or bound to our exchange by
    /// somebody else.
    pub(super) fn groups(&self, names: &Names) -> Vec<GroupName> {
        let prefix = names.markers();
        let marked = self.queues.keys().filter_map(|name| name.strip_prefix(&*prefix));
        let bound = self.bindings.iter().filter(|it| it.source == names.exchange());
        let bound = bound.map(|binding| &*binding.destination).filter(|name| {
            self.queues.get(*name).is_some_and(|queue| queue.durable && !queue.exclusive)
        });
        let mut all: Vec<GroupName> =
            marked.chain(bound).filter_map(|name| name.parse().ok()).collect();
        all.sort();
        all.dedup();
        all
    }

    /// The streams there are.
    pub(super) fn streams(&self, names: &Names) -> Vec<StreamName> {
        let prefix = names.stream_markers();
        let marked = self.queues.keys().filter_map(|name| name.strip_prefix(&*prefix));
        marked.filter_map(|name| name.parse().ok()).collect()
    }

    /// The bindings of a queue to an exchange.
    pub(super) fn bindings_of<'a>(
        &'a self,
        exchange: &'a str,
        queue: &'a str,
    ) -> impl Iterator<Item = &'a Binding> {
        self.bindings.iter().filter(move |it| it.source == exchange && it.destination == queue)
    }

    /// What a group receives, as its bindings have it; nothing for one that is bound otherwise than
    /// by patterns.
    pub(super) fn patterns_of(&self, names: &Names, group: &GroupName) -> Option<Patterns> {
        let keys = self.bindings_of(names.exchange(), group.as_str()).map(|it| &*it.routing_key);
        Patterns::new(keys).ok()
    }

    /// What a group receives and how, as its members agree on it.
    pub(super) fn shape_of(&self, names: &Names, group: &GroupName) -> String {
        let queue = self.queues.get(group.as_str());
        let argument = |name: &str| queue.and_then(|queue| queue.arguments.get(name));
        let ordered = argument("x-single-active-consumer") == Some(&Value::Bool(true));
        let priority = argument("x-max-priority").is_some();
        match self.patterns_of(names, group) {
            Some(patterns) => topology::shape_of(&patterns, ordered, priority),
            None => "nothing".to_owned(),
        }
    }

    /// The value that a marker has, if there is the marker.
    pub(super) fn marked(&self, marker: &str) -> Option<&str> {
        self.queues.get(marker)?.arguments.get("x-dead-letter-routing-key")?.as_str()
    }

    /// In what a queue is another one than it has to be. What a marker keeps may change.
    pub(super) fn misfit(&self, wanted: &topology::Queue) -> Option<String> {
        let found = self.queues.get(&wanted.name)?;
        let kind = match wanted.arguments.get("x-queue-type") {
            Some(Argument::Text(kind)) => kind,
            _ => "classic",
        };
        if found.kind != kind {
            return Some(format!("is a {} queue and is to be a {kind} one", found.kind));
        }
        if found.durable != wanted.durable {
            return Some("is not durable and is to be".to_owned());
        }
        let wanted_of = |name: &str| wanted.arguments.get(name).map(as_value);
        let mut all: Vec<&str> = found.arguments.keys().map(String::as_str).collect();
        all.extend(wanted.arguments.keys());
        // A classic queue is one with or without a type, and a number of copies is only what a queue
        // was made with.
        all.retain(|name| *name != "x-queue-type" && *name != topology::INITIAL_SIZE);
        let differs = |name: &&str| found.arguments.get(*name) != wanted_of(name).as_ref();
        let name = all.into_iter().find(differs)?;
        let shown = |value: Option<&Value>| value.map_or("none".to_owned(), Value::to_string);
        let (has, asked) = (shown(found.arguments.get(name)), shown(wanted_of(name).as_ref()));
        Some(format!("has {name} {has} and is to have {asked}"))
    }
}

fn as_value(argument: &Argument) -> Value {
    match argument {
        Argument::Text(text) => text.as_str().into(),
        Argument::Number(number) => (*number).into(),
        Argument::Flag(flag) => (*flag).into(),
    }
}
