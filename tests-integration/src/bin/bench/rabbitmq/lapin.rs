//! lapin, with the same window.

use std::collections::VecDeque;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions,
    ConfirmSelectOptions, QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use messaging::MessageId;

use super::place::{EXCHANGE, KEY, Place, QUEUE};
use super::{MESSAGES, Meter, PREFETCH, Sample, ours};
use crate::bare::{BOUND, body};

async fn connect(place: &Place) -> (Connection, Channel) {
    let properties = ConnectionProperties::default();
    // Here a path that is there and empty is a virtual host of its own.
    let url = place.url.trim_end_matches('/');
    let connection = Connection::connect(url, properties).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    (connection, channel)
}

pub(super) fn publish(place: Place) -> BoxFuture<'static, Sample> {
    async move {
        let (connection, channel) = connect(&place).await;
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        let meter = Meter::start();
        let mut pending = VecDeque::with_capacity(BOUND);
        for _ in 0..MESSAGES {
            if pending.len() == BOUND
                && let Some(oldest) = pending.pop_front()
            {
                confirmed(oldest).await;
            }
            let properties = BasicProperties::default()
                .with_content_type("application/octet-stream".into())
                .with_delivery_mode(2)
                .with_message_id(MessageId::generate().to_string().into());
            let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
            let body = body();
            let published =
                channel.basic_publish(EXCHANGE.into(), KEY.into(), options, &body, properties);
            pending.push_back(published.await.unwrap());
        }
        for one in pending {
            confirmed(one).await;
        }
        let sample = meter.stop();
        connection.close(200, "done".into()).await.unwrap();
        sample
    }
    .boxed()
}

async fn confirmed(one: impl Future<Output = lapin::Result<lapin::Confirmation>>) {
    assert!(one.await.unwrap().is_ack());
}

pub(super) fn consume(place: Place) -> BoxFuture<'static, Sample> {
    async move {
        ours::fill(&place).await;
        let (connection, channel) = connect(&place).await;
        let mut meter = None;
        channel.basic_qos(PREFETCH, BasicQosOptions::default()).await.unwrap();
        let options = BasicConsumeOptions::default();
        let arguments = FieldTable::default();
        let mut deliveries =
            channel.basic_consume(QUEUE.into(), "".into(), options, arguments).await.unwrap();
        for _ in 0..MESSAGES {
            let delivery = deliveries.next().await.unwrap().unwrap();
            meter.get_or_insert_with(Meter::start);
            std::hint::black_box(&delivery.data);
            delivery.ack(BasicAckOptions::default()).await.unwrap();
        }
        // The answer comes after every ack has been taken.
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        channel.queue_declare(QUEUE.into(), passive, FieldTable::default()).await.unwrap();
        let sample = meter.unwrap().stop();
        connection.close(200, "done".into()).await.unwrap();
        sample
    }
    .boxed()
}
