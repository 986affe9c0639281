//! The `ZooKeeper` of Kafka before version 4.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use super::{Brokers, properties};
use crate::brokers::LIMIT;
use crate::brokers::plan::{Node, Role};
use crate::brokers::until::until;

pub(super) const MAIN: &str = "org.apache.zookeeper.server.quorum.QuorumPeerMain";

/// One server with short ticks, so that it forgets a killed broker soon.
pub(super) fn configuration(brokers: &Brokers, node: &Node) -> String {
    format!(
        "tickTime=500\n\
         dataDir={}\n\
         clientPort={}\n\
         clientPortAddress=127.0.0.1\n\
         admin.enableServer=false\n\
         4lw.commands.whitelist=ruok,dump\n",
        brokers.dir_of(node).join("data").display(),
        node.port,
    )
}

pub(super) fn answers(node: &Node) -> Result<(), String> {
    match &*ask(node, "ruok")? {
        "imok" => Ok(()),
        other => Err(format!("{} says {other:?}", node.name)),
    }
}

/// Waits until nothing is left of a killed broker's session: with one there, it would not start.
pub(super) fn wait_for_expiry(brokers: &Brokers, node: &Node) -> Result<(), String> {
    let Some(keeper) = brokers.plan.with_role(Role::Support).next() else { return Ok(()) };
    let path = format!("/brokers/ids/{}", properties::id(brokers, node));
    until(LIMIT, || {
        let sessions = ask(keeper, "dump").and_then(|sessions| {
            match sessions.lines().any(|line| line.trim() == path) {
                true => Err(format!("the former session of {} has not expired", node.name)),
                false => Ok(()),
            }
        });
        sessions.into()
    })
}

/// Sends a word of four letters and reads the answer, after which the server hangs up.
fn ask(node: &Node, word: &str) -> Result<String, String> {
    let failed = |error: std::io::Error| format!("127.0.0.1:{}: {error}", node.port);
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, node.port));
    let limit = Duration::from_secs(2);
    let mut stream = TcpStream::connect_timeout(&address, limit).map_err(failed)?;
    stream.set_read_timeout(Some(limit)).map_err(failed)?;
    stream.write_all(word.as_bytes()).map_err(failed)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(failed)?;
    Ok(answer)
}
