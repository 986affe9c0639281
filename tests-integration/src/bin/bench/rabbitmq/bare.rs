//! The bare client with what its own examples advise, and a window of confirms.

use std::collections::BTreeSet;
use std::sync::Arc;

use amqprs::callbacks::ChannelCallback;
use amqprs::channel::{
    BasicAckArguments, BasicConsumeArguments, BasicPublishArguments, BasicQosArguments, Channel,
    ConfirmSelectArguments, ExchangeDeclareArguments, QueueBindArguments, QueueDeclareArguments,
    QueueDeleteArguments,
};
use amqprs::connection::{Connection, OpenConnectionArguments};
use amqprs::{Ack, BasicProperties, Cancel, CloseChannel, DELIVERY_MODE_PERSISTENT, Nack, Return};
use async_trait::async_trait;
use futures::FutureExt;
use futures::future::BoxFuture;
use messaging::MessageId;
use tokio::sync::Semaphore;

use super::place::{EXCHANGE, KEY, Place, QUEUE, QueueKind};
use super::{MESSAGES, MULTIPLE, Meter, PREFETCH, Sample, ours};
use crate::bare::{BOUND, body};

async fn connect(place: &Place) -> (Connection, Channel) {
    let (login, rest) = place.url.trim_start_matches("amqp://").split_once('@').unwrap();
    let (user, password) = login.split_once(':').unwrap();
    let (host, port) = rest.trim_end_matches('/').split_once(':').unwrap();
    let arguments = OpenConnectionArguments::new(host, port.parse().unwrap(), user, password);
    let connection = Connection::open(&arguments).await.unwrap();
    let channel = connection.open_channel(None).await.unwrap();
    (connection, channel)
}

async fn end((connection, channel): (Connection, Channel)) {
    channel.close().await.unwrap();
    connection.close().await.unwrap();
}

/// Makes the exchange and an empty queue.
pub(super) async fn empty(place: &Place) {
    let link = connect(place).await;
    let channel = &link.1;
    channel.queue_delete(QueueDeleteArguments::new(QUEUE)).await.unwrap();
    let exchange = ExchangeDeclareArguments::new(EXCHANGE, "topic").durable(true).finish();
    channel.exchange_declare(exchange).await.unwrap();
    declare(channel, place.kind).await;
    end(link).await;
}

/// Removes the queue.
pub(super) async fn remove(place: &Place) {
    let link = connect(place).await;
    link.1.queue_delete(QueueDeleteArguments::new(QUEUE)).await.unwrap();
    end(link).await;
}

async fn declare(channel: &Channel, kind: QueueKind) {
    let mut queue = QueueDeclareArguments::new(QUEUE).durable(true).finish();
    if kind == QueueKind::Quorum {
        let mut table = amqprs::FieldTable::new();
        let quorum = amqprs::FieldValue::S("quorum".try_into().unwrap());
        table.insert("x-queue-type".try_into().unwrap(), quorum);
        queue.arguments(table);
    }
    channel.queue_declare(queue).await.unwrap();
    channel.queue_bind(QueueBindArguments::new(QUEUE, EXCHANGE, KEY)).await.unwrap();
}

/// Gives the room of what was confirmed back.
struct Confirms {
    room: Arc<Semaphore>,
    /// Everything up to this is confirmed.
    last: u64,
    /// What is confirmed alone beyond that: a server does not always confirm in order.
    beyond: BTreeSet<u64>,
}

impl Confirms {
    fn new(room: Arc<Semaphore>) -> Self {
        Self { room, last: 0, beyond: BTreeSet::new() }
    }

    /// How many are confirmed by an answer that were not before.
    fn take(&mut self, tag: u64, multiple: bool) -> u64 {
        if !multiple && tag != self.last + 1 {
            return u64::from(tag > self.last && self.beyond.insert(tag));
        }
        let mut count = tag.saturating_sub(self.last);
        self.last = self.last.max(tag);
        while let Some(first) = self.beyond.first().copied().filter(|it| *it <= self.last + 1) {
            self.beyond.pop_first();
            count -= u64::from(first <= tag);
            self.last = self.last.max(first);
        }
        count
    }
}

#[async_trait]
impl ChannelCallback for Confirms {
    async fn close(&mut self, _: &Channel, _: CloseChannel) -> Result<(), amqprs::error::Error> {
        Ok(())
    }

    async fn cancel(&mut self, _: &Channel, _: Cancel) -> Result<(), amqprs::error::Error> {
        Ok(())
    }

    async fn flow(&mut self, _: &Channel, _: bool) -> Result<bool, amqprs::error::Error> {
        Ok(true)
    }

    async fn publish_ack(&mut self, _: &Channel, ack: Ack) {
        let confirmed = self.take(ack.delivery_tag(), ack.mutiple());
        self.room.add_permits(confirmed as usize);
    }

    async fn publish_nack(&mut self, _: &Channel, _: Nack) {}

    async fn publish_return(&mut self, _: &Channel, _: Return, _: BasicProperties, _: Vec<u8>) {}
}

pub(super) async fn fill(place: &Place) -> Sample {
    let link = connect(place).await;
    let channel = &link.1;
    let room = Arc::new(Semaphore::new(BOUND));
    let confirms = Confirms::new(Arc::clone(&room));
    channel.register_callback(confirms).await.unwrap();
    channel.confirm_select(ConfirmSelectArguments::default()).await.unwrap();
    let route = BasicPublishArguments::new(EXCHANGE, KEY).mandatory(true).finish();
    let meter = Meter::start();
    for _ in 0..MESSAGES {
        room.acquire().await.unwrap().forget();
        let properties = BasicProperties::default()
            .with_content_type("application/octet-stream")
            .with_delivery_mode(DELIVERY_MODE_PERSISTENT)
            .with_message_id(&MessageId::generate().to_string())
            .finish();
        channel.basic_publish(properties, body().to_vec(), route.clone()).await.unwrap();
    }
    room.acquire_many(BOUND as u32).await.unwrap().forget();
    let sample = meter.stop();
    end(link).await;
    sample
}

pub(super) fn publish(place: Place) -> BoxFuture<'static, Sample> {
    async move { fill(&place).await }.boxed()
}

pub(super) fn consume_multiple(place: Place) -> BoxFuture<'static, Sample> {
    consume(place, MULTIPLE).boxed()
}

pub(super) fn consume_single(place: Place) -> BoxFuture<'static, Sample> {
    consume(place, 1).boxed()
}

async fn consume(place: Place, acks: usize) -> Sample {
    ours::fill(&place).await;
    let link = connect(&place).await;
    let channel = &link.1;
    let mut meter = None;
    channel.basic_qos(BasicQosArguments::new(0, PREFETCH, false)).await.unwrap();
    let arguments = BasicConsumeArguments::new(QUEUE, "");
    let (_, mut deliveries) = channel.basic_consume_rx(arguments).await.unwrap();
    for number in 1..=MESSAGES {
        let delivery = deliveries.recv().await.unwrap();
        meter.get_or_insert_with(Meter::start);
        std::hint::black_box(&delivery.content);
        if number % acks == 0 {
            let tag = delivery.deliver.unwrap().delivery_tag();
            channel.basic_ack(BasicAckArguments::new(tag, acks > 1)).await.unwrap();
        }
    }
    // The answer comes after every ack has been taken.
    let passive = QueueDeclareArguments::new(QUEUE).passive(true).finish();
    channel.queue_declare(passive).await.unwrap();
    let sample = meter.unwrap().stop();
    end(link).await;
    sample
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_publish_is_confirmed_once_in_whatever_order() {
        let mut confirms = Confirms::new(Arc::new(Semaphore::new(0)));
        let answers =
            [(2, true), (5, false), (3, false), (4, true), (6, false), (9, false), (8, true)];
        let counts = answers.map(|(tag, multiple)| confirms.take(tag, multiple));
        assert_eq!(counts, [2, 1, 1, 1, 1, 1, 2]);
        assert_eq!((confirms.last, confirms.beyond.len()), (9, 0));
    }
}
