//! Where the server is and how to talk to it.

mod environment;
mod management;
mod url;

use std::num::NonZeroU16;
use std::path::PathBuf;
use std::time::Duration;

use messaging_core::driver::variables::{self, invalid};
use messaging_core::error::excerpt;
use messaging_core::{Error, ErrorKind, Result, Secret};

pub use self::management::Management;

/// Where the server is and how to talk to it.
///
/// [`RabbitConfig::default`] is the server's own default: `guest` at `localhost:5672`, virtual host
/// `/`, without TLS.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RabbitConfig {
    /// The nodes, tried in this order.
    pub nodes: Vec<Address>,
    /// The user.
    pub user: String,
    /// The user's password.
    pub password: Secret,
    /// The virtual host.
    pub vhost: String,
    /// TLS, where it is on.
    pub tls: Option<Tls>,
    /// The exchange that everything is published to.
    pub exchange: String,
    /// How the exchange routes.
    pub exchange_type: ExchangeType,
    /// Whether the exchange survives a restart of the server. Queues of groups always do.
    pub durable: bool,
    /// What the names of all other exchanges and queues of ours begin with.
    pub prefix: String,
    /// On how many nodes a queue has its copies.
    pub ha_mode: HaMode,
    /// The server's `consumer_timeout`, which can't be read: a delivery held longer ends its channel.
    pub consumer_timeout: Duration,
    /// The most unsettled deliveries of a subscription, whatever it asks for. What waits for a retry
    /// in place, and a dead letter that is left where it is, are among them.
    pub prefetch: Option<NonZeroU16>,
    /// The management API, for what AMQP has no answer to.
    pub management: Option<Management>,
    /// Seconds between heartbeats, 2 to 60; a silent server counts as lost after two.
    pub heartbeat: u16,
    /// How long connecting, and the answer to a request, may take.
    pub timeout: Duration,
    /// The largest body sent, in bytes. The server closes the channel above its own limit.
    pub max_body_bytes: usize,
    /// The most bytes written and not yet confirmed, over one connection.
    pub max_unconfirmed_bytes: usize,
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

/// How an exchange routes. Patterns need a topic exchange, so there is no other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExchangeType {
    /// By the words of the subject.
    #[default]
    Topic,
}

/// On how many nodes a queue has its copies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum HaMode {
    /// As many as the server chooses.
    #[default]
    None,
    /// On every node that this client is told of, where those are several: the size of the quorum.
    /// It is asked for as a queue is made; one that exists keeps the copies it has, and
    /// `rabbitmq-queues grow` adds others. Mirrored classic queues are gone since RabbitMQ 4.
    All,
}

impl Default for RabbitConfig {
    fn default() -> Self {
        Self {
            nodes: vec![Address::new("localhost", Address::PORT)],
            user: "guest".to_owned(),
            password: Secret::new("guest"),
            vhost: "/".to_owned(),
            tls: None,
            exchange: "helixagent".to_owned(),
            exchange_type: ExchangeType::Topic,
            durable: true,
            prefix: "helixagent".to_owned(),
            ha_mode: HaMode::None,
            consumer_timeout: Duration::from_secs(30 * 60),
            prefetch: None,
            management: None,
            heartbeat: 5,
            timeout: Duration::from_secs(5),
            max_body_bytes: 16 << 20,
            max_unconfirmed_bytes: 64 << 20,
        }
    }
}

impl RabbitConfig {
    /// Reads the variables of the process: `RABBITMQ_URL`, or `RABBITMQ_HOST`, `RABBITMQ_PORT`,
    /// `RABBITMQ_USER`, `RABBITMQ_PASSWORD`, `RABBITMQ_VHOST`; `RABBITMQ_CLUSTER_NODES`,
    /// `RABBITMQ_HA_MODE`; `RABBITMQ_EXCHANGE`, `RABBITMQ_EXCHANGE_TYPE`, `RABBITMQ_DURABLE`,
    /// `RABBITMQ_PREFIX`; `RABBITMQ_CONSUMER_TIMEOUT`, `RABBITMQ_PREFETCH_COUNT`,
    /// `RABBITMQ_PUBLISHER_CONFIRM`, `RABBITMQ_HEARTBEAT`; `RABBITMQ_MANAGEMENT_URL`, or
    /// `RABBITMQ_MGMT_PORT`; `RABBITMQ_TLS_CA`, `RABBITMQ_TLS_CERT`, `RABBITMQ_TLS_KEY`.
    ///
    /// What only a server has, such as `RABBITMQ_ERLANG_COOKIE`, is refused by name, and so is
    /// `RABBITMQ_ENABLED` unless it is `true`.
    ///
    /// `RABBITMQ_DEFAULT_USER`, `RABBITMQ_DEFAULT_PASS` and `RABBITMQ_DEFAULT_VHOST`, by which the
    /// server's image makes its first user, count where nothing above names one.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`], naming the variable and what it accepts; never its value where
    /// that may hold a password.
    pub fn from_env() -> Result<Self> {
        environment::read(variables::of_process)
    }

    /// As [`RabbitConfig::from_env`], from any source of variables.
    ///
    /// # Errors
    /// As [`RabbitConfig::from_env`], and those of the source.
    pub fn from_variables(get: impl Fn(&str) -> Result<Option<String>>) -> Result<Self> {
        environment::read(get)
    }

    /// Reads a URL: `amqp://user:password@host:port/vhost`, `amqps://` for TLS. Several nodes are
    /// separated by commas.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`], without the URL: it may hold a password.
    pub fn from_url(url: &str) -> Result<Self> {
        url::read("url", url)
    }

    /// Sets the nodes, tried in this order.
    #[must_use]
    pub fn with_nodes(mut self, nodes: Vec<Address>) -> Self {
        self.nodes = nodes;
        self
    }

    /// Sets user and password.
    #[must_use]
    pub fn with_login(mut self, user: &str, password: impl Into<Box<str>>) -> Self {
        user.clone_into(&mut self.user);
        self.password = Secret::new(password);
        self
    }

    /// Sets the exchange, and the prefix with it.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`] for anything but dot-separated words of `[A-Za-z0-9_-]`.
    pub fn with_exchange(mut self, exchange: &str) -> Result<Self> {
        check_name("exchange", exchange)?;
        exchange.clone_into(&mut self.exchange);
        exchange.clone_into(&mut self.prefix);
        Ok(self)
    }

    /// Sets how the exchange routes, by the server's name for it.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`] for everything but `topic`.
    pub fn with_exchange_type(mut self, name: &str) -> Result<Self> {
        if name != "topic" {
            let reason = "only a topic exchange knows patterns";
            let kind = ErrorKind::InvalidConfig;
            return Err(Error::invalid(kind, "exchange type", name, reason, "topic"));
        }
        self.exchange_type = ExchangeType::Topic;
        Ok(self)
    }

    /// Sets what the names of all other exchanges and queues of ours begin with.
    ///
    /// # Errors
    /// As [`RabbitConfig::with_exchange`].
    pub fn with_prefix(mut self, prefix: &str) -> Result<Self> {
        check_name("prefix", prefix)?;
        prefix.clone_into(&mut self.prefix);
        Ok(self)
    }

    /// Where the server is, without secrets.
    pub(crate) fn address(&self) -> String {
        let nodes: Vec<String> = self.nodes.iter().map(ToString::to_string).collect();
        let vhost = if self.vhost == "/" { "" } else { &self.vhost };
        format!("{}/{vhost}", nodes.join(","))
    }

    /// Checks what can be set without a function.
    pub(crate) fn check(&self) -> Result<()> {
        let limits = [
            ("user", self.user.len()),
            ("virtual host", self.vhost.len()),
            ("exchange", self.exchange.len()),
        ];
        for (what, length) in limits {
            if length == 0 || length > 255 {
                return Err(invalid(what, "it is empty or too long", "1 to 255 bytes"));
            }
        }
        check_name("prefix", &self.prefix)?;
        if self.nodes.is_empty() {
            return Err(invalid("nodes", "there is none", "at least one"));
        }
        if !(2..=60).contains(&self.heartbeat) {
            return Err(invalid("heartbeat", "it is out of range", "2 to 60 seconds"));
        }
        Ok(())
    }
}

impl Address {
    /// Where RabbitMQ listens unless told otherwise.
    pub const PORT: u16 = 5672;
    /// Where RabbitMQ listens for TLS unless told otherwise.
    pub const TLS_PORT: u16 = 5671;

    /// Makes an address.
    #[must_use]
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self { host: host.into(), port }
    }

    /// Whether it is on this machine.
    pub(crate) fn is_loopback(&self) -> bool {
        self.host == "localhost"
            || self.host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
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

/// A name that begins names of exchanges and queues; what follows it must fit into 255 bytes.
fn check_name(what: &str, name: &str) -> Result<()> {
    let legal = |word: &str| {
        !word.is_empty()
            && word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
    };
    if name.len() > 100 || !name.split('.').all(legal) || name.starts_with("amq.") {
        let accepted = "dot-separated words of [A-Za-z0-9_-], at most 100 bytes, not amq.…";
        let shown = excerpt(name);
        return Err(invalid(&format!("{what} {shown}"), "it has an illegal form", accepted));
    }
    Ok(())
}
