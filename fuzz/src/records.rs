//! Record batches. What ours reads whole, kafka-protocol and rskafka read too, and find the same.

#![no_main]

use std::io::Cursor;

use kafka_protocol::records::RecordBatchDecoder;
use libfuzzer_sys::fuzz_target;
use messaging_kafka::fuzzed::{self, Found};
use rskafka::protocol::record::{ControlBatchOrRecords, RecordBatch};
use rskafka::protocol::traits::ReadType;

fuzz_target!(|bytes: &[u8]| {
    let bytes = &sealed(bytes)[..];
    // What is compressed others do not read here, and what is doubtful in any way they may refuse.
    let Some(ours) = fuzzed::records(bytes) else { return };
    let mut rest = bytes::Bytes::copy_from_slice(bytes);
    let sets = RecordBatchDecoder::decode_all(&mut rest).expect("kafka-protocol reads it");
    let theirs = sets.into_iter().flat_map(|set| set.records);
    let theirs = theirs.filter(|record| !record.control).map(|record| Found {
        offset: record.offset,
        key: record.key.map(|key| key.to_vec()),
        value: record.value.map(|value| value.to_vec()),
    });
    assert_eq!(ours, theirs.collect::<Vec<_>>(), "kafka-protocol");
    let mut cursor = Cursor::new(bytes);
    let mut theirs = Vec::new();
    while (cursor.position() as usize) < bytes.len() {
        let batch = RecordBatch::read(&mut cursor).expect("rskafka reads it");
        let ControlBatchOrRecords::Records(records) = batch.records else { continue };
        theirs.extend(records.into_iter().map(|record| Found {
            offset: batch.base_offset + i64::from(record.offset_delta),
            key: record.key,
            value: record.value,
        }));
    }
    assert_eq!(ours, theirs, "rskafka");
});

/// The same bytes with the checksum of each batch put right: else nearly everything ends there.
fn sealed(bytes: &[u8]) -> Vec<u8> {
    let mut sealed = bytes.to_vec();
    let mut rest = &mut sealed[..];
    while let Some(length) = rest.get(8..12).and_then(|length| length.first_chunk()) {
        let end = 12 + i32::from_be_bytes(*length).max(0) as usize;
        if end < 21 || end > rest.len() {
            break;
        }
        let (batch, behind) = rest.split_at_mut(end);
        let sum = crc32c::crc32c(&batch[21..]);
        batch[17..21].copy_from_slice(&sum.to_be_bytes());
        rest = behind;
    }
    sealed
}
