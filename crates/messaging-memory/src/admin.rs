use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::future::BoxFuture;
use futures::stream::{self, BoxStream};
use futures::{FutureExt, StreamExt, future};
use messaging_core::driver::{Admin, Health, Lag, Plan, Promise, ReadSpec, Reader, Record, Target};
use messaging_core::{GroupName, Result, Topology};
use tokio::time::Instant;

use crate::driver::Memory;
use crate::error::unknown_stream;

impl Admin for Memory {
    fn plan<'a>(&'a self, topology: &'a Topology) -> BoxFuture<'a, Result<Plan>> {
        future::ready(self.0.store.with(|state| state.plan(topology))).boxed()
    }

    fn apply<'a>(&'a self, topology: &'a Topology) -> BoxFuture<'a, Result<Plan>> {
        future::ready(self.0.store.with(|state| state.apply(topology))).boxed()
    }

    fn delete<'a>(&'a self, target: &'a Target) -> BoxFuture<'a, Result<()>> {
        future::ready(self.0.store.with(|state| state.delete(target))).boxed()
    }

    fn lag<'a>(&'a self, group: Option<&'a GroupName>) -> BoxFuture<'a, Result<Vec<Lag>>> {
        let now = Instant::now();
        future::ready(self.0.store.with(|state| state.lag(group, now))).boxed()
    }

    fn health(&self) -> BoxFuture<'_, Result<Health>> {
        let health = if self.0.closed.load(Ordering::Acquire) {
            Health::not_serving("this connection was closed")
        } else {
            Health::serving()
                .with_version(env!("CARGO_PKG_VERSION"))
                .with_promise(Promise::kept(
                    "a confirmed publish reaches every group at least once",
                ))
                .with_promise(Promise::not_made(
                    "a confirmed publish survives a crash of the broker",
                    "the broker is this process, and nothing survives it",
                ))
        };
        future::ready(Ok(health)).boxed()
    }
}

impl Reader for Memory {
    fn read(&self, spec: ReadSpec) -> BoxStream<'static, Result<Vec<Record>>> {
        let Some(number) = self.0.store.with(|state| state.stream(&spec.stream)) else {
            return stream::iter([Err(unknown_stream(&spec.stream, "read"))]).boxed();
        };
        let connection = Arc::clone(&self.0);
        let (from, end) = connection.store.with(|state| state.range(number, &spec));
        let left = spec.limit.unwrap_or(usize::MAX);
        stream::unfold((from, left), move |(from, left)| {
            let read = connection.store.with(|state| state.read(number, from, end));
            future::ready(read.filter(|_| left > 0).map(|(next, mut records)| {
                let early = |record: &Record| {
                    spec.until.is_none_or(|until| record.stored_at.is_none_or(|at| at < until))
                };
                // Messages are stored in the order of time, so the first late one is the end.
                let count = records.iter().take(left).take_while(|record| early(record)).count();
                let ended = count < records.len();
                records.truncate(count);
                (Ok(records), (next, if ended { 0 } else { left - count }))
            }))
        })
        .filter(|records| future::ready(records.as_ref().is_ok_and(|records| !records.is_empty())))
        .boxed()
    }
}
