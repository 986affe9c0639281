use std::fmt::{self, Debug};
use std::time::Duration;

use futures::future::BoxFuture;

use crate::error::Result;
use crate::name::{GroupName, StreamName};
use crate::topology::Topology;

/// Provisioning, lag and health.
pub trait Admin: Debug + Send + Sync {
    /// Says what [`Admin::apply`] would do, and changes nothing.
    fn plan<'a>(&'a self, topology: &'a Topology) -> BoxFuture<'a, Result<Plan>>;

    /// Makes the broker have what the topology names and says what was done. Repeating it is
    /// harmless; it never deletes.
    fn apply<'a>(&'a self, topology: &'a Topology) -> BoxFuture<'a, Result<Plan>>;

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
    /// What the broker has and the topology does not name; it is left alone.
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
    /// With which values; for a change, what there is now and what is asked for.
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
        let verb = match self.action {
            Action::Create => "create",
            Action::Alter => "alter",
        };
        write!(f, "{verb} {}: {}", self.target, self.detail)
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
    /// What an operator should know.
    pub notes: Vec<String>,
}

impl Health {
    /// A broker that serves, with nothing to add.
    #[must_use]
    pub const fn serving() -> Self {
        Self { serving: true, notes: Vec::new() }
    }

    /// A broker that does not serve, and why.
    #[must_use]
    pub fn not_serving(reason: impl Into<String>) -> Self {
        Self { serving: false, notes: vec![reason.into()] }
    }
}
