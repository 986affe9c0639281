//! What the group's leader tells a member.

use bytes::Bytes;

use super::Partitions;
use super::reader::{Reader, VERSION, Writer};
use crate::varint::{Numbers, put_text, put_unsigned};

const FORMAT: u8 = 1;
/// Set while partitions are on their way from one member to another.
const MOVING: u8 = 1;

/// What a member may own in this generation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Assignment {
    pub(crate) partitions: Partitions,
    /// More is to come once a member has handed it over, so the next rebalance is near.
    pub(crate) moving: bool,
    /// The group's patterns, if they are not the member's: it has to leave.
    pub(crate) theirs: Option<Vec<String>>,
}

impl Assignment {
    pub(crate) fn encode(&self) -> Bytes {
        let mut data = vec![FORMAT, if self.moving { MOVING } else { 0 }];
        // No list is 0, a list of n is n + 1.
        put_unsigned(&mut data, self.theirs.as_ref().map_or(0, |theirs| theirs.len() as u64 + 1));
        self.theirs.iter().flatten().for_each(|pattern| put_text(&mut data, pattern));
        let mut out = Writer::default();
        out.short(VERSION);
        out.partitions(&self.partitions);
        out.bytes(&data);
        out.0.into()
    }

    /// Reads an assignment. No bytes at all are an empty one: the leader forgot us, or has none.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.is_empty() {
            return Some(Self::default());
        }
        let mut reader = Reader(bytes);
        reader.short().filter(|version| *version >= 0)?;
        let partitions = reader.partitions()?;
        let mut data = Numbers(reader.bytes()?);
        (data.byte()? == FORMAT).then_some(())?;
        let moving = data.byte()? & MOVING != 0;
        let theirs = match data.unsigned()? {
            0 => None,
            count => {
                let count = usize::try_from(count - 1).ok()?;
                let texts = (0..count).map(|_| data.text().map(str::to_owned));
                Some(texts.collect::<Option<_>>()?)
            }
        };
        Some(Self { partitions, moving, theirs })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::claim::tests::some_partitions;
    use super::*;

    proptest! {
        #[test]
        fn an_assignment_is_read_as_it_was_written(
            partitions in some_partitions(),
            moving: bool,
            theirs in prop::option::of(prop::collection::vec("[a-z.#*]{1,20}", 0..5)),
        ) {
            let assignment = Assignment { partitions, moving, theirs };
            prop_assert_eq!(Assignment::decode(&assignment.encode()), Some(assignment));
        }

        #[test]
        fn what_others_wrote_does_not_panic(bytes: Vec<u8>) {
            drop(Assignment::decode(&bytes));
        }
    }
}
