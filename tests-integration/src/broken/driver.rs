use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use messaging::driver::{Driver, Facets, Incoming, Scope, Sender, Settle, Subscription};
use messaging::memory::Memory;
use messaging::spec::Source;
use messaging::{Capabilities, Feature, Patterns, Result, SendSpec, SubscribeSpec, Support};

use super::Fault;
use super::events::BrokenEvents;
use super::sender::BrokenSender;
use super::server::BrokenServer;
use super::settler::BrokenSettler;

/// The memory driver, but for one rule.
#[derive(Clone, Debug)]
pub(super) struct BrokenDriver {
    fault: Fault,
    memory: Memory,
    hands: Hands,
    server: BrokenServer,
}

/// What is in somebody's hands, and settlements that were held back.
#[derive(Clone, Debug, Default)]
pub(super) struct Hands(Arc<Mutex<(Vec<Incoming>, Vec<Settle>)>>);

impl Hands {
    pub(super) fn lock(&self) -> MutexGuard<'_, (Vec<Incoming>, Vec<Settle>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BrokenDriver {
    pub(super) fn new(fault: Fault, server: BrokenServer) -> Self {
        Self { fault, memory: Memory::new(), hands: Hands::default(), server }
    }

    fn distort(&self, mut spec: SubscribeSpec) -> Result<SubscribeSpec> {
        match self.fault {
            Fault::LiesAboutACapability => spec.ordered = false,
            Fault::ExceedsPrefetch => spec.prefetch = spec.prefetch.saturating_mul(spec.prefetch),
            Fault::DeliversWhatNoPatternMatches if matches!(spec.source, Source::Subjects(_)) => {
                spec.source = Source::Subjects(Patterns::new(["#"])?);
            }
            _ => {}
        }
        Ok(spec)
    }
}

impl Driver for BrokenDriver {
    fn name(&self) -> &'static str {
        self.memory.name()
    }

    fn address(&self) -> String {
        self.memory.address()
    }

    fn capabilities(&self, scope: Scope<'_>) -> Capabilities {
        let all = self.memory.capabilities(scope);
        match self.fault {
            Fault::HidesACapability => all.with(Feature::Priority, Support::Unsupported, ""),
            _ => all,
        }
    }

    fn sender(&self, spec: SendSpec) -> BoxFuture<'_, Result<Arc<dyn Sender>>> {
        async move {
            let inner = self.memory.sender(spec).await?;
            let sender = BrokenSender::new(self.fault, inner, self.server.clone());
            Ok(Arc::new(sender) as Arc<dyn Sender>)
        }
        .boxed()
    }

    fn subscribe(&self, spec: SubscribeSpec) -> BoxFuture<'_, Result<Subscription>> {
        async move {
            let inner = self.memory.subscribe(self.distort(spec)?).await?;
            let hands = self.hands.clone();
            let settler = inner.settler.map(|settler| {
                let memory = self.memory.clone();
                Arc::new(BrokenSettler::new(self.fault, settler, hands.clone(), memory))
            });
            let events =
                BrokenEvents::new(self.fault, inner.events, settler.clone(), hands).boxed();
            Ok(match settler {
                Some(settler) => Subscription::settled(events, settler),
                None => Subscription::at_most_once(events),
            })
        }
        .boxed()
    }

    fn facets(&self) -> Facets<'_> {
        self.memory.facets()
    }

    fn close(&self, grace: Duration) -> BoxFuture<'_, Result<()>> {
        self.memory.close(grace)
    }
}
