//! Connections to the server, whichever way it is found: one node, Sentinel, Cluster.

mod inline;
mod node;
mod write;

use std::sync::Once;
use std::time::Duration;

use futures::future::try_join_all;
use messaging_core::{Error, ErrorKind, Result};
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::io::tcp::TcpSettings;
use redis::sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, Cmd, ConnectionAddr, ConnectionInfo,
    IntoConnectionInfo, Pipeline, RedisConnectionInfo, RedisFuture, TlsCertificates, TlsMode,
    Value,
};
use tokio::sync::Mutex;
use tokio::time::timeout;

pub(crate) use self::inline::{Together, Traffic, alongside};
pub(crate) use self::write::Written;
use crate::config::{Address, RedisConfig, Servers, Tls};
use crate::error::{checked, from_client};

/// Opens connections.
pub(crate) struct Connector {
    source: Source,
    /// For single commands beside the data path. Cluster connections share their own.
    pool: Option<deadpool_redis::Pool>,
    address: String,
    timeout: Duration,
}

enum Source {
    Node(Client),
    Sentinel(Mutex<SentinelClient>),
    Cluster {
        client: ClusterClient,
        /// Each node by itself.
        nodes: Vec<Client>,
    },
}

/// A connection. Dropping a call leaves its command running at the server, so a connection whose
/// call was abandoned is not used again for anything that depends on order.
pub(crate) enum Link {
    Node(MultiplexedConnection),
    Pooled(deadpool_redis::Connection),
    Cluster(ClusterConnection),
}

/// A command and what its keys have in common: a cluster keeps others elsewhere.
pub(crate) struct Sharded {
    pub(crate) shard: u64,
    pub(crate) command: Cmd,
}

impl Connector {
    /// Reads certificates and checks the configuration; opens nothing.
    pub(crate) fn new(config: &RedisConfig) -> Result<Self> {
        let address = config.address();
        let build = |error| from_client(error, &address);
        let certificates = config.tls.as_ref().map(certificates).transpose()?;
        let source = match &config.servers {
            Servers::Node(node) => Source::Node(client(config, node, certificates).map_err(build)?),
            Servers::Sentinel { sentinels, master } => {
                let client = sentinel(config, sentinels, master, certificates).map_err(build)?;
                Source::Sentinel(Mutex::new(client))
            }
            Servers::Cluster(nodes) => {
                let alone = |node| client(config, node, certificates.clone());
                let alone: redis::RedisResult<_> = nodes.iter().map(alone).collect();
                let nodes_alone = alone.map_err(build)?;
                let client = cluster(config, nodes, certificates).map_err(build)?;
                Source::Cluster { client, nodes: nodes_alone }
            }
        };
        let pool = match &source {
            Source::Node(client) => Some(pool(client.get_connection_info(), config.timeout)?),
            Source::Sentinel(_) | Source::Cluster { .. } => None,
        };
        Ok(Self { source, pool, address, timeout: config.timeout })
    }

    /// Opens a connection whose answers may take `patience` longer than those of others: that long
    /// its commands block.
    pub(crate) async fn connect(&self, patience: Duration) -> Result<Link> {
        let answer = self.timeout + patience;
        let opening = async {
            match &self.source {
                Source::Node(client) => self.open(client, answer).await,
                Source::Sentinel(sentinel) => {
                    let client = sentinel.lock().await.async_get_client().await;
                    self.open(&client.map_err(|e| from_client(e, &self.address))?, answer).await
                }
                Source::Cluster { client, .. } => {
                    let config = redis::cluster::ClusterConfig::new()
                        .set_connection_timeout(self.timeout)
                        .set_response_timeout(answer);
                    let opened = client.get_async_connection_with_config(config).await;
                    let opened = opened.map_err(|e| from_client(e, &self.address))?;
                    self.serving(Link::Cluster(opened)).await
                }
            }
        };
        self.in_time(opening).await
    }

    /// A connection for single commands that do not block.
    pub(crate) async fn command(&self) -> Result<Link> {
        let Some(pool) = &self.pool else { return self.connect(Duration::ZERO).await };
        let failed = |error| match error {
            deadpool_redis::PoolError::Backend(error) => from_client(error, &self.address),
            other => {
                let text = format!("{} can't be reached", self.address);
                Error::new(ErrorKind::Unavailable, text).with_source(other)
            }
        };
        // To look whether one still answers and to open another may each take its time.
        self.in_time(async { pool.get().await.map(Link::Pooled).map_err(failed) }).await
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) const fn is_cluster(&self) -> bool {
        matches!(self.source, Source::Cluster { .. })
    }

    async fn open(&self, client: &Client, answer: Duration) -> Result<Link> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.timeout))
            .set_response_timeout(Some(answer));
        let failed = |error| from_client(error, &self.address);
        let opened = client.get_multiplexed_async_connection_with_config(&config).await;
        self.serving(Link::Node(opened.map_err(failed)?)).await
    }

    /// A server that still reads its data accepts connections and serves nothing.
    async fn serving(&self, mut link: Link) -> Result<Link> {
        link.run(&redis::cmd("PING"), &self.address).await?;
        Ok(link)
    }

    /// Ends what takes longer than the configuration allows.
    pub(crate) async fn in_time<T>(&self, action: impl Future<Output = Result<T>>) -> Result<T> {
        timeout(self.timeout, action).await.unwrap_or_else(|_| Err(self.late()))
    }

    fn late(&self) -> Error {
        let text = format!(
            "{} did not answer in time; `cargo xtask up redis` starts one on this machine",
            self.address
        );
        Error::new(ErrorKind::Timeout, text)
    }
}

impl Link {
    /// The same connection for another call: what is handed over in order is sent in order.
    pub(crate) fn again(&self) -> Self {
        match self {
            Self::Node(connection) => Self::Node(connection.clone()),
            Self::Pooled(connection) => Self::Node(MultiplexedConnection::clone(connection)),
            Self::Cluster(connection) => Self::Cluster(connection.clone()),
        }
    }

    pub(crate) const fn is_cluster(&self) -> bool {
        matches!(self, Self::Cluster(_))
    }

    /// Sends all commands in one piece and gives an answer for each, errors of the server among
    /// them. On a cluster the shards are sent side by side, the commands of each in order.
    pub(crate) async fn run_all(
        &mut self,
        commands: Vec<Sharded>,
    ) -> redis::RedisResult<Vec<Value>> {
        let count = commands.len();
        // To the client, sending nothing is an error.
        if count == 0 {
            return Ok(Vec::new());
        }
        let Self::Cluster(connection) = self else {
            if let [Sharded { command, .. }] = &commands[..] {
                return Ok(vec![self.req_packed_command(command).await?]);
            }
            let mut pipeline = Pipeline::with_capacity(count);
            for Sharded { command, .. } in commands {
                pipeline.add_command(command);
            }
            return self.req_packed_commands(&pipeline, 0, count).await;
        };
        let shards = by_shard(commands);
        let parts = shards.iter().map(|(_, pipeline)| {
            let mut connection = connection.clone();
            async move { connection.req_packed_commands(pipeline, 0, pipeline.len()).await }
        });
        let answers = try_join_all(parts).await?;
        let mut all = vec![Value::Nil; count];
        for ((indexes, _), answers) in shards.iter().zip(answers) {
            for (index, answer) in indexes.iter().zip(answers) {
                if let Some(slot) = all.get_mut(*index) {
                    *slot = answer;
                }
            }
        }
        Ok(all)
    }

    /// Sends one command; an error of the server is an error.
    pub(crate) async fn run(&mut self, command: &Cmd, what: &str) -> Result<Value> {
        let answer = self.req_packed_command(command).await;
        checked(answer.map_err(|error| from_client(error, what))?, what)
    }
}

impl ConnectionLike for Link {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::Node(connection) => connection.req_packed_command(command),
            Self::Pooled(connection) => connection.req_packed_command(command),
            Self::Cluster(connection) => connection.req_packed_command(command),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::Node(connection) => connection.req_packed_commands(pipeline, offset, count),
            Self::Pooled(connection) => connection.req_packed_commands(pipeline, offset, count),
            Self::Cluster(connection) => connection.req_packed_commands(pipeline, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        0
    }
}

/// The commands of each shard in order, and the place of each among all.
fn by_shard(commands: Vec<Sharded>) -> Vec<(Vec<usize>, Pipeline)> {
    let mut numbers: Vec<u64> = Vec::new();
    let mut shards: Vec<(Vec<usize>, Pipeline)> = Vec::new();
    for (index, Sharded { shard, command }) in commands.into_iter().enumerate() {
        let known = numbers.iter().position(|known| *known == shard);
        if let Some((indexes, pipeline)) = known.and_then(|known| shards.get_mut(known)) {
            indexes.push(index);
            pipeline.add_command(command);
        } else {
            let mut pipeline = Pipeline::new();
            pipeline.add_command(command);
            numbers.push(shard);
            shards.push((vec![index], pipeline));
        }
    }
    shards
}

fn addr(config: &RedisConfig, address: &Address) -> ConnectionAddr {
    let Address { host, port } = address.clone();
    match config.tls {
        None => ConnectionAddr::Tcp(host, port),
        Some(_) => ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None },
    }
}

fn info(config: &RedisConfig, address: &Address) -> redis::RedisResult<ConnectionInfo> {
    let mut login = RedisConnectionInfo::default().set_db(config.database);
    if let Some(user) = &config.user {
        login = login.set_username(user);
    }
    if let Some(password) = &config.password {
        login = login.set_password(password.reveal());
    }
    let info = addr(config, address).into_connection_info()?;
    Ok(info.set_redis_settings(login).set_tcp_settings(tcp()))
}

/// A half-open connection is noticed within ten seconds.
fn tcp() -> TcpSettings {
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(Duration::from_secs(5))
        .with_interval(Duration::from_secs(2))
        .with_retries(2);
    TcpSettings::default()
        .set_nodelay(true)
        .set_keepalive(keepalive)
        .set_user_timeout(Duration::from_secs(10))
}

fn client(
    config: &RedisConfig,
    node: &Address,
    certificates: Option<TlsCertificates>,
) -> redis::RedisResult<Client> {
    let info = info(config, node)?;
    match certificates {
        Some(certificates) => Client::build_with_tls(info, certificates),
        None => Client::open(info),
    }
}

fn sentinel(
    config: &RedisConfig,
    sentinels: &[Address],
    master: &str,
    certificates: Option<TlsCertificates>,
) -> redis::RedisResult<SentinelClient> {
    let addresses: Vec<ConnectionAddr> = sentinels.iter().map(|a| addr(config, a)).collect();
    let mut builder = SentinelClientBuilder::new(addresses, master, SentinelServerType::Master)?
        .set_client_to_redis_db(config.database)
        .set_client_to_redis_tcp_settings(tcp())
        .set_client_to_sentinel_tcp_settings(tcp());
    if let Some(user) = &config.user {
        builder = builder.set_client_to_redis_username(user);
    }
    if let Some(password) = &config.password {
        builder = builder.set_client_to_redis_password(password.reveal());
    }
    if let Some(certificates) = certificates {
        builder = builder
            .set_client_to_redis_tls_mode(TlsMode::Secure)
            .set_client_to_sentinel_tls_mode(TlsMode::Secure)
            .set_client_to_redis_certificates(certificates.clone())
            .set_client_to_sentinel_certificates(certificates);
    }
    builder.build()
}

fn cluster(
    config: &RedisConfig,
    nodes: &[Address],
    certificates: Option<TlsCertificates>,
) -> redis::RedisResult<ClusterClient> {
    let nodes: Result<Vec<ConnectionInfo>, _> = nodes.iter().map(|a| info(config, a)).collect();
    // A publish is repeated only by its caller: a repetition of the client's would be unseen.
    let mut builder = ClusterClient::builder(nodes?).tcp_settings(tcp()).retries(0);
    if let Some(certificates) = certificates {
        builder = builder.tls(TlsMode::Secure).certs(certificates);
    }
    builder.build()
}

fn pool(info: &ConnectionInfo, patience: Duration) -> Result<deadpool_redis::Pool> {
    let failed = |error: String| Error::new(ErrorKind::InvalidConfig, error);
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(patience))
        .set_response_timeout(Some(patience));
    let manager = deadpool_redis::Manager::new_with_config(info.clone(), config)
        .map_err(|error| failed(error.to_string()))?;
    deadpool_redis::Pool::builder(manager)
        .max_size(4)
        .wait_timeout(Some(patience))
        .create_timeout(Some(patience))
        .recycle_timeout(Some(patience))
        .runtime(deadpool_redis::Runtime::Tokio1)
        .build()
        .map_err(|error| failed(error.to_string()))
}

fn certificates(tls: &Tls) -> Result<TlsCertificates> {
    static PROVIDER: Once = Once::new();
    // An application that has installed its own provider keeps it.
    PROVIDER.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
    let read = |path: &std::path::Path| {
        std::fs::read(path).map_err(|error| {
            let text = format!("{} can't be read (accepted: a PEM file)", path.display());
            Error::new(ErrorKind::InvalidConfig, text).with_source(error)
        })
    };
    let client_tls = match &tls.client {
        Some((certificate, key)) => {
            Some(ClientTlsConfig { client_cert: read(certificate)?, client_key: read(key)? })
        }
        None => None,
    };
    let root_cert = tls.ca.as_deref().map(read).transpose()?;
    Ok(TlsCertificates { client_tls, root_cert })
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connector").field("address", &self.address).finish_non_exhaustive()
    }
}
