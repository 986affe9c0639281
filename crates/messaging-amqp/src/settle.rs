//! Settlements as the application makes them. What becomes of them is the subscription's task's.

use std::sync::Arc;

use messaging_core::driver::{Settle, Settler};

use crate::error::stale;
use crate::subscription::Member;

/// Settles what one subscription handed out. It outlives the subscription, as deliveries do.
#[derive(Debug)]
pub(crate) struct RabbitSettler(pub(crate) Arc<Member>);

impl Settler for RabbitSettler {
    fn settle(&self, one: Settle) {
        if let Err(late) = self.0.desk.settle(one) {
            refuse(late);
        }
    }

    fn settle_all(&self, many: &mut Vec<Settle>) {
        self.0.desk.settle_all(many).into_iter().for_each(refuse);
    }
}

/// It comes too late: somebody else handles the message by now.
fn refuse(late: Settle) {
    if let Some(confirm) = late.confirm {
        confirm.resolve(Err(stale()));
    }
}
