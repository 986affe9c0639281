//! Streams and groups at the cluster: planning, creating, deleting, counting, telling how it is.
//!
//! * [`spec`] says which topics a stream and a group have, and what they are like.
//! * [`found`] is what the cluster has of ours.
//! * [`plan`] compares both, and [`group`] does so for what a group receives.

mod delete;
mod found;
mod group;
mod health;
mod lag;
mod plan;
mod spec;

use futures::FutureExt;
use futures::future::BoxFuture;
use messaging_core::driver::{Admin, Health, Lag, Plan, Target};
use messaging_core::{GroupName, Result, Topology};

pub(crate) use self::found::patiently;
pub(crate) use self::spec::{create_places, retry_topic};
use crate::NAME;
use crate::driver::Kafka;

impl Admin for Kafka {
    fn plan<'a>(&'a self, topology: &'a Topology) -> BoxFuture<'a, Result<Plan>> {
        async move {
            let (plan, _) = plan::plan(&self.shared, topology).await?;
            self.shared.set_topology(topology.clone());
            Ok(plan)
        }
        .map(|ended: Result<_>| ended.map_err(|error| error.at(NAME, "provision")))
        .boxed()
    }

    fn apply<'a>(&'a self, topology: &'a Topology) -> BoxFuture<'a, Result<Plan>> {
        async move {
            let (plan, steps) = plan::plan(&self.shared, topology).await?;
            plan::apply(&self.shared, topology, steps).await?;
            self.shared.set_topology(topology.clone());
            self.shared.follow();
            Ok(plan)
        }
        .map(|ended: Result<_>| ended.map_err(|error| error.at(NAME, "provision")))
        .boxed()
    }

    fn delete<'a>(&'a self, target: &'a Target) -> BoxFuture<'a, Result<()>> {
        async move { delete::delete(&self.shared, target).await }
            .map(|ended: Result<_>| ended.map_err(|error| error.at(NAME, "delete")))
            .boxed()
    }

    fn lag<'a>(&'a self, group: Option<&'a GroupName>) -> BoxFuture<'a, Result<Vec<Lag>>> {
        async move { lag::lag(&self.shared, group).await }
            .map(|ended: Result<_>| ended.map_err(|error| error.at(NAME, "lag")))
            .boxed()
    }

    fn health(&self) -> BoxFuture<'_, Result<Health>> {
        health::health(&self.shared).map(Ok).boxed()
    }
}
