//! What the topology names, against what there is.

use messaging_core::driver::{Action, Change, Plan, Target};
use messaging_core::topology::{GroupConfig, StreamConfig};
use messaging_core::{Error, ErrorKind, Result, Topology};

use super::found::Found;
use super::streams;
use crate::topology::{self, Declaration, Exchange, GroupShape, Names};

/// What `apply` would do.
pub(super) fn plan(found: &Found, names: &Names, topology: &Topology) -> Result<Plan> {
    let mut plan = Plan::default();
    for declaration in topology::exchanges(names) {
        if let Declaration::Exchange(exchange) = declaration {
            plan.changes.extend(plan_exchange(found, &exchange)?);
        }
    }
    for config in &topology.streams {
        plan.changes.extend(plan_stream(found, names, config)?);
    }
    for config in &topology.groups {
        plan.changes.extend(plan_group(found, names, topology, config)?);
    }
    for name in found.streams(names) {
        if topology.stream(name.name()).is_none() {
            plan.unmanaged.push(Target::Stream(name).to_string());
        }
    }
    for name in found.groups(names) {
        if !topology.groups.iter().any(|group| group.name == name) {
            plan.unmanaged.push(Target::Group(name).to_string());
        }
    }
    Ok(plan)
}

/// A group of the topology.
pub(super) fn shape(config: &GroupConfig) -> GroupShape {
    GroupShape {
        name: config.name.clone(),
        patterns: config.patterns.clone(),
        ordered: config.ordered,
        priority: config.priority,
    }
}

fn plan_exchange(found: &Found, wanted: &Exchange) -> Result<Option<Change>> {
    let target = format!("exchange {}", wanted.name);
    let kind = wanted.kind.name();
    let describe = |kind: &str, durable| {
        if durable { format!("{kind}, durable") } else { kind.to_owned() }
    };
    let asked = describe(kind, wanted.durable);
    let Some(found) = found.exchanges.get(&wanted.name) else {
        return Ok(Some(Change::new(Action::Create, target, asked)));
    };
    if (&*found.kind, found.durable) == (kind, wanted.durable) {
        return Ok(None);
    }
    let text = format!(
        "{target} is {} and is to be {asked}; the server can't change it, so choose another one \
         with RABBITMQ_EXCHANGE, or delete it while nobody uses it",
        describe(&found.kind, found.durable)
    );
    Err(Error::new(ErrorKind::InvalidConfig, text))
}

fn plan_stream(found: &Found, names: &Names, config: &StreamConfig) -> Result<Option<Change>> {
    let target = format!("stream {}", config.name);
    let all = streams::declarations(names, config);
    let marker = streams::marker(names, config).name;
    check_queues(found, &target, &all, &marker)?;
    let asked = streams::describe(config);
    let missing = missing(found, &all);
    match found.marked(&marker) {
        None => Ok(Some(Change::new(Action::Create, target, asked))),
        Some(now) if now != asked => Ok(Some(drift(target, now, &asked))),
        Some(now) => Ok(missing.map(|missing| drift(target, &format!("{now}, {missing}"), &asked))),
    }
}

fn plan_group(
    found: &Found,
    names: &Names,
    topology: &Topology,
    config: &GroupConfig,
) -> Result<Option<Change>> {
    let target = format!("group {}", config.name);
    let group = shape(config);
    let all = group.declarations(names, &topology.tiers);
    let marker = names.marker(&config.name);
    check_queues(found, &target, &all, &marker)?;
    let asked = group.shape();
    if !found.queues.contains_key(config.name.as_str()) {
        return Ok(Some(Change::new(Action::Create, target, asked)));
    }
    let now = found.shape_of(names, &config.name);
    if found.marked(&marker) != Some(&*topology::value_of(&asked)) {
        return Ok(Some(drift(target, &now, &asked)));
    }
    let others = foreign_bindings(found, names, &group);
    let others: Vec<String> =
        others.map(|key| format!("bound to {key} too")).chain(missing(found, &all)).collect();
    Ok((!others.is_empty())
        .then(|| drift(target, &format!("{now} ({})", others.join(", ")), &asked)))
}

/// The routing keys by which a group gets what it does not want.
pub(super) fn foreign_bindings<'a>(
    found: &'a Found,
    names: &'a Names,
    group: &'a GroupShape,
) -> impl Iterator<Item = &'a str> {
    let bound = found.bindings_of(names.exchange(), group.name.as_str());
    bound
        .map(|binding| &*binding.routing_key)
        .filter(|key| !group.patterns.iter().any(|pattern| pattern.as_ref() == *key))
}

/// Fails for a queue that exists as another one; that of the marker is there to be changed.
fn check_queues(found: &Found, target: &str, all: &[Declaration], marker: &str) -> Result<()> {
    for declaration in all {
        let Declaration::Queue(queue) = declaration else { continue };
        if queue.name == marker {
            continue;
        }
        if let Some(misfit) = found.misfit(queue) {
            let name = &queue.name;
            let text = format!(
                "{target}: queue {name} {misfit}; the server can't change a queue, so let it run \
                 empty and delete it (helixagent provision --delete '{target}', with a topology \
                 without it), or give the {target} another name"
            );
            return Err(Error::new(ErrorKind::InvalidConfig, text));
        }
    }
    Ok(())
}

/// What of it is not there.
fn missing(found: &Found, all: &[Declaration]) -> Option<String> {
    let missing: Vec<String> = all
        .iter()
        .filter_map(|declaration| match declaration {
            Declaration::Exchange(exchange) => {
                let there = found.exchanges.contains_key(&exchange.name);
                (!there).then(|| format!("exchange {}", exchange.name))
            }
            Declaration::Queue(queue) => {
                let there = found.queues.contains_key(&queue.name);
                (!there).then(|| format!("queue {}", queue.name))
            }
            Declaration::Binding(binding) => {
                let mut bound = found.bindings_of(&binding.exchange, &binding.queue);
                let there = bound.any(|it| it.routing_key == binding.pattern);
                (!there).then(|| match &*binding.pattern {
                    "" => format!("binding of {} to {}", binding.queue, binding.exchange),
                    key => format!("binding {key} of {} to {}", binding.queue, binding.exchange),
                })
            }
        })
        .collect();
    (!missing.is_empty()).then(|| format!("without {}", missing.join(", ")))
}

fn drift(target: String, now: &str, asked: &str) -> Change {
    Change::new(Action::Alter, target, format!("now {now}, asked {asked}"))
}
