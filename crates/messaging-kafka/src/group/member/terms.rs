//! What goes into a member and what comes out of it.

use std::time::Duration;

use bytes::Bytes;
use messaging_core::Error;

use super::super::{Partition, Partitions};

/// What a member is.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The group at the brokers.
    pub(crate) group: String,
    /// The group as the application calls it.
    pub(crate) name: String,
    /// Its name across restarts, for static membership.
    pub(crate) instance: Option<String>,
    /// The group's patterns, in order.
    pub(crate) patterns: Vec<String>,
    /// How long the group waits for a silent member.
    pub(crate) session: Duration,
    /// How long a rebalance waits for its members; twice the session, so that it never has to wait
    /// so long for one that died.
    pub(crate) rebalance: Duration,
    /// How often the member says that it lives.
    pub(crate) heartbeat: Duration,
    /// Where the jitter of its waits begins.
    pub(crate) seed: u64,
}

/// Which request an answer belongs to.
pub(crate) type Call = u64;

/// What happens to a member.
#[derive(Debug)]
pub(crate) enum Event {
    /// A call was answered, or will never be.
    Answered { call: Call, answer: Result<Answer, Fault> },
    /// Nothing of a partition that was asked back is in hand any more, and its place is committed.
    Released(Partition),
    /// Every partition that the group's patterns reach.
    Discovered(Partitions),
    /// These are held by handlers that make no progress: others may have them (G5).
    Stuck(Partitions),
    /// The coordinator refused a commit of this generation.
    Refused { generation: i32, code: i16 },
    /// The member may not do what it is there for.
    Denied(Error),
    /// The member is about to leave, and still has something in hand: the rest is for others.
    Retire,
    /// The member is to leave; what it held is settled.
    Leave,
    /// Time has passed.
    Tick,
}

/// What the coordinator answers to a call that it did not refuse.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// The coordinator is known and reached.
    Found,
    /// The name to join with (`MEMBER_ID_REQUIRED`).
    Named(String),
    Joined(Joined),
    /// What we may own, as the leader wrote it.
    Synced(Bytes),
    Alive,
    Left,
}

/// The answer to a join.
#[derive(Clone, Debug)]
pub(crate) struct Joined {
    pub(crate) generation: i32,
    pub(crate) member: String,
    /// All members with what they told, if we lead and are to assign.
    pub(crate) members: Option<Vec<(String, Bytes)>>,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The coordinator refused with this code.
    Code(i16),
    /// The connection ended or the deadline passed: whether it was carried out is unknown.
    Broken,
}

/// What a member wants done.
#[derive(Debug)]
pub(crate) enum Action {
    /// Make a request, and answer it or fail it within this time.
    Request { call: Call, within: Duration, request: Request },
    /// End the connection of joins, so that no join of ours waits at the broker when the next one
    /// comes (G4).
    Reconnect,
    /// These are ours from now on. One that was asked back before goes on as it is.
    Assigned(Partitions),
    /// These are asked back; they stay ours until they are released.
    Revoked(Partitions),
    /// These are no longer ours.
    Lost(Partitions),
    /// The member can't go on.
    Failed(Error),
    /// Nothing more will come.
    Ended,
}

/// A request to the coordinator. `Beat` has a connection of its own: a join holds its connection
/// until the group has gathered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    Find,
    Join { member: String, claim: Bytes },
    Sync { member: String, generation: i32, assignments: Vec<(String, Bytes)> },
    Beat { member: String, generation: i32 },
    Leave { member: String },
}
