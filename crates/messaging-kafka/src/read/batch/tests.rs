use proptest::prelude::*;

use super::super::encode::{Plain, Spec, batch, batch_of, compress, record, xerial};
use super::super::record::{BadRecord, Record};
use super::*;
use crate::varint::put_signed;

const CAP: usize = 1 << 20;

fn walk(bytes: Vec<u8>) -> Vec<Batch> {
    Batches::new(bytes.into(), Aborted::default(), CAP).collect()
}

#[test]
fn what_comes_out_of_an_answer_is_bounded_and_the_rest_is_fetched_again() {
    let large = "x".repeat(CAP / 4);
    let of = |base| batch(&Spec { base, attributes: 1, ..Spec::default() }, &[plain(0, &large)]);
    let answer: Vec<u8> = (0..8).flat_map(of).collect();
    let stored = answer.len() / 8;
    let mut batches =
        Batches::new(answer.into(), Aborted::default(), CAP).with_room(CAP / 2 + CAP / 8);
    let ends: Vec<i64> = batches.by_ref().map(|batch| batch.next()).collect();
    assert_eq!((ends, batches.room(), batches.largest()), (vec![1, 2, 3], 0, Some(stored)));
}

#[test]
fn a_batch_that_is_cut_still_tells_its_size() {
    let whole = batch(&Spec::default(), &[plain(0, "x")]);
    let cut = bytes::Bytes::copy_from_slice(&whole[..whole.len() / 2]);
    let mut batches = Batches::new(cut, Aborted::default(), CAP);
    assert!(batches.next().is_none());
    assert_eq!(batches.largest(), Some(whole.len()));
}

fn records_of(batch: Batch) -> Vec<Result<Record, BadRecord>> {
    match batch {
        Batch::Records { records, .. } => records.collect(),
        other => panic!("{other:?}"),
    }
}

fn plain(delta: i64, value: &str) -> Plain {
    Plain { delta, value: Some(value.into()), ..Plain::default() }
}

fn some_bytes() -> impl Strategy<Value = Option<Vec<u8>>> {
    prop::option::of(prop::collection::vec(any::<u8>(), 0..40))
}

prop_compose! {
    fn some_record()(
        timestamp in any::<i64>(),
        key in some_bytes(),
        value in some_bytes(),
        names in prop::collection::vec(prop::sample::select(vec!["a", "b", "", "\u{e9}"]), 0..5),
        values in prop::collection::vec(some_bytes(), 5),
    ) -> Plain {
        let headers = names.into_iter().map(|name| name.as_bytes().to_vec()).zip(values).collect();
        Plain { delta: 0, timestamp, key, value, headers }
    }
}

proptest! {
    #[test]
    fn what_was_written_is_read_with_every_compression(
        base in 0..i64::MAX / 2,
        base_timestamp: i64,
        codec in 0..5_i16,
        mut plain in prop::collection::vec(some_record(), 0..12),
        gaps in prop::collection::vec(1..4_i64, 12),
    ) {
        let mut delta = 0;
        for (record, gap) in plain.iter_mut().zip(gaps) {
            record.delta = delta;
            delta += gap;
        }
        let spec = Spec { base, attributes: codec, base_timestamp, ..Spec::default() };
        let mut all = walk(batch(&spec, &plain));
        prop_assert_eq!(all.len(), 1);
        prop_assert_eq!(all[0].next(), base + plain.last().map_or(0, |last| last.delta) + 1);
        let records = records_of(all.remove(0));
        prop_assert_eq!(records.len(), plain.len());
        for (read, written) in records.into_iter().zip(plain) {
            let read = read.unwrap();
            prop_assert_eq!(read.offset, base + written.delta);
            prop_assert_eq!(read.timestamp, base_timestamp.saturating_add(written.timestamp));
            prop_assert!(read.stored_at() >= std::time::UNIX_EPOCH);
            prop_assert_eq!(read.key.map(Vec::from), written.key);
            prop_assert_eq!(read.value.map(Vec::from), written.value);
            let headers = read.headers.iter().map(|(n, v)| (n.to_vec(), v.map(Vec::from)));
            prop_assert_eq!(headers.collect::<Vec<_>>(), written.headers);
        }
    }
}

#[test]
fn kafkas_own_encoder_is_read() {
    use kafka_protocol::indexmap::IndexMap;
    use kafka_protocol::records as theirs;
    let record = theirs::Record {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: 0,
        producer_id: -1,
        producer_epoch: -1,
        timestamp_type: theirs::TimestampType::Creation,
        offset: 0,
        sequence: -1,
        timestamp: 77,
        key: None,
        value: Some("v".into()),
        headers: IndexMap::from_iter([("h".into(), None)]),
    };
    let mut out = bytes::BytesMut::new();
    let options =
        theirs::RecordEncodeOptions { version: 2, compression: theirs::Compression::None };
    theirs::RecordBatchEncoder::encode(&mut out, [&record], &options).unwrap();
    let read = records_of(walk(out.to_vec()).remove(0)).remove(0).unwrap();
    assert_eq!((read.timestamp, read.value), (77, Some("v".into())));
    assert_eq!(read.headers.iter().collect::<Vec<_>>(), [(&b"h"[..], None)]);
}

#[test]
fn the_framing_of_javas_snappy_is_read() {
    let mut body = Vec::new();
    for delta in 0..40 {
        let bytes = record(&plain(delta, "some value"));
        put_signed(&mut body, bytes.len() as i64);
        body.extend_from_slice(&bytes);
    }
    let spec = Spec { attributes: 2, last_delta: Some(39), count: Some(40), ..Spec::default() };
    let records = records_of(walk(batch_of(&spec, &xerial(&body))).remove(0));
    assert_eq!(records.len(), 40);
    assert!(records.into_iter().all(|record| record.unwrap().value.unwrap() == "some value"));
}

#[test]
fn a_wrong_checksum_makes_its_batch_bad_and_no_other() {
    let mut bytes = batch(&Spec::default(), &[plain(0, "a"), plain(1, "b")]);
    let at = bytes.len() - 3;
    bytes[at] ^= 1;
    bytes.extend(batch(&Spec { base: 2, ..Spec::default() }, &[plain(0, "c")]));
    let mut all = walk(bytes);
    let Batch::Bad { from: 0, next: 2, reason } = &all[0] else { panic!("{:?}", all[0]) };
    assert!(reason.contains("checksum"));
    assert_eq!(records_of(all.remove(1))[0].as_ref().unwrap().value, Some("c".into()));
}

#[test]
fn a_bad_record_is_bad_alone() {
    let mut body = Vec::new();
    for (at, value) in ["a", "bad", "c"].into_iter().enumerate() {
        let mut bytes = record(&plain(at as i64, value));
        if value == "bad" {
            // Its value claims to be longer than the record.
            bytes[4] = 0x7e;
        }
        put_signed(&mut body, bytes.len() as i64);
        body.extend(bytes);
    }
    let spec = Spec { last_delta: Some(2), count: Some(3), ..Spec::default() };
    let records = records_of(walk(batch_of(&spec, &body)).remove(0));
    let good = |at: usize| records[at].as_ref().unwrap().value.clone().unwrap();
    assert_eq!((good(0), good(2)), ("a".into(), "c".into()));
    assert!(records[1].is_err());
}

#[test]
fn bytes_behind_the_last_record_of_a_batch_are_told_once() {
    let spec = Spec { last_delta: Some(0), count: Some(1), ..Spec::default() };
    let bytes = batch(&spec, &[plain(0, "a"), plain(0, "uncounted")]);
    let records = records_of(walk(bytes).remove(0));
    assert_eq!(records[0].as_ref().unwrap().value, Some("a".into()));
    assert!(records[1].as_ref().is_err_and(|bad| bad.reason.contains("behind the last")));
    assert_eq!(records.len(), 2);
}

#[test]
fn a_control_batch_is_passed_and_its_offset_too() {
    let spec = Spec { base: 7, attributes: 0b11_0000, producer: 5, ..Spec::default() };
    let all = walk(batch(&spec, &[Plain { key: Some(vec![0, 0, 0, 1]), ..Plain::default() }]));
    assert!(matches!(all[..], [Batch::Passed { next: 8 }]));
}

#[test]
fn an_emptied_batch_moves_the_offset() {
    let spec = Spec { base: 7, last_delta: Some(9), count: Some(0), ..Spec::default() };
    let all = walk(batch_of(&spec, &[]));
    assert_eq!(all[0].next(), 17);
    assert!(records_of(all.into_iter().next().unwrap()).is_empty());
}

#[test]
fn records_of_an_aborted_transaction_are_skipped_and_its_producers_next_ones_are_not() {
    let of = |base, producer, control| {
        let attributes = 0b1_0000 | if control { 0b10_0000 } else { 0 };
        batch(&Spec { base, attributes, producer, ..Spec::default() }, &[plain(0, "v")])
    };
    let bytes = [of(0, 1, false), of(1, 2, false), of(2, 1, true), of(3, 1, false)].concat();
    let aborted = Aborted::new([(1, 0)]);
    let all: Vec<Batch> = Batches::new(bytes.into(), aborted, CAP).collect();
    let reads = all.iter().map(|batch| matches!(batch, Batch::Records { .. }));
    assert_eq!(reads.collect::<Vec<_>>(), [false, true, false, true]);
}

#[test]
fn a_compression_bomb_is_bad_within_its_cap() {
    for codec in 1..5 {
        let bomb = compress(codec, &vec![0; 8 << 20]);
        let spec = Spec { attributes: codec, count: Some(1), ..Spec::default() };
        let all = walk(batch_of(&spec, &bomb));
        let Batch::Bad { reason, .. } = &all[0] else { panic!("codec {codec}: {:?}", all[0]) };
        assert!(reason.contains("1048576 bytes"), "{reason}");
    }
}

#[test]
fn a_batch_that_is_cut_is_left_for_the_next_answer() {
    let whole = batch(&Spec::default(), &[plain(0, "a")]);
    for length in 0..whole.len() {
        assert!(walk(whole[..length].to_vec()).is_empty(), "{length}");
    }
}

#[test]
fn the_brokers_time_counts_where_it_is_the_broker_that_sets_it() {
    let spec = Spec { attributes: 0b1000, max_timestamp: 5_000, ..Spec::default() };
    let record = records_of(walk(batch(&spec, &[plain(0, "a")])).remove(0)).remove(0).unwrap();
    assert_eq!(record.timestamp, 5_000);
}
