//! The requests of a [`Channel`] about exchanges and queues.
#![expect(clippy::disallowed_methods, reason = "each is a task that nobody aborts")]

use amqprs::FieldTable;
use amqprs::channel::{
    ExchangeBindArguments, ExchangeDeclareArguments, ExchangeDeleteArguments,
    ExchangeUnbindArguments, QueueBindArguments, QueueDeclareArguments, QueueDeleteArguments,
    QueuePurgeArguments, QueueUnbindArguments,
};
use tokio::time::Instant;

use super::channel::{Channel, check_all};
use crate::error::{Fault, check_short};

/// A queue to declare.
#[derive(Clone, Debug, Default)]
pub(crate) struct Queue {
    /// Empty: the server chooses one.
    pub(crate) name: String,
    pub(crate) durable: bool,
    pub(crate) exclusive: bool,
    pub(crate) auto_delete: bool,
    pub(crate) arguments: FieldTable,
}

/// A declared queue.
#[derive(Clone, Debug)]
pub(crate) struct Declared {
    pub(crate) name: String,
    pub(crate) messages: u32,
    pub(crate) consumers: u32,
}

impl Channel {
    /// Declares an exchange.
    pub(crate) async fn declare_exchange(
        &self,
        name: &str,
        kind: &str,
        durable: bool,
        deadline: Instant,
    ) -> Result<(), Fault> {
        check_short("exchange", name).map_err(Fault::Invalid)?;
        let arguments = ExchangeDeclareArguments::new(name, kind).durable(durable).finish();
        self.request(deadline, "declaring an exchange", |channel| async move {
            channel.exchange_declare(arguments).await
        })
        .await
    }

    /// Deletes an exchange.
    pub(crate) async fn delete_exchange(&self, name: &str, deadline: Instant) -> Result<(), Fault> {
        check_short("exchange", name).map_err(Fault::Invalid)?;
        let arguments = ExchangeDeleteArguments::new(name);
        self.request(deadline, "deleting an exchange", |channel| async move {
            channel.exchange_delete(arguments).await
        })
        .await
    }

    /// Binds the exchange `to` to the exchange `from`.
    pub(crate) async fn bind_exchange(
        &self,
        to: &str,
        from: &str,
        key: &str,
        deadline: Instant,
    ) -> Result<(), Fault> {
        check_all(&[("exchange", to), ("exchange", from), ("binding", key)])?;
        let arguments = ExchangeBindArguments::new(to, from, key);
        self.request(deadline, "binding an exchange", |channel| async move {
            channel.exchange_bind(arguments).await
        })
        .await
    }

    /// Takes the binding of the exchange `to` to the exchange `from` away.
    pub(crate) async fn unbind_exchange(
        &self,
        to: &str,
        from: &str,
        key: &str,
        deadline: Instant,
    ) -> Result<(), Fault> {
        check_all(&[("exchange", to), ("exchange", from), ("binding", key)])?;
        let arguments = ExchangeUnbindArguments::new(to, from, key);
        self.request(deadline, "unbinding an exchange", |channel| async move {
            channel.exchange_unbind(arguments).await
        })
        .await
    }

    /// Declares a queue.
    pub(crate) async fn declare_queue(
        &self,
        queue: Queue,
        deadline: Instant,
    ) -> Result<Declared, Fault> {
        check_short("queue", &queue.name).map_err(Fault::Invalid)?;
        let arguments = QueueDeclareArguments::new(&queue.name)
            .durable(queue.durable)
            .exclusive(queue.exclusive)
            .auto_delete(queue.auto_delete)
            .arguments(queue.arguments)
            .finish();
        self.declare(arguments, deadline).await
    }

    /// Asks for a queue that exists. The server closes the channel if there is none, so this is
    /// for channels that are opened for the question.
    pub(crate) async fn find_queue(
        &self,
        name: &str,
        deadline: Instant,
    ) -> Result<Declared, Fault> {
        check_short("queue", name).map_err(Fault::Invalid)?;
        self.declare(QueueDeclareArguments::new(name).passive(true).finish(), deadline).await
    }

    async fn declare(
        &self,
        arguments: QueueDeclareArguments,
        deadline: Instant,
    ) -> Result<Declared, Fault> {
        let answer = self.request(deadline, "declaring a queue", |channel| async move {
            channel.queue_declare(arguments).await
        });
        match answer.await? {
            Some((name, messages, consumers)) => Ok(Declared { name, messages, consumers }),
            None => Err(Fault::Lost("the server's answer has another form".to_owned())),
        }
    }

    /// Deletes a queue, and says how many messages it had.
    pub(crate) async fn delete_queue(&self, name: &str, deadline: Instant) -> Result<u32, Fault> {
        check_short("queue", name).map_err(Fault::Invalid)?;
        let arguments = QueueDeleteArguments::new(name);
        let answer = self.request(deadline, "deleting a queue", |channel| async move {
            channel.queue_delete(arguments).await
        });
        Ok(answer.await?.unwrap_or_default())
    }

    /// Deletes what waits in a queue, and says how many messages that were.
    pub(crate) async fn purge_queue(&self, name: &str, deadline: Instant) -> Result<u32, Fault> {
        check_short("queue", name).map_err(Fault::Invalid)?;
        let arguments = QueuePurgeArguments::new(name);
        let answer = self.request(deadline, "purging a queue", |channel| async move {
            channel.queue_purge(arguments).await
        });
        Ok(answer.await?.unwrap_or_default())
    }

    /// Binds a queue to an exchange.
    pub(crate) async fn bind_queue(
        &self,
        queue: &str,
        exchange: &str,
        key: &str,
        deadline: Instant,
    ) -> Result<(), Fault> {
        check_all(&[("queue", queue), ("exchange", exchange), ("binding", key)])?;
        let arguments = QueueBindArguments::new(queue, exchange, key);
        self.request(deadline, "binding a queue", |channel| async move {
            channel.queue_bind(arguments).await
        })
        .await
    }

    /// Takes a binding of a queue to an exchange away.
    pub(crate) async fn unbind_queue(
        &self,
        queue: &str,
        exchange: &str,
        key: &str,
        deadline: Instant,
    ) -> Result<(), Fault> {
        check_all(&[("queue", queue), ("exchange", exchange), ("binding", key)])?;
        let arguments = QueueUnbindArguments::new(queue, exchange, key);
        self.request(deadline, "unbinding a queue", |channel| async move {
            channel.queue_unbind(arguments).await
        })
        .await
    }
}
