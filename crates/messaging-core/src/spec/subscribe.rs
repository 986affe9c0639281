use std::num::NonZeroU32;
use std::time::Duration;

use crate::capability::Feature;
use crate::error::Result;
use crate::name::{GroupName, StreamName};
use crate::pattern::Patterns;
use crate::position::Start;

/// What a subscription receives, as whom, and what it asks of the backend.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SubscribeSpec {
    /// As a member of a group, or alone.
    pub membership: Membership,
    /// What is received.
    pub source: Source,
    /// At least once or at most once; set by the handle that is opened.
    pub mode: Mode,
    /// Where it starts, if the group has no place yet. Unset: earliest for a group, latest alone.
    pub start: Option<Start>,
    /// Whether the group keeps the order of each key.
    pub ordered: bool,
    /// Whether the group hands out more urgent messages first.
    pub priority: bool,
    /// The most deliveries that may be unsettled.
    pub prefetch: NonZeroU32,
    /// The most bytes that may be unsettled, where the client chooses; one message more may be.
    pub prefetch_bytes: Option<usize>,
    /// How many attempts a message gets in this group.
    pub max_attempts: NonZeroU32,
    /// Features it can do without.
    pub waived: Vec<Feature>,
    /// How long subscribing and confirmed settlements may take.
    pub timeout: Duration,
}

/// As whom a subscription receives. Exhaustive, as a driver has to know every case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Membership {
    /// Members of a group share its messages.
    Group(GroupName),
    /// It gets every message itself.
    Broadcast,
}

/// What a subscription receives. Exhaustive, as a driver has to know every case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Messages whose subjects match.
    Subjects(Patterns),
    /// The dead letters of a stream.
    DeadLetters(StreamName),
}

impl Source {
    /// The patterns it is filtered by.
    ///
    /// # Errors
    /// None in practice: the pattern of all dead letters is legal.
    pub fn patterns(&self) -> Result<Patterns> {
        match self {
            Self::Subjects(patterns) => Ok(patterns.clone()),
            Self::DeadLetters(_) => Patterns::new(["#"]),
        }
    }
}

/// What a subscription promises. Exhaustive, as a driver has to know every case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// At least once: deliveries are settled.
    Consume,
    /// At most once: losses are seen as gaps.
    Listen,
}

impl SubscribeSpec {
    /// Joins a group for the subjects that match.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidName`](crate::ErrorKind::InvalidName) or
    /// [`ErrorKind::InvalidPattern`](crate::ErrorKind::InvalidPattern).
    pub fn group<P>(group: &str, patterns: impl IntoIterator<Item = P>) -> Result<Self>
    where
        P: AsRef<str>,
    {
        let source = Source::Subjects(Patterns::new(patterns)?);
        Ok(Self::new(Membership::Group(group.parse()?), source))
    }

    /// Receives every message whose subject matches, sharing with nobody.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidPattern`](crate::ErrorKind::InvalidPattern).
    pub fn broadcast<P>(patterns: impl IntoIterator<Item = P>) -> Result<Self>
    where
        P: AsRef<str>,
    {
        Ok(Self::new(Membership::Broadcast, Source::Subjects(Patterns::new(patterns)?)))
    }

    /// Joins a group for the dead letters of a stream.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidName`](crate::ErrorKind::InvalidName).
    pub fn dead_letters(group: &str, stream: &str) -> Result<Self> {
        let source = Source::DeadLetters(StreamName::dead_letters(stream)?);
        Ok(Self::new(Membership::Group(group.parse()?), source))
    }

    #[expect(clippy::unwrap_used, reason = "the numbers are not zero")]
    fn new(membership: Membership, source: Source) -> Self {
        Self {
            membership,
            source,
            mode: Mode::Consume,
            start: None,
            ordered: false,
            priority: false,
            prefetch: NonZeroU32::new(256).unwrap(),
            prefetch_bytes: None,
            max_attempts: NonZeroU32::new(4).unwrap(),
            waived: Vec::new(),
            timeout: Duration::from_secs(30),
        }
    }

    /// Starts here if the group has no place of its own yet.
    #[must_use]
    pub const fn start(mut self, start: Start) -> Self {
        self.start = Some(start);
        self
    }

    /// Keeps the order of each key: one member owns a lane, one handler runs a key.
    #[must_use]
    pub const fn ordered(mut self) -> Self {
        self.ordered = true;
        self
    }

    /// Hands out more urgent messages first.
    #[must_use]
    pub const fn priority(mut self) -> Self {
        self.priority = true;
        self
    }

    /// Sets how many deliveries may be unsettled; 256 unless set.
    #[must_use]
    pub const fn prefetch(mut self, prefetch: NonZeroU32) -> Self {
        self.prefetch = prefetch;
        self
    }

    /// Bounds the unsettled bytes too; one message more may be in hand.
    #[must_use]
    pub const fn prefetch_bytes(mut self, bytes: usize) -> Self {
        self.prefetch_bytes = Some(bytes);
        self
    }

    /// Sets how many attempts a message gets in this group; 4 unless set.
    #[must_use]
    pub const fn max_attempts(mut self, attempts: NonZeroU32) -> Self {
        self.max_attempts = attempts;
        self
    }

    /// Goes without a feature where the backend does not offer it.
    #[must_use]
    pub fn waive(mut self, feature: Feature) -> Self {
        self.waived.push(feature);
        self
    }

    /// Sets how long subscribing and confirmed settlements may take; 30 s unless set.
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Every feature that this specification asks of the backend.
    #[must_use]
    pub fn needs(&self) -> Vec<Feature> {
        let mut needs = match self.mode {
            Mode::Consume => vec![Feature::Settlement],
            Mode::Listen => vec![Feature::Listen],
        };
        match (&self.membership, self.mode) {
            (Membership::Group(_), _) => needs.push(Feature::Groups),
            (Membership::Broadcast, Mode::Consume) => needs.push(Feature::Broadcast),
            (Membership::Broadcast, Mode::Listen) => {}
        }
        match self.start {
            Some(Start::Earliest) => needs.push(Feature::StartEarliest),
            Some(Start::Latest) => needs.push(Feature::StartLatest),
            Some(Start::Position(_)) => needs.push(Feature::StartPosition),
            Some(Start::Time(_)) => needs.push(Feature::StartTime),
            None => {}
        }
        let asked = [
            (self.ordered, Feature::Ordered),
            (self.priority, Feature::Priority),
            (matches!(self.source, Source::DeadLetters(_)), Feature::DeadLetters),
        ];
        needs.extend(asked.into_iter().filter_map(|(asked, feature)| asked.then_some(feature)));
        needs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_that_needs_a_feature_says_so() {
        let plain = SubscribeSpec::group("g", ["tasks.#"]).unwrap();
        assert_eq!(plain.needs(), [Feature::Settlement, Feature::Groups]);
        let all = plain.ordered().priority().start(Start::Latest).needs();
        for feature in [Feature::Ordered, Feature::Priority, Feature::StartLatest] {
            assert!(all.contains(&feature), "{feature}");
        }
        let alone = SubscribeSpec::broadcast(["#"]).unwrap();
        assert_eq!(alone.needs(), [Feature::Settlement, Feature::Broadcast]);
        let dead = SubscribeSpec::dead_letters("g", "tasks").unwrap();
        assert!(dead.needs().contains(&Feature::DeadLetters));
    }
}
