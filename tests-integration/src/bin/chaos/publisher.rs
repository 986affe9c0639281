//! The role of a publisher: lines of messages, each with keys of its own, one publish at a time.

use std::sync::Arc;
use std::time::Duration;

use messaging::{Broker, Bytes, Message, SendSpec};
use serde::{Deserialize, Serialize};
use tests_integration::audit::{Id, Outcome};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::sleep;

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
    let permits = Arc::new(Semaphore::new(0));
    let mut lines = JoinSet::new();
    for producer in first..first + LINES {
        let (sender, reporter) = (sender.clone(), reporter.clone());
        let line = Line { producer, identity, control, sender, reporter };
        lines.spawn(line.run(Arc::clone(&permits)));
    }
    reporter.say([Saying::Ready]);
    while let Some(Order::Publish(count)) = orders.recv().await {
        permits.add_permits(count as usize);
    }
    // Lines take what is left before they see that no more will come.
    while permits.available_permits() > 0 {
        sleep(Duration::from_millis(10)).await;
    }
    permits.close();
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
    reporter: Reporter,
}

impl Line {
    async fn run(self, permits: Arc<Semaphore>) -> messaging::Result<()> {
        for sequence in 0.. {
            let Ok(permit) = permits.acquire().await else { break };
            permit.forget();
            self.publish(Id { producer: self.producer, sequence }).await?;
        }
        Ok(())
    }

    async fn publish(&self, id: Id) -> messaging::Result<()> {
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

    async fn call(&self, message: Message) -> Outcome {
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
