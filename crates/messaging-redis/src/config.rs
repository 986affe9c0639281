//! Where the server is and how to talk to it.

mod environment;
mod url;

use std::path::PathBuf;
use std::time::Duration;

use messaging_core::driver::variables::{self, invalid};
use messaging_core::{Result, Secret};

/// Where the server is and how to talk to it.
///
/// The address of [`RedisConfig::default`] is `localhost:6379`, without password and TLS.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RedisConfig {
    /// One node, Sentinel or Cluster.
    pub servers: Servers,
    /// The user; the server's default user unless set.
    pub user: Option<String>,
    /// The password.
    pub password: Option<Secret>,
    /// The number of the database; Cluster has only 0.
    pub database: i64,
    /// TLS, where it is on.
    pub tls: Option<Tls>,
    /// What every key and channel begins with.
    pub prefix: String,
    /// How messages travel over Pub/Sub.
    pub format: Format,
    /// On how many replicas a publish must be before it counts as confirmed; fewer is unknown.
    pub wait_replicas: u32,
    /// How long connecting, and the answer to a command, may take.
    pub timeout: Duration,
    /// After what silence a consumer is dead and others take its messages.
    pub dead_after: Duration,
}

/// Which servers there are.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Servers {
    /// One node.
    Node(Address),
    /// The master of this name, as these sentinels know it.
    Sentinel {
        /// The sentinels.
        sentinels: Vec<Address>,
        /// The name of the master.
        master: String,
    },
    /// The cluster that these nodes belong to.
    Cluster(Vec<Address>),
}

/// A host and its port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// A name or an address, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// How the server's certificate is checked. It always is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tls {
    /// A file with the certificates to trust, in place of the system's.
    pub ca: Option<PathBuf>,
    /// Our own certificate and its key, for servers that ask for one.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// How messages travel over Pub/Sub.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// JSON without headers and key as it is, everything else in an envelope.
    #[default]
    Auto,
    /// Everything in an envelope.
    Envelope,
    /// Bodies alone; headers, keys and other content types are refused.
    Raw,
}

impl Default for RedisConfig {
    fn default() -> Self {
        Self {
            servers: Servers::Node(Address::new("localhost", Address::PORT)),
            user: None,
            password: None,
            database: 0,
            tls: None,
            prefix: "helixagent".to_owned(),
            format: Format::Auto,
            wait_replicas: 0,
            timeout: Duration::from_secs(5),
            dead_after: Duration::from_secs(30),
        }
    }
}

impl RedisConfig {
    /// Reads the variables of the process: `REDIS_URL`, or `REDIS_HOST`, `REDIS_PORT`,
    /// `REDIS_USER`, `REDIS_PASSWORD`, `REDIS_DB`; `REDIS_SENTINELS` with
    /// `REDIS_SENTINEL_MASTER`, or `REDIS_CLUSTER_NODES`; `REDIS_TLS_CA`, `REDIS_TLS_CERT`,
    /// `REDIS_TLS_KEY`; `REDIS_PREFIX`, `REDIS_PUBSUB_FORMAT`, `REDIS_WAIT_REPLICAS`.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`](messaging_core::ErrorKind::InvalidConfig), naming the variable
    /// and what it accepts; never its value where that may hold a password.
    pub fn from_env() -> Result<Self> {
        environment::read(variables::of_process)
    }

    /// As [`RedisConfig::from_env`], from any source of variables.
    ///
    /// # Errors
    /// As [`RedisConfig::from_env`], and those of the source.
    pub fn from_variables(get: impl Fn(&str) -> Result<Option<String>>) -> Result<Self> {
        environment::read(get)
    }

    /// Sets the password.
    #[must_use]
    pub fn with_password(mut self, password: impl Into<Box<str>>) -> Self {
        self.password = Some(Secret::new(password));
        self
    }

    /// Sets the servers.
    #[must_use]
    pub fn with_servers(mut self, servers: Servers) -> Self {
        self.servers = servers;
        self
    }

    /// Sets what every key and channel begins with.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`](messaging_core::ErrorKind::InvalidConfig) for anything but
    /// dot-separated words of `[A-Za-z0-9_-]`, which has no meaning of its own in keys and patterns.
    pub fn with_prefix(mut self, prefix: &str) -> Result<Self> {
        let legal = |word: &str| {
            !word.is_empty()
                && word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
        };
        if prefix.len() > 100 || !prefix.split('.').all(legal) {
            let accepted = "dot-separated words of [A-Za-z0-9_-], at most 100 bytes";
            return Err(invalid("prefix", "it has an illegal form", accepted));
        }
        prefix.clone_into(&mut self.prefix);
        Ok(self)
    }

    /// Where the servers are, without secrets.
    pub(crate) fn address(&self) -> String {
        let list =
            |all: &[Address]| all.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        match &self.servers {
            Servers::Node(address) => address.to_string(),
            Servers::Sentinel { sentinels, master } => format!("{master} of {}", list(sentinels)),
            Servers::Cluster(nodes) => format!("cluster {}", list(nodes)),
        }
    }
}

impl Address {
    /// Where Redis listens unless told otherwise.
    pub const PORT: u16 = 6379;

    /// Makes an address.
    #[must_use]
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self { host: host.into(), port }
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}
