use std::fmt::{self, Debug};
use std::str::FromStr;
use std::time::Duration;

use futures::future::BoxFuture;

use crate::error::{Error, ErrorKind, Result};
use crate::name::{GroupName, StreamName};
use crate::topology::Topology;

/// Provisioning, lag and health.
pub trait Admin: Debug + Send + Sync {
    /// Says what [`Admin::apply`] would do, and changes nothing.
    fn plan<'a>(&'a self, topology: &'a Topology) -> BoxFuture<'a, Result<Plan>>;

    /// Makes the broker have what the topology names and says what was done. Repeating it is
    /// harmless; it never deletes.
    fn apply<'a>(&'a self, topology: &'a Topology) -> BoxFuture<'a, Result<Plan>>;

    /// Deletes one thing with everything that it keeps. Nothing is deleted otherwise.
    ///
    /// What does not exist is [`ErrorKind::NotFound`]; a group that somebody is a member of is
    /// [`ErrorKind::Unavailable`], and nothing is touched.
    fn delete<'a>(&'a self, target: &'a Target) -> BoxFuture<'a, Result<()>>;

    /// Counts what waits for a group, or for every group.
    fn lag<'a>(&'a self, group: Option<&'a GroupName>) -> BoxFuture<'a, Result<Vec<Lag>>>;

    /// Says how the broker is.
    fn health(&self) -> BoxFuture<'_, Result<Health>>;
}

/// What there is to do until the broker is as the topology says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Plan {
    /// What is to be created or changed, in this order.
    pub changes: Vec<Change>,
    /// What the broker has and the topology does not name, each as a [`Target`] is written; it is
    /// left alone. Groups of dead letters belong to their streams and are not among it.
    pub unmanaged: Vec<String>,
}

impl Plan {
    /// Whether the broker is as the topology says.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}

/// One step of a [`Plan`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Change {
    /// What is done.
    pub action: Action,
    /// What it is done to: `stream tasks`, `group worker-1`.
    pub target: String,
    /// With which values; for a change, `now …, asked …`.
    pub detail: String,
}

impl Change {
    /// Makes a step.
    #[must_use]
    pub fn new(action: Action, target: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { action, target: target.into(), detail: detail.into() }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.action.name(), self.target, self.detail)
    }
}

/// Something that a broker has and that can be deleted, written as `stream tasks` or
/// `group worker-1`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Target {
    /// A stream, with its dead letters.
    Stream(StreamName),
    /// A group, with what waits for it.
    Group(GroupName),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stream(name) => write!(f, "stream {name}"),
            Self::Group(name) => write!(f, "group {name}"),
        }
    }
}

impl FromStr for Target {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.split_once(' ') {
            Some(("stream", name)) => name.parse().map(Self::Stream),
            Some(("group", name)) => name.parse().map(Self::Group),
            _ => {
                let reason = "it does not say what it is";
                let accepted = "stream NAME, or group NAME";
                Err(Error::invalid(ErrorKind::InvalidName, "target", text, reason, accepted))
            }
        }
    }
}

/// What a [`Change`] does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action {
    /// It does not exist yet.
    Create,
    /// It exists otherwise: drift.
    Alter,
}

impl Action {
    /// The verb: `create`, `alter`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Alter => "alter",
        }
    }
}

/// What waits for one group on one stream.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lag {
    /// The stream.
    pub stream: StreamName,
    /// The group.
    pub group: GroupName,
    /// Messages not handed over, waiting retries among them.
    pub waiting: u64,
    /// Messages handed over and not settled.
    pub in_hand: u64,
    /// The age of the oldest message of both kinds.
    pub oldest: Option<Duration>,
}

impl Lag {
    /// Makes a row.
    #[must_use]
    pub const fn new(
        stream: StreamName,
        group: GroupName,
        waiting: u64,
        in_hand: u64,
        oldest: Option<Duration>,
    ) -> Self {
        Self { stream, group, waiting, in_hand, oldest }
    }
}

/// How the broker is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Health {
    /// Whether it serves.
    pub serving: bool,
    /// Which version it has, where it says so.
    pub version: Option<String>,
    /// What this layer promises over this broker, and what of it is not kept here.
    pub promises: Vec<Promise>,
    /// What an operator should know besides.
    pub notes: Vec<String>,
}

impl Health {
    /// A broker that serves, with nothing to add.
    #[must_use]
    pub const fn serving() -> Self {
        Self { serving: true, version: None, promises: Vec::new(), notes: Vec::new() }
    }

    /// A broker that does not serve, and why.
    #[must_use]
    pub fn not_serving(reason: impl Into<String>) -> Self {
        Self { serving: false, notes: vec![reason.into()], ..Self::serving() }
    }

    /// Says which version the broker has.
    #[must_use]
    pub fn with_version(mut self, version: impl Into<String>) -> Self {
        self.version = Some(version.into());
        self
    }

    /// Adds a promise.
    #[must_use]
    pub fn with_promise(mut self, promise: Promise) -> Self {
        self.promises.push(promise);
        self
    }

    /// Adds a note.
    #[must_use]
    pub fn with_note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    /// Whether it serves and none of its settings breaks a promise.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let broken = |promise: &Promise| matches!(promise.standing, Standing::Broken { .. });
        self.serving && !self.promises.iter().any(broken)
    }
}

/// One thing that an operator may rely on or not: `a confirmed publish survives a crash of the
/// server`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Promise {
    /// What is promised.
    pub what: String,
    /// Whether it is kept here.
    pub standing: Standing,
}

/// Whether a [`Promise`] is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Standing {
    /// It is.
    Kept,
    /// It is not made here, whatever the settings.
    NotMade {
        /// Why.
        reason: String,
    },
    /// It is made, and a setting of the broker breaks it.
    Broken {
        /// The setting, what it is and what it has to be.
        setting: String,
    },
}

impl Promise {
    /// A promise that is kept here.
    #[must_use]
    pub fn kept(what: impl Into<String>) -> Self {
        Self { what: what.into(), standing: Standing::Kept }
    }

    /// A promise that is not made here.
    #[must_use]
    pub fn not_made(what: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { what: what.into(), standing: Standing::NotMade { reason: reason.into() } }
    }

    /// A promise that a setting breaks.
    #[must_use]
    pub fn broken(what: impl Into<String>, setting: impl Into<String>) -> Self {
        Self { what: what.into(), standing: Standing::Broken { setting: setting.into() } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_read_as_it_is_written_and_nothing_else_is_one() {
        for text in ["stream tasks", "group worker-1"] {
            assert_eq!(text.parse::<Target>().unwrap().to_string(), text);
        }
        for text in ["", "tasks", "stream", "stream ", "group a b", "topic x", "stream dlq"] {
            let error = text.parse::<Target>().unwrap_err();
            assert_eq!(*error.kind(), ErrorKind::InvalidName, "{text}");
        }
    }

    #[test]
    fn only_a_setting_that_breaks_a_promise_makes_a_broker_unsound() {
        let sound = Health::serving()
            .with_promise(Promise::kept("a"))
            .with_promise(Promise::not_made("b", "one machine"));
        assert!(sound.is_sound());
        assert!(!sound.with_promise(Promise::broken("c", "fsync is off")).is_sound());
        assert!(!Health::not_serving("closed").is_sound());
    }
}
