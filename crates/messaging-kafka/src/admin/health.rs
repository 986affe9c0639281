//! How the cluster is, and which of its settings break a promise.

use messaging_core::Result;
use messaging_core::driver::{Health, Promise};

use super::plan::{MIN_IN_SYNC, UNCLEAN};
use crate::driver::Shared;
use crate::topics;

/// Asks about every topic of the topology.
pub(super) async fn health(shared: &Shared) -> Result<Health> {
    let topology = shared.topology();
    let names: Vec<String> =
        topology.streams.iter().map(|stream| shared.topic(&stream.name)).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let found = match shared.cluster.metadata(Some(&names)).await {
        Ok(found) => found,
        Err(error) => return Ok(Health::not_serving(error.to_string())),
    };
    let brokers = shared.cluster.brokers();
    let mut health = Health::serving().with_note(format!("{} brokers", brokers.len()));
    let (mut broken, mut copies) = (None, usize::MAX);
    for topic in found {
        let name = &topic.name;
        if topic.error != 0 && topic.partitions.is_empty() {
            health = health.with_note(format!("topic {name} does not exist"));
            continue;
        }
        for partition in &topic.partitions {
            let number = partition.number;
            copies = copies.min(partition.replicas.len());
            match partition.leader {
                None => {
                    health.serving = false;
                    health = health.with_note(format!("partition {number} of {name}: no leader"));
                }
                Some(leader) if partition.in_sync.len() < partition.replicas.len() => {
                    let note = format!(
                        "partition {number} of {name}: leader {leader}, {} of {} copies in step",
                        partition.in_sync.len(),
                        partition.replicas.len()
                    );
                    health = health.with_note(note);
                }
                Some(_) => {}
            }
        }
        let configs = topics::configs(&shared.cluster, name).await?;
        if configs.get(UNCLEAN).is_some_and(|value| value == "true") {
            broken = Some(format!("{UNCLEAN} of {name} is true and has to be false"));
        }
        let least = configs.get(MIN_IN_SYNC).and_then(|value| value.parse::<usize>().ok());
        let has = topic.partitions.first().map_or(0, |partition| partition.replicas.len());
        if has > 2 && least.is_some_and(|least| least < 2) {
            broken = Some(format!("{MIN_IN_SYNC} of {name} is 1 and has to be 2"));
        }
    }
    const SURVIVES: &str = "a confirmed publish survives the loss of a broker";
    let promise = match broken {
        Some(setting) => Promise::broken(SURVIVES, setting),
        None if copies == usize::MAX => return Ok(health),
        None if copies < 3 => Promise::not_made(SURVIVES, "there are fewer than 3 copies"),
        None => Promise::kept(SURVIVES),
    };
    let power = "a confirmed publish survives the loss of power";
    let reason = "brokers confirm from memory and write to disk later";
    Ok(health.with_promise(promise).with_promise(Promise::not_made(power, reason)))
}
