//! The Redis backends of the messaging layer.
//!
//! [`Streams`] delivers at least once, with groups, retries, dead letters and order. [`PubSub`]
//! delivers at most once, to whoever listens: what is lost is seen as a gap.
//!
//! ```no_run
//! use messaging_core::{Broker, Result, Task, json};
//! use messaging_redis::{RedisConfig, Streams};
//!
//! # async fn run() -> Result<()> {
//! let redis = Streams::connect(RedisConfig::from_env()?).await?;
//! let broker = Broker::builder(redis).open().await?;
//! broker.publish(&Task::new("completion", json!({ "model": "helix-ensemble" }))).await?;
//! broker.close().await
//! # }
//! ```
//!
//! # Configuration
//! [`RedisConfig::from_env`] lists the variables. `rediss://` is TLS, always verified.
//!
//! # Mapping
//! With the prefix `helixagent`, stream `tasks` is the key `helixagent.tasks`, its further lanes
//! `helixagent.tasks:1` and so on, its dead letters `helixagent.dlq.tasks`. A group is a consumer
//! group of its name. What it has agreed to receive is in `helixagent.group.<group>`, who is in it in
//! `helixagent.group.<group>.members`, and which streams and groups there are in `helixagent._streams`
//! and `helixagent._groups`. Beside each lane, in its slot, are `{lane}.due.<group>` (retries by time),
//! `.suspects`, `.trial` and `.lease`, each with its group. A broadcast is a group with one member,
//! `_broadcast-<consumer>`, that ends with it. An attempt is the delivery count of the pending entry.
//!
//! Over Pub/Sub, subject `tasks.x` is the channel `helixagent.tasks.x`. JSON without headers and key
//! is published as exactly its JSON; everything else in an envelope (`proto/`).
//!
//! # Guarantees
//! A confirmed publish is as durable as the server's `appendfsync`: with `always` it survives a
//! crash of the server. A failover may forget it; `REDIS_WAIT_REPLICAS` makes what may be forgotten
//! unknown instead of confirmed. A message is settled only after its handler ended; what a dead
//! member held is taken over after 30 s of silence, with its attempt raised.
//!
//! # Capabilities
//! Everything but priority. `helixagent doctor` tells which of the server's settings break a promise.
//!
//! # Escape hatches
//! `Broker::driver::<Streams>()` gives the driver. Every key can be read with `redis-cli`: the
//! fields of an entry are `body`, `subject`, `id`, `content-type`, `key` and `h:<header>`.

pub mod config;
mod connection;
mod error;
mod pubsub;
mod streams;
mod wire;

pub use crate::config::RedisConfig;
pub use crate::pubsub::PubSub;
pub use crate::streams::Streams;
