//! Streams and groups as data. The built-in default is the four streams of the original system.

use std::num::NonZeroU32;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

use crate::duration;
use crate::error::{Error, ErrorKind, Result};
use crate::name::{GroupName, StreamName};
use crate::pattern::Patterns;

/// The streams of a system, the groups that are to exist, and the delays of retries.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct Topology {
    /// The streams.
    #[serde(rename = "stream")]
    pub streams: Vec<StreamConfig>,
    /// The groups that `provision` creates. Others come with their first subscriber.
    #[serde(rename = "group")]
    pub groups: Vec<GroupConfig>,
    /// The delays a retry can have, growing.
    #[serde(deserialize_with = "duration::deserialize_all")]
    pub tiers: Vec<Duration>,
}

/// One stream.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct StreamConfig {
    /// Its name: the first word of its subjects.
    #[serde(deserialize_with = "from_text")]
    pub name: StreamName,
    /// What it is for.
    pub kind: StreamKind,
    /// How many partitions it has on Kafka.
    #[serde(default = "one")]
    pub partitions: NonZeroU32,
    /// How many lanes it has elsewhere.
    #[serde(default = "one")]
    pub lanes: NonZeroU32,
    /// How many copies are kept, where streams have copies of their own; the backend's default unless
    /// set.
    #[serde(default)]
    pub replication: Option<u16>,
    /// How long messages are kept; the backend's default unless set.
    #[serde(default, deserialize_with = "duration::deserialize_some")]
    pub retention: Option<Duration>,
    /// How long its dead letters are kept.
    #[serde(default = "a_week", deserialize_with = "duration::deserialize")]
    pub dead_letter_retention: Duration,
}

/// What a stream is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StreamKind {
    /// Work to be done by somebody: a message that nobody can receive is a failure.
    Work,
    /// A record of what happened: nobody need be there.
    Log,
}

/// One group.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct GroupConfig {
    /// Its name.
    #[serde(deserialize_with = "from_text")]
    pub name: GroupName,
    /// What it receives.
    #[serde(deserialize_with = "patterns")]
    pub patterns: Patterns,
    /// Whether it keeps the order of each key.
    #[serde(default)]
    pub ordered: bool,
    /// Whether it hands out more urgent messages first.
    #[serde(default)]
    pub priority: bool,
}

impl StreamConfig {
    /// A stream with one partition and one lane.
    #[must_use]
    pub const fn new(name: StreamName, kind: StreamKind) -> Self {
        Self {
            name,
            kind,
            partitions: NonZeroU32::MIN,
            lanes: NonZeroU32::MIN,
            replication: None,
            retention: None,
            dead_letter_retention: a_week(),
        }
    }

    /// Sets the partitions.
    #[must_use]
    pub const fn partitions(mut self, partitions: NonZeroU32) -> Self {
        self.partitions = partitions;
        self
    }

    /// Sets the lanes.
    #[must_use]
    pub const fn lanes(mut self, lanes: NonZeroU32) -> Self {
        self.lanes = lanes;
        self
    }
}

impl GroupConfig {
    /// An unordered group.
    #[must_use]
    pub const fn new(name: GroupName, patterns: Patterns) -> Self {
        Self { name, patterns, ordered: false, priority: false }
    }
}

impl Topology {
    /// A topology of these streams, with the default retry tiers and no groups.
    #[must_use]
    pub fn new(streams: impl IntoIterator<Item = StreamConfig>) -> Self {
        let tiers = [1, 2, 4, 8, 16, 30, 5 * 60, 60 * 60].map(Duration::from_secs).to_vec();
        Self { streams: streams.into_iter().collect(), groups: Vec::new(), tiers }
    }

    /// Adds a group.
    #[must_use]
    pub fn group(mut self, group: GroupConfig) -> Self {
        self.groups.push(group);
        self
    }

    /// Sets the delays a retry can have.
    #[must_use]
    pub fn tiers(mut self, tiers: impl IntoIterator<Item = Duration>) -> Self {
        self.tiers = tiers.into_iter().collect();
        self
    }

    /// The stream of this name.
    #[must_use]
    pub fn stream(&self, name: &str) -> Option<&StreamConfig> {
        self.streams.iter().find(|stream| stream.name.name() == name)
    }

    /// The streams that patterns are about. A wildcard first word means all.
    ///
    /// # Errors
    /// [`ErrorKind::UnknownStream`] for a first word that is none; the text lists the known ones.
    pub fn streams_for(&self, patterns: &Patterns) -> Result<Vec<&StreamConfig>> {
        let literal: Option<Vec<&str>> = patterns.iter().map(|pattern| pattern.stream()).collect();
        for name in patterns.iter().filter_map(|pattern| pattern.stream()) {
            self.require(name)?;
        }
        let wanted = |stream: &&StreamConfig| {
            literal.as_ref().is_none_or(|names| names.contains(&stream.name.name()))
        };
        Ok(self.streams.iter().filter(wanted).collect())
    }

    /// The stream of this name, or an error that lists the known ones.
    ///
    /// # Errors
    /// [`ErrorKind::UnknownStream`].
    pub fn require(&self, name: &str) -> Result<&StreamConfig> {
        self.stream(name).ok_or_else(|| {
            let known: Vec<&str> = self.streams.iter().map(|stream| stream.name.name()).collect();
            let accepted = format!("one of the topology: {}", known.join(", "));
            Error::invalid(ErrorKind::UnknownStream, "stream", name, "it is unknown", &accepted)
        })
    }

    /// The delay a retry really has: rounded up to a tier. None at all stays none.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidDelay`] beyond the longest tier.
    pub fn tier_for(&self, after: Duration) -> Result<Duration> {
        if after.is_zero() {
            return Ok(after);
        }
        self.tiers.iter().copied().find(|tier| *tier >= after).ok_or_else(|| {
            let longest = self.tiers.last().copied().unwrap_or_default();
            let accepted = format!("at most {}", duration::format_duration(longest));
            let value = duration::format_duration(after);
            let reason = "it is longer than the longest retry tier";
            Error::invalid(ErrorKind::InvalidDelay, "delay", &value, reason, &accepted)
        })
    }

    /// Checks that it does not contradict itself.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`] or [`ErrorKind::UnknownStream`], naming what is wrong.
    pub fn validate(&self) -> Result<()> {
        let twice = |what: &str, name: &str| {
            let reason = "it is there twice";
            Err(Error::invalid(ErrorKind::InvalidConfig, what, name, reason, "each once"))
        };
        for (at, stream) in self.streams.iter().enumerate() {
            if self.streams.iter().take(at).any(|earlier| earlier.name == stream.name) {
                return twice("stream", stream.name.name());
            }
        }
        for (at, group) in self.groups.iter().enumerate() {
            if self.groups.iter().take(at).any(|earlier| earlier.name == group.name) {
                return twice("group", group.name.as_str());
            }
            self.streams_for(&group.patterns)?;
        }
        let grow = self.tiers.is_sorted_by(|a, b| a < b);
        if !grow || self.tiers.first().is_none_or(Duration::is_zero) {
            let text = "retry tiers (accepted: at least one, each longer than the one before)";
            return Err(Error::new(ErrorKind::InvalidConfig, text));
        }
        Ok(())
    }
}

impl Default for Topology {
    #[expect(clippy::unwrap_used, reason = "the names are legal and the numbers are not zero")]
    fn default() -> Self {
        let stream = |name: &str, kind, partitions| {
            StreamConfig::new(name.parse().unwrap(), kind)
                .partitions(NonZeroU32::new(partitions).unwrap())
        };
        Self::new([
            stream("tasks", StreamKind::Work, 4),
            stream("events", StreamKind::Log, 8),
            stream("completions", StreamKind::Work, 4),
            stream("debates", StreamKind::Log, 2),
        ])
    }
}

const fn one() -> NonZeroU32 {
    NonZeroU32::MIN
}

const fn a_week() -> Duration {
    Duration::from_secs(7 * 24 * 60 * 60)
}

fn from_text<'de, D, T>(from: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: std::str::FromStr<Err = Error>,
{
    String::deserialize(from)?.parse().map_err(D::Error::custom)
}

fn patterns<'de, D: Deserializer<'de>>(from: D) -> Result<Patterns, D::Error> {
    Patterns::new(Vec::<String>::deserialize(from)?).map_err(D::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_the_original_systems_table() {
        let topology = Topology::default();
        topology.validate().unwrap();
        let table: Vec<_> =
            topology.streams.iter().map(|s| (s.name.name(), s.partitions.get())).collect();
        assert_eq!(table, [("tasks", 4), ("events", 8), ("completions", 4), ("debates", 2)]);
    }

    #[test]
    fn a_delay_is_rounded_up_to_a_tier() {
        let topology = Topology::default();
        let tier = |millis| topology.tier_for(Duration::from_millis(millis)).map(|t| t.as_secs());
        assert_eq!(tier(0).unwrap(), 0);
        assert_eq!(tier(1).unwrap(), 1);
        assert_eq!(tier(2_001).unwrap(), 4);
        assert_eq!(*tier(3_600_001).unwrap_err().kind(), ErrorKind::InvalidDelay);
    }

    #[test]
    fn an_unknown_stream_is_refused_with_the_known_ones() {
        let patterns = Patterns::new(["tasks.#", "orders.*"]).unwrap();
        let error = Topology::default().streams_for(&patterns).unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::UnknownStream);
        assert!(error.to_string().contains("tasks, events, completions, debates"), "{error}");
        let all = Patterns::new(["tasks.#", "*.done"]).unwrap();
        assert_eq!(Topology::default().streams_for(&all).unwrap().len(), 4);
    }

    #[test]
    fn contradictions_are_named() {
        let stream = || StreamConfig::new("a".parse().unwrap(), StreamKind::Log);
        assert!(Topology::new([stream(), stream()]).validate().is_err());
        assert!(Topology::new([stream()]).tiers([]).validate().is_err());
        let second = Duration::from_secs(1);
        assert!(Topology::new([stream()]).tiers([second, second]).validate().is_err());
    }

    #[test]
    fn it_is_read_from_data_without_unknown_fields() {
        let text = r#"{"stream": [{"name": "orders", "kind": "work", "lanes": 4}],
            "group": [{"name": "g", "patterns": ["orders.#"], "ordered": true}],
            "tiers": ["100ms", "1s"]}"#;
        let topology: Topology = serde_json::from_str(text).unwrap();
        topology.validate().unwrap();
        assert_eq!(topology.stream("orders").unwrap().lanes.get(), 4);
        assert!(serde_json::from_str::<Topology>(r#"{"streems": []}"#).is_err());
        assert!(serde_json::from_str::<Topology>(r#"{"tiers": ["soon"]}"#).is_err());
    }
}
