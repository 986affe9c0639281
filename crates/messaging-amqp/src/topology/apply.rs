//! Declarations, brought to the server.

use amqprs::{FieldTable, FieldValue};
use tokio::time::Instant;

use super::{Argument, Declaration, Queue};
use crate::connection::{self, Channel};
use crate::error::{Fault, check_short};

/// Declares all of it, in order. The server closes the channel as it refuses one.
pub(crate) async fn declare(
    channel: &Channel,
    all: &[Declaration],
    deadline: Instant,
) -> Result<(), Fault> {
    for declaration in all {
        match declaration {
            Declaration::Exchange(exchange) => {
                let kind = exchange.kind.name();
                channel.declare_exchange(&exchange.name, kind, exchange.durable, deadline).await?;
            }
            Declaration::Queue(queue) => {
                channel.declare_queue(asked(queue)?, deadline).await?;
            }
            Declaration::Binding(binding) => {
                let (queue, exchange) = (&binding.queue, &binding.exchange);
                channel.bind_queue(queue, exchange, &binding.pattern, deadline).await?;
            }
        }
    }
    Ok(())
}

fn asked(queue: &Queue) -> Result<connection::Queue, Fault> {
    let mut arguments = FieldTable::new();
    for (name, value) in &queue.arguments {
        let value = match value {
            Argument::Text(text) => {
                // A short string is sent as a long one; the limit is that of what it names.
                check_short(name, text).map_err(Fault::Invalid)?;
                FieldValue::from(text.clone())
            }
            Argument::Number(number) => FieldValue::l(*number),
            Argument::Flag(flag) => FieldValue::t(*flag),
        };
        if let Ok(name) = (*name).try_into() {
            arguments.insert(name, value);
        }
    }
    let Queue { name, durable, exclusive, .. } = queue.clone();
    Ok(connection::Queue { name, durable, exclusive, auto_delete: false, arguments })
}
