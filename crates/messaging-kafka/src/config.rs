//! Where the cluster is and how to talk to it.

mod environment;

use std::path::PathBuf;
use std::time::Duration;

use messaging_core::driver::variables::{self, invalid};
use messaging_core::{Error, Result, Secret};

/// Where the cluster is and how to talk to it.
///
/// The address of [`KafkaConfig::default`] is `localhost:9092`, without password and TLS. A publish
/// is confirmed once every in-sync replica has it; there is no option for less.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct KafkaConfig {
    /// Brokers to ask first; the others are learned from them.
    pub servers: Vec<Address>,
    /// The name of this client in the broker's logs, metrics and quotas.
    pub client_id: String,
    /// What every topic begins with, and every group where it is not [`KafkaConfig::PREFIX`].
    pub prefix: String,
    /// TLS, where it is on.
    pub tls: Option<Tls>,
    /// Who we are, where the brokers ask.
    pub login: Option<Login>,
    /// How many copies a new topic has, where its stream says nothing: 3, or as many as there are
    /// brokers.
    pub replication: Option<u16>,
    /// How many copies must be in step for a publish to be confirmed: 2 where there are 3 copies,
    /// else 1.
    pub min_insync_replicas: Option<u16>,
    /// How batches are compressed.
    pub compression: Compression,
    /// When a batch is full or old enough to be sent.
    pub batch: Batch,
    /// What carries batches to the brokers.
    pub write_path: WritePath,
    /// What becomes of a subscription whose place is not kept any more.
    pub out_of_range: OutOfRange,
    /// How long connecting, and the answer to a request, may take.
    pub timeout: Duration,
    /// After what silence the coordinator gives a member's partitions to others.
    pub session_timeout: Duration,
    /// How often a member says that it is alive, and so how soon it learns that partitions are to move.
    pub heartbeat: Duration,
    /// How long a broker holds a fetch back that finds nothing.
    pub max_wait: Duration,
    /// How often what is settled is committed; never past unfinished work.
    pub commit_interval: Duration,
    /// How long a message may be in hand in a group. Then its partition is given up: its handler is
    /// cancelled, and it comes again as a further attempt, to whoever gets the partition.
    pub max_in_hand: Duration,
    /// A name that a member keeps over restarts: it gets its partitions back without a rebalance.
    /// Each process has its own.
    pub instance: Option<String>,
}

/// A host and its port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    /// A name or an address, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// How the brokers' certificates are checked. They always are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tls {
    /// A file with the certificates to trust, in place of the system's.
    pub ca: Option<PathBuf>,
    /// Our own certificate and its key, for brokers that ask for one.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// A user, and how the password is shown to be known.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Login {
    /// The SASL mechanism.
    pub mechanism: Mechanism,
    /// The user.
    pub user: String,
    /// The password.
    pub password: Secret,
}

/// A SASL mechanism.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mechanism {
    /// The password itself; only over TLS, or to this machine.
    Plain,
    /// A proof, with SHA-256.
    ScramSha256,
    /// A proof, with SHA-512.
    ScramSha512,
}

/// How batches are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// Small, slow.
    Gzip,
    /// Fast.
    Snappy,
    /// Fast.
    Lz4,
    /// Small, fast.
    Zstd,
}

/// What carries batches to the brokers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum WritePath {
    /// Requests of our own, on a connection for each partition.
    #[default]
    Direct,
    /// rskafka. It can't tell a leader that refuses a batch from one that lost its leadership after
    /// storing it, so more publishes are unknown when leaders move.
    Rskafka,
}

/// What becomes of a subscription whose place is not kept any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OutOfRange {
    /// A gap is told, and it goes on with the oldest that is kept.
    #[default]
    Earliest,
    /// It ends with an error, so that somebody decides.
    Fail,
}

/// When a batch is full or old enough to be sent.
///
/// By default a batch is whatever came together while the one before it was on its way, and nothing
/// waits for company.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Batch {
    /// The most messages of a batch.
    pub messages: usize,
    /// The most bytes of a batch before it is compressed; one message is never split.
    pub bytes: usize,
    /// How long a batch that is not full waits for more.
    pub linger: Duration,
}

impl Default for Batch {
    fn default() -> Self {
        Self { messages: 10_000, bytes: 900 * 1024, linger: Duration::ZERO }
    }
}

impl Default for KafkaConfig {
    fn default() -> Self {
        Self {
            servers: vec![Address::new("localhost", Address::PORT)],
            client_id: "helixagent".to_owned(),
            prefix: Self::PREFIX.to_owned(),
            tls: None,
            login: None,
            replication: None,
            min_insync_replicas: None,
            compression: Compression::None,
            batch: Batch::default(),
            write_path: WritePath::default(),
            out_of_range: OutOfRange::default(),
            timeout: Duration::from_secs(5),
            session_timeout: Duration::from_secs(30),
            heartbeat: Duration::from_millis(500),
            max_wait: Duration::from_millis(500),
            commit_interval: Duration::from_secs(5),
            max_in_hand: Duration::from_secs(30 * 60),
            instance: None,
        }
    }
}

impl KafkaConfig {
    /// What every topic begins with unless told otherwise.
    pub const PREFIX: &'static str = "helixagent";

    /// Reads the variables of the process.
    ///
    /// * Where: `KAFKA_BROKERS`, a list; `KAFKA_CLIENT_ID`; `KAFKA_TOPIC_PREFIX`.
    /// * Security: `KAFKA_TLS`, `KAFKA_TLS_CA`, `KAFKA_TLS_CERT`, `KAFKA_TLS_KEY`;
    ///   `KAFKA_SASL_MECHANISM`, `KAFKA_SASL_USERNAME`, `KAFKA_SASL_PASSWORD`.
    /// * Topics: `KAFKA_REPLICATION_FACTOR`, `KAFKA_MIN_INSYNC_REPLICAS`.
    /// * Writing: `KAFKA_COMPRESSION`, `KAFKA_BATCH_SIZE` (messages), `KAFKA_LINGER_MS`,
    ///   `KAFKA_WRITE_PATH` (`direct`, `rskafka`). `KAFKA_REQUIRED_ACKS` accepts `all` only.
    /// * Reading: `KAFKA_SESSION_TIMEOUT_MS`, `KAFKA_HEARTBEAT_INTERVAL_MS`,
    ///   `KAFKA_MAX_WAIT_TIME`, `KAFKA_COMMIT_INTERVAL`, `KAFKA_MAX_POLL_INTERVAL_MS` (a message's
    ///   longest time in hand), `KAFKA_GROUP_INSTANCE_ID`, `KAFKA_OUT_OF_RANGE` (`earliest`, `fail`).
    ///
    /// A variable that asks for what is not done here (`KAFKA_ASYNC`, `KAFKA_AUTO_COMMIT` other
    /// than `true`, `KAFKA_GROUP_ID`, `KAFKA_BROKER`, …) is refused by name.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`](messaging_core::ErrorKind::InvalidConfig), naming the variable
    /// and what it accepts; never its value where that may hold a password.
    pub fn from_env() -> Result<Self> {
        environment::read(variables::of_process)
    }

    /// As [`KafkaConfig::from_env`], from any source of variables.
    ///
    /// # Errors
    /// As [`KafkaConfig::from_env`], and those of the source.
    pub fn from_variables(get: impl Fn(&str) -> Result<Option<String>>) -> Result<Self> {
        environment::read(get)
    }

    /// Sets the brokers to ask first.
    #[must_use]
    pub fn with_servers(mut self, servers: impl IntoIterator<Item = Address>) -> Self {
        self.servers = servers.into_iter().collect();
        self
    }

    /// Sets the user.
    #[must_use]
    pub fn with_login(
        mut self,
        mechanism: Mechanism,
        user: impl Into<String>,
        password: impl Into<Box<str>>,
    ) -> Self {
        let (user, password) = (user.into(), Secret::new(password));
        self.login = Some(Login { mechanism, user, password });
        self
    }

    /// Sets how the brokers' certificates are checked.
    #[must_use]
    pub fn with_tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Sets how batches are compressed.
    #[must_use]
    pub const fn with_compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// Sets how long connecting, and the answer to a request, may take.
    #[must_use]
    pub const fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets what every topic begins with.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`](messaging_core::ErrorKind::InvalidConfig) for anything but
    /// dot-separated words of `[A-Za-z0-9_-]`.
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

    /// Checks what no single value says.
    pub(crate) fn check(&self) -> Result<()> {
        if self.servers.is_empty() {
            return Err(invalid("KAFKA_BROKERS", "it is empty", "host:port,host:port"));
        }
        if self.heartbeat.is_zero() || self.heartbeat * 3 > self.session_timeout {
            let reason = "it is more than a third of the session timeout, or nothing";
            let accepted = "at most a third of KAFKA_SESSION_TIMEOUT_MS";
            return Err(invalid("KAFKA_HEARTBEAT_INTERVAL_MS", reason, accepted));
        }
        if let (Some(login), None) = (&self.login, &self.tls) {
            self.servers.iter().try_for_each(|address| login.check_readable_at(address))?;
        }
        Ok(())
    }

    /// Where the cluster is, without secrets.
    pub(crate) fn address(&self) -> String {
        self.servers.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
    }
}

impl Login {
    /// Whether it may go to this address without TLS.
    pub(crate) fn check_readable_at(&self, address: &Address) -> Result<()> {
        if self.mechanism != Mechanism::Plain || address.is_local() {
            return Ok(());
        }
        let reason =
            format!("PLAIN would send the password readable over the network to {address}");
        let accepted = "PLAIN with KAFKA_TLS=true, or SCRAM-SHA-256, SCRAM-SHA-512";
        Err(invalid("KAFKA_SASL_MECHANISM", &reason, accepted))
    }
}

impl Address {
    /// Where Kafka listens unless told otherwise.
    pub const PORT: u16 = 9092;

    /// Makes an address.
    #[must_use]
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self { host: host.into(), port }
    }

    fn is_local(&self) -> bool {
        self.host == "localhost"
            || self.host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

impl std::str::FromStr for Address {
    type Err = Error;

    /// Reads `host`, `host:port`, `[address]` or `[address]:port`.
    fn from_str(text: &str) -> Result<Self> {
        let (host, rest) = match text.strip_prefix('[').and_then(|text| text.split_once(']')) {
            Some((host, rest)) if host.contains(':') => (host, rest),
            Some(_) => ("", ""),
            None => text.split_at(text.find(':').unwrap_or(text.len())),
        };
        let port = match rest {
            "" => Some(Self::PORT),
            rest => rest.strip_prefix(':').and_then(|port| port.parse().ok()),
        };
        let legal = |host: &str| {
            !host.is_empty()
                && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.:".contains(&b))
        };
        match port.filter(|port| *port != 0 && legal(host)) {
            Some(port) => Ok(Self::new(host, port)),
            None => Err(invalid("address", "it has an illegal form", "host:port, [::1]:port")),
        }
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
