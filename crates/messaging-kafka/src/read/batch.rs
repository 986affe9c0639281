//! The batches of an answer.

use bytes::Bytes;

use super::aborted::Aborted;
use super::compression::decompress;
use super::record::Records;

/// Offset and length, which every format begins with.
const PREFIX: usize = 12;
/// What precedes the records of a batch.
const HEADER: usize = 61;
/// Where the format is named, and the sum of what follows it.
const MAGIC: usize = 16;
const SUMMED: usize = 21;

const COMPRESSION: i16 = 0b111;
const APPEND_TIME: i16 = 0b1000;
const TRANSACTIONAL: i16 = 0b1_0000;
const CONTROL: i16 = 0b10_0000;

/// What comes next in an answer. Reading goes on at `next` behind each.
#[derive(Debug)]
pub(crate) enum Batch {
    /// Records.
    Records { records: Records, next: i64 },
    /// Nothing for an application: a control batch, or one of an aborted transaction.
    Passed { next: i64 },
    /// Offsets that can't be read.
    Bad { from: i64, next: i64, reason: String },
}

impl Batch {
    /// The offset behind it.
    pub(crate) const fn next(&self) -> i64 {
        match self {
            Self::Records { next, .. } | Self::Passed { next } | Self::Bad { next, .. } => *next,
        }
    }
}

/// Walks the batches of an answer of one partition. It ends at the end, where the answer was cut, as the
/// broker cuts the last batch when an answer is full, or when so much has come out that the rest has to
/// be fetched again.
#[derive(Debug)]
pub(crate) struct Batches {
    rest: Bytes,
    aborted: Aborted,
    /// The most bytes that one batch may have once it is decompressed.
    cap: usize,
    /// About how many bytes may still come out of the answer.
    room: usize,
    /// How many bytes the largest batch so far has, as it is stored, even where it is cut.
    largest: usize,
}

impl Batches {
    pub(crate) const fn new(answer: Bytes, aborted: Aborted, cap: usize) -> Self {
        Self { rest: answer, aborted, cap, room: usize::MAX, largest: 0 }
    }

    /// Sets about how many bytes may come out of the answer; the batch that exceeds it is the last.
    pub(crate) fn with_room(self, room: usize) -> Self {
        Self { room, ..self }
    }

    /// How many bytes may still come out.
    pub(crate) const fn room(&self) -> usize {
        self.room
    }

    /// How many bytes the largest batch has, as it is stored, even where it is cut; `None` if there is
    /// none.
    pub(crate) fn largest(&self) -> Option<usize> {
        (self.largest > 0).then_some(self.largest)
    }
}

impl Iterator for Batches {
    type Item = Batch;

    fn next(&mut self) -> Option<Batch> {
        if self.room == 0 {
            return None;
        }
        let base = long(&self.rest, 0)?;
        let length = int(&self.rest, 8)?;
        let bad =
            |next, reason: &str| Some(Batch::Bad { from: base, next, reason: reason.to_owned() });
        let Some(length) = usize::try_from(length).ok().filter(|length| *length > MAGIC - PREFIX)
        else {
            // Where the next one begins can't be known.
            self.rest.clear();
            return bad(base.saturating_add(1), "a batch has an impossible length");
        };
        let length = length.checked_add(PREFIX)?;
        self.largest = self.largest.max(length);
        if length > self.rest.len() {
            self.rest.clear();
            return None;
        }
        let batch = self.rest.split_to(length);
        if batch.get(MAGIC) != Some(&2) || length < HEADER {
            let reason = "it has a format from before Kafka 0.11, which is not read";
            return bad(base.saturating_add(1), reason);
        }
        let header = Header::of(&batch)?;
        if base < 0 || header.last_delta < 0 {
            return bad(base.saturating_add(1), "a batch has impossible offsets");
        }
        let last = base.saturating_add(header.last_delta);
        let next = last.saturating_add(1);
        if crc32c::crc32c(batch.get(SUMMED..)?) != header.sum {
            return bad(next, "the checksum of a batch is wrong");
        }
        if header.attributes & CONTROL != 0 {
            self.aborted.end(header.producer, last);
            return Some(Batch::Passed { next });
        }
        let transactional = header.attributes & TRANSACTIONAL != 0;
        if transactional && self.aborted.skips(header.producer, last) {
            return Some(Batch::Passed { next });
        }
        let codec = header.attributes & COMPRESSION;
        let body = match decompress(codec, &batch.slice(HEADER..), self.cap) {
            Ok(body) => body,
            Err(reason) => return bad(next, &reason),
        };
        self.room = self.room.saturating_sub(body.len());
        let count = usize::try_from(header.count).ok();
        let Some(mut records) = count.and_then(|count| Records::new(body, count)) else {
            return bad(next, "a batch claims more records than it can hold");
        };
        records.base_offset = base;
        records.last_offset = last;
        records.base_timestamp = header.base_timestamp;
        records.stored = (header.attributes & APPEND_TIME != 0).then_some(header.max_timestamp);
        Some(Batch::Records { records, next })
    }
}

struct Header {
    sum: u32,
    attributes: i16,
    last_delta: i64,
    base_timestamp: i64,
    max_timestamp: i64,
    producer: i64,
    count: i32,
}

impl Header {
    fn of(batch: &[u8]) -> Option<Self> {
        Some(Self {
            sum: int(batch, 17)?.cast_unsigned(),
            attributes: i16::from_be_bytes(*batch.get(21..)?.first_chunk()?),
            last_delta: i64::from(int(batch, 23)?),
            base_timestamp: long(batch, 27)?,
            max_timestamp: long(batch, 35)?,
            producer: long(batch, 43)?,
            count: int(batch, 57)?,
        })
    }
}

fn int(bytes: &[u8], at: usize) -> Option<i32> {
    bytes.get(at..)?.first_chunk().map(|bytes| i32::from_be_bytes(*bytes))
}

fn long(bytes: &[u8], at: usize) -> Option<i64> {
    bytes.get(at..)?.first_chunk().map(|bytes| i64::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests;
