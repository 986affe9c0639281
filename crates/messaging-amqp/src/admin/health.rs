//! Whether the server is well, and keeps what this backend promises over it.

use std::collections::BTreeMap;

use messaging_core::Result;
use messaging_core::driver::{Health, Promise};
use serde_json::Value;

use super::found::Found;
use super::site::Site;
use crate::config::RabbitConfig;
use crate::management::{Api, Connection, Node, Queue};

/// What a policy must not do to a queue of ours: the server throws messages away by it.
const HARMFUL: [&str; 4] = ["max-length", "max-length-bytes", "message-ttl", "expires"];

const CRASH: &str = "a confirmed publish survives a crash of the server";
const NODE: &str = "a confirmed publish survives the loss of a node";
const NOTHING_DROPPED: &str = "nothing is dropped";

pub(super) async fn health(site: &Site<'_>, config: &RabbitConfig) -> Result<Health> {
    let health = Health::serving()
        .with_promise(Promise::kept("a confirmed publish reaches every group at least once"));
    let health = match site.api {
        Some(api) => with_api(api, site, config, health).await?,
        None => health
            .with_promise(exchange(config))
            .with_note("alarms, queues and blocked publishers: set RABBITMQ_MANAGEMENT_URL"),
    };
    Ok(match site.session.is_blocked() {
        true => health.with_note("the server answers none of our publishes now"),
        false => health,
    })
}

async fn with_api(
    api: &Api,
    site: &Site<'_>,
    config: &RabbitConfig,
    health: Health,
) -> Result<Health> {
    let (overview, nodes, connections) =
        futures::try_join!(api.overview(), api.nodes(), api.connections())?;
    let found = Found::at(api).await?;
    let ours: Vec<&Queue> = found
        .groups(site.names)
        .iter()
        .filter_map(|group| found.queues.get(group.as_str()))
        .collect();
    let health = health
        .with_version(overview.rabbitmq_version)
        .with_promise(crash(config, &ours))
        .with_promise(loss_of_a_node(&nodes, &ours))
        .with_promise(nothing_dropped(&found.queues));
    let notes = notes_on_nodes(&nodes)
        .into_iter()
        .chain(notes_on_queues(&found.queues))
        .chain(notes_on_connections(&connections));
    Ok(notes.fold(health, Health::with_note))
}

fn exchange(config: &RabbitConfig) -> Promise {
    match config.durable {
        true => Promise::kept(CRASH),
        false => Promise::broken(CRASH, "RABBITMQ_DURABLE is false and has to be true"),
    }
}

/// A classic queue is on disk too; only what is not durable is gone.
fn crash(config: &RabbitConfig, ours: &[&Queue]) -> Promise {
    match ours.iter().find(|queue| !queue.durable) {
        Some(queue) => {
            Promise::broken(CRASH, format!("queue {} is not durable and has to be", queue.name))
        }
        None => exchange(config),
    }
}

fn loss_of_a_node(nodes: &[Node], ours: &[&Queue]) -> Promise {
    if nodes.len() < 3 {
        let reason = format!("there are {} nodes, and a majority needs three", nodes.len());
        return Promise::not_made(NODE, reason.replace("are 1 nodes", "is one node"));
    }
    let single = ours.iter().find(|queue| queue.members.len() < 3);
    match single {
        Some(queue) if queue.kind == "quorum" => Promise::broken(
            NODE,
            format!(
                "queue {} has {} copies and has to have three: rabbitmq-queues grow",
                queue.name,
                queue.members.len()
            ),
        ),
        Some(queue) => Promise::not_made(
            NODE,
            format!("queue {} is on one node, as it is classic", queue.name),
        ),
        None => Promise::kept(NODE),
    }
}

fn nothing_dropped(queues: &BTreeMap<String, Queue>) -> Promise {
    let limit = |queue: &Queue| {
        let policy = queue.effective_policy_definition.as_object()?;
        let name = HARMFUL.iter().find(|name| policy.contains_key(**name))?;
        let value = policy.get(*name).map(Value::to_string).unwrap_or_default();
        Some(format!("a policy gives queue {} {name} {value} and has to give none", queue.name))
    };
    match queues.values().find_map(limit) {
        Some(setting) => Promise::broken(NOTHING_DROPPED, setting),
        None => Promise::kept(NOTHING_DROPPED),
    }
}

fn notes_on_nodes(nodes: &[Node]) -> Vec<String> {
    let mut notes = Vec::new();
    for node in nodes {
        let name = &node.name;
        if !node.running {
            notes.push(format!("node {name} does not run"));
        }
        if node.mem_alarm {
            notes.push(format!("node {name} is short of memory: publishers are blocked"));
        }
        if node.disk_free_alarm {
            notes.push(format!("node {name} is short of disk space: publishers are blocked"));
        }
        if !node.partitions.is_empty() {
            notes.push(format!("node {name} is cut off from {}", node.partitions.join(", ")));
        }
    }
    notes
}

fn notes_on_queues(queues: &BTreeMap<String, Queue>) -> Vec<String> {
    let missing = |queue: &Queue| {
        let (online, members) = (queue.online.len(), queue.members.len());
        (online < members).then(|| {
            let serves = if 2 * online > members { "" } else { ", too few to serve" };
            format!("queue {}: {online} of {members} copies run{serves}", queue.name)
        })
    };
    queues.values().filter_map(missing).collect()
}

fn notes_on_connections(connections: &[Connection]) -> Option<String> {
    let blocked = connections.iter().filter(|it| it.state.starts_with("block")).count();
    (blocked > 0).then(|| format!("{blocked} connections are blocked from publishing"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(json: &str) -> Queue {
        serde_json::from_str(json).unwrap()
    }

    fn node(json: &str) -> Node {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn a_queue_with_too_few_copies_breaks_the_promise_for_a_node() {
        let nodes =
            ["a", "b", "c"].map(|name| node(&format!(r#"{{"name":"{name}","running":true}}"#)));
        let whole = queue(
            r#"{"name":"g","type":"quorum","durable":true,"members":["a","b","c"],"online":["a","b"]}"#,
        );
        assert_eq!(loss_of_a_node(&nodes, &[&whole]), Promise::kept(NODE));
        let alone = queue(r#"{"name":"h","type":"quorum","durable":true,"members":["a"]}"#);
        let broken = loss_of_a_node(&nodes, &[&whole, &alone]);
        assert!(
            matches!(&broken.standing, messaging_core::driver::Standing::Broken { setting } if setting.contains("queue h"))
        );
        let one = loss_of_a_node(&nodes[..1], &[&alone]);
        assert!(
            matches!(&one.standing, messaging_core::driver::Standing::NotMade { reason } if reason.contains("is one node"))
        );
        let queues = BTreeMap::from([("g".to_owned(), whole)]);
        assert_eq!(notes_on_queues(&queues), ["queue g: 2 of 3 copies run"]);
    }

    #[test]
    fn a_policy_that_drops_messages_breaks_a_promise() {
        let limited = queue(
            r#"{"name":"g","type":"quorum","durable":true,"effective_policy_definition":{"max-length":10}}"#,
        );
        let promise = nothing_dropped(&BTreeMap::from([("g".to_owned(), limited)]));
        assert!(
            matches!(&promise.standing, messaging_core::driver::Standing::Broken { setting } if setting.contains("max-length 10"))
        );
    }

    #[test]
    fn alarms_and_nodes_that_are_down_are_told() {
        let nodes = [
            node(r#"{"name":"a","running":true,"mem_alarm":true}"#),
            node(r#"{"name":"b","running":false}"#),
        ];
        let notes = notes_on_nodes(&nodes);
        assert!(notes[0].contains("memory") && notes[1].contains("does not run"), "{notes:?}");
    }
}
