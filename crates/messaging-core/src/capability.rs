//! What a backend can do: a table of [`Feature`]s, true for the server it is connected to.

use std::fmt;

/// One thing a backend may or may not be able to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
#[repr(u8)]
pub enum Feature {
    /// Deliveries are settled one by one and come again until they are: at least once.
    Settlement,
    /// Members of a group share its messages; every group gets each message.
    Groups,
    /// A subscription without a group gets every message, at least once.
    Broadcast,
    /// A listener gets messages at most once and sees its losses as gaps.
    Listen,
    /// An ordered group keeps the order of each key, over retries too.
    Ordered,
    /// The lanes of an ordered group are worked on by several members at once.
    ParallelLanes,
    /// A group hands out more urgent messages first.
    Priority,
    /// A retry can be delayed.
    DelayedRetry,
    /// Rejected messages are kept with group, reason, attempts and origin.
    DeadLetters,
    /// `ack_confirmed` can say that the settlement survives a crash of this process.
    ConfirmedSettlement,
    /// A subscription can start at the earliest message kept.
    StartEarliest,
    /// A subscription can start after the latest message.
    StartLatest,
    /// A subscription can start at a position.
    StartPosition,
    /// A subscription can start at a time.
    StartTime,
    /// Waiting, in hand and age of the oldest message can be asked for.
    Lag,
    /// Streams and groups can be planned and applied.
    Provision,
    /// A range of a stream can be read without a group.
    ReadRange,
    /// A receipt tells where the message is kept.
    Positions,
    /// Application headers and keys travel with every message.
    Headers,
}

impl Feature {
    /// Every feature, in the order of the capability table.
    pub const ALL: [Self; 19] = [
        Self::Settlement,
        Self::Groups,
        Self::Broadcast,
        Self::Listen,
        Self::Ordered,
        Self::ParallelLanes,
        Self::Priority,
        Self::DelayedRetry,
        Self::DeadLetters,
        Self::ConfirmedSettlement,
        Self::StartEarliest,
        Self::StartLatest,
        Self::StartPosition,
        Self::StartTime,
        Self::Lag,
        Self::Provision,
        Self::ReadRange,
        Self::Positions,
        Self::Headers,
    ];

    /// The name used in tables, errors and configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Settlement => "settlement",
            Self::Groups => "groups",
            Self::Broadcast => "broadcast",
            Self::Listen => "listen",
            Self::Ordered => "ordered groups",
            Self::ParallelLanes => "parallel lanes",
            Self::Priority => "priority",
            Self::DelayedRetry => "delayed retry",
            Self::DeadLetters => "dead letters",
            Self::ConfirmedSettlement => "confirmed settlement",
            Self::StartEarliest => "start at earliest",
            Self::StartLatest => "start at latest",
            Self::StartPosition => "start at a position",
            Self::StartTime => "start at a time",
            Self::Lag => "lag",
            Self::Provision => "provisioning",
            Self::ReadRange => "reading a range",
            Self::Positions => "positions",
            Self::Headers => "headers and keys",
        }
    }
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How a backend offers a [`Feature`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Support {
    /// The broker itself does it.
    Native,
    /// The driver does it on top of the broker; the note says how.
    Emulated,
    /// It is refused with [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported).
    Unsupported,
}

/// The features of a backend, each with a note.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    table: [(Support, &'static str); Feature::ALL.len()],
}

impl Capabilities {
    /// A table in which everything is unsupported.
    #[must_use]
    pub const fn none() -> Self {
        Self { table: [(Support::Unsupported, ""); Feature::ALL.len()] }
    }

    /// Everything, natively.
    #[must_use]
    pub const fn all() -> Self {
        Self { table: [(Support::Native, ""); Feature::ALL.len()] }
    }

    /// Sets one feature with a note that says what it rests on or what it costs.
    #[must_use]
    #[expect(clippy::indexing_slicing, reason = "the table has one row per feature")]
    pub const fn with(mut self, feature: Feature, support: Support, note: &'static str) -> Self {
        self.table[feature as usize] = (support, note);
        self
    }

    /// How `feature` is offered.
    #[must_use]
    #[expect(clippy::indexing_slicing, reason = "the table has one row per feature")]
    pub const fn support(&self, feature: Feature) -> Support {
        self.table[feature as usize].0
    }

    /// The note beside `feature`; empty where there is nothing to add.
    #[must_use]
    #[expect(clippy::indexing_slicing, reason = "the table has one row per feature")]
    pub const fn note(&self, feature: Feature) -> &'static str {
        self.table[feature as usize].1
    }

    /// Whether `feature` is offered in one way or the other.
    #[must_use]
    pub const fn has(&self, feature: Feature) -> bool {
        !matches!(self.support(feature), Support::Unsupported)
    }

    /// Every feature with its support and note, in the order of [`Feature::ALL`].
    pub fn iter(&self) -> impl Iterator<Item = (Feature, Support, &'static str)> + '_ {
        Feature::ALL.into_iter().map(|feature| (feature, self.support(feature), self.note(feature)))
    }
}

impl fmt::Debug for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter().map(|(feature, support, _)| (feature, support))).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_a_row_for_every_feature_in_order() {
        for (row, feature) in Feature::ALL.into_iter().enumerate() {
            assert_eq!(feature as usize, row, "{feature}");
        }
    }

    #[test]
    fn a_feature_is_unsupported_until_it_is_set() {
        let capabilities = Capabilities::none().with(Feature::Lag, Support::Emulated, "counted");
        assert!(capabilities.has(Feature::Lag));
        assert_eq!(capabilities.note(Feature::Lag), "counted");
        assert!(!capabilities.has(Feature::Priority));
    }
}
