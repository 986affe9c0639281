//! A client that does what it is told and nothing more, for what the product's own does not do and
//! must not be asked.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::MetadataResponsePartition;
use kafka_protocol::messages::{self, FindCoordinatorRequest, MetadataRequest, TopicName};
use kafka_protocol::messages::{RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, StrBytes};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use xtask::brokers::Brokers;

/// How long a call may take.
const LIMIT: Duration = Duration::from_secs(4);

/// A request, its number in the protocol, and what answers it.
pub(super) trait Request: Encodable + HeaderVersion {
    const KEY: i16;
    type Response: Decodable + HeaderVersion;
}

macro_rules! requests {
    ($($key:literal $request:ident => $response:ident;)*) => {$(
        impl Request for messages::$request {
            const KEY: i16 = $key;
            type Response = messages::$response;
        }
    )*};
}

requests! {
    0 ProduceRequest => ProduceResponse;
    1 FetchRequest => FetchResponse;
    3 MetadataRequest => MetadataResponse;
    8 OffsetCommitRequest => OffsetCommitResponse;
    9 OffsetFetchRequest => OffsetFetchResponse;
    10 FindCoordinatorRequest => FindCoordinatorResponse;
}

/// Connections, one to each broker that was asked, with one question at a time.
#[derive(Debug)]
pub(super) struct Client {
    servers: Vec<String>,
    links: HashMap<String, TcpStream>,
}

impl Client {
    /// To the brokers that the environment names.
    pub(super) fn from_env() -> io::Result<Self> {
        let servers = std::env::var("KAFKA_BROKERS").map_err(io::Error::other)?;
        Ok(Self::new(servers.split(',').map(str::to_owned).collect()))
    }

    fn new(servers: Vec<String>) -> Self {
        Self { servers, links: HashMap::new() }
    }

    /// Asks one broker. After an error the connection is made anew.
    pub(super) async fn ask<R: Request + Sync>(
        &mut self,
        address: &str,
        request: &R,
        version: i16,
    ) -> io::Result<R::Response> {
        let asked = timeout(LIMIT, self.exchange(address, request, version)).await;
        let asked = asked.unwrap_or_else(|late| Err(io::Error::other(late)));
        if asked.is_err() {
            self.links.remove(address);
        }
        asked
    }

    async fn exchange<R: Request + Sync>(
        &mut self,
        address: &str,
        request: &R,
        version: i16,
    ) -> io::Result<R::Response> {
        let link = match self.links.get_mut(address) {
            Some(link) => link,
            None => {
                let link = TcpStream::connect(address).await?;
                link.set_nodelay(true)?;
                self.links.entry(address.to_owned()).or_insert(link)
            }
        };
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_client_id(Some(StrBytes::from_static_str("chaos")));
        let mut frame = BytesMut::new();
        header.encode(&mut frame, R::header_version(version)).map_err(io::Error::other)?;
        request.encode(&mut frame, version).map_err(io::Error::other)?;
        link.write_u32(u32::try_from(frame.len()).map_err(io::Error::other)?).await?;
        link.write_all(&frame).await?;
        let length = link.read_u32().await?;
        let mut answer = vec![0; length.min(64 << 20) as usize];
        link.read_exact(&mut answer).await?;
        let mut answer = bytes::Bytes::from(answer);
        ResponseHeader::decode(&mut answer, R::Response::header_version(version))
            .map_err(io::Error::other)?;
        let decoded = R::Response::decode(&mut answer, version).map_err(io::Error::other)?;
        match answer.has_remaining() {
            true => Err(io::Error::other("more bytes than an answer has")),
            false => Ok(decoded),
        }
    }

    async fn ask_any<R: Request + Sync>(
        &mut self,
        request: &R,
        version: i16,
    ) -> io::Result<R::Response> {
        let mut last = io::Error::other("no broker is known");
        for server in self.servers.clone() {
            match self.ask(&server, request, version).await {
                Ok(answer) => return Ok(answer),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// The partitions of a topic, and where the brokers are.
    async fn partitions(
        &mut self,
        topic: &str,
    ) -> io::Result<(Vec<MetadataResponsePartition>, HashMap<i32, String>)> {
        let name = TopicName(StrBytes::from_string(topic.to_owned()));
        let topic = MetadataRequestTopic::default().with_name(Some(name));
        let request = MetadataRequest::default().with_topics(Some(vec![topic]));
        let answer = self.ask_any(&request, 9).await?;
        let address = |host: &str, port: i32| format!("{host}:{port}");
        let brokers = answer.brokers.iter();
        let brokers = brokers.map(|it| (it.node_id.0, address(&it.host, it.port))).collect();
        let partitions = answer.topics.into_iter().flat_map(|topic| topic.partitions);
        Ok((partitions.collect(), brokers))
    }

    /// Who leads each partition of a topic.
    pub(super) async fn leaders(&mut self, topic: &str) -> io::Result<BTreeMap<i32, String>> {
        let (partitions, brokers) = self.partitions(topic).await?;
        let leader = |partition: MetadataResponsePartition| {
            let address = brokers.get(&partition.leader_id.0)?.clone();
            Some((partition.partition_index, address))
        };
        Ok(partitions.into_iter().filter_map(leader).collect())
    }

    /// Who coordinates a group.
    pub(super) async fn coordinator(&mut self, group: &str) -> io::Result<String> {
        let key = StrBytes::from_string(group.to_owned());
        let answer = self.ask_any(&FindCoordinatorRequest::default().with_key(key), 3).await?;
        match answer.error_code {
            0 => Ok(format!("{}:{}", &*answer.host, answer.port)),
            code => Err(io::Error::other(format!("no coordinator of {group}: {code}"))),
        }
    }
}

/// Asks brokers from a thread without a runtime.
fn blocking<T>(
    brokers: &Brokers,
    ask: impl AsyncFnOnce(&mut Client) -> io::Result<T>,
) -> Result<T, String> {
    let mut servers = Vec::new();
    for node in brokers.servers() {
        servers.push(brokers.address(node)?.to_string());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let asked = runtime.block_on(ask(&mut Client::new(servers)));
    asked.map_err(|error| error.to_string())
}

/// Who leads each partition of a topic.
pub(super) fn leaders(brokers: &Brokers, topic: &str) -> Result<BTreeMap<i32, String>, String> {
    blocking(brokers, async |client| client.leaders(topic).await)
}

/// Who coordinates a group.
pub(super) fn coordinator(brokers: &Brokers, group: &str) -> Result<String, String> {
    blocking(brokers, async |client| client.coordinator(group).await)
}

/// Whether every copy of the stream's topic, and of the groups' places, is in step.
pub(super) fn in_step(brokers: &Brokers) -> Result<(), String> {
    for topic in [&super::topic(), "__consumer_offsets"] {
        let (partitions, _) = blocking(brokers, async |client| client.partitions(topic).await)?;
        let behind = partitions.iter().find(|it| it.isr_nodes.len() < it.replica_nodes.len());
        if let Some(behind) = behind {
            return Err(format!("{topic}, {}: a copy is behind", behind.partition_index));
        }
    }
    Ok(())
}
