//! What publishers and consumers tell the recorder: records of one size over a pipe.
//!
//! A record is written at once and before the side effect that it announces. The kernel takes it
//! whole or not at all, so a process that is killed loses nothing that it has announced.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::Arc;

use tests_integration::audit::{End, Id, Outcome};

use crate::clock;
use crate::group::Group;

/// The size of a record on the wire.
pub(crate) const SIZE: usize = 40;

/// Under which ownership of a lane something is done, where lanes have owners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) lane: u8,
    pub(crate) epoch: u32,
}

/// Something that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Saying {
    Publishing {
        id: Id,
        key: u32,
        digest: u64,
    },
    Published {
        id: Id,
        outcome: Outcome,
    },
    /// A consumer is subscribed, a publisher connected.
    Ready,
    Delivered {
        group: Group,
        id: Id,
        digest: u64,
        held: Option<Held>,
    },
    Handled {
        group: Group,
        id: Id,
        end: End,
        held: Option<Held>,
    },
    Acking {
        group: Group,
        id: Id,
    },
    GivenBack {
        group: Group,
        id: Id,
    },
    /// It was found among the dead letters.
    Parked {
        group: Group,
        id: Id,
    },
    /// A listener was told that it missed messages, and how many where that was said.
    Gap {
        group: Group,
        missed: Option<u64>,
    },
    /// So many messages wait or are in hand.
    Lag(u64),
    /// Nothing waits any more.
    Drained,
}

/// Something that happened, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) at: u64,
    pub(crate) saying: Saying,
}

impl Record {
    pub(crate) fn encode(&self) -> [u8; SIZE] {
        let none = Id { producer: 0, sequence: 0 };
        let (kind, id, digest, key, group, detail) = match self.saying {
            Saying::Publishing { id, key, digest } => (0, id, digest, key, 0, 0),
            Saying::Published { id, outcome } => (1, id, 0, 0, 0, outcome as u8),
            Saying::Ready => (2, none, 0, 0, 0, 0),
            Saying::Delivered { group, id, digest, held } => {
                (3, id, digest, held.map_or(0, |held| held.epoch), group as u8, lane(held))
            }
            Saying::Handled { group, id, end, held } => {
                let key = held.map_or(0, |held| held.epoch);
                (4, id, end as u64, key, group as u8, lane(held))
            }
            Saying::Acking { group, id } => (5, id, 0, 0, group as u8, 0),
            Saying::GivenBack { group, id } => (6, id, 0, 0, group as u8, 0),
            Saying::Parked { group, id } => (7, id, 0, 0, group as u8, 0),
            Saying::Lag(count) => (8, none, count, 0, 0, 0),
            Saying::Drained => (9, none, 0, 0, 0, 0),
            Saying::Gap { group, missed } => {
                (10, none, missed.unwrap_or_default(), 0, group as u8, u8::from(missed.is_some()))
            }
        };
        let mut bytes = [0; SIZE];
        let fields = [
            &self.at.to_le_bytes()[..],
            &id.sequence.to_le_bytes(),
            &digest.to_le_bytes(),
            &id.producer.to_le_bytes(),
            &key.to_le_bytes(),
            &[kind, group, detail],
        ];
        for (place, byte) in bytes.iter_mut().zip(fields.into_iter().flatten()) {
            *place = *byte;
        }
        bytes
    }

    /// Reads a record; `None` for bytes that are none.
    pub(crate) fn decode(bytes: &[u8; SIZE]) -> Option<Self> {
        let long = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        let short = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let [kind, group, detail] = bytes.get(32..35)?.try_into().ok()?;
        let (at, id) = (long(0)?, Id { producer: short(24)?, sequence: long(8)? });
        let (digest, key) = (long(16)?, short(28)?);
        let group = *Group::ALL.get(usize::from(group))?;
        let saying = match (kind, detail) {
            (0, _) => Saying::Publishing { id, key, digest },
            (1, 0) => Saying::Published { id, outcome: Outcome::Ok },
            (1, 1) => Saying::Published { id, outcome: Outcome::Failed },
            (1, 2) => Saying::Published { id, outcome: Outcome::Unknown },
            (2, _) => Saying::Ready,
            (3, lane) => Saying::Delivered { group, id, digest, held: held(lane, key) },
            (4, lane) => {
                let end = if digest == 0 { End::Ok } else { End::Failed };
                Saying::Handled { group, id, end, held: held(lane, key) }
            }
            (5, _) => Saying::Acking { group, id },
            (6, _) => Saying::GivenBack { group, id },
            (7, _) => Saying::Parked { group, id },
            (8, _) => Saying::Lag(digest),
            (9, _) => Saying::Drained,
            (10, said) => Saying::Gap { group, missed: (said != 0).then_some(digest) },
            _ => return None,
        };
        Some(Self { at, saying })
    }
}

/// A lane on the wire; 0 is none.
fn lane(held: Option<Held>) -> u8 {
    held.map_or(0, |held| held.lane.saturating_add(1))
}

fn held(lane: u8, epoch: u32) -> Option<Held> {
    lane.checked_sub(1).map(|lane| Held { lane, epoch })
}

/// Tells the recorder what happens.
#[derive(Clone)]
pub(crate) struct Reporter(Arc<Tell>);

type Tell = dyn Fn(&[Record]) + Send + Sync;

impl Reporter {
    /// Tells it through standard output, which belongs to nobody else in such a process.
    pub(crate) fn of_process() -> io::Result<Self> {
        let pipe = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        Ok(Self::to(move |records| {
            let bytes: Vec<u8> = records.iter().flat_map(Record::encode).collect();
            // Without a recorder there is no run.
            if (&pipe).write_all(&bytes).is_err() {
                std::process::exit(1);
            }
        }))
    }

    pub(crate) fn to(tell: impl Fn(&[Record]) + Send + Sync + 'static) -> Self {
        Self(Arc::new(tell))
    }

    pub(crate) fn say<const N: usize>(&self, sayings: [Saying; N]) {
        let at = clock::now();
        (self.0)(&sayings.map(|saying| Record { at, saying }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_record_survives_the_pipe() {
        let id = Id { producer: 7, sequence: u64::MAX };
        let group = Group::Keyed;
        let sayings = [
            Saying::Publishing { id, key: 3, digest: 9 },
            Saying::Published { id, outcome: Outcome::Ok },
            Saying::Published { id, outcome: Outcome::Failed },
            Saying::Published { id, outcome: Outcome::Unknown },
            Saying::Ready,
            Saying::Delivered { group, id, digest: 1, held: None },
            Saying::Delivered { group, id, digest: 1, held: Some(Held { lane: 0, epoch: 9 }) },
            Saying::Handled { group, id, end: End::Ok, held: Some(Held { lane: 3, epoch: 0 }) },
            Saying::Handled { group: Group::Pool, id, end: End::Failed, held: None },
            Saying::Acking { group, id },
            Saying::GivenBack { group, id },
            Saying::Parked { group, id },
            Saying::Gap { group: Group::Listener, missed: None },
            Saying::Gap { group: Group::Listener, missed: Some(3) },
            Saying::Lag(4),
            Saying::Drained,
        ];
        for saying in sayings {
            let record = Record { at: 42, saying };
            assert_eq!(Record::decode(&record.encode()), Some(record));
        }
        assert_eq!(Record::decode(&[255; SIZE]), None);
    }
}
