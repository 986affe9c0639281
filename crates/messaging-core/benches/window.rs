//! The publishing window: from `enqueue` to an outcome, over a driver that confirms at once.

#![expect(clippy::unwrap_used, reason = "a benchmark")]

use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use futures::FutureExt;
use futures::future::BoxFuture;
use messaging_core::driver::{
    Assurance, Driver, Facets, Outgoing, Receipt, Scope, Sender, Subscription,
};
use messaging_core::{
    Broker, Bytes, Capabilities, Error, ErrorKind, Result, SendSpec, SubscribeSpec,
};

#[derive(Debug)]
struct Nothing;

impl Driver for Nothing {
    fn name(&self) -> &'static str {
        "nothing"
    }

    fn address(&self) -> String {
        "nowhere".to_owned()
    }

    fn capabilities(&self, _: Scope<'_>) -> Capabilities {
        Capabilities::none()
    }

    fn sender(&self, _: SendSpec) -> BoxFuture<'_, Result<Arc<dyn Sender>>> {
        async { Ok(Arc::new(Self) as Arc<dyn Sender>) }.boxed()
    }

    fn subscribe(&self, _: SubscribeSpec) -> BoxFuture<'_, Result<Subscription>> {
        async { Err(Error::new(ErrorKind::Other, "nothing is received")) }.boxed()
    }

    fn facets(&self) -> Facets<'_> {
        Facets::default()
    }

    fn close(&self, _: Duration) -> BoxFuture<'_, Result<()>> {
        async { Ok(()) }.boxed()
    }
}

impl Sender for Nothing {
    fn send(&self, one: Outgoing) {
        one.resolve(Ok(Receipt::new(Assurance::Sent, None)));
    }

    fn send_all(&self, many: &mut Vec<Outgoing>) {
        many.drain(..).for_each(|one| self.send(one));
    }
}

fn window(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let publisher = runtime.block_on(async {
        let broker = Broker::builder(Nothing).window(64, 1 << 20).open().await.unwrap();
        broker.publisher::<Bytes>(SendSpec::to("tasks").unwrap()).await.unwrap()
    });
    let body = Bytes::from(vec![7; 256]);
    criterion.bench_function("publish, one by one", |b| {
        b.iter(|| runtime.block_on(publisher.publish(&body)).unwrap());
    });
    let bodies = vec![body; 256];
    criterion.bench_function("publish, 256 at once through a window of 64", |b| {
        b.iter(|| runtime.block_on(publisher.publish_all(&bodies)));
    });
}

criterion_group!(benches, window);
criterion_main!(benches);
