//! What streams and groups are made of at the server, as data: subscribing, publishing and
//! provisioning read it here and nowhere else.
//!
//! `P` is the prefix. A stream is the topic exchange and its dead letters: the topic exchange
//! `P.dlx` and the queue `P.dlq.<stream>`. A group is a queue of its own name, with the places that
//! its retries and suspects wait in and a queue without messages that keeps what its members agree
//! on.

mod agreement;
mod apply;
mod declaration;
mod group;
mod names;
mod sizes;
mod stream;
#[cfg(test)]
mod tests;

pub(crate) use self::agreement::{current_value, shape_of, value_of};
pub(crate) use self::apply::declare;
pub(crate) use self::declaration::{Argument, Declaration, Exchange, ExchangeKind, Queue};
pub(crate) use self::group::{GroupShape, bindings, marker};
pub(crate) use self::names::Names;
pub(crate) use self::sizes::INITIAL_SIZE;
pub(crate) use self::stream::{dead_letters, exchanges};
