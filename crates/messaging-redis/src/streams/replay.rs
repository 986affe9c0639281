//! Reading what a stream keeps, without a group.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::StreamExt;
use futures::stream::{self, BoxStream};
use messaging_core::driver::{ReadSpec, Reader, Record};
use messaging_core::{Result, Start};

use super::NAME;
use super::driver::{Shared, Streams};
use super::groups::lanes_of;
use super::keys::Lane;
use crate::connection::Link;
use crate::wire::{EntryId, LaneReader, array};

/// The most entries fetched in one piece.
const MOST: usize = 500;

/// A reading under way: lane after lane, each to where it ended when reading began.
struct Reading {
    shared: Arc<Shared>,
    spec: ReadSpec,
    lanes: Option<VecDeque<(Lane, EntryId, EntryId)>>,
    left: usize,
}

impl Reader for Streams {
    fn read(&self, spec: ReadSpec) -> BoxStream<'static, Result<Vec<Record>>> {
        let left = spec.limit.unwrap_or(usize::MAX);
        let reading = Reading { shared: Arc::clone(&self.shared), spec, lanes: None, left };
        stream::unfold(Some(reading), |reading| async {
            let mut reading = reading?;
            match reading.next().await {
                Ok(Some(records)) => Some((Ok(records), Some(reading))),
                Ok(None) => None,
                Err(error) => Some((Err(error.at(NAME, "read")), None)),
            }
        })
        .boxed()
    }
}

impl Reading {
    async fn next(&mut self) -> Result<Option<Vec<Record>>> {
        let mut link = self.shared.connector.command().await?;
        let mut lanes = match self.lanes.take() {
            Some(lanes) => lanes,
            None => self.ranges(&mut link).await?,
        };
        let mut found = None;
        while let Some((lane, from, to)) = lanes.front_mut()
            && self.left > 0
        {
            let mut command = redis::cmd("XRANGE");
            command.arg(&lane.key).arg(from.to_string()).arg(to.to_string());
            command.arg("COUNT").arg(MOST.min(self.left));
            let entries = array(link.run(&command, "read").await?);
            let mut records = Vec::with_capacity(entries.len());
            let mut reader = LaneReader::new(&lane.stream, &lane.key);
            for entry in entries {
                let mut parts = array(entry).into_iter();
                let (Some(id), Some(fields)) =
                    (parts.next().as_ref().and_then(EntryId::of), parts.next())
                else {
                    continue;
                };
                *from = EntryId::from_bits(id.to_bits() + 1);
                if let Some(message) = reader.message(id, fields) {
                    let stored = UNIX_EPOCH + Duration::from_millis(id.millis);
                    let position = id.position(NAME, lane.number);
                    records.push(Record::new(message, position, Some(stored)));
                }
            }
            if !records.is_empty() {
                self.left -= records.len();
                found = Some(records);
                break;
            }
            lanes.pop_front();
        }
        self.lanes = Some(lanes);
        Ok(found)
    }

    /// Where each lane begins and ends.
    async fn ranges(&self, link: &mut Link) -> Result<VecDeque<(Lane, EntryId, EntryId)>> {
        let topology = self.shared.topology();
        let mut ranges = VecDeque::new();
        for lane in lanes_of(&self.shared.config.prefix, &topology, &self.spec.stream)? {
            let mut command = redis::cmd("XREVRANGE");
            command.arg(&lane.key).arg("+").arg("-").arg("COUNT").arg(1);
            let last = array(link.run(&command, "read").await?).into_iter().next();
            let last = last.and_then(|entry| array(entry).first().and_then(EntryId::of));
            let Some(mut last) = last else { continue };
            let first = match self.spec.from {
                Start::Latest => continue,
                Start::Position(position) if position.lane() == lane.number => {
                    EntryId::from_bits(position.id())
                }
                Start::Position(_) => continue,
                Start::Time(time) => at(time),
                _ => EntryId::ZERO,
            };
            if let Some(until) = self.spec.until {
                last = last.min(at(until).before());
            }
            ranges.push_back((lane, first, last));
        }
        Ok(ranges)
    }
}

/// The first id of a time.
fn at(time: SystemTime) -> EntryId {
    let millis = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    EntryId { millis: u64::try_from(millis).unwrap_or(u64::MAX), number: 0 }
}
