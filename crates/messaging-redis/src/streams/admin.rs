//! Streams and groups at the server: planning, creating, deleting, counting.

mod health;
mod lag;
mod plan;

use futures::FutureExt;
use futures::future::BoxFuture;
use messaging_core::driver::{Admin, Health, Lag, Plan, Target};
use messaging_core::{GroupName, Result, Topology};

pub(super) use self::plan::all_lanes;
use super::NAME;
use super::driver::Streams;

impl Admin for Streams {
    fn plan<'a>(&'a self, topology: &'a Topology) -> BoxFuture<'a, Result<Plan>> {
        async move {
            let mut link = self.shared.connector.command().await?;
            let plan = plan::plan(&mut link, &self.shared.config.prefix, topology).await?;
            self.shared.set_topology(topology.clone());
            Ok(plan)
        }
        .map(|ended: Result<_>| ended.map_err(|error| error.at(NAME, "provision")))
        .boxed()
    }

    fn apply<'a>(&'a self, topology: &'a Topology) -> BoxFuture<'a, Result<Plan>> {
        async move {
            let mut link = self.shared.connector.command().await?;
            let prefix = &self.shared.config.prefix;
            let plan = plan::plan(&mut link, prefix, topology).await?;
            plan::apply(&mut link, prefix, topology).await?;
            self.shared.set_topology(topology.clone());
            Ok(plan)
        }
        .map(|ended: Result<_>| ended.map_err(|error| error.at(NAME, "provision")))
        .boxed()
    }

    fn delete<'a>(&'a self, target: &'a Target) -> BoxFuture<'a, Result<()>> {
        async move {
            let mut link = self.shared.connector.command().await?;
            plan::delete(&mut link, &self.shared, target).await
        }
        .map(|ended: Result<_>| ended.map_err(|error| error.at(NAME, "delete")))
        .boxed()
    }

    fn lag<'a>(&'a self, group: Option<&'a GroupName>) -> BoxFuture<'a, Result<Vec<Lag>>> {
        let counting = async move {
            let mut link = self.shared.connector.command().await?;
            lag::lag(&mut link, &self.shared, group).await
        };
        self.shared
            .connector
            .in_time(counting)
            .map(|ended: Result<_>| ended.map_err(|error| error.at(NAME, "lag")))
            .boxed()
    }

    fn health(&self) -> BoxFuture<'_, Result<Health>> {
        health::health(&self.shared).map(Ok).boxed()
    }
}
