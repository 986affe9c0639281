//! Streams and groups at the server: planning, creating, deleting, counting.

mod apply;
mod delete;
mod found;
mod health;
mod lag;
mod plan;
mod site;
mod streams;
#[cfg(test)]
mod tests;

use futures::FutureExt;
use futures::future::BoxFuture;
use messaging_core::driver::{Admin, Health, Lag, Plan, Target};
use messaging_core::{GroupName, Result, Topology};
use tokio::time::Instant;

use self::found::Found;
use self::site::Site;
use crate::NAME;
use crate::driver::Rabbit;

impl Rabbit {
    /// The consuming connection: the server reads from it also while it is short of memory.
    async fn site(&self) -> Result<Site<'_>> {
        let shared = &self.shared;
        let patience = shared.config.timeout;
        let session = shared.consuming.session(Instant::now() + patience).await?;
        Ok(Site::new(session, &shared.names, shared.api.as_ref(), patience))
    }
}

impl Admin for Rabbit {
    fn plan<'a>(&'a self, topology: &'a Topology) -> BoxFuture<'a, Result<Plan>> {
        async move {
            let site = self.site().await?;
            let found = Found::at(site.api("a plan")?).await?;
            let plan = plan::plan(&found, site.names, topology)?;
            self.shared.set_topology(topology.clone());
            Ok(plan)
        }
        .map(|ended: Result<_>| ended.map_err(|error| error.at(NAME, "provision")))
        .boxed()
    }

    /// Without the management API everything is declared all the same, and what was there before is
    /// not known, so the plan is empty.
    fn apply<'a>(&'a self, topology: &'a Topology) -> BoxFuture<'a, Result<Plan>> {
        async move {
            let site = self.site().await?;
            let found = match site.api {
                Some(api) if !topology.groups.is_empty() => Some(Found::at(api).await?),
                // Streams need no list of what there is; whoever connects must not depend on it.
                Some(api) => Found::at(api).await.ok(),
                None => None,
            };
            let plan = match &found {
                Some(found) => plan::plan(found, site.names, topology)?,
                None => Plan::default(),
            };
            apply::apply(&site, topology, found.as_ref()).await?;
            self.shared.set_topology(topology.clone());
            Ok(plan)
        }
        .map(|ended: Result<_>| ended.map_err(|error| error.at(NAME, "provision")))
        .boxed()
    }

    fn delete<'a>(&'a self, target: &'a Target) -> BoxFuture<'a, Result<()>> {
        async move { delete::delete(&self.site().await?, target).await }
            .map(|ended: Result<_>| ended.map_err(|error| error.at(NAME, "delete")))
            .boxed()
    }

    fn lag<'a>(&'a self, group: Option<&'a GroupName>) -> BoxFuture<'a, Result<Vec<Lag>>> {
        async move { lag::lag(&self.site().await?, &self.shared.topology(), group).await }
            .map(|ended: Result<_>| ended.map_err(|error| error.at(NAME, "lag")))
            .boxed()
    }

    fn health(&self) -> BoxFuture<'_, Result<Health>> {
        async move {
            match self.site().await {
                Ok(site) => health::health(&site, &self.shared.config).await,
                Err(error) => Ok(Health::not_serving(error.to_string())),
            }
        }
        .map(|ended: Result<_>| ended.map_err(|error| error.at(NAME, "health")))
        .boxed()
    }
}
