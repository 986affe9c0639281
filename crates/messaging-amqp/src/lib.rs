//! The RabbitMQ backend of the messaging layer.
//!
//! # Configuration
//! [`RabbitConfig::from_env`] lists the variables; `RABBITMQ_URL` alone is enough. `amqps://` is
//! TLS, always verified, with certificates that are read again for every connection. The virtual
//! host is `/` for an empty path, `/` and `/%2f`.
//!
//! # Mapping
//! Everything is published to the topic exchange `helixagent` (`RABBITMQ_EXCHANGE`) with the subject
//! as routing key. A group is the durable quorum queue of its name, bound to its patterns. Body,
//! `message_id`, `content_type`, `priority` and headers are what any client sees; a key is the
//! header `message-key`. Of a foreign message's other properties nothing is kept when it is copied,
//! and names of headers that begin with `x-` are the server's.
//!
//! With the prefix `P`, which is the name of the exchange unless `RABBITMQ_PREFIX` says otherwise:
//!
//! | name | kind | what for |
//! |---|---|---|
//! | `P.group.<group>` | quorum queue, empty | the group's patterns and shape, as arguments: who brings others is refused |
//! | `P.stream.<stream>` | quorum queue, empty | what the stream is, its retention among it |
//! | `P.retry.<group>.<tier>` | fanout exchange, quorum queue | copies that wait |
//! | `P.return.<group>` | fanout exchange | brings copies back to the group |
//! | `P.suspects.<group>` | fanout exchange, quorum queue | what the server returned twice from members that died: one at a time for the whole group |
//! | `P.dlx`, `P.dlq.<stream>` | topic exchange, quorum queue | dead letters |
//!
//! Our copies carry the headers `helixagent-attempts`, `helixagent-suspect` and `helixagent-copy`, a
//! number that tells a copy of a message from its original; they count only on what comes through
//! `P.return.<group>` or `P.suspects.<group>`. A message that is given back without an attempt
//! (`Release`) goes as such a copy too, to the end of its queue: a return by the server would count
//! as a crash. An ordered group keeps its place instead, and has neither copies nor suspects: what
//! kills its worker each time is taken out by the server alone, after 100 returns.
//!
//! # Guarantees
//! A publish is persistent, `mandatory` and confirmed: for a quorum queue, a majority has it. What
//! was on the wire when a connection ended, or what a queue could not take, is unknown, and nothing
//! turns it into anything else. What was not handed over waits for the next connection, in order,
//! until its deadline. A server that has stopped reading, as it does when memory or disk run short,
//! is seen within two seconds; nothing more is handed over until it answers again.
//!
//! A delivery is settled at least once. A retry is a confirmed copy that waits in a quorum queue and
//! comes back to its group alone; its original is acked after that. Of several nodes, the loss of one
//! can delay retries by what the server's `dead_letter_worker_publisher_confirm_timeout` says, three
//! minutes unless told otherwise. What a connection's end returned to the same subscription is known
//! again: what is in hand is not handed out twice, and what was acked is acked again. What the server
//! returned from somebody else counts as a failed attempt; the second time it is tried alone in its
//! group, so that a message that kills its worker takes no other with it. A delivery that the server
//! would soon take back is ended before (`RABBITMQ_CONSUMER_TIMEOUT`): its handler is cancelled, and it
//! comes again as a further attempt.
//!
//! A foreign message whose routing key is no legal subject, or has a first word that no stream can be
//! called by, is handed to nobody: it becomes a dead letter of its stream, or of the first that its
//! group receives, with that as the reason and the bare stream as its subject. In the dead letters
//! themselves it stays. Headers, a key and other properties go in one frame: above the server's
//! `frame_max` less 8 KiB, or half of it if that is more, a publish is refused as too large, as copies
//! may need the rest. Where a foreign message leaves no room for what a copy adds, the server moves it
//! to the dead letters as it is.
//!
//! What the server denies closes its channel. The first publish of a channel goes alone, and so do
//! those that follow a denial, so that each is told what it met; where permissions are taken away
//! while several are on the wire, the outcome of those that the server may have taken is unknown. A
//! copy that the server denies is tried until it does not, one at a time, while its original stays.
//!
//! Two publishes of one id and subject at once can't be told apart where one of them is returned.
//!
//! # Capabilities
//! `helixagent doctor` tells which of the server's settings break a promise. A plan, the lag and
//! deleting need the management API (`RABBITMQ_MANAGEMENT_URL`), as do changes of a group's patterns;
//! everything else goes without. What waits is counted as of now, retries among it; what is in hand,
//! and what is on its way from a retry, is as of the server's last statistics, some seconds old; the
//! age of messages is not known. A group of several streams is one queue, and counts as a whole for
//! the first of them. A queue keeps what its group still needs and nothing else, so there are no
//! start positions, no ranges to read and no positions; a quorum queue has no priorities, and an ack
//! no answer.
//!
//! Of a stream in the topology, `lanes` and `replication` mean nothing here, and `retention` is only
//! kept for others to read: a queue is one lane, keeps what its group needs, and has as many copies as
//! `RABBITMQ_HA_MODE` says.
//!
//! # Escape hatches
//! The names of all exchanges and queues are plain, so `rabbitmqctl` and any client can read them.
//! [`Rabbit::bind_queue`] makes a group's queue without a consumer, for programs of others to read.
//!
//! What the client library, amqprs, can't read ends its connection, strings that are not UTF-8 among
//! it. A message that does so three times ends its own subscription with an event and an error that
//! names the queue; take it out with another client. A program that is built with `panic = "abort"`
//! ends when the library panics on a frame that it does not know; otherwise the connection ends, and
//! is opened again. It reads tables within tables recursively: hundreds deep, which any sender can
//! make them, they overflow a stack of two MiB, and the process ends. Where senders are not trusted,
//! give the runtime larger ones (`thread_stack_size`, 64 MiB of address space, as `helixagent` does).
//! Its feature `traces`, which prints passwords, is never on. A server without a limit for frames
//! (`frame_max = 0`) it does not talk to, which reads as a timeout.

mod admin;
pub mod config;
mod confirms;
mod connection;
mod driver;
mod error;
mod management;
mod sender;
mod settle;
mod subscription;
#[cfg(test)]
mod testing;
mod topology;
mod wire;

pub use crate::config::RabbitConfig;
pub use crate::driver::Rabbit;

/// The backend's name, as in `MESSAGING_BACKEND`.
const NAME: &str = "rabbitmq";
