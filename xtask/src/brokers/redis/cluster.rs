//! A cluster of three primaries with a replica each.

use super::resp::{Connection, line};
use super::{Brokers, connect};
use crate::brokers::LIMIT;
use crate::brokers::plan::{Node, Role};
use crate::brokers::until::until;

const PRIMARIES: usize = 3;

/// Slots are given out by number; there are as many in every cluster.
const SLOTS: usize = 16_384;

/// A member whose primary is replaced after 2 s without an answer.
pub(super) fn membership(node: &Node) -> String {
    let peers = node.peers;
    format!("cluster-enabled yes\ncluster-port {peers}\ncluster-node-timeout 2000\n")
}

/// Makes servers that don't know each other a cluster, and waits until every node says it is
/// whole. What an interrupted call has done is not done again.
pub(super) fn join(brokers: &Brokers) -> Result<(), String> {
    let nodes: Vec<&Node> = brokers.plan.with_role(Role::Server).collect();
    let (primaries, replicas) = nodes.split_at_checked(PRIMARIES).ok_or("too few servers")?;
    let mut ids = Vec::new();
    for (index, node) in primaries.iter().enumerate() {
        let mut server = connect(brokers, node)?;
        if !is_member(&mut server)? {
            let (first, last) = (SLOTS * index / PRIMARIES, SLOTS * (index + 1) / PRIMARIES - 1);
            let range = [first.to_string(), last.to_string()];
            let [first, last] = &range;
            server.call(&["CLUSTER", "ADDSLOTSRANGE", first, last])?;
            // Refused where the node has an epoch, which is what it is for.
            drop(server.call(&["CLUSTER", "SET-CONFIG-EPOCH", &(index + 1).to_string()]));
        }
        ids.push(server.text(&["CLUSTER", "MYID"])?);
    }
    meet(brokers, &nodes)?;
    for (node, id) in replicas.iter().zip(&ids) {
        until(LIMIT, || {
            let followed = connect(brokers, node).and_then(|mut server| {
                let is_new = server.text(&["INFO", "replication"])?;
                match line(&is_new, "role") == Some("master") && !has_slots(&mut server)? {
                    true => server.call(&["CLUSTER", "REPLICATE", id]).map(drop),
                    false => Ok(()),
                }
            });
            followed.into()
        })?;
    }
    until(LIMIT, || nodes.iter().try_for_each(|node| is_whole(brokers, node, nodes.len())).into())
}

/// Introduces every node to the first one; the rest they tell each other.
fn meet(brokers: &Brokers, nodes: &[&Node]) -> Result<(), String> {
    let Some((first, others)) = nodes.split_first() else { return Ok(()) };
    let mut first = connect(brokers, first)?;
    let known = first.text(&["CLUSTER", "NODES"])?;
    for node in others {
        let address = format!("127.0.0.1:{}@", node.port);
        if !known.contains(&address) {
            let (port, peers) = (node.port.to_string(), node.peers.to_string());
            first.call(&["CLUSTER", "MEET", "127.0.0.1", &port, &peers])?;
        }
    }
    Ok(())
}

fn is_member(server: &mut Connection) -> Result<bool, String> {
    let info = server.text(&["CLUSTER", "INFO"])?;
    Ok(line(&info, "cluster_slots_assigned") != Some("0"))
}

/// Whether a node serves slots itself: a replica that has taken over stays what it is.
fn has_slots(server: &mut Connection) -> Result<bool, String> {
    let nodes = server.text(&["CLUSTER", "NODES"])?;
    let own = nodes.lines().find(|line| line.contains("myself")).unwrap_or_default();
    Ok(own.split_whitespace().count() > 8)
}

fn is_whole(brokers: &Brokers, node: &Node, count: usize) -> Result<(), String> {
    let mut server = connect(brokers, node)?;
    let info = server.text(&["CLUSTER", "INFO"])?;
    let wanted = [("cluster_state", "ok".to_owned()), ("cluster_known_nodes", count.to_string())];
    for (name, wanted) in wanted {
        if line(&info, name) != Some(&wanted) {
            return Err(format!("{}: {name} is not {wanted}", node.name));
        }
    }
    let replication = server.text(&["INFO", "replication"])?;
    let follows = line(&replication, "master_link_status") != Some("down");
    // The fourth field of a replica is whom it follows; until all know, a client may not.
    let nodes = server.text(&["CLUSTER", "NODES"])?;
    let replicas = nodes.lines().filter(|line| line.contains("slave")).count();
    match follows && replicas == count - PRIMARIES {
        true => Ok(()),
        false => Err(format!("{}: {replicas} replicas are known", node.name)),
    }
}
