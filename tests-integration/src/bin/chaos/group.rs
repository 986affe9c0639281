use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

/// Who gets messages. Groups work side by side, and each gets every message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Group {
    /// Its members compete.
    Pool,
    /// It keeps the order of each key.
    Keyed,
    /// No group: one that listens, at most once.
    Listener,
}

impl Group {
    pub(crate) const ALL: [Self; 3] = [Self::Pool, Self::Keyed, Self::Listener];

    /// Those of a backend that delivers at least once.
    pub(crate) const AT_LEAST_ONCE: &[Self] = &[Self::Pool, Self::Keyed];

    /// Those of a backend that delivers at most once.
    pub(crate) const AT_MOST_ONCE: &[Self] = &[Self::Listener];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Pool => "pool",
            Self::Keyed => "keyed",
            Self::Listener => "listener",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|group| group.name() == name)
    }

    /// How many consumer processes it has, unless they come and go.
    pub(crate) const fn members(self) -> u32 {
        match self {
            Self::Pool => 3,
            Self::Keyed => 4,
            Self::Listener => 1,
        }
    }

    pub(crate) const fn is_ordered(self) -> bool {
        matches!(self, Self::Keyed)
    }

    pub(crate) const fn is_lossy(self) -> bool {
        matches!(self, Self::Listener)
    }
}

/// The stream that everything goes through.
pub(crate) const STREAM: &str = "tasks";

/// What both groups subscribe to.
pub(crate) const PATTERN: &str = "tasks.#";

/// The lanes of the stream: as many as a group ever has members.
pub(crate) const LANES: u32 = 12;

/// How many members a group has where they come and go.
pub(crate) const MEMBERS: RangeInclusive<usize> = 2..=LANES as usize;

/// How many handlers a consumer runs at once, and how many messages it may have in hand.
pub(crate) const CONCURRENCY: u32 = 8;
pub(crate) const PREFETCH: u32 = 16;

/// How many attempts a message gets.
pub(crate) const ATTEMPTS: u32 = 5;

/// The topology file: short tiers, so that retries and dead letters are in play all the time.
pub(crate) fn topology() -> String {
    format!(
        "tiers = [\"100ms\", \"200ms\", \"400ms\", \"1s\"]\n\n\
         [[stream]]\nname = \"{STREAM}\"\nkind = \"work\"\nlanes = {LANES}\npartitions = {LANES}\n"
    )
}
