//! What reads other people's bytes, for fuzzing: each takes any bytes, checks what must hold of all,
//! and panics where it does not.

use bytes::Bytes;

use crate::group::assignment::Assignment;
use crate::group::claim::Claim;
use crate::offsets::metadata::Progress;
use crate::read::aborted::Aborted;
use crate::read::batch::{Batch, Batches};

/// The most bytes of a batch once it is decompressed.
const CAP: usize = 1 << 20;

/// A record, as far as every client sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its offset.
    pub offset: i64,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its value.
    pub value: Option<Vec<u8>>,
}

/// Reads an answer. Gives what was found if another client has to read it too: nothing in it is
/// damaged, compressed, cut or of a transaction, and headers have names in UTF-8.
///
/// # Panics
/// If offsets go back, or there are more steps than bytes can hold.
#[must_use]
pub fn records(bytes: &[u8]) -> Option<Vec<Found>> {
    let mut found = Vec::new();
    let (mut whole, mut steps, mut next) = (true, 0, i64::MIN);
    let mut read = 0;
    for batch in Batches::new(Bytes::copy_from_slice(bytes), Aborted::default(), CAP) {
        steps += 1;
        let header = bytes.get(read..).unwrap_or_default();
        let length = header.get(8..12).and_then(|length| length.first_chunk());
        read += length.map_or(0, |length| i32::from_be_bytes(*length).unsigned_abs() as usize + 12);
        // No attributes: neither compression nor a transaction. A foreign reader takes offsets as
        // they are.
        whole &= header.get(21..23) == Some(&[0, 0][..]) && batch.next() >= next;
        next = next.max(batch.next());
        let Batch::Records { records, .. } = batch else {
            whole = false;
            continue;
        };
        let (mut last, mut counted) = (i64::MIN, 0);
        for record in records {
            steps += 1;
            let Ok(record) = record else {
                whole = false;
                continue;
            };
            counted += 1;
            whole &= record.offset > last && is_usual(&record);
            last = record.offset;
            let bytes = |part: Option<Bytes>| part.map(|part| part.to_vec());
            let (key, value) = (bytes(record.key), bytes(record.value));
            found.push(Found { offset: record.offset, key, value });
        }
        whole &= counted > 0 && last + 1 == next;
    }
    assert!(steps <= bytes.len() + CAP, "{steps} steps");
    (whole && read == bytes.len() && !found.is_empty()).then_some(found)
}

/// Whether other clients, which keep headers as texts in a map and times in a calendar, take it.
fn is_usual(record: &crate::read::record::Record) -> bool {
    let mut names = std::collections::BTreeSet::new();
    let headers = record.headers.iter();
    let mut named = headers.map(|(name, value)| (std::str::from_utf8(name).ok(), value));
    let is_in_calendar = (0..1 << 41).contains(&record.timestamp);
    is_in_calendar
        && named.all(|(name, value)| {
            value.is_some() && name.is_some_and(|name| names.insert(name.to_owned()))
        })
}

/// Reads what members tell each other and what a commit says: what is read survives being written.
///
/// # Panics
/// If it does not.
pub fn group(bytes: &[u8]) {
    if let Some(claim) = Claim::decode(bytes) {
        let again = Claim::decode(&claim.encode(std::iter::empty()));
        assert_eq!(again.as_ref(), Some(&claim));
    }
    if let Some(assignment) = Assignment::decode(bytes) {
        assert_eq!(Assignment::decode(&assignment.encode()).as_ref(), Some(&assignment));
    }
    let Some((base, text)) = bytes.split_first_chunk() else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let base = i64::from_be_bytes(*base);
    if let Some(progress) = Progress::decode(text, base) {
        let again = Progress::decode(&progress.encode(), base);
        assert_eq!(again.map(|again| again.base), Some(progress.base));
    }
}

#[cfg(test)]
mod tests;
