//! Batches of records as they are stored: format version 2, compressed as a whole.

use std::io::{self, Write};

use bytes::{BufMut, Bytes, BytesMut};
use messaging_core::{Message, Result};

use super::failure::cannot_encode;
use crate::config::Compression;
use crate::wire;

/// The bytes of a batch before its checksum, and before its records.
const BEFORE_SUM: usize = 17;
const HEAD: usize = 61;

/// The batch of these messages, stored at `now`, in milliseconds since 1970.
pub(crate) fn batch<'a>(
    messages: impl ExactSizeIterator<Item = &'a Message> + Clone,
    compression: Compression,
    now: i64,
) -> Result<Bytes> {
    let count = i32::try_from(messages.len()).unwrap_or(i32::MAX);
    let size: usize = messages.clone().map(wire::size).sum();
    let mut out = BytesMut::with_capacity(HEAD + size);
    out.put_i64(0);
    out.put_i32(0);
    out.put_i32(-1);
    out.put_u8(2);
    out.put_u32(0);
    out.put_i16(code(compression));
    out.put_i32(count - 1);
    out.put_i64(now);
    out.put_i64(now);
    // Neither idempotent nor part of a transaction.
    out.put_i64(-1);
    out.put_i16(-1);
    out.put_i32(-1);
    out.put_i32(count);
    if compression == Compression::None {
        records(&mut out, messages);
    } else {
        let mut plain = BytesMut::with_capacity(size);
        records(&mut plain, messages);
        compress(&mut out, &plain, compression).map_err(cannot_encode)?;
    }
    let length = i32::try_from(out.len() - 12).map_err(cannot_encode)?;
    let sum = crc32c::crc32c(out.get(BEFORE_SUM + 4..).unwrap_or_default());
    put(&mut out, 8, length.to_be_bytes());
    put(&mut out, BEFORE_SUM, sum.to_be_bytes());
    Ok(out.freeze())
}

fn put(out: &mut BytesMut, at: usize, bytes: [u8; 4]) {
    if let Some(place) = out.get_mut(at..at + 4) {
        place.copy_from_slice(&bytes);
    }
}

const fn code(compression: Compression) -> i16 {
    match compression {
        Compression::None => 0,
        Compression::Gzip => 1,
        Compression::Snappy => 2,
        Compression::Lz4 => 3,
        Compression::Zstd => 4,
    }
}

fn records<'a>(out: &mut BytesMut, messages: impl Iterator<Item = &'a Message>) {
    let mut record = Vec::new();
    for (index, message) in messages.enumerate() {
        record.clear();
        // No attributes, and the time of the batch.
        record.extend_from_slice(&[0, 0]);
        varint(&mut record, index as i64);
        sized(&mut record, message.key.as_deref());
        sized(&mut record, Some(&message.body));
        varint(&mut record, wire::header_count(message) as i64);
        wire::headers(message, |name, value| {
            sized(&mut record, Some(name.as_bytes()));
            sized(&mut record, Some(value));
        });
        let (length, used) = zigzag(record.len() as i64);
        out.extend_from_slice(length.get(..used).unwrap_or_default());
        out.extend_from_slice(&record);
    }
}

fn sized(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        None => varint(out, -1),
        Some(bytes) => {
            varint(out, bytes.len() as i64);
            out.extend_from_slice(bytes);
        }
    }
}

fn varint(out: &mut Vec<u8>, number: i64) {
    let (bytes, used) = zigzag(number);
    out.extend_from_slice(bytes.get(..used).unwrap_or_default());
}

/// Seven bits a byte, the lowest first, the sign last; and how many bytes these are.
fn zigzag(number: i64) -> ([u8; 10], usize) {
    let mut rest = ((number << 1) ^ (number >> 63)).cast_unsigned();
    let mut bytes = [0; 10];
    let mut used = 0;
    for place in &mut bytes {
        used += 1;
        *place = (rest & 0x7f) as u8;
        rest >>= 7;
        if rest == 0 {
            break;
        }
        *place |= 0x80;
    }
    (bytes, used)
}

fn compress(out: &mut BytesMut, plain: &[u8], compression: Compression) -> io::Result<()> {
    match compression {
        Compression::None => out.extend_from_slice(plain),
        Compression::Gzip => {
            let level = flate2::Compression::default();
            let mut encoder = flate2::write::GzEncoder::new(out.writer(), level);
            encoder.write_all(plain)?;
            encoder.finish()?;
        }
        Compression::Snappy => {
            let packed = snap::raw::Encoder::new().compress_vec(plain).map_err(io::Error::other)?;
            out.extend_from_slice(&packed);
        }
        Compression::Lz4 => {
            // Kafka's own reader knows no other blocks.
            let independent = lz4::BlockMode::Independent;
            let mut encoder =
                lz4::EncoderBuilder::new().block_mode(independent).build(out.writer())?;
            encoder.write_all(plain)?;
            encoder.finish().1?;
        }
        Compression::Zstd => {
            let mut encoder = zstd::Encoder::new(out.writer(), zstd::DEFAULT_COMPRESSION_LEVEL)?;
            encoder.write_all(plain)?;
            encoder.finish()?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use messaging_core::Subject;

    use super::*;

    #[test]
    fn a_batch_has_its_length_and_checksum() {
        let message = Message::new(Subject::from_static("tasks.x"), "body").with_key("k");
        let batch = batch([&message].into_iter(), Compression::None, 7).unwrap();
        assert_eq!(batch[8..12], u32::to_be_bytes(batch.len() as u32 - 12));
        assert_eq!(batch[17..21], crc32c::crc32c(&batch[21..]).to_be_bytes());
        // Its length in two bytes, no attributes, its time and offset, then the key.
        assert_eq!(batch[HEAD + 2..HEAD + 7], [0, 0, 0, 2, b'k']);
    }

    #[test]
    fn numbers_are_written_as_kafka_writes_them() {
        for (number, bytes) in [
            (0, &[0][..]),
            (-1, &[1]),
            (63, &[0x7e]),
            (64, &[0x80, 1]),
            (300, &[0xd8, 4]),
            (i64::from(i32::MIN), &[0xff, 0xff, 0xff, 0xff, 0x0f]),
        ] {
            let mut out = Vec::new();
            varint(&mut out, number);
            assert_eq!(out, bytes, "{number}");
        }
    }
}
