use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures::future::{BoxFuture, poll_fn};
use futures::{FutureExt, StreamExt, future};
use messaging_core::driver::{Driver, Facets, Scope, Sender, Subscription};
use messaging_core::{Capabilities, Feature, Result, SendSpec, SubscribeSpec, Support};
use tokio::time::timeout;

use crate::config::MemoryConfig;
use crate::error::{closed, unknown_stream};
use crate::sender::MemorySender;
use crate::settle::MemorySettler;
use crate::store::{Seat, Store};
use crate::subscription::Events;

pub(crate) const NAME: &str = "memory";

/// A broker in this process.
///
/// A clone is another connection to the same broker; the broker ends with the last of them.
#[derive(Debug)]
pub struct Memory(pub(crate) Arc<Connection>);

#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) store: Arc<Store>,
    pub(crate) id: u64,
    pub(crate) closed: AtomicBool,
}

impl Memory {
    /// Starts an empty broker with default bounds.
    #[must_use]
    pub fn new() -> Self {
        Self::with(MemoryConfig::default())
    }

    /// Starts an empty broker.
    #[must_use]
    pub fn with(config: MemoryConfig) -> Self {
        Self::connect(Arc::new(Store::new(config)))
    }

    fn connect(store: Arc<Store>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        Self(Arc::new(Connection { store, id, closed: AtomicBool::new(false) }))
    }

    const CAPABILITIES: Capabilities = Capabilities::all()
        .with(
            Feature::ConfirmedSettlement,
            Support::Native,
            "as durable as everything here: it ends with the process",
        )
        .with(Feature::Lag, Support::Native, "counted when asked")
        .with(
            Feature::DeadLetters,
            Support::Native,
            "a full dead-letter stream forgets the oldest that no group needs",
        )
        .with(
            Feature::ReadRange,
            Support::Native,
            "work streams keep nothing that every group has settled",
        );
}

impl Clone for Memory {
    fn clone(&self) -> Self {
        Self::connect(Arc::clone(&self.0.store))
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

impl Driver for Memory {
    fn name(&self) -> &'static str {
        NAME
    }

    fn address(&self) -> String {
        "in this process".to_owned()
    }

    fn capabilities(&self, _: Scope<'_>) -> Capabilities {
        Self::CAPABILITIES
    }

    fn sender(&self, spec: SendSpec) -> BoxFuture<'_, Result<Arc<dyn Sender>>> {
        let found = self.0.store.with(|state| state.stream(&spec.stream));
        let sender = found.map(|stream| {
            let connection = Arc::clone(&self.0);
            Arc::new(MemorySender { connection, stream }) as Arc<dyn Sender>
        });
        future::ready(sender.ok_or_else(|| unknown_stream(&spec.stream, "publisher"))).boxed()
    }

    fn subscribe(&self, spec: SubscribeSpec) -> BoxFuture<'_, Result<Subscription>> {
        future::ready(self.open(&spec)).boxed()
    }

    fn facets(&self) -> Facets<'_> {
        Facets::default().with_admin(self).with_reader(self)
    }

    fn close(&self, grace: Duration) -> BoxFuture<'_, Result<()>> {
        async move {
            self.0.closed.store(true, Ordering::Release);
            let store = &self.0.store;
            let flushed = poll_fn(|cx| store.with(|state| state.poll_flushed(self.0.id, cx)));
            // What is not flushed by then is told that the connection was closed.
            timeout(grace, flushed).await.ok();
            self.0.store.with(|state| state.disconnect(self.0.id));
            Ok(())
        }
        .boxed()
    }
}

impl Memory {
    fn open(&self, spec: &SubscribeSpec) -> Result<Subscription> {
        if self.0.closed.load(Ordering::Acquire) {
            return Err(closed("subscribe"));
        }
        let seat = self.0.store.with(|state| state.subscribe(spec, self.0.id))?;
        let events = Events::new(Arc::clone(&self.0), seat).boxed();
        Ok(match seat {
            Seat::Listener(_) => Subscription::at_most_once(events),
            Seat::Member { group, .. } => {
                let settler = MemorySettler { connection: Arc::clone(&self.0), group };
                Subscription::settled(events, Arc::new(settler))
            }
        })
    }
}
