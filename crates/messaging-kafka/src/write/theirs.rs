//! Writing with rskafka: one try a call.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use messaging_core::driver::Outgoing;
use messaging_core::{Error, ErrorKind, Message, Result};
use rskafka::BackoffConfig;
use rskafka::client::error::{Error as Theirs, RequestError};
use rskafka::client::partition::{
    Compression as TheirCompression, PartitionClient, UnknownTopicHandling,
};
use rskafka::client::{Client, ClientBuilder, Credentials, SaslConfig};
use rskafka::record::Record;
use tokio::time::{Instant, timeout, timeout_at};

use super::failure::Failure;
use super::link::Written;
use super::{Shared, ours};
use crate::config::{Compression, KafkaConfig, Mechanism};
use crate::wire;

/// The client that lanes share, until one of them gives up a call.
#[derive(Debug, Default)]
pub(super) struct Clients(Mutex<Option<Arc<Client>>>);

/// A partition's client of rskafka. Neither it nor the client it comes from is used again once a
/// call of theirs was given up: it would wait behind that call.
#[derive(Debug)]
pub(crate) struct Link {
    shared: Arc<Shared>,
    topic: String,
    partition: i32,
    client: Option<PartitionClient>,
    gave_up: bool,
}

impl Link {
    pub(super) fn new(shared: &Arc<Shared>, topic: String, partition: i32) -> Self {
        Self { shared: Arc::clone(shared), topic, partition, client: None, gave_up: false }
    }

    pub(super) async fn prepare(&mut self) -> Result<()> {
        if self.client.is_some() {
            return Ok(());
        }
        let patience = self.shared.config.timeout;
        let opening = async {
            let client = self.shared.theirs.get(&self.shared).await?;
            let (topic, missing) = (self.topic.clone(), UnknownTopicHandling::Error);
            let opened = client.partition_client(topic, self.partition, missing).await;
            opened.map_err(|error| match Failure::of_theirs(&error, &self.what()) {
                Failure::NotWritten(error)
                | Failure::TooLarge(error)
                | Failure::Refused(error)
                | Failure::Unknown(error) => error,
            })
        };
        let opened = timeout(patience, opening).await.unwrap_or_else(|_| {
            let text = format!("{}: no broker answered in time", self.what());
            Err(Error::new(ErrorKind::Timeout, text))
        });
        self.client = Some(opened.inspect_err(|_| self.shared.theirs.forget())?);
        Ok(())
    }

    pub(super) async fn produce(
        &mut self,
        batch: &[Outgoing],
        deadline: Instant,
    ) -> Result<Written, Failure> {
        let Some(client) = &self.client else {
            return Err(Failure::NotWritten(Error::new(ErrorKind::NotSent, self.what())));
        };
        let now =
            rskafka::chrono::DateTime::from_timestamp_millis(super::now()).unwrap_or_default();
        let records = batch.iter().map(|one| record(&one.message, now)).collect();
        let compression = match self.shared.config.compression {
            Compression::None => TheirCompression::NoCompression,
            Compression::Gzip => TheirCompression::Gzip,
            Compression::Snappy => TheirCompression::Snappy,
            Compression::Lz4 => TheirCompression::Lz4,
            Compression::Zstd => TheirCompression::Zstd,
        };
        match timeout_at(deadline, client.produce(records, compression)).await {
            Ok(Ok(offsets)) => {
                let first = offsets.first().copied().unwrap_or_default();
                Ok(Written { first, throttled: Duration::ZERO })
            }
            Ok(Err(error)) => {
                self.client = None;
                Err(Failure::of_theirs(&error, &self.what()))
            }
            Err(_) => {
                self.reset();
                self.gave_up = true;
                let text = format!("{}: no answer in time", self.what());
                Err(Failure::Unknown(Error::new(ErrorKind::Timeout, text)))
            }
        }
    }

    /// Whether the server seems to throttle us: rskafka then repeats a batch that is written, without
    /// end, and gives no answer, while the same broker answers us.
    pub(super) async fn is_throttled(&mut self) -> bool {
        std::mem::take(&mut self.gave_up) && self.shared.cluster.topic(&self.topic).await.is_ok()
    }

    /// The same way with requests of our own.
    pub(super) fn to_ours(&self) -> ours::Link {
        ours::Link::new(&self.shared, self.topic.clone(), self.partition)
    }

    pub(super) fn reset(&mut self) {
        self.client = None;
        self.shared.theirs.forget();
    }

    fn what(&self) -> String {
        format!("partition {} of topic {}", self.partition, self.topic)
    }
}

impl Clients {
    async fn get(&self, shared: &Shared) -> Result<Arc<Client>> {
        if let Some(client) = &*self.lock() {
            return Ok(Arc::clone(client));
        }
        // It goes wherever the cluster says, with the password.
        if let (Some(login), None) = (&shared.config.login, shared.cluster.tls()) {
            shared.cluster.addresses().iter().try_for_each(|at| login.check_readable_at(at))?;
        }
        let built = build(&shared.config, shared.cluster.tls()).await;
        let built = built.map_err(|error| {
            let text = format!("{} can't be reached", shared.config.address());
            Error::new(ErrorKind::Unavailable, text).with_source(error.to_string())
        })?;
        Ok(Arc::clone(self.lock().get_or_insert(Arc::new(built))))
    }

    fn forget(&self) {
        *self.lock() = None;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Arc<Client>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn build(
    config: &KafkaConfig,
    tls: Option<&Arc<rustls::ClientConfig>>,
) -> Result<Client, Theirs> {
    let servers = config.servers.iter().map(ToString::to_string).collect();
    // No time for a second try: whether there is to be one is ours to say.
    let once = BackoffConfig {
        init_backoff: Duration::from_millis(1),
        max_backoff: Duration::from_millis(1),
        base: 2.0,
        deadline: Some(Duration::ZERO),
    };
    let mut builder =
        ClientBuilder::new(servers).client_id(config.client_id.as_str()).backoff_config(once);
    if let Some(tls) = tls {
        builder = builder.tls_config(Arc::clone(tls));
    }
    if let Some(login) = &config.login {
        // It prints its password; nothing prints it.
        let known = Credentials::new(login.user.clone(), login.password.reveal().to_owned());
        builder = builder.sasl_config(match login.mechanism {
            Mechanism::Plain => SaslConfig::Plain(known),
            Mechanism::ScramSha256 => SaslConfig::ScramSha256(known),
            Mechanism::ScramSha512 => SaslConfig::ScramSha512(known),
        });
    }
    builder.build().await
}

fn record(message: &Message, timestamp: rskafka::chrono::DateTime<rskafka::chrono::Utc>) -> Record {
    let mut headers = BTreeMap::new();
    wire::headers(message, |name, value| drop(headers.insert(name.to_owned(), value.to_vec())));
    Record {
        key: message.key.as_ref().map(|key| key.to_vec()),
        value: Some(message.body.to_vec()),
        headers,
        timestamp,
    }
}

impl Failure {
    fn of_theirs(error: &Theirs, what: &str) -> Self {
        use rskafka::client::error::ProtocolError as Code;
        match error {
            Theirs::RetryFailed(rskafka::BackoffError::DeadlineExceded { source, .. }) => {
                match source.downcast_ref::<Theirs>() {
                    Some(inner) => Self::of_theirs(inner, what),
                    None => Self::Unknown(other(source, what)),
                }
            }
            // It made the error up itself, before it sent anything.
            Theirs::ServerError { is_virtual: true, .. } | Theirs::Connection(_) => {
                Self::NotWritten(other(error, what))
            }
            Theirs::ServerError { protocol_error, .. } => {
                let code = match protocol_error {
                    Code::UnknownServerError => -1,
                    Code::UnknownTopicOrPartition => 3,
                    Code::LeaderNotAvailable => 5,
                    Code::NotLeaderOrFollower => 6,
                    Code::RequestTimedOut => 7,
                    Code::MessageTooLarge => 10,
                    Code::NetworkException => 13,
                    Code::InvalidTopicException => 17,
                    Code::RecordListTooLarge => 18,
                    Code::NotEnoughReplicas => 19,
                    Code::NotEnoughReplicasAfterAppend => 20,
                    Code::TopicAuthorizationFailed => 29,
                    Code::ClusterAuthorizationFailed => 31,
                    _ => return Self::Unknown(other(error, what)),
                };
                Self::of_code(code, None, what)
            }
            Theirs::Request(RequestError::NoVersionMatch { .. } | RequestError::WriteError(_)) => {
                Self::Refused(other(error, what))
            }
            _ => Self::Unknown(other(error, what)),
        }
    }
}

/// Their texts hold no payload and no password.
fn other(error: &(impl std::fmt::Display + ?Sized), what: &str) -> Error {
    Error::new(ErrorKind::Unavailable, format!("{what}: {error}"))
}
