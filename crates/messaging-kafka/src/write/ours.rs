//! Writing with a request of our own.

use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{ProduceRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use messaging_core::Result;
use messaging_core::driver::Outgoing;
use tokio::time::Instant;

use super::failure::Failure;
use super::link::Written;
use super::records::batch as encode;
use super::{Shared, now};
use crate::connection::Connection;
use crate::error::unexpected;

/// A request on a connection of the lane's own: a broker answers one request of a connection after
/// the other, and this one waits for the other replicas.
#[derive(Debug)]
pub(crate) struct Link {
    shared: Arc<Shared>,
    topic: StrBytes,
    partition: i32,
    connection: Option<Connection>,
}

/// All in-sync replicas.
const ALL: i16 = -1;

impl Link {
    pub(super) fn new(shared: &Arc<Shared>, topic: String, partition: i32) -> Self {
        let topic = StrBytes::from_string(topic);
        Self { shared: Arc::clone(shared), topic, partition, connection: None }
    }

    pub(super) async fn prepare(&mut self) -> Result<()> {
        if self.connection.as_ref().is_none_or(Connection::is_ended) {
            self.connection = None;
            let cluster = &self.shared.cluster;
            let leader = cluster.leader(&self.topic, self.partition).await?;
            self.connection = Some(cluster.dedicated(leader).await?);
        }
        Ok(())
    }

    pub(super) async fn produce(
        &mut self,
        batch: &[Outgoing],
        deadline: Instant,
    ) -> Result<Written, Failure> {
        let what = || format!("partition {} of topic {}", self.partition, &*self.topic);
        let Some(connection) = &self.connection else {
            let error = messaging_core::Error::new(messaging_core::ErrorKind::NotSent, what());
            return Err(Failure::NotWritten(error));
        };
        let messages = batch.iter().map(|one| &*one.message);
        let records = encode(messages, self.shared.config.compression, now());
        let records = records.map_err(Failure::Refused)?;
        // The broker is to give up before we do, so that it can say what it knows.
        let patience = deadline.saturating_duration_since(Instant::now()).mul_f32(0.9);
        let partition =
            PartitionProduceData::default().with_index(self.partition).with_records(Some(records));
        let topic = TopicProduceData::default()
            .with_name(TopicName(self.topic.clone()))
            .with_partition_data(vec![partition]);
        let request = ProduceRequest::default()
            .with_acks(ALL)
            .with_timeout_ms(i32::try_from(patience.as_millis()).unwrap_or(i32::MAX).max(1))
            .with_topic_data(vec![topic]);
        let answer = connection.call(&request, deadline).await.map_err(Failure::of_call)?;
        let throttled = Duration::from_millis(u64::try_from(answer.throttle_time_ms).unwrap_or(0));
        let mut partitions = answer.responses.iter().flat_map(|topic| &topic.partition_responses);
        match partitions.find(|answer| answer.index == self.partition) {
            Some(answer) if answer.error_code == 0 => {
                Ok(Written { first: answer.base_offset, throttled })
            }
            Some(answer) => {
                let appended = answer.base_offset >= 0;
                Err(Failure::of_code(answer.error_code, Some(appended), &what()))
            }
            None => Err(Failure::Unknown(unexpected(connection.address(), "Produce"))),
        }
    }

    pub(super) fn reset(&mut self) {
        if let Some(connection) = self.connection.take() {
            connection.end();
        }
    }
}
