//! Record batches. What ours reads whole, kafka-protocol and rskafka read too, and find the same.

#![no_main]

use std::io::Cursor;

use kafka_protocol::records::RecordBatchDecoder;
use libfuzzer_sys::fuzz_target;
use messaging_kafka::fuzzed::{self, Found};
use rskafka::protocol::record::{ControlBatchOrRecords, RecordBatch};
use rskafka::protocol::traits::ReadType;

fuzz_target!(|bytes: &[u8]| {
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
