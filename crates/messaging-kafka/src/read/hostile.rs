//! What nobody should send: no panic, no more memory than the cap, no endless walk.

use proptest::prelude::*;

use super::aborted::Aborted;
use super::batch::{Batch, Batches};
use super::encode::{Plain, Spec, batch, batch_of, sum, too_many};

const CAP: usize = 1 << 20;

/// Walks everything; gives how many steps that took, and the most memory at once.
fn walk(bytes: &[u8]) -> (usize, u64) {
    let answer = bytes::Bytes::copy_from_slice(bytes);
    let mut steps = 0;
    let used = allocation_counter::measure(|| {
        for batch in Batches::new(answer, Aborted::new([(0, 0), (7, 3)]), CAP) {
            steps += 1;
            if let Batch::Records { records, .. } = batch {
                for record in records {
                    steps += 1;
                    if let Ok(record) = record {
                        steps += record.headers.iter().count();
                        let _ = record.stored_at();
                    }
                }
            }
        }
    });
    (steps, used.bytes_max)
}

fn check(bytes: &[u8]) -> Result<(), TestCaseError> {
    let (steps, memory) = walk(bytes);
    // What a codec keeps beside its output is not more than a few windows.
    prop_assert!(memory <= (3 * CAP + (4 << 20)) as u64, "{memory} bytes for {}", bytes.len());
    prop_assert!(steps <= bytes.len() + CAP, "{steps} steps for {}", bytes.len());
    Ok(())
}

fn some_answer(codec: i16, count: usize) -> Vec<u8> {
    let record = |delta| Plain {
        delta,
        timestamp: delta,
        key: Some(b"key".to_vec()),
        value: Some(vec![b'v'; 30]),
        headers: vec![(b"a".to_vec(), None), (b"a".to_vec(), Some(b"b".to_vec()))],
    };
    let records: Vec<_> = (0..).map(record).take(count).collect();
    let spec = |base| Spec { base, attributes: codec | 0b1_0000, producer: 7, ..Spec::default() };
    [batch(&spec(0), &records), batch(&spec(count as i64), &records)].concat()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn changed_bytes_with_a_right_checksum(
        codec in 0..6_i16,
        count in 1..6_usize,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut bytes = some_answer(codec, count);
        let half = bytes.len() / 2;
        for (at, to) in changes {
            let at = at.index(half);
            bytes[at] = to;
        }
        sum(&mut bytes[..half]);
        check(&bytes)?;
    }

    #[test]
    fn cut_answers(codec in 0..5_i16, at in any::<prop::sample::Index>()) {
        let bytes = some_answer(codec, 3);
        check(&bytes[..at.index(bytes.len())])?;
    }

    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        check(&bytes)?;
    }

    #[test]
    fn any_body(codec in 0..8_i16, count: i32, body in prop::collection::vec(any::<u8>(), 0..300)) {
        let spec = Spec { attributes: codec, count: Some(count), last_delta: Some(9), ..Spec::default() };
        check(&batch_of(&spec, &body))?;
    }
}

#[test]
fn counts_that_nothing_can_hold_allocate_nothing() {
    for count in [i32::MAX, -1, 1_000_000] {
        let spec = Spec { count: Some(count), ..Spec::default() };
        let (steps, memory) = walk(&batch_of(&spec, &[0; 100]));
        assert_eq!(steps, 1);
        assert!(memory < 4_096, "{memory}");
    }
    let mut body = vec![0x20, 0, 0, 0, 1, 1];
    too_many(&mut body);
    let (_, memory) = walk(&batch_of(&Spec { count: Some(1), ..Spec::default() }, &body));
    assert!(memory < 4_096, "{memory}");
}

#[test]
fn a_tiny_snappy_body_that_claims_a_megabyte_allocates_nothing() {
    let mut body = Vec::new();
    crate::varint::put_unsigned(&mut body, 1 << 20);
    body.push(0);
    let (_, memory) =
        walk(&batch_of(&Spec { attributes: 2, count: Some(1), ..Spec::default() }, &body));
    assert!(memory < 4_096, "{memory}");
}
