//! What the server says on a channel without being asked.

use std::sync::{Arc, OnceLock};

use amqprs::callbacks::{ChannelCallback, ConnectionCallback};
use amqprs::channel::Channel;
use amqprs::connection::Connection;
use amqprs::{Ack, BasicProperties, Cancel, Close, CloseChannel, Nack, Return};
use async_trait::async_trait;
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::session::Session;
use crate::error::Refusal;

type Answer<T> = std::result::Result<T, amqprs::error::Error>;

/// What the server says on a channel without being asked.
#[derive(Debug)]
pub(crate) enum ChannelEvent {
    /// It closed the channel. Nothing follows.
    Closed(Refusal),
    /// It ended the consumer of this tag: its queue was deleted, or moved to another node.
    Cancelled(String),
    /// It has this publish, and all before it where `multiple`.
    Acked { tag: u64, multiple: bool },
    /// It could not take this publish, and all before it where `multiple`.
    Nacked { tag: u64, multiple: bool },
    /// Nobody receives this publish; its ack follows.
    Returned { refusal: Refusal, routing_key: String, id: Option<String> },
}

/// Hears the events of a channel. It is called by the tasks that read the socket, so it never
/// waits; its drop says that the channel has ended, whatever the cause.
pub(crate) trait Listen: Send + 'static {
    fn hear(&mut self, event: ChannelEvent);
}

impl Listen for mpsc::UnboundedSender<ChannelEvent> {
    fn hear(&mut self, event: ChannelEvent) {
        // Nobody listens any more: the channel is about to be dropped.
        self.send(event).ok();
    }
}

/// The callback of a channel.
pub(super) struct Ears<L> {
    pub(super) listener: L,
    /// Set before the client library fails the requests that wait for an answer.
    pub(super) refusal: Arc<OnceLock<Refusal>>,
    pub(super) session: Session,
    /// Its drop tells that the channel has ended.
    pub(super) _gone: DropGuard,
}

#[async_trait]
impl<L: Listen> ChannelCallback for Ears<L> {
    async fn close(&mut self, _: &Channel, close: CloseChannel) -> Answer<()> {
        let refusal = Refusal { code: close.reply_code(), text: close.reply_text().clone() };
        self.refusal.set(refusal.clone()).ok();
        self.listener.hear(ChannelEvent::Closed(refusal));
        self.session.count_close();
        Ok(())
    }

    async fn cancel(&mut self, _: &Channel, cancel: Cancel) -> Answer<()> {
        self.listener.hear(ChannelEvent::Cancelled(cancel.consumer_tag().clone()));
        Ok(())
    }

    async fn flow(&mut self, _: &Channel, active: bool) -> Answer<bool> {
        Ok(active)
    }

    async fn publish_ack(&mut self, _: &Channel, ack: Ack) {
        let (tag, multiple) = (ack.delivery_tag(), ack.mutiple());
        self.listener.hear(ChannelEvent::Acked { tag, multiple });
    }

    async fn publish_nack(&mut self, _: &Channel, nack: Nack) {
        let (tag, multiple) = (nack.delivery_tag(), nack.multiple());
        self.listener.hear(ChannelEvent::Nacked { tag, multiple });
    }

    async fn publish_return(
        &mut self,
        _: &Channel,
        returned: Return,
        properties: BasicProperties,
        _: Vec<u8>,
    ) {
        self.listener.hear(ChannelEvent::Returned {
            refusal: Refusal { code: returned.reply_code(), text: returned.reply_text().clone() },
            routing_key: returned.routing_key().clone(),
            id: properties.message_id().cloned(),
        });
    }
}

/// The callback of a connection. The task that reads the socket owns it: its drop is the end.
pub(super) struct Pulse {
    pub(super) refusal: Arc<OnceLock<Refusal>>,
    pub(super) ended: CancellationToken,
}

#[async_trait]
impl ConnectionCallback for Pulse {
    async fn close(&mut self, _: &Connection, close: Close) -> Answer<()> {
        let refusal = Refusal { code: close.reply_code(), text: close.reply_text().clone() };
        self.refusal.set(refusal).ok();
        Ok(())
    }

    // The client library does not tell the server that it knows of blocking, so these never come.
    async fn blocked(&mut self, _: &Connection, _: String) {}

    async fn unblocked(&mut self, _: &Connection) {}

    async fn secret_updated(&mut self, _: &Connection) {}
}

impl Drop for Pulse {
    fn drop(&mut self) {
        self.ended.cancel();
    }
}
