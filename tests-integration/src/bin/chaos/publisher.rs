//! The role of a publisher: lines of messages, each with keys of its own, one publish at a time.

use std::time::Duration;

use messaging::{Broker, Bytes, Message, SendSpec};
use serde::{Deserialize, Serialize};
use tests_integration::audit::{Id, Outcome};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::backend::kafka::Loose;
use crate::dice::Dice;
use crate::group::STREAM;
use crate::identity::Identity;
use crate::role::{Control, Order};
use crate::wire::{Reporter, Saying};

/// A publisher.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Publisher {
    pub(crate) identity: Identity,
    /// The number of its first line; the others follow.
    pub(crate) first: u32,
    pub(crate) control: Option<Control>,
}

/// How many lines a publisher has, and how many keys a line.
pub(crate) const LINES: u32 = 16;
const KEYS: u32 = 4;

/// How many messages may be allowed and not called yet.
const ALLOWED: usize = 10_000;

/// How long a publish may take.
pub(crate) const DEADLINE: Duration = Duration::from_secs(5);

/// How often a message is called that definitely failed, or whose outcome nobody knows.
const CALLS: u32 = 4;

/// Publishes as many messages as it is ordered to.
pub(crate) async fn run(
    broker: &Broker,
    publisher: Publisher,
    mut orders: mpsc::Receiver<Order>,
    reporter: Reporter,
) -> messaging::Result<()> {
    let Publisher { identity, first, control } = publisher;
    let sender = broker.publisher(SendSpec::to(STREAM)?.timeout(DEADLINE)).await?;
    let (allow, allowed) = async_channel::bounded(ALLOWED);
    let mut lines = JoinSet::new();
    for producer in first..first + LINES {
        let (sender, reporter) = (sender.clone(), reporter.clone());
        let loose = (control == Some(Control::Acks1)).then(Loose::from_env).transpose()?;
        let line = Line { producer, identity, control, sender, loose, reporter };
        lines.spawn(line.run(allowed.clone()));
    }
    reporter.say([Saying::Ready]);
    while let Some(Order::Publish(count)) = orders.recv().await {
        for _ in 0..count {
            if allow.send(()).await.is_err() {
                break;
            }
        }
    }
    // Lines take what is left before they see that no more will come.
    drop(allow);
    while let Some(ended) = lines.join_next().await {
        ended.map_err(|died| {
            messaging::Error::new(messaging::ErrorKind::Other, "a line died").with_source(died)
        })??;
    }
    Ok(())
}

/// Publishes one message after the other, so that the order of each of its keys is known.
struct Line {
    producer: u32,
    identity: Identity,
    control: Option<Control>,
    sender: messaging::Publisher<Bytes>,
    /// Publishes in place of the sender: that is the mistake.
    loose: Option<Loose>,
    reporter: Reporter,
}

impl Line {
    async fn run(mut self, allowed: async_channel::Receiver<()>) -> messaging::Result<()> {
        for sequence in 0.. {
            let Ok(()) = allowed.recv().await else { break };
            self.publish(Id { producer: self.producer, sequence }).await?;
        }
        Ok(())
    }

    async fn publish(&mut self, id: Id) -> messaging::Result<()> {
        let mut dice = Dice::of(&[self.identity.seed, 1, u64::from(id.producer), id.sequence]);
        let key = self.producer * KEYS + dice.below(u64::from(KEYS)) as u32;
        // Of what nobody knows, half is called again and half is left as it is.
        let insists = dice.percent(50);
        let digest = self.identity.digest(id, key);
        let message = self.identity.message(id, key)?;
        for _ in 0..CALLS {
            self.reporter.say([Saying::Publishing { id, key, digest }]);
            let outcome = self.call(message.clone()).await;
            self.reporter.say([Saying::Published { id, outcome }]);
            match outcome {
                Outcome::Ok => break,
                Outcome::Unknown if !insists => break,
                Outcome::Unknown | Outcome::Failed => sleep(dice.millis(20, 100)).await,
            }
        }
        Ok(())
    }

    async fn call(&mut self, message: Message) -> Outcome {
        if let Some(loose) = &mut self.loose {
            return loose.publish(&message).await;
        }
        let ended = if self.control == Some(Control::NoConfirm) {
            self.sender.enqueue_message(message).await.map(drop)
        } else {
            self.sender.publish_message(message).await.map(drop)
        };
        match ended {
            Ok(()) => Outcome::Ok,
            Err(error) if error.is_outcome_unknown() => Outcome::Unknown,
            Err(_) => Outcome::Failed,
        }
    }
}
