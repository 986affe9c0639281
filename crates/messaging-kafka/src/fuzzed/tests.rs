//! The corpora of the fuzzer again, on stable. A line of each is one input in hexadecimal digits.

use kafka_protocol::records::RecordBatchDecoder;

use super::*;

fn inputs(text: &str) -> impl Iterator<Item = Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).unwrap() as u8;
    let bytes = move |line: &str| {
        line.as_bytes().chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
    };
    text.lines().map(bytes)
}

#[test]
fn what_ours_reads_whole_kafka_protocol_reads_too() {
    let mut compared = 0;
    for input in inputs(include_str!("../../../../fuzz/corpus/records.hex")) {
        let Some(ours) = records(&input) else { continue };
        let sets = RecordBatchDecoder::decode_all(&mut Bytes::from(input)).unwrap();
        let theirs = sets.into_iter().flat_map(|set| set.records);
        let bytes = |part: Option<Bytes>| part.map(|part| part.to_vec());
        let theirs = theirs.map(|record| Found {
            offset: record.offset,
            key: bytes(record.key),
            value: bytes(record.value),
        });
        assert_eq!(ours, theirs.collect::<Vec<_>>());
        compared += 1;
    }
    assert!(compared > 0, "nothing of the corpus is whole");
}

#[test]
fn what_members_tell_survives_being_written() {
    inputs(include_str!("../../../../fuzz/corpus/group.hex")).for_each(|input| group(&input));
}
