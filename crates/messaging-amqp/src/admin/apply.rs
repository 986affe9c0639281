//! Making the server have what the topology names.

use messaging_core::topology::GroupConfig;
use messaging_core::{Error, ErrorKind, Result, Topology};

use super::found::Found;
use super::plan::{foreign_bindings, shape};
use super::site::Site;
use super::streams;
use crate::error::{Fault, Refusal};
use crate::topology::{self, Declaration, Queue};

/// Declares everything; what is there already stays. `found` is what the server had, where that can
/// be known.
pub(super) async fn apply(
    site: &Site<'_>,
    topology: &Topology,
    found: Option<&Found>,
) -> Result<()> {
    site.declare(&topology::exchanges(site.names)).await?;
    for config in &topology.streams {
        let mut all = streams::declarations(site.names, config);
        let marker = streams::marker(site.names, config);
        all.retain(|it| !matches!(it, Declaration::Queue(queue) if queue.name == marker.name));
        site.declare(&all).await?;
        mark(site, marker).await?;
    }
    for config in &topology.groups {
        apply_group(site, topology, config, found).await?;
    }
    Ok(())
}

/// A group with other patterns first gets the new ones as what its members agree on, so that none
/// joins with the old ones any more; then the new bindings, and only then the old ones go: what
/// matches both is never without a way.
async fn apply_group(
    site: &Site<'_>,
    topology: &Topology,
    config: &GroupConfig,
    found: Option<&Found>,
) -> Result<()> {
    let group = shape(config);
    let marker = topology::marker(site.names, &group.name, &group.shape());
    match found {
        Some(_) => mark(site, marker).await?,
        None => site.declare(&[marker.into()]).await.map_err(|error| match error.kind() {
            ErrorKind::InvalidConfig => {
                let text = format!(
                    "group {} has other patterns; changing them needs the management API \
                     (RABBITMQ_MANAGEMENT_URL), which lists the old bindings",
                    group.name
                );
                Error::new(ErrorKind::InvalidConfig, text).with_source(error)
            }
            _ => error,
        })?,
    }
    let all = group.declarations(site.names, &topology.tiers);
    site.declare(all.get(1..).unwrap_or_default()).await?;
    let Some(found) = found else { return Ok(()) };
    for key in foreign_bindings(found, site.names, &group) {
        let channel = site.channel().await?;
        let unbound = channel
            .unbind_queue(group.name.as_str(), site.names.exchange(), key, site.deadline())
            .await;
        unbound.map_err(|fault| fault.at(&format!("group {}", group.name)))?;
    }
    Ok(())
}

/// Declares a marker, in place of one that says something else.
async fn mark(site: &Site<'_>, marker: Queue) -> Result<()> {
    let name = marker.name.clone();
    let marker = [marker.into()];
    match site.try_declare(&marker).await? {
        Err(Fault::Refused(refusal)) if refusal.code == Refusal::PRECONDITION_FAILED => {
            let channel = site.channel().await?;
            let deleted = channel.delete_queue(&name, site.deadline()).await;
            deleted.map_err(|fault| fault.at(&format!("queue {name}")))?;
            site.declare(&marker).await
        }
        Err(fault) => Err(fault.at(&format!("queue {name}"))),
        Ok(()) => Ok(()),
    }
}
