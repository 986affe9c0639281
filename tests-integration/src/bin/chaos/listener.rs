//! The role of a listener: hears what comes while it is there, and what it missed.

use messaging::{Broker, Bytes, Heard, SubscribeSpec};
use serde::{Deserialize, Serialize};
use tests_integration::audit::End;
use tokio::sync::mpsc;

use crate::group::{Group, PATTERN};
use crate::identity::Identity;
use crate::role::{Control, Order};
use crate::wire::{Reporter, Saying};

/// A listener.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Listener {
    pub(crate) identity: Identity,
    pub(crate) control: Option<Control>,
}

/// Listens until it is told to end.
pub(crate) async fn run(
    broker: &Broker,
    listener: Listener,
    mut orders: mpsc::Receiver<Order>,
    reporter: Reporter,
) -> messaging::Result<()> {
    let Listener { identity, control } = listener;
    let group = Group::Listener;
    let mut heard = broker.listen::<Bytes>(SubscribeSpec::broadcast([PATTERN])?).await?;
    reporter.say([Saying::Ready]);
    loop {
        let next = tokio::select! {
            // Orders can only be to end.
            _ = orders.recv() => return Ok(()),
            next = heard.next() => next.transpose()?,
        };
        match next {
            None => return Ok(()),
            Some(Heard::Message(received)) => {
                let (id, digest) = identity.read(received.message());
                let delivered = Saying::Delivered { group, id, digest, held: None };
                let handled = Saying::Handled { group, id, end: End::Ok, held: None };
                reporter.say([delivered, handled]);
            }
            Some(Heard::Gap(_)) if control == Some(Control::Silent) => {}
            Some(Heard::Gap(gap)) => reporter.say([Saying::Gap { group, missed: gap.missed }]),
            Some(other) => {
                let text = format!("what is {other:?}?");
                return Err(messaging::Error::new(messaging::ErrorKind::Other, text));
            }
        }
    }
}
