//! Reading and writing the two messages that members exchange through the coordinator.
//!
//! They are Kafka's `ConsumerProtocolSubscription` and `ConsumerProtocolAssignment`, version 1, so
//! that Kafka's tools can show a group; what is ours is in their user data.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Partition, Partitions};

/// The version of both messages that we write.
pub(super) const VERSION: i16 = 1;

/// Reads big-endian values from the front of a slice. `None` at its end; counts are bounded by what
/// can follow, so nothing is allocated for a number that somebody made up.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }

    pub(super) fn short(&mut self) -> Option<i16> {
        self.take().map(i16::from_be_bytes)
    }

    fn int(&mut self) -> Option<i32> {
        self.take().map(i32::from_be_bytes)
    }

    fn count(&mut self, least: usize) -> Option<usize> {
        let count = usize::try_from(self.int()?).ok()?;
        (count <= self.0.len() / least).then_some(count)
    }

    fn slice(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn text(&mut self) -> Option<&'a str> {
        let length = usize::try_from(self.short()?).ok()?;
        std::str::from_utf8(self.slice(length)?).ok()
    }

    pub(super) fn texts(&mut self) -> Option<Vec<&'a str>> {
        let count = self.count(2)?;
        (0..count).map(|_| self.text()).collect()
    }

    /// Bytes that may be absent.
    pub(super) fn bytes(&mut self) -> Option<&'a [u8]> {
        match self.int()? {
            -1 => Some(&[]),
            length => self.slice(usize::try_from(length).ok()?),
        }
    }

    pub(super) fn partitions(&mut self) -> Option<Partitions> {
        let mut partitions = Partitions::new();
        for _ in 0..self.count(6)? {
            let topic: Arc<str> = self.text()?.into();
            for _ in 0..self.count(4)? {
                let number = self.int()?;
                partitions.insert(Partition { topic: Arc::clone(&topic), number });
            }
        }
        Some(partitions)
    }
}

/// Writes big-endian values.
#[derive(Default)]
pub(super) struct Writer(pub(super) Vec<u8>);

impl Writer {
    pub(super) fn short(&mut self, value: i16) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    fn count(&mut self, count: usize) {
        let count = i32::try_from(count).unwrap_or(i32::MAX);
        self.0.extend_from_slice(&count.to_be_bytes());
    }

    pub(super) fn texts<'a>(&mut self, texts: impl ExactSizeIterator<Item = &'a str>) {
        self.count(texts.len());
        texts.for_each(|text| self.text(text));
    }

    fn text(&mut self, text: &str) {
        self.short(i16::try_from(text.len()).unwrap_or(i16::MAX));
        self.0.extend_from_slice(text.as_bytes());
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.0.extend_from_slice(bytes);
    }

    pub(super) fn partitions(&mut self, partitions: &Partitions) {
        let topics = by_topic(partitions);
        self.count(topics.len());
        for (topic, numbers) in topics {
            self.text(topic);
            self.count(numbers.len());
            for number in numbers {
                self.0.extend_from_slice(&number.to_be_bytes());
            }
        }
    }
}

/// The numbers of the partitions of each topic.
pub(super) fn by_topic(partitions: &Partitions) -> BTreeMap<&str, Vec<i32>> {
    let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for partition in partitions {
        topics.entry(&partition.topic).or_default().push(partition.number);
    }
    topics
}
