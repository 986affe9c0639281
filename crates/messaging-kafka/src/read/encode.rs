//! An encoder of record batches that can write everything a foreign client can.

use super::aborted::Aborted;
use super::batch::{Batch, Batches};
use super::record::Records;
use crate::varint::{put_signed, put_unsigned};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Plain {
    pub(super) delta: i64,
    pub(super) timestamp: i64,
    pub(super) key: Option<Vec<u8>>,
    pub(super) value: Option<Vec<u8>>,
    pub(super) headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

#[derive(Clone, Debug)]
pub(super) struct Spec {
    pub(super) base: i64,
    pub(super) attributes: i16,
    pub(super) producer: i64,
    pub(super) base_timestamp: i64,
    pub(super) max_timestamp: i64,
    /// What the header says of the last offset; the last record's unless set.
    pub(super) last_delta: Option<i32>,
    pub(super) count: Option<i32>,
}

impl Default for Spec {
    fn default() -> Self {
        Self {
            base: 0,
            attributes: 0,
            producer: -1,
            base_timestamp: 1_000,
            max_timestamp: 1_000,
            last_delta: None,
            count: None,
        }
    }
}

pub(super) fn record(plain: &Plain) -> Vec<u8> {
    let mut out = vec![0];
    put_signed(&mut out, plain.timestamp);
    put_signed(&mut out, plain.delta);
    sized(&mut out, plain.key.as_deref());
    sized(&mut out, plain.value.as_deref());
    put_signed(&mut out, plain.headers.len() as i64);
    for (name, value) in &plain.headers {
        sized(&mut out, Some(name));
        sized(&mut out, value.as_deref());
    }
    out
}

fn sized(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    put_signed(out, bytes.map_or(-1, |bytes| bytes.len() as i64));
    out.extend_from_slice(bytes.unwrap_or_default());
}

pub(super) fn batch(spec: &Spec, records: &[Plain]) -> Vec<u8> {
    let mut body = Vec::new();
    for plain in records {
        let bytes = record(plain);
        put_signed(&mut body, bytes.len() as i64);
        body.extend_from_slice(&bytes);
    }
    let last = records.last().map_or(0, |plain| plain.delta as i32);
    let count = records.len() as i32;
    let body = compress(spec.attributes & 7, &body);
    batch_of(
        &Spec {
            last_delta: spec.last_delta.or(Some(last)),
            count: spec.count.or(Some(count)),
            ..spec.clone()
        },
        &body,
    )
}

/// The records of a batch as they are read, each with a delta, a subject and a key.
pub(crate) fn records<'a>(
    base: i64,
    all: impl Iterator<Item = (i64, &'a str, Option<Vec<u8>>)>,
) -> Records {
    let plain = |(delta, subject, key): (i64, &str, _)| {
        let headers = vec![(b"subject".to_vec(), Some(subject.as_bytes().to_vec()))];
        Plain { delta, key, headers, ..Plain::default() }
    };
    let all: Vec<Plain> = all.map(plain).collect();
    let bytes = batch(&Spec { base, ..Spec::default() }, &all);
    match Batches::new(bytes.into(), Aborted::default(), usize::MAX).next() {
        Some(Batch::Records { records, .. }) => records,
        other => panic!("{other:?}"),
    }
}

/// A batch with this body, whatever it is.
pub(super) fn batch_of(spec: &Spec, body: &[u8]) -> Vec<u8> {
    let mut summed = Vec::new();
    summed.extend_from_slice(&spec.attributes.to_be_bytes());
    summed.extend_from_slice(&spec.last_delta.unwrap_or_default().to_be_bytes());
    summed.extend_from_slice(&spec.base_timestamp.to_be_bytes());
    summed.extend_from_slice(&spec.max_timestamp.to_be_bytes());
    summed.extend_from_slice(&spec.producer.to_be_bytes());
    summed.extend_from_slice(&0_i16.to_be_bytes());
    summed.extend_from_slice(&0_i32.to_be_bytes());
    summed.extend_from_slice(&spec.count.unwrap_or_default().to_be_bytes());
    summed.extend_from_slice(body);
    let mut out = Vec::new();
    out.extend_from_slice(&spec.base.to_be_bytes());
    out.extend_from_slice(&(summed.len() as i32 + 9).to_be_bytes());
    out.extend_from_slice(&0_i32.to_be_bytes());
    out.push(2);
    out.extend_from_slice(&crc32c::crc32c(&summed).to_be_bytes());
    out.extend_from_slice(&summed);
    out
}

/// Makes the sum of a batch right again, so that what was changed in it is looked at.
pub(super) fn sum(batch: &mut [u8]) {
    if batch.len() > 21 {
        let sum = crc32c::crc32c(&batch[21..]);
        batch[17..21].copy_from_slice(&sum.to_be_bytes());
    }
}

pub(super) fn compress(codec: i16, body: &[u8]) -> Vec<u8> {
    use std::io::Write;
    match codec {
        1 => {
            let mut encoder =
                flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(body).unwrap();
            encoder.finish().unwrap()
        }
        2 => snap::raw::Encoder::new().compress_vec(body).unwrap(),
        3 => {
            let mut encoder = lz4::EncoderBuilder::new().build(Vec::new()).unwrap();
            encoder.write_all(body).unwrap();
            let (out, result) = encoder.finish();
            result.unwrap();
            out
        }
        4 => zstd::encode_all(body, 1).unwrap(),
        _ => body.to_vec(),
    }
}

/// As Java's snappy library frames it.
pub(super) fn xerial(body: &[u8]) -> Vec<u8> {
    let mut out = b"\x82SNAPPY\x00\0\0\0\x01\0\0\0\x01".to_vec();
    for chunk in body.chunks(32) {
        let block = compress(2, chunk);
        out.extend_from_slice(&(block.len() as i32).to_be_bytes());
        out.extend_from_slice(&block);
    }
    out
}

/// A number that is more than what follows it.
pub(super) fn too_many(out: &mut Vec<u8>) {
    put_unsigned(out, u64::MAX);
}
