//! Reading what a stream keeps, without a group.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::SystemTime;

use futures::StreamExt;
use futures::stream::{self, BoxStream};
use messaging_core::driver::{ReadSpec, Reader, Record};
use messaging_core::{Error, ErrorKind, Position, Result, Start};

use crate::NAME;
use crate::driver::{Kafka, Shared};
use crate::group::Partition;
use crate::read::range::{Page, Range};
use crate::read::record::Record as Stored;
use crate::subscription::places::{EARLIEST, LATEST, millis, offset_at};
use crate::subscription::read_message;

/// The most bytes of one answer.
const BYTES: i32 = 1 << 20;

/// A reading under way: partition after partition, each to where it ended when reading began.
struct Reading {
    shared: Arc<Shared>,
    spec: ReadSpec,
    ranges: Option<VecDeque<Range>>,
    left: usize,
    /// What could not be read, told behind what was read before it.
    bad: Option<Error>,
}

impl Reader for Kafka {
    /// Partition after partition. What can't be read is an error in its place; reading goes on behind
    /// it, if it is asked to.
    fn read(&self, spec: ReadSpec) -> BoxStream<'static, Result<Vec<Record>>> {
        let left = spec.limit.unwrap_or(usize::MAX);
        let shared = Arc::clone(&self.shared);
        let reading = Reading { shared, spec, ranges: None, left, bad: None };
        stream::unfold(reading, |mut reading| async move {
            match reading.next().await {
                Ok(Some(records)) => Some((Ok(records), reading)),
                Ok(None) => None,
                Err(error) => Some((Err(error.at(NAME, "read")), reading)),
            }
        })
        .boxed()
    }
}

impl Reading {
    async fn next(&mut self) -> Result<Option<Vec<Record>>> {
        if let Some(bad) = self.bad.take() {
            return Err(bad);
        }
        // An error that lasts ends it: then no ranges are left.
        let mut ranges = match self.ranges.replace(VecDeque::new()) {
            Some(ranges) => ranges,
            None => self.ranges().await?,
        };
        while let Some(range) = ranges.front_mut()
            && self.left > 0
        {
            let Some(Page { records, bad }) = range.page(&self.shared.cluster).await? else {
                ranges.pop_front();
                continue;
            };
            self.bad = bad;
            let number = range.partition.number;
            let topic = Arc::clone(&range.partition.topic);
            let records = records.into_iter().map(|stored| self.record(stored, &topic, number));
            let records = records.filter(|record| self.is_wanted(record.stored_at));
            let records: Vec<Record> = records.take(self.left).collect();
            self.left -= records.len();
            if !records.is_empty() {
                self.ranges = Some(ranges);
                return Ok(Some(records));
            }
            if let Some(bad) = self.bad.take() {
                self.ranges = Some(ranges);
                return Err(bad);
            }
        }
        Ok(None)
    }

    fn is_wanted(&self, stored_at: Option<SystemTime>) -> bool {
        // Times are set by senders, so they need not grow, and all are looked at.
        self.spec.until.is_none_or(|until| stored_at.is_none_or(|at| at < until))
    }

    fn record(&self, stored: Stored, topic: &str, number: i32) -> Record {
        let (offset, at) = (stored.offset, stored.stored_at());
        let message = read_message(stored, topic, number, &self.spec.stream);
        let lane = number.unsigned_abs();
        let position = Position::new(NAME, lane, u128::from(offset.unsigned_abs()));
        Record::new(message, position, Some(at))
    }

    /// Where each partition begins and ends. Dead letters that nobody has written yet are none.
    async fn ranges(&self) -> Result<VecDeque<Range>> {
        let shared = &self.shared;
        let stream = &self.spec.stream;
        shared.topology().require(stream.name())?;
        if let Start::Position(position) = self.spec.from
            && position.backend() != NAME
        {
            let reason = "it is no place in this stream";
            let (value, accepted) = (position.to_string(), "a position of this backend");
            let kind = ErrorKind::InvalidConfig;
            return Err(Error::invalid(kind, "position", &value, reason, accepted));
        }
        let name = shared.topic(stream);
        let topic = match shared.cluster.topic(&name).await {
            Err(error) if *error.kind() == ErrorKind::NotFound && stream.is_dead_letters() => {
                return Ok(VecDeque::new());
            }
            found => found?,
        };
        let name: Arc<str> = name.into();
        let mut ranges = VecDeque::new();
        for partition in &topic.partitions {
            let partition = Partition::new(Arc::clone(&name), partition.number);
            let at = async |time| offset_at(&shared.cluster, &partition, time).await;
            let first = at(EARLIEST).await?;
            let end = at(LATEST).await?;
            let from = match self.spec.from {
                Start::Earliest => first,
                Start::Position(position) if position.lane() == partition.number.unsigned_abs() => {
                    i64::try_from(position.id()).unwrap_or(i64::MAX).max(first)
                }
                // A position is about one partition, and nothing is newer than the end.
                Start::Position(_) | Start::Latest => continue,
                Start::Time(time) => match at(millis(time)).await? {
                    // Nothing was stored so late.
                    -1 => continue,
                    offset => offset,
                },
                _ => first,
            };
            ranges.push_back(Range::new(partition, from, end, BYTES));
        }
        Ok(ranges)
    }
}
