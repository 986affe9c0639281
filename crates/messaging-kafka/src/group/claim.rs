//! What a member tells the group's leader.

use std::sync::Arc;

use bytes::Bytes;

use super::reader::{Reader, VERSION, Writer, by_topic};
use super::{Partition, Partitions};
use crate::varint::{Numbers, put_signed, put_text, put_unsigned};

/// The format of our user data.
const FORMAT: u8 = 1;

/// A member as it presents itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Claim {
    /// What the group receives, as this member sees it, in order; none if it is about to leave and
    /// takes nothing more.
    pub(crate) patterns: Vec<String>,
    /// The generation in which it was last assigned something; −1: none.
    pub(crate) generation: i32,
    /// What it owns.
    pub(crate) owned: Partitions,
    /// What it was asked back and still has in hand.
    pub(crate) leaving: Partitions,
}

impl Claim {
    /// Everything that nobody else may have while this claim stands.
    pub(crate) fn held(&self) -> impl Iterator<Item = &Partition> {
        self.owned.iter().chain(&self.leaving)
    }

    /// The claim as the metadata of a join, with the topics that Kafka's tools are to show.
    pub(crate) fn encode<'a>(&self, topics: impl ExactSizeIterator<Item = &'a str>) -> Bytes {
        let mut data = vec![FORMAT];
        put_signed(&mut data, i64::from(self.generation));
        put_unsigned(&mut data, self.patterns.len() as u64);
        self.patterns.iter().for_each(|pattern| put_text(&mut data, pattern));
        put_partitions(&mut data, &self.owned);
        put_partitions(&mut data, &self.leaving);
        let mut out = Writer::default();
        out.short(VERSION);
        out.texts(topics);
        out.bytes(&data);
        out.partitions(&self.owned);
        out.0.into()
    }

    /// Reads a member's metadata. `None` if it is not of ours.
    pub(crate) fn decode(metadata: &[u8]) -> Option<Self> {
        let mut reader = Reader(metadata);
        reader.short().filter(|version| *version >= 0)?;
        reader.texts()?;
        let mut data = Numbers(reader.bytes()?);
        (data.byte()? == FORMAT).then_some(())?;
        let generation = i32::try_from(data.signed()?).ok()?;
        let count = data.count(1)?;
        let patterns = (0..count).map(|_| data.text().map(str::to_owned)).collect::<Option<_>>()?;
        let owned = partitions(&mut data)?;
        let leaving = partitions(&mut data)?;
        Some(Self { patterns, generation, owned, leaving })
    }
}

fn put_partitions(out: &mut Vec<u8>, all: &Partitions) {
    let topics = by_topic(all);
    put_unsigned(out, topics.len() as u64);
    for (topic, numbers) in topics {
        put_text(out, topic);
        put_unsigned(out, numbers.len() as u64);
        numbers.into_iter().for_each(|number| put_signed(out, i64::from(number)));
    }
}

fn partitions(data: &mut Numbers<'_>) -> Option<Partitions> {
    let mut all = Partitions::new();
    for _ in 0..data.count(2)? {
        let topic: Arc<str> = data.text()?.into();
        for _ in 0..data.count(1)? {
            let number = i32::try_from(data.signed()?).ok()?;
            all.insert(Partition { topic: Arc::clone(&topic), number });
        }
    }
    Some(all)
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn some_partitions() -> impl Strategy<Value = Partitions> {
        let one = (prop::sample::select(vec!["a", "b.c", "helixagent.tasks"]), 0..200_i32);
        prop::collection::btree_set(one.prop_map(|(topic, n)| Partition::new(topic, n)), 0..40)
    }

    proptest! {
        #[test]
        fn a_claim_is_read_as_it_was_written(
            patterns in prop::collection::vec("[a-z.#*]{1,20}", 0..5),
            generation in -1..i32::MAX,
            owned in some_partitions(),
            leaving in some_partitions(),
        ) {
            let claim = Claim { patterns, generation, owned, leaving };
            let bytes = claim.encode(["a", "b"].into_iter());
            prop_assert_eq!(Claim::decode(&bytes), Some(claim));
        }

        #[test]
        fn what_others_wrote_is_no_claim_and_no_panic(bytes: Vec<u8>) {
            drop(Claim::decode(&bytes));
        }

        #[test]
        fn a_cut_claim_is_no_claim(owned in some_partitions(), at in 0.0..1.0_f64) {
            let claim = Claim { patterns: vec!["#".into()], generation: 3, owned, ..Claim::default() };
            let bytes = claim.encode(["a"].into_iter());
            let cut = Claim::decode(&bytes[..(bytes.len() as f64 * at) as usize]);
            prop_assert!(cut.is_none_or(|cut| cut == claim));
        }
    }

    #[test]
    fn kafkas_own_decoder_reads_it_too() {
        use kafka_protocol::messages::ConsumerProtocolSubscription;
        use kafka_protocol::protocol::Decodable;
        let owned = [Partition::new("a", 1), Partition::new("a", 2), Partition::new("b", 0)];
        let claim = Claim { owned: owned.into(), ..Claim::default() };
        let mut bytes = claim.encode(["a", "b"].into_iter()).slice(2..);
        let read = ConsumerProtocolSubscription::decode(&mut bytes, VERSION).unwrap();
        assert_eq!(read.topics.len(), 2);
        assert_eq!(read.owned_partitions[0].partitions, [1, 2]);
    }
}
