use std::sync::Arc;
use std::time::Duration;

use messaging::driver::{Incoming, Settle, Settlement, Settler};
use messaging::memory::Memory;
use messaging::{Broker, Message};

use super::Fault;
use super::driver::Hands;

#[derive(Debug)]
pub(super) struct BrokenSettler {
    fault: Fault,
    inner: Arc<dyn Settler>,
    hands: Hands,
    memory: Memory,
}

impl BrokenSettler {
    pub(super) const fn new(
        fault: Fault,
        inner: Arc<dyn Settler>,
        hands: Hands,
        memory: Memory,
    ) -> Self {
        Self { fault, inner, hands, memory }
    }

    /// Settles without distortion.
    pub(super) fn settle_truly(&self, one: Settle) {
        self.inner.settle(one);
    }

    /// Settles what was held back.
    pub(super) fn catch_up(&self) {
        let held = std::mem::take(&mut self.hands.lock().1);
        held.into_iter().for_each(|one| self.inner.settle(one));
    }

    fn take_from_hand(&self, one: &Settle) -> Option<Incoming> {
        let hands = &mut self.hands.lock().0;
        let found = hands.iter().position(|incoming| incoming.token == one.token)?;
        Some(hands.swap_remove(found))
    }

    #[expect(clippy::disallowed_methods, reason = "a broken driver owns nothing it starts")]
    fn publish_again(&self, message: Message) {
        let memory = self.memory.clone();
        tokio::spawn(async move {
            let broker = Broker::builder(memory).topology(crate::conformance::topology()).open();
            if let Ok(broker) = broker.await {
                broker.publish_message(message).await.ok();
            }
        });
    }
}

impl Settler for BrokenSettler {
    fn settle(&self, mut one: Settle) {
        let incoming = self.take_from_hand(&one);
        match (self.fault, &mut one.how) {
            (Fault::LosesWhatWasDropped, how @ Settlement::Abandon) => *how = Settlement::Ack,
            (Fault::RetriesTooEarly, Settlement::Retry { after }) => *after = Duration::ZERO,
            (Fault::ForgetsAttempts, how @ Settlement::Retry { .. }) => *how = Settlement::Release,
            (Fault::CountsReleases, how @ Settlement::Release) => *how = Settlement::Abandon,
            (Fault::ForgetsTheReason, Settlement::Reject { reason }) => reason.clear(),
            (Fault::RetriesIntoOtherGroups, how @ Settlement::Retry { .. }) => {
                *how = Settlement::Ack;
                if let Some(incoming) = incoming {
                    self.publish_again(Arc::unwrap_or_clone(incoming.message));
                }
            }
            (Fault::SettlesBehindDelivery, _) => return self.hands.lock().1.push(one),
            _ => {}
        }
        self.inner.settle(one);
    }

    fn settle_all(&self, many: &mut Vec<Settle>) {
        many.drain(..).rev().for_each(|one| self.settle(one));
    }
}
