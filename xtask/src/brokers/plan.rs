//! What a set of brokers consists of, kept in its directory before anything is started.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Options;

const FILE: &str = "plan.json";

/// The nodes of a set with their ports, and its secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Plan {
    pub(super) options: Options,
    pub(super) nodes: Vec<Node>,
    pub(super) password: String,
    /// Names the cluster where a name must be unique: Kafka's cluster id, Erlang's cookie.
    pub(super) id: String,
}

/// One process with its ports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Node {
    pub(super) name: String,
    pub(super) role: Role,
    /// Where clients connect.
    pub(super) port: u16,
    /// Redis: where the other members of a cluster connect. RabbitMQ: where other nodes connect.
    /// Kafka: where controllers connect. 0: nothing.
    pub(super) peers: u16,
    /// RabbitMQ: the management API. Kafka: where other brokers connect. 0: nothing.
    pub(super) second: u16,
}

/// What a node is for. Those that others need come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Role {
    /// Something that servers need: ZooKeeper, or Erlang's port mapper.
    Support,
    /// A broker.
    Server,
    /// A Redis Sentinel, which watches servers that are up.
    Sentinel,
}

impl Plan {
    pub(super) fn load(dir: &Path) -> Result<Option<Self>, String> {
        let path = dir.join(FILE);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(format!("{}: {error}", path.display())),
        };
        let plan = serde_json::from_str(&text);
        plan.map(Some).map_err(|error| format!("{}: {error}", path.display()))
    }

    pub(super) fn save(&self, dir: &Path) -> Result<(), String> {
        let text = serde_json::to_string_pretty(self).map_err(|error| error.to_string())?;
        write_secret(&dir.join(FILE), &text)
    }

    pub(super) fn with_role(&self, role: Role) -> impl Iterator<Item = &Node> + Clone {
        self.nodes.iter().filter(move |node| node.role == role)
    }
}

/// Writes a file that only we can read; whoever sees it sees all of it.
pub(super) fn write_secret(path: &Path, text: &str) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("{}: {error}", path.display());
    let new = path.with_extension("new");
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(&new).map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)?;
    fs::rename(&new, path).map_err(failed)
}

/// As many random bytes in hexadecimal digits, which need no quotes anywhere.
pub(super) fn random_hex(bytes: usize) -> Result<String, String> {
    use std::io::Read;
    let mut buffer = vec![0; bytes];
    let random = fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut buffer));
    random.map_err(|error| format!("/dev/urandom: {error}"))?;
    Ok(buffer.iter().map(|byte| format!("{byte:02x}")).collect())
}
