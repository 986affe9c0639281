//! What a backend writes: small, object safe, batch shaped.
//!
//! The portable handles ([`Broker`](crate::Broker) and what it makes) hold everything that is the
//! same for all backends. A driver keeps this contract, and the conformance suite cites it by
//! number:
//!
//! * **C1** `send` and `settle` never block, panic or call user code.
//! * **C2** Per key, confirmed publishes of one task keep their call order; one whose outcome is
//!   unknown may appear anywhere, any number of times.
//! * **C3** Every [`Confirm`](crate::Confirm) is resolved or dropped, also on shutdown.
//! * **C4** No publish is repeated unless it is known to be not written.
//! * **C5** Settlements progress while deliveries wait.
//! * **C6** At most `prefetch` deliveries of a subscription are unsettled; the driver keeps a cheap
//!   clone of each until then.
//! * **C7** An epoch belongs to a lane and grows only when that lane is lost. A late `Ack` may
//!   still count; every other settlement of an old epoch touches nothing.
//! * **C8** `Abandon` of a settled token is a no-op.
//! * **C9** Delivered messages match the patterns of the group exactly; what matches none is
//!   settled by the driver and does not count.
//! * **C10** `attempt` is 1 + the hand-overs known to have failed. A sender cannot steer it.
//! * **C11** [`Driver::capabilities`] is true.
//! * **C12** `close` flushes sends, commits settlements, releases the rest, leaves groups, then
//!   fails what is left with [`ErrorKind::Closed`](crate::ErrorKind::Closed).
//! * **C13** A delivery that is being handled is not redelivered while its consumer is alive. Where
//!   the broker has a limit for that, [`Event::Expired`] or [`Event::Lost`] ends its handler before.
//! * **C14** Every call ends by its deadline; what [`Outgoing::begin`] refuses is never sent.
//! * **C15** The connection heals by itself; the application sees at most unknown outcomes,
//!   redeliveries and gaps.
//! * **C16** Retry is group-scoped: no other group sees it. The original is settled only after its
//!   copy is confirmed. Dead letters carry group, reason, attempts and origin.
//! * **C17** [`Event::Revoked`] opens a hand-over: the driver stays owner until the lane has no
//!   unsettled token. [`Event::Lost`] ends ownership at once.

mod admin;
mod backoff;
mod delivery;
mod publish;
mod reader;
mod subscription;
pub mod variables;

use std::any::Any;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;

pub use self::admin::{Action, Admin, Change, Health, Lag, Plan, Promise, Standing, Target};
pub use self::backoff::Backoff;
pub use self::delivery::{Arrivals, Incoming, Settle, Settled, Settlement, Token};
pub use self::publish::{Assurance, Outgoing, Receipt};
pub use self::reader::{ReadSpec, Reader, Record};
pub use self::subscription::{Event, Expired, Gap, Lanes, Parked, Subscription};
use crate::capability::Capabilities;
use crate::error::Result;
use crate::name::{GroupName, StreamName};
use crate::spec::{SendSpec, SubscribeSpec};
use crate::topology::GroupConfig;

/// A connection to a broker.
pub trait Driver: Any + Debug + Send + Sync {
    /// The backend's name, as in `MESSAGING_BACKEND`.
    fn name(&self) -> &'static str;

    /// Where it is connected to, without secrets.
    fn address(&self) -> String;

    /// What it can do, as found at connect; true.
    fn capabilities(&self, scope: Scope<'_>) -> Capabilities;

    /// Opens the way to one stream. An unknown stream is
    /// [`ErrorKind::UnknownStream`](crate::ErrorKind::UnknownStream).
    fn sender(&self, spec: SendSpec) -> BoxFuture<'_, Result<Arc<dyn Sender>>>;

    /// Joins a group or opens a broadcast. When this returns, what is published next is seen.
    fn subscribe(&self, spec: SubscribeSpec) -> BoxFuture<'_, Result<Subscription>>;

    /// What it offers besides sending and receiving.
    fn facets(&self) -> Facets<'_>;

    /// Ends the connection within `grace`, as C12 has it.
    fn close(&self, grace: Duration) -> BoxFuture<'_, Result<()>>;
}

/// Hands messages of one stream over. It never blocks; the outcome is the message's `Confirm`.
pub trait Sender: Debug + Send + Sync {
    /// Hands one message over.
    fn send(&self, one: Outgoing);

    /// Hands many over, in order, and leaves the vector empty for its next use.
    fn send_all(&self, many: &mut Vec<Outgoing>);
}

/// Settles deliveries of one subscription. It never blocks and may be called from `Drop`.
pub trait Settler: Debug + Send + Sync {
    /// Settles one delivery.
    fn settle(&self, one: Settle);

    /// Settles many and leaves the vector empty for its next use.
    fn settle_all(&self, many: &mut Vec<Settle>);
}

/// What a capability is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Scope<'a> {
    /// The connection as a whole.
    Broker,
    /// One stream.
    Stream(&'a StreamName),
    /// One group, with what the topology says of it; `None` where it is not in the topology.
    Group(&'a GroupName, Option<&'a GroupConfig>),
}

/// What a driver offers besides sending and receiving.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Facets<'a> {
    /// Provisioning, lag and health.
    pub admin: Option<&'a dyn Admin>,
    /// Reading a range of a stream without a group.
    pub reader: Option<&'a dyn Reader>,
}

impl<'a> Facets<'a> {
    /// Offers provisioning, lag and health.
    #[must_use]
    pub const fn with_admin(mut self, admin: &'a dyn Admin) -> Self {
        self.admin = Some(admin);
        self
    }

    /// Offers reading a range.
    #[must_use]
    pub const fn with_reader(mut self, reader: &'a dyn Reader) -> Self {
        self.reader = Some(reader);
        self
    }
}
