use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::{Stream, StreamExt};
use messaging_core::driver::{Event, Subscription};
use messaging_core::{Result, SubscribeSpec};
use tokio_util::sync::DropGuard;

use super::buffer::{Bound, Buffer};
use super::driver::Shared;
use super::reading::Reading;
use super::routes::Routes;

/// How many messages a listener's buffer holds for each of its prefetch.
const PER_PREFETCH: usize = 32;
/// The bytes that it holds unless the listener says how many.
const BYTES: usize = 16 * 1024 * 1024;

/// Opens a listener; when this returns, the server has confirmed every subscription.
pub(super) async fn open(shared: &Arc<Shared>, spec: &SubscribeSpec) -> Result<Subscription> {
    let prefetch = spec.prefetch.get() as usize;
    let buffer = Arc::new(Buffer::new(Bound {
        messages: prefetch.saturating_mul(PER_PREFETCH),
        bytes: spec.prefetch_bytes.unwrap_or(BYTES),
        piece: prefetch,
    }));
    let stop = shared.closing.child_token();
    let reading = Reading {
        shared: Arc::clone(shared),
        routes: Arc::new(Routes::new(&shared.prefix, &spec.source.patterns()?)),
        buffer: Arc::clone(&buffer),
        stop: stop.clone(),
    };
    let subscribed = reading.subscribe(None).await?;
    shared.tasks.spawn(reading.run(subscribed));
    Ok(Subscription::at_most_once(Events { buffer, _stop: stop.drop_guard() }.boxed()))
}

/// What one listener receives. Dropping it ends its task and its connection.
struct Events {
    buffer: Arc<Buffer>,
    _stop: DropGuard,
}

impl Stream for Events {
    type Item = Result<Event>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.buffer.poll_next(cx).map(|event| event.map(Ok))
    }
}
