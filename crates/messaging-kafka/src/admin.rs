//! Streams at the cluster: planning, creating, deleting, telling how it is.

mod health;
mod plan;

use futures::FutureExt;
use futures::future::BoxFuture;
use messaging_core::driver::{Admin, Health, Lag, Plan, Target};
use messaging_core::{Error, ErrorKind, Feature, GroupName, Result, Topology};

pub(crate) use self::plan::{create_places, retry_topic};
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
            plan::apply(&self.shared, steps).await?;
            self.shared.set_topology(topology.clone());
            self.shared.follow();
            Ok(plan)
        }
        .map(|ended: Result<_>| ended.map_err(|error| error.at(NAME, "provision")))
        .boxed()
    }

    fn delete<'a>(&'a self, target: &'a Target) -> BoxFuture<'a, Result<()>> {
        async move { plan::delete(&self.shared, target).await }
            .map(|ended: Result<_>| ended.map_err(|error| error.at(NAME, "delete")))
            .boxed()
    }

    fn lag<'a>(&'a self, _: Option<&'a GroupName>) -> BoxFuture<'a, Result<Vec<Lag>>> {
        let text = "lag is not counted here yet";
        let refused = Error::new(ErrorKind::Unsupported(Feature::Lag), text).at(NAME, "lag");
        futures::future::ready(Err(refused)).boxed()
    }

    fn health(&self) -> BoxFuture<'_, Result<Health>> {
        health::health(&self.shared).boxed()
    }
}
