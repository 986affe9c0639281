//! Deleting what the topology does not name.

use messaging_core::driver::Target;
use messaging_core::{Error, ErrorKind, GroupName, Result, StreamName};

use super::found::Found;
use super::site::Site;

/// Deletes a group that nobody consumes, or a stream with dead letters that nobody consumes.
pub(super) async fn delete(site: &Site<'_>, target: &Target) -> Result<()> {
    let found = Found::at(site.api("deleting")?).await?;
    match target {
        Target::Group(name) => delete_group(site, &found, name, target).await,
        Target::Stream(name) => delete_stream(site, &found, name, target).await,
        _ => Err(missing(target)),
    }
}

async fn delete_group(
    site: &Site<'_>,
    found: &Found,
    name: &GroupName,
    target: &Target,
) -> Result<()> {
    let names = site.names;
    if !found.groups(names).contains(name) {
        return Err(missing(target));
    }
    let is_place = |place: &&String| names.is_place_of(name, place);
    let copies: Vec<&String> = found.queues.keys().filter(is_place).collect();
    let group = name.to_string();
    let marker = names.marker(name);
    for queue in [&group].into_iter().chain(copies.iter().copied()) {
        if site.look_at(queue).await?.is_some_and(|it| it.consumers > 0) {
            return Err(in_use(target));
        }
    }
    // What brings messages goes first; the marker last, so that what is half deleted is seen.
    for queue in [&group].into_iter().chain(copies).chain([&marker]) {
        delete_queue(site, queue).await?;
    }
    for exchange in found.exchanges.keys().filter(is_place) {
        let channel = site.channel().await?;
        let deleted = channel.delete_exchange(exchange, site.deadline()).await;
        deleted.map_err(|fault| fault.at(&format!("exchange {exchange}")))?;
    }
    Ok(())
}

async fn delete_stream(
    site: &Site<'_>,
    found: &Found,
    name: &StreamName,
    target: &Target,
) -> Result<()> {
    let (dead, marker) = (site.names.dead_letters(name), site.names.stream_marker(name));
    if !found.queues.contains_key(&dead) && !found.queues.contains_key(&marker) {
        return Err(missing(target));
    }
    if site.look_at(&dead).await?.is_some_and(|it| it.consumers > 0) {
        return Err(in_use(target));
    }
    delete_queue(site, &dead).await?;
    delete_queue(site, &marker).await
}

/// Deletes a queue; for the server, one that is not there is deleted too.
async fn delete_queue(site: &Site<'_>, name: &str) -> Result<()> {
    let channel = site.channel().await?;
    let deleted = channel.delete_queue(name, site.deadline()).await;
    deleted.map(drop).map_err(|fault| fault.at(&format!("queue {name}")))
}

fn missing(target: &Target) -> Error {
    Error::new(ErrorKind::NotFound, format!("{target} does not exist"))
}

fn in_use(target: &Target) -> Error {
    Error::new(ErrorKind::Unavailable, format!("{target} is in use: somebody consumes it"))
}
