//! A publisher that is content with the leader's word: what the product does not offer.

use std::num::NonZeroU32;

use bytes::BytesMut;
use kafka_protocol::indexmap::IndexMap;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{ProduceRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records::{
    Compression, Record, RecordBatchEncoder, RecordEncodeOptions, TimestampType,
};
use messaging::lane::lane_of;
use messaging::{Error, ErrorKind, Message};
use tests_integration::audit::Outcome;

use super::raw::Client;
use super::topic;
use crate::group::LANES;

/// Publishes with `acks=1`.
#[derive(Debug)]
pub(crate) struct Loose {
    client: Client,
    leaders: std::collections::BTreeMap<i32, String>,
}

impl Loose {
    pub(crate) fn from_env() -> messaging::Result<Self> {
        let failed =
            |error: std::io::Error| Error::new(ErrorKind::InvalidConfig, error.to_string());
        Ok(Self { client: Client::from_env().map_err(failed)?, leaders: Default::default() })
    }

    pub(crate) async fn publish(&mut self, message: &Message) -> Outcome {
        let key = message.key.as_deref().unwrap_or_default();
        let lane = NonZeroU32::new(LANES).map_or(0, |lanes| lane_of(key, lanes)).cast_signed();
        if self.leaders.is_empty() {
            self.leaders = self.client.leaders(&topic()).await.unwrap_or_default();
        }
        let Some(leader) = self.leaders.get(&lane).cloned() else { return Outcome::Failed };
        let Some(request) = request(lane, message) else { return Outcome::Failed };
        let outcome = match self.client.ask(&leader, &request, 9).await {
            Ok(answer) => {
                let partitions = answer.responses.iter().flat_map(|it| &it.partition_responses);
                match partitions.map(|it| it.error_code).max() {
                    Some(0) => Outcome::Ok,
                    // Somebody else leads, so it is not written.
                    Some(6) => Outcome::Failed,
                    _ => Outcome::Unknown,
                }
            }
            Err(_) => Outcome::Unknown,
        };
        if outcome != Outcome::Ok {
            self.leaders.clear();
        }
        outcome
    }
}

fn request(lane: i32, message: &Message) -> Option<ProduceRequest> {
    let mut headers: IndexMap<StrBytes, Option<bytes::Bytes>> = IndexMap::new();
    let mut add = |name: &str, value: &[u8]| {
        let value = bytes::Bytes::copy_from_slice(value);
        headers.insert(StrBytes::from_string(name.to_owned()), Some(value));
    };
    add("subject", message.subject.to_string().as_bytes());
    add("message-id", message.id.to_string().as_bytes());
    add("content-type", message.content_type.as_str().as_bytes());
    message.headers.iter().for_each(|(name, value)| add(name, value));
    let now = std::time::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_millis());
    let record = Record {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: -1,
        producer_id: -1,
        producer_epoch: -1,
        timestamp_type: TimestampType::Creation,
        offset: 0,
        sequence: -1,
        timestamp: i64::try_from(now).ok()?,
        key: message.key.clone(),
        value: Some(message.body.clone()),
        headers,
    };
    let options = RecordEncodeOptions { version: 2, compression: Compression::None };
    let mut records = BytesMut::new();
    RecordBatchEncoder::encode(&mut records, [&record], &options).ok()?;
    let data =
        PartitionProduceData::default().with_index(lane).with_records(Some(records.freeze()));
    let data = TopicProduceData::default()
        .with_name(TopicName(StrBytes::from_string(topic())))
        .with_partition_data(vec![data]);
    let request = ProduceRequest::default().with_acks(1).with_timeout_ms(4_000);
    Some(request.with_topic_data(vec![data]))
}
