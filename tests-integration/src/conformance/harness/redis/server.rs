//! The Redis servers behind a stage, as cases drive them.

use std::sync::Arc;

use futures::FutureExt;
use messaging::Broker;
use messaging::redis::config::{Address, Servers};
use messaging::redis::{RedisConfig, Streams};
use xtask::brokers::{Private, RedisMode};

use crate::conformance::harness::{output, python};
use crate::conformance::stage::IMPATIENCE;
use crate::conformance::{Connecting, Foreign, Server};

/// Python's client, and a program with it.
const LIBRARY: &str = "redis";
const PROGRAM: &str = include_str!("client.py");

/// Where nothing listens.
const NOWHERE: (&str, u16) = ("127.0.0.1", 1);

/// One place on servers of ours.
#[derive(Debug)]
pub(super) struct RedisServer {
    pub(super) servers: Arc<Private>,
    pub(super) mode: RedisMode,
    pub(super) config: RedisConfig,
}

impl RedisServer {
    /// The servers that hold the data: the first ones, as nothing has failed over.
    fn each(&self, call: impl Fn(&Private, &str) -> Result<(), String>) -> Result<(), String> {
        let count = if self.mode == RedisMode::Cluster { 3 } else { 1 };
        let all = self.servers.servers();
        all.into_iter().take(count).try_for_each(|node| call(&self.servers, node))
    }

    fn cli(&self, args: &[&str]) -> Result<String, String> {
        output(&mut self.servers.redis_cli(args)?)
    }

    fn key(&self, stream: &str) -> String {
        format!("{}.{stream}", self.config.prefix)
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

    fn has(&self, client: Foreign) -> Result<(), String> {
        match client {
            Foreign::Tool => Ok(()),
            Foreign::Python(library) => python::install(library),
        }
    }

    fn libraries(&self) -> &'static [&'static str] {
        &[LIBRARY]
    }

    /// The body alone, which has no place for the rest of the subject.
    fn write(&self, client: Foreign, subject: &str, body: &str) -> Result<(), String> {
        let key = self.key(subject.split('.').next().unwrap_or_default());
        match client {
            Foreign::Tool => self.cli(&["XADD", &key, "*", "body", body]),
            Foreign::Python(_) => {
                python::call(PROGRAM, &["write", &key, body], &self.servers.env())
            }
        }
        .map(drop)
    }

    fn read(&self, client: Foreign, stream: &str) -> Result<Vec<String>, String> {
        let key = self.key(stream);
        match client {
            Foreign::Tool => bodies(&self.cli(&["--json", "XRANGE", &key, "-", "+"])?),
            Foreign::Python(_) => {
                let all = python::call(PROGRAM, &["read", &key], &self.servers.env())?;
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
        connect(self.config.clone().with_password(password))
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
        (connect(self.config.clone().with_servers(servers)), address)
    }

    fn impatiently(&self) -> Connecting {
        let mut config = self.config.clone();
        config.dead_after = IMPATIENCE;
        connect(config)
    }

    fn variables(&self) -> Vec<(String, String)> {
        let mut all = self.servers.env();
        all.push(("REDIS_PREFIX".to_owned(), self.config.prefix.clone()));
        all
    }
}

pub(super) fn connect(config: RedisConfig) -> Connecting {
    async { Ok(Broker::builder(Streams::connect(config).await?)) }.boxed()
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
