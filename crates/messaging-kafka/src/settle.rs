//! Settling what a subscription handed out.

use std::sync::Arc;

use messaging_core::driver::{Settle, Settler};

use crate::subscription::Member;

/// Settles what one subscription handed out. It outlives the subscription, as deliveries do.
#[derive(Debug)]
pub(crate) struct KafkaSettler(pub(crate) Arc<Member>);

impl Settler for KafkaSettler {
    fn settle(&self, one: Settle) {
        self.0.desk.settle_all(std::iter::once(one));
    }

    fn settle_all(&self, many: &mut Vec<Settle>) {
        self.0.desk.settle_all(many.drain(..));
    }
}
