//! The records of one batch.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use crate::varint::Numbers;

/// The fewest bytes that a record takes.
pub(super) const LEAST: usize = 7;
/// The latest time that a record can have been stored at: the end of the year 9999.
const LATEST_MILLIS: i64 = 253_402_300_799_999;

/// One record, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) offset: i64,
    /// Milliseconds since 1970; anything, as its sender may have set it.
    pub(crate) timestamp: i64,
    pub(crate) key: Option<Bytes>,
    pub(crate) value: Option<Bytes>,
    pub(crate) headers: RecordHeaders,
}

impl Record {
    /// When it was stored, within what a calendar can show.
    pub(crate) fn stored_at(&self) -> SystemTime {
        time(self.timestamp)
    }
}

/// One record, within its batch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RecordRef<'a> {
    pub(crate) offset: i64,
    timestamp: i64,
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
    headers: &'a [u8],
    body: &'a Bytes,
}

impl<'a> RecordRef<'a> {
    /// When it was stored, within what a calendar can show.
    pub(crate) fn stored_at(&self) -> SystemTime {
        time(self.timestamp)
    }

    /// Its key, which shares the bytes of the batch.
    pub(crate) fn key(&self) -> Option<Bytes> {
        self.key.map(|key| self.body.slice_ref(key))
    }

    /// Its value, which shares the bytes of the batch.
    pub(crate) fn value(&self) -> Option<Bytes> {
        self.value.map(|value| self.body.slice_ref(value))
    }

    /// Name and value of each header.
    pub(crate) fn headers(&self) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> + use<'a> {
        headers(self.headers)
    }

    fn to_owned(self) -> Record {
        let Self { offset, timestamp, headers, .. } = self;
        let headers = if headers.is_empty() { Bytes::new() } else { self.body.slice_ref(headers) };
        let (key, value) = (self.key(), self.value());
        Record { offset, timestamp, key, value, headers: RecordHeaders(headers) }
    }
}

fn time(millis: i64) -> SystemTime {
    let millis = millis.clamp(0, LATEST_MILLIS);
    UNIX_EPOCH + Duration::from_millis(millis.unsigned_abs())
}

/// The headers of a record in order, with duplicates and absent values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RecordHeaders(Bytes);

impl RecordHeaders {
    /// Name and value of each.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        headers(&self.0)
    }
}

/// Name and value of each header. They were checked when the record was read.
fn headers(bytes: &[u8]) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
    let mut rest = Numbers(bytes);
    std::iter::from_fn(move || {
        if rest.0.is_empty() {
            return None;
        }
        let name = sized(&mut rest)??;
        Some((name, sized(&mut rest)?))
    })
}

/// A record that can't be read. What follows it can, unless it says that nothing does.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BadRecord {
    pub(crate) reason: &'static str,
}

/// Walks the records of a batch.
#[derive(Debug)]
pub(crate) struct Records {
    body: Bytes,
    at: usize,
    left: usize,
    pub(super) base_offset: i64,
    pub(super) last_offset: i64,
    pub(super) base_timestamp: i64,
    /// The time at which the broker stored the batch, where it is the broker that says so.
    pub(super) stored: Option<i64>,
}

impl Records {
    /// `None` if there can't be so many records in so many bytes.
    pub(super) fn new(body: Bytes, count: usize) -> Option<Self> {
        (count <= body.len() / LEAST).then_some(Self {
            body,
            at: 0,
            left: count,
            base_offset: 0,
            last_offset: 0,
            base_timestamp: 0,
            stored: None,
        })
    }

    /// How many bytes all of them have, those before too.
    pub(crate) fn bytes(&self) -> usize {
        self.body.len()
    }

    /// The next record, which holds no share of the bytes of the batch.
    #[inline]
    pub(crate) fn next_ref(&mut self) -> Option<Result<RecordRef<'_>, BadRecord>> {
        if self.left == 0 {
            return self.end();
        }
        self.left -= 1;
        let mut rest = Numbers(self.body.get(self.at..)?);
        let length = rest.signed().and_then(|length| usize::try_from(length).ok());
        let Some(bytes) = length.and_then(|length| rest.bytes(length)) else {
            (self.left, self.at) = (0, self.body.len());
            let reason = "a record is longer than its batch; nothing behind it can be read";
            return Some(Err(BadRecord { reason }));
        };
        self.at = self.body.len() - rest.0.len();
        let record = self.read(bytes);
        Some(record.ok_or(BadRecord { reason: "a record is not what Kafka's format says" }))
    }

    /// Java's clients refuse a batch with more bytes than records. Here the records are read, and what
    /// is left is told once.
    fn end<T>(&mut self) -> Option<Result<T, BadRecord>> {
        let is_clean = self.at >= self.body.len();
        self.at = self.body.len();
        let reason = "there are bytes behind the last record of a batch";
        (!is_clean).then_some(Err(BadRecord { reason }))
    }

    #[inline]
    fn read<'a>(&'a self, bytes: &'a [u8]) -> Option<RecordRef<'a>> {
        let mut rest = Numbers(bytes);
        rest.byte()?;
        let timestamp = self.base_timestamp.saturating_add(rest.signed()?);
        let offset = self.base_offset.checked_add(rest.signed()?)?;
        if offset < self.base_offset || offset > self.last_offset {
            return None;
        }
        let key = sized(&mut rest)?;
        let value = sized(&mut rest)?;
        let count = usize::try_from(rest.signed()?).ok()?;
        let headers = rest.0;
        // A header takes at least two bytes.
        if count > headers.len() / 2 {
            return None;
        }
        for _ in 0..count {
            sized(&mut rest)??;
            sized(&mut rest)?;
        }
        if !rest.0.is_empty() {
            return None;
        }
        let timestamp = self.stored.unwrap_or(timestamp);
        Some(RecordRef { offset, timestamp, key, value, headers, body: &self.body })
    }
}

/// Bytes with their length, which may be absent; `None` at the end.
#[inline]
#[expect(clippy::option_option, reason = "what is absent is not what can't be read")]
fn sized<'a>(rest: &mut Numbers<'a>) -> Option<Option<&'a [u8]>> {
    match rest.signed()? {
        -1 => Some(None),
        length => rest.bytes(usize::try_from(length).ok()?).map(Some),
    }
}

impl Iterator for Records {
    type Item = Result<Record, BadRecord>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        self.next_ref().map(|record| record.map(RecordRef::to_owned))
    }
}
