//! The Kafka backend of the messaging layer, in Rust alone.
//!
//! ```no_run
//! use messaging_core::{Broker, Result, Task, json};
//! use messaging_kafka::{Kafka, KafkaConfig};
//!
//! # async fn run() -> Result<()> {
//! let kafka = Kafka::connect(KafkaConfig::from_env()?).await?;
//! let broker = Broker::builder(kafka).open().await?;
//! broker.publish(&Task::new("completion", json!({ "model": "helix-ensemble" }))).await?;
//! broker.close().await
//! # }
//! ```
//!
//! # Configuration
//! [`KafkaConfig::from_env`] lists the variables. What the original system set in its Go client:
//!
//! | there | here |
//! |---|---|
//! | `Async` | `enqueue` does not wait; its outcome can be awaited, and is never thrown away |
//! | `BatchSize` | `KAFKA_BATCH_SIZE`, in messages; unset, whatever came together while the batch before was on its way |
//! | `LingerMs` | `KAFKA_LINGER_MS`; unset, nothing waits for company |
//! | `RequiredAcks` | always all in-sync replicas |
//! | `GroupID` | the group that a worker or subscription names |
//! | `AutoCommit` | always: what is settled is committed, and never past unfinished work |
//! | `CommitInterval` | `KAFKA_COMMIT_INTERVAL`, 5 s; sooner after 1,000 settlements, 20 times a second at most |
//!
//! Producing goes by requests of our own; `KAFKA_WRITE_PATH=rskafka` goes by rskafka, with the same
//! outcomes but that it can't tell some refusals from unknown ones, and a lane that a quota of the
//! broker throttles goes on by our own. A heartbeat is sent every 500 ms, in place of Kafka's usual 3 s:
//! it is how a member learns that partitions are to move, and it is small.
//!
//! # Mapping
//! With the prefix `helixagent`, stream `tasks` is the topic `helixagent.tasks`, its dead letters are
//! `helixagent.dlq.tasks`, and the retries of group `worker-1` are `helixagent.retry.worker-1.<tier>`.
//! A group has its own name at the brokers; with another prefix it is `<prefix>.group.worker-1`, as
//! groups of all prefixes share one namespace there. Behind the progress in a commit's metadata are
//! the group's patterns in full, where they fit, so that whoever differs is told them.
//! A message is a record: its body the value, its key the key; subject, id and content type are the
//! headers `subject`, `message-id`, `content-type`, and application headers have their own names. A
//! lane is a partition, a position its offset. A key lands where Java's default partitioner puts it.
//!
//! # Guarantees
//! A confirmed publish is on every in-sync replica. With three copies, of which two must be in step,
//! it survives the loss of a broker; it does not survive a loss of power that hits all of them, as
//! brokers write to disk later. One batch is on its way to a partition at a time, so the confirmed
//! messages of a key keep their order. A batch is repeated only where the broker says, or the
//! connection shows, that nothing of it was written: a lost answer, a timeout of the broker and too
//! few replicas after storing are unknown. A leader that lost its leadership says the same whether it
//! had stored the batch or not; it counts as not written only where its answer has no offset.
//!
//! A delivery is committed once it is settled, never past unfinished work: a slow message holds the
//! mark back, later ones go on, and what was settled out of order is stored beside the mark, so that
//! a restart repeats only what was not settled. When that no longer fits into 4,096 characters, some
//! is repeated after a crash; nothing is skipped. A member that is asked for a partition finishes
//! what it has in hand first. One that can't reach the coordinator for a session stops by its own
//! clock, before others may begin. What a member held that died comes again as a further attempt.
//! Offsets that are kept no longer are a gap, and reading goes on with the oldest that is kept, or the
//! subscription ends with `KAFKA_OUT_OF_RANGE=fail`; a topic that was deleted and created anew is a gap
//! too, and is read from its beginning. A record that can't
//! be read is put aside and told, with its offset; those beside it are delivered. So is a batch that
//! makes an answer larger than 64 MiB. A transaction that was given up is not seen.
//!
//! Whoever has answered as a Kafka broker does is believed in how many elements a list of an answer
//! has: kafka-protocol reserves room for as many before it reads them. Records are read by decoders of
//! our own, which believe nothing. TLS keeps out what could be damaged on its way.
//!
//! A message that is in hand for longer than `KAFKA_MAX_POLL_INTERVAL_MS` (30 minutes, as long as
//! RabbitMQ waits) makes its member give up that partition alone: the handler is cancelled, and the
//! message comes again as a further attempt. The member stays in the group, so the partition may come
//! back to it.
//!
//! A member with `KAFKA_GROUP_INSTANCE_ID` does not leave when it ends: its partitions wait for it
//! until the session has passed. Two processes of one name can't be: the first one's subscription
//! ends with an error that says so.
//!
//! All members of a group use this layer and present the same patterns. Their assignment protocol is
//! cooperative and has a name of its own, so the broker lets no other client into the group, and a
//! group of other clients refuses us as a conflict.
//!
//! Unclean leader election loses what was confirmed: topics that allow it are named by `doctor` and
//! by `provision --plan`.
//!
//! # Capabilities
//! See [`Kafka::CAPABILITIES`]. A partition has one order, so there is no priority.
//!
//! # Escape hatches
//! `Broker::driver::<Kafka>()` gives the driver. Everything can be read and written by other clients:
//! `cargo xtask kafka-tool console-consumer --topic helixagent.tasks --from-beginning`.

mod admin;
mod cluster;
pub mod config;
mod connection;
mod driver;
mod error;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzed;
mod group;
mod offsets;
mod read;
mod replay;
mod sender;
mod settle;
mod subscription;
mod topics;
mod varint;
mod wire;
mod write;

pub use crate::config::KafkaConfig;
pub use crate::driver::Kafka;

/// The backend's name, as in `MESSAGING_BACKEND`.
const NAME: &str = "kafka";
