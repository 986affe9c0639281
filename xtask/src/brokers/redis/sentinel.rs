//! A primary, its replicas, and the Sentinels that watch them.

use super::resp::line;
use super::{Brokers, connect};
use crate::brokers::LIMIT;
use crate::brokers::plan::{Node, Role};
use crate::brokers::until::until;

/// The name under which Sentinels know the primary.
pub(super) const MASTER: &str = "messaging";

/// The first server is the primary; it takes writes only while a replica follows.
pub(super) fn replication(brokers: &Brokers, node: &Node) -> String {
    let mut text = "min-replicas-to-write 1\nmin-replicas-max-lag 5\n".to_owned();
    if let Some(primary) = brokers.plan.with_role(Role::Server).next()
        && primary != node
    {
        text.push_str(&format!("replicaof 127.0.0.1 {}\n", primary.port));
    }
    text
}

/// A Sentinel that takes a primary for dead after 2 s without an answer.
pub(super) fn configuration(brokers: &Brokers, node: &Node) -> String {
    let primary = brokers.plan.with_role(Role::Server).next().map_or(0, |primary| primary.port);
    format!(
        "bind 127.0.0.1\n\
         port {}\n\
         dir \"{}\"\n\
         sentinel monitor {MASTER} 127.0.0.1 {primary} 2\n\
         sentinel auth-pass {MASTER} {}\n\
         sentinel down-after-milliseconds {MASTER} 2000\n\
         sentinel failover-timeout {MASTER} 3000\n\
         sentinel parallel-syncs {MASTER} 2\n",
        node.port,
        brokers.dir_of(node).display(),
        brokers.plan.password,
    )
}

/// The server that says that it is the primary, else the one that was at first.
pub(super) fn primary(brokers: &Brokers) -> Option<&Node> {
    let says_so = |node: &&Node| {
        let info = connect(brokers, node).and_then(|mut it| it.text(&["INFO", "replication"]));
        info.is_ok_and(|info| line(&info, "role") == Some("master"))
    };
    let mut servers = brokers.plan.with_role(Role::Server);
    servers.clone().find(says_so).or_else(|| servers.next())
}

/// Waits until one server is the primary and all others follow it.
pub(super) fn wait_for_replicas(brokers: &Brokers) -> Result<(), String> {
    until(LIMIT, || {
        let mut primaries = 0;
        for node in brokers.plan.with_role(Role::Server) {
            let info = connect(brokers, node).and_then(|mut it| it.text(&["INFO", "replication"]));
            match info {
                Ok(info) if line(&info, "role") == Some("master") => primaries += 1,
                Ok(info) if line(&info, "master_link_status") == Some("up") => {}
                Ok(_) => return Err(format!("{} follows nobody", node.name)).into(),
                Err(error) => return Err(error).into(),
            }
        }
        match primaries {
            1 => Ok(()),
            // Which of them it is, Sentinels have to say.
            _ => Err(format!("{primaries} primaries")),
        }
        .into()
    })
}

/// Waits until every Sentinel knows the replicas and the other Sentinels.
pub(super) fn wait_for_quorum(brokers: &Brokers) -> Result<(), String> {
    until(LIMIT, || {
        let known = brokers.plan.with_role(Role::Sentinel).try_for_each(|node| {
            let mut sentinel = connect(brokers, node)?;
            let state = sentinel.call(&["SENTINEL", "MASTER", MASTER])?;
            for (field, wanted) in [("flags", "master"), ("num-slaves", "2")] {
                if state.field(field) != Some(wanted) {
                    return Err(format!("{}: {field} is not {wanted}", node.name));
                }
            }
            sentinel.call(&["SENTINEL", "CKQUORUM", MASTER])?;
            match state.field("num-other-sentinels") {
                Some("2") => Ok(()),
                _ => Err(format!("{} does not know the others", node.name)),
            }
        });
        known.into()
    })
}
