//! Exchanges, queues and bindings as values.

use std::collections::BTreeMap;
use std::time::Duration;

use super::sizes::INITIAL_SIZE;

/// One thing that is declared at the server. Declaring it again is harmless, unless it exists
/// otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Declaration {
    Exchange(Exchange),
    Queue(Queue),
    Binding(Binding),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Exchange {
    pub(crate) name: String,
    pub(crate) kind: ExchangeKind,
    pub(crate) durable: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExchangeKind {
    /// The routing key is matched with patterns.
    Topic,
    /// Everything goes to every queue, and the routing key stays as it is.
    Fanout,
}

impl ExchangeKind {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Topic => "topic",
            Self::Fanout => "fanout",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Queue {
    pub(crate) name: String,
    pub(crate) durable: bool,
    /// It ends with its connection.
    pub(crate) exclusive: bool,
    pub(crate) arguments: BTreeMap<&'static str, Argument>,
}

/// The value of an argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Argument {
    Text(String),
    Number(i64),
    Flag(bool),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Binding {
    pub(crate) exchange: String,
    pub(crate) queue: String,
    /// The routing keys that go this way, as a pattern of a topic exchange.
    pub(crate) pattern: String,
}

impl Declaration {
    pub(crate) fn exchange(name: impl Into<String>, kind: ExchangeKind, durable: bool) -> Self {
        Self::Exchange(Exchange { name: name.into(), kind, durable })
    }

    pub(crate) fn binding(
        exchange: impl Into<String>,
        queue: impl Into<String>,
        pattern: impl Into<String>,
    ) -> Self {
        let (exchange, queue, pattern) = (exchange.into(), queue.into(), pattern.into());
        Self::Binding(Binding { exchange, queue, pattern })
    }
}

impl From<Queue> for Declaration {
    fn from(queue: Queue) -> Self {
        Self::Queue(queue)
    }
}

impl Queue {
    /// A replicated queue. `copies` is on how many nodes; the server decides unless set.
    pub(crate) fn quorum(name: impl Into<String>, copies: Option<u32>) -> Self {
        let queue = Self::durable(name).with("x-queue-type", Argument::Text("quorum".to_owned()));
        match copies {
            Some(copies) => queue.with(INITIAL_SIZE, Argument::Number(copies.into())),
            None => queue,
        }
    }

    /// A queue on one node that hands out what is more urgent first.
    pub(crate) fn priority(name: impl Into<String>, highest: u8) -> Self {
        Self::durable(name).with("x-max-priority", Argument::Number(highest.into()))
    }

    /// A queue of one connection, whose name is ours to choose.
    pub(crate) fn exclusive(name: impl Into<String>) -> Self {
        Self { durable: false, exclusive: true, ..Self::durable(name) }
    }

    fn durable(name: impl Into<String>) -> Self {
        Self { name: name.into(), durable: true, exclusive: false, arguments: BTreeMap::new() }
    }

    pub(crate) fn with(mut self, name: &'static str, value: Argument) -> Self {
        self.arguments.insert(name, value);
        self
    }

    pub(crate) fn with_text(self, name: &'static str, value: impl Into<String>) -> Self {
        self.with(name, Argument::Text(value.into()))
    }

    /// After how many returns the server itself takes a message out. Without a limit a message that
    /// is returned goes to the back on 3.10, and is dropped after 20 returns on 4.0.
    pub(crate) fn with_delivery_limit(self, limit: i64) -> Self {
        self.with("x-delivery-limit", Argument::Number(limit))
    }

    /// How long a message stays.
    pub(crate) fn with_time_limit(self, limit: Duration) -> Self {
        let millis = i64::try_from(limit.as_millis()).unwrap_or(i64::MAX);
        self.with("x-message-ttl", Argument::Number(millis))
    }

    /// Where the server moves what it takes out, confirmed by the target before it is gone here.
    pub(crate) fn with_dead_letters_to(self, exchange: impl Into<String>) -> Self {
        self.with_text("x-dead-letter-exchange", exchange)
            .with_text("x-dead-letter-strategy", "at-least-once")
            .with_text("x-overflow", "reject-publish")
    }
}
