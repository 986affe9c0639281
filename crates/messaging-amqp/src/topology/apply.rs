//! Declarations, brought to the server.

use amqprs::{FieldTable, FieldValue};
use tokio::time::Instant;

use super::sizes::other_size;
use super::{Argument, Declaration, Names, Queue};
use crate::connection::{self, Channel};
use crate::error::{Fault, Refusal, check_short};

/// Declares all of it, in order. The server closes the channel as it refuses one.
pub(crate) async fn declare(
    channel: &Channel,
    names: &Names,
    all: &[Declaration],
    deadline: Instant,
) -> Result<(), Fault> {
    let mut channel = channel.clone();
    for declaration in all {
        match declaration {
            Declaration::Exchange(exchange) => {
                let kind = exchange.kind.name();
                channel.declare_exchange(&exchange.name, kind, exchange.durable, deadline).await?;
            }
            Declaration::Queue(queue) => {
                declare_queue(&mut channel, names, queue, deadline).await?;
            }
            Declaration::Binding(binding) => {
                let (queue, exchange) = (&binding.queue, &binding.exchange);
                channel.bind_queue(queue, exchange, &binding.pattern, deadline).await?;
            }
        }
    }
    Ok(())
}

/// Declares a queue; one that was made with another number of copies stays as it is. Each refusal on
/// the way there costs the channel, and puts another one in its place.
async fn declare_queue(
    channel: &mut Channel,
    names: &Names,
    queue: &Queue,
    deadline: Instant,
) -> Result<(), Fault> {
    let mut size = None;
    if let Some(last) = names.sizes.last().filter(|_| queue.has_copies()) {
        // Only a queue that exists may have it: a new one is made as configured.
        match channel.find_queue(&queue.name, deadline).await {
            Ok(_) => size = Some(last),
            Err(Fault::Refused(refusal)) if refusal.code == Refusal::NOT_FOUND => {
                *channel = another(channel, deadline).await?;
            }
            Err(fault) => return Err(fault),
        }
    }
    let first = size.map_or_else(|| queue.clone(), |size| queue.sized(size));
    match channel.declare_queue(asked(&first)?, deadline).await {
        Ok(_) => {}
        Err(Fault::Refused(refusal)) => {
            let Some(found) = other_size(&refusal) else { return Err(Fault::Refused(refusal)) };
            *channel = another(channel, deadline).await?;
            let existing = queue.sized(found);
            channel.declare_queue(asked(&existing)?, deadline).await?;
            size = Some(found);
        }
        Err(fault) => return Err(fault),
    }
    if let Some(size) = size.filter(|size| queue.sized(*size) != *queue) {
        names.sizes.note(&queue.name, size);
    }
    Ok(())
}

/// A channel in place of one that the server has closed.
async fn another(closed: &Channel, deadline: Instant) -> Result<Channel, Fault> {
    // Its events are the answers to requests, which come by themselves.
    let (channel, _events) = closed.session().channel(deadline).await?;
    Ok(channel)
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
