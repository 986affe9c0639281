//! Reading what a partition keeps between two offsets.

use std::time::Duration;

use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::{BrokerId, FetchRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use messaging_core::driver::Backoff;
use messaging_core::{Error, ErrorKind, Result};
use tokio::time::{Instant, sleep};

use super::aborted::Aborted;
use super::batch::{Batch, Batches};
use super::record::Record;
use crate::cluster::Cluster;
use crate::error::{from_code, unexpected};
use crate::group::Partition;
use crate::subscription::places::{EARLIEST, offset_at};

/// How long a broker may hold an answer back; there is something, so it does not.
const WAIT: Duration = Duration::from_millis(500);
/// The most bytes that one batch may have once it is decompressed.
const BATCH: usize = 64 << 20;
/// How long a partition may be without progress, as while its leader moves.
const PATIENCE: Duration = Duration::from_secs(15);
const OUT_OF_RANGE: i16 = 1;

/// What is left to read of one partition.
#[derive(Clone, Debug)]
pub(crate) struct Range {
    pub(crate) partition: Partition,
    /// The first offset that is not read yet.
    next: i64,
    /// Where it ends.
    end: i64,
    /// The most bytes of an answer; a batch that is larger comes alone.
    bytes: i32,
}

/// What one answer brought.
#[derive(Debug, Default)]
pub(crate) struct Page {
    pub(crate) records: Vec<Record>,
    /// What of it can't be read; the next page goes on behind it.
    pub(crate) bad: Option<Error>,
}

impl Range {
    pub(crate) const fn new(partition: Partition, from: i64, end: i64, bytes: i32) -> Self {
        Self { partition, next: from, end, bytes }
    }

    /// The next records; `None` at the end. What is not kept any more is passed.
    ///
    /// # Errors
    /// Those of the brokers, where they last.
    pub(crate) async fn page(&mut self, cluster: &Cluster) -> Result<Option<Page>> {
        let mut backoff = Backoff::doubling();
        let until = Instant::now() + PATIENCE;
        while self.next < self.end {
            let before = self.next;
            let fetched = match self.fetch(cluster).await {
                Ok(data) if data.error_code == OUT_OF_RANGE => {
                    self.next = before.max(offset_at(cluster, &self.partition, EARLIEST).await?);
                    Ok(Page::default())
                }
                Ok(data) => match data.error_code {
                    0 => Ok(self.read(data)),
                    code => Err(from_code(code, &self.partition.to_string())),
                },
                Err(error) => Err(error),
            };
            match fetched {
                Ok(page) if !page.records.is_empty() || page.bad.is_some() => {
                    return Ok(Some(page));
                }
                Ok(_) if self.next > before => backoff.reset(),
                Ok(_) if Instant::now() >= until => {
                    let text = format!("{} brings nothing at {before}", self.partition);
                    return Err(Error::new(ErrorKind::Timeout, text));
                }
                Ok(_) => sleep(backoff.next()).await,
                Err(error) if is_passing(&error) && Instant::now() < until => {
                    sleep(backoff.next()).await;
                    // What keeps the view from being renewed is noticed at the next try.
                    drop(cluster.refresh().await);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    async fn fetch(&self, cluster: &Cluster) -> Result<PartitionData> {
        let Partition { topic, number } = &self.partition;
        let leader = cluster.leader(topic, *number).await?;
        let connection = cluster.broker(leader).await?;
        let one = FetchPartition::default()
            .with_partition(*number)
            .with_current_leader_epoch(-1)
            .with_fetch_offset(self.next)
            .with_last_fetched_epoch(-1)
            .with_log_start_offset(-1)
            .with_partition_max_bytes(self.bytes);
        let topic = FetchTopic::default()
            .with_topic(TopicName(StrBytes::from_string(topic.to_string())))
            .with_partitions(vec![one]);
        let request = FetchRequest::default()
            .with_replica_id(BrokerId(-1))
            .with_max_wait_ms(i32::try_from(WAIT.as_millis()).unwrap_or(i32::MAX))
            .with_min_bytes(1)
            .with_max_bytes(self.bytes)
            .with_isolation_level(1)
            .with_session_id(0)
            .with_session_epoch(-1)
            .with_topics(vec![topic]);
        let answer = connection.call(&request, cluster.deadline() + WAIT).await?;
        if answer.error_code != 0 {
            return Err(from_code(answer.error_code, &self.partition.to_string()));
        }
        let found = answer.responses.into_iter().next();
        let found = found.and_then(|topic| topic.partitions.into_iter().next());
        found.ok_or_else(|| unexpected(connection.address(), "Fetch"))
    }

    fn read(&mut self, data: PartitionData) -> Page {
        let mut page = Page::default();
        let Some(records) = data.records else { return page };
        let aborted = data.aborted_transactions.unwrap_or_default();
        let aborted = aborted.iter().map(|one| (one.producer_id.0, one.first_offset));
        for batch in Batches::new(records, Aborted::new(aborted), BATCH).with_room(BATCH) {
            let next = batch.next();
            match batch {
                Batch::Records { records, .. } => {
                    for record in records {
                        match record {
                            Ok(record) if (self.next..self.end).contains(&record.offset) => {
                                page.records.push(record);
                            }
                            // A batch begins before what is wanted of it, and ends behind it.
                            Ok(_) => {}
                            Err(bad) => {
                                page.bad = Some(self.unreadable(self.next, next, bad.reason))
                            }
                        }
                    }
                }
                Batch::Passed { .. } => {}
                Batch::Bad { from, reason, .. } => {
                    page.bad = Some(self.unreadable(from.max(self.next), next, &reason));
                }
            }
            self.next = self.next.max(next);
            if page.bad.is_some() || self.next >= self.end {
                break;
            }
        }
        page
    }

    fn unreadable(&self, from: i64, next: i64, reason: &str) -> Error {
        let text = format!("{}, offsets {from} to {}: {reason}", self.partition, next - 1);
        Error::new(ErrorKind::Other, text)
    }
}

fn is_passing(error: &Error) -> bool {
    error.is_retryable() || *error.kind() == ErrorKind::NotFound
}
