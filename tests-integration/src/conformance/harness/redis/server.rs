//! The Redis servers behind a stage, as cases drive them.

use std::process::Command;
use std::sync::Arc;

use messaging::redis::RedisConfig;
use messaging::redis::config::{Address, Servers};
use xtask::brokers::{Private, RedisMode};

use super::listener::ForeignListener;
use super::{Backend, python};
use crate::conformance::stage::IMPATIENCE;
use crate::conformance::{Connecting, Foreign, Server};

/// Where nothing listens.
const NOWHERE: (&str, u16) = ("127.0.0.1", 1);

/// One place on servers of ours.
#[derive(Debug)]
pub(super) struct RedisServer {
    pub(super) servers: Arc<Private>,
    pub(super) backend: Backend,
    pub(super) mode: RedisMode,
    pub(super) config: RedisConfig,
}

impl RedisServer {
    /// The servers that clients talk to: all of a cluster, as every one of them passes on what is
    /// published, and else the first, as nothing fails over.
    fn each(&self, call: impl Fn(&Private, &str) -> Result<(), String>) -> Result<(), String> {
        let all = self.servers.servers();
        let count = if self.mode == RedisMode::Cluster { all.len() } else { 1 };
        all.into_iter().take(count).try_for_each(|node| call(&self.servers, node))
    }

    fn cli(&self, args: &[&str]) -> Result<String, String> {
        output(&mut self.servers.redis_cli(args)?)
    }

    fn python(&self, args: &[&str]) -> Result<String, String> {
        output(&mut python::command(args, &self.servers.env()))
    }

    /// The key of a stream, and the channel of a subject.
    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.config.prefix)
    }
}

impl Server for RedisServer {
    fn kill(&self) -> Result<(), String> {
        self.each(|servers, node| servers.kill(node))
    }

    fn stop(&self) -> Result<(), String> {
        self.each(|servers, node| servers.stop(node))
    }

    fn start(&self) -> Result<(), String> {
        self.each(|servers, node| servers.start_node(node))
    }

    fn pause(&self) -> Result<(), String> {
        self.each(|servers, node| servers.pause(node))
    }

    fn resume(&self) -> Result<(), String> {
        self.each(|servers, node| servers.resume(node))
    }

    fn cut(&self) -> Result<(), String> {
        self.each(|servers, node| {
            let port = servers.address(node)?.port().to_string();
            for kind in ["normal", "pubsub"] {
                let args = ["-p", &port, "CLIENT", "KILL", "TYPE", kind];
                output(&mut servers.redis_cli(args)?)?;
            }
            Ok(())
        })
    }

    fn has(&self, client: Foreign) -> Result<(), String> {
        match client {
            Foreign::Tool => Ok(()),
            Foreign::Python => python::install(),
        }
    }

    fn write(&self, client: Foreign, subject: &str, body: &str) -> Result<(), String> {
        let (stream, _) = subject.split_once('.').unwrap_or((subject, ""));
        let (key, channel) = (self.key(stream), self.key(subject));
        match (client, self.backend) {
            (Foreign::Tool, Backend::Streams) => self.cli(&["XADD", &key, "*", "body", body]),
            (Foreign::Tool, Backend::PubSub) => self.cli(&["PUBLISH", &channel, body]),
            (Foreign::Python, Backend::Streams) => self.python(&["write", &key, body]),
            (Foreign::Python, Backend::PubSub) => self.python(&["publish", &channel, body]),
        }
        .map(drop)
    }

    fn overhear(
        &self,
        client: Foreign,
        subject: &str,
        count: usize,
        publish: &dyn Fn(),
    ) -> Result<Vec<String>, String> {
        let key = self.key(subject);
        let mut command = match (self.backend, client) {
            (Backend::Streams, _) => {
                publish();
                let (stream, _) = subject.split_once('.').unwrap_or((subject, ""));
                return self.read(client, stream);
            }
            (Backend::PubSub, Foreign::Tool) => self.servers.redis_cli(["SUBSCRIBE", &key])?,
            (Backend::PubSub, Foreign::Python) => {
                python::command(&["listen", &key], &self.servers.env())
            }
        };
        let mut listener = ForeignListener::start(&mut command)?;
        publish();
        (0..count).map(|_| listener.next()).collect()
    }

    fn read(&self, client: Foreign, stream: &str) -> Result<Vec<String>, String> {
        let key = self.key(stream);
        match client {
            Foreign::Tool => bodies(&self.cli(&["--json", "XRANGE", &key, "-", "+"])?),
            Foreign::Python => {
                let all = self.python(&["read", &key])?;
                Ok(all.lines().map(str::to_owned).collect())
            }
        }
    }

    fn forget_group(&self, stream: &str, group: &str) -> Result<(), String> {
        self.cli(&["XGROUP", "DESTROY", &self.key(stream), group]).map(drop)
    }

    fn forget_stream(&self, stream: &str) -> Result<(), String> {
        self.cli(&["DEL", &self.key(stream)]).map(drop)
    }

    fn trim(&self, stream: &str) -> Result<(), String> {
        self.cli(&["XTRIM", &self.key(stream), "MAXLEN", "0"]).map(drop)
    }

    fn password(&self) -> String {
        let password = self.config.password.as_ref();
        password.map(|password| password.reveal().to_owned()).unwrap_or_default()
    }

    fn with_password(&self, password: &str) -> Connecting {
        self.backend.connect(self.config.clone().with_password(password))
    }

    fn to_nobody(&self) -> (Connecting, String) {
        let nobody = Address::new(NOWHERE.0, NOWHERE.1);
        let address = nobody.to_string();
        let servers = match &self.config.servers {
            Servers::Sentinel { master, .. } => {
                Servers::Sentinel { sentinels: vec![nobody], master: master.clone() }
            }
            Servers::Cluster(_) => Servers::Cluster(vec![nobody]),
            _ => Servers::Node(nobody),
        };
        (self.backend.connect(self.config.clone().with_servers(servers)), address)
    }

    fn impatiently(&self) -> Connecting {
        let mut config = self.config.clone();
        config.dead_after = IMPATIENCE;
        self.backend.connect(config)
    }

    fn variables(&self) -> Vec<(String, String)> {
        let mut all = self.servers.env();
        all.push(("REDIS_PREFIX".to_owned(), self.config.prefix.clone()));
        all
    }
}

/// The field `body` of each entry, as `redis-cli --json` shows them.
fn bodies(shown: &str) -> Result<Vec<String>, String> {
    let entries: Vec<(String, Vec<String>)> =
        serde_json::from_str(shown).map_err(|error| format!("{error}: {shown}"))?;
    let body = |fields: Vec<String>| {
        let mut pairs = fields.chunks_exact(2);
        pairs.find(|pair| pair.first().is_some_and(|name| name == "body"))?.last().cloned()
    };
    entries.into_iter().map(|(id, fields)| body(fields).ok_or(format!("{id}: no body"))).collect()
}

/// What `redis-cli` and Python print, or why they failed.
pub(super) fn output(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout).trim_end().to_owned();
    // redis-cli ends with 0 where the server answers with an error.
    let failed =
        !output.status.success() || text.starts_with("ERR ") || text.starts_with("(error)");
    match failed {
        false => Ok(text),
        true => Err(format!("{text} {}", String::from_utf8_lossy(&output.stderr).trim_end())),
    }
}
