#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a case fails by panicking")]

use std::time::Duration;

use messaging::driver::{Action, Lag, Scope, Target};
use messaging::topology::{GroupConfig, StreamConfig, StreamKind};
use messaging::{Broker, Bytes, ErrorKind, Feature, Patterns};
use tokio::time::{Instant, sleep, timeout};

use super::cases;
use crate::conformance::stage::{
    Stage, bodies, consume, group, next, publish, publish_numbers, silence, topology,
};

cases! {
    the_capability_table_is_what_is_documented ["C11"] [];
    lag_counts_what_waits_and_what_is_in_hand [] [Settlement, Groups, Lag];
    lag_counts_waiting_retries_and_knows_the_oldest [] [Settlement, Groups, Lag, DelayedRetry];
    the_lag_of_an_unknown_group_is_not_found [] [Lag];
    provisioning_twice_changes_nothing_and_drift_is_reported [] [Provision];
    a_provisioned_group_gets_what_comes_before_its_first_member [] [Settlement, Groups, Provision];
    provisioning_changes_the_patterns_of_a_group [] [Settlement, Groups, Provision];
    groups_outside_the_topology_are_unmanaged_and_no_drift [] [Groups, Provision];
    deleting_takes_what_is_named_and_nothing_else [] [Settlement, Groups, Provision];
    a_broker_that_serves_says_so [] [Provision];
}

async fn the_capability_table_is_what_is_documented(stage: Stage) {
    let capabilities = stage.broker().await.capabilities(Scope::Broker);
    let missing = |feature: &Feature| !capabilities.has(*feature);
    let missing: Vec<Feature> = Feature::ALL.into_iter().filter(missing).collect();
    assert_eq!(missing, stage.lacks());
}

/// How long a broker may take that counts now and then only.
const LATE: Duration = Duration::from_secs(20);

/// The lag of the group `g` once it is as it has to be, or what it is instead.
async fn lag_of(stage: &Stage, broker: &Broker, wanted: impl Fn(&Lag) -> bool) -> Lag {
    let name = "g".parse().unwrap();
    let begun = Instant::now();
    loop {
        let mut rows = broker.lag(Some(&name)).await.unwrap();
        rows.retain(|row| row.stream.name() == "tasks");
        assert_eq!(rows.len(), 1);
        let lag = rows.remove(0);
        if wanted(&lag) || !stage.counts_late() || begun.elapsed() > LATE {
            return lag;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn lag_counts_what_waits_and_what_is_in_hand(stage: Stage) {
    let broker = stage.broker().await;
    let two = std::num::NonZeroU32::new(2).unwrap();
    let mut consumer = consume(&broker, group("g", "tasks.#").prefetch(two)).await;
    publish_numbers(&broker, "tasks.n", 5).await;
    let lag = lag_of(&stage, &broker, |lag| lag.waiting + lag.in_hand == 5).await;
    assert_eq!(lag.waiting + lag.in_hand, 5);
    let held = [next(&mut consumer).await, next(&mut consumer).await];
    let lag = lag_of(&stage, &broker, |lag| (lag.waiting, lag.in_hand) == (3, 2)).await;
    assert_eq!((lag.waiting, lag.in_hand), (3, 2));
    held.into_iter().for_each(messaging::Delivery::ack);
    bodies(&mut consumer, 2).await;
    next(&mut consumer).await.ack_confirmed().await.unwrap();
    let lag = lag_of(&stage, &broker, |lag| lag.waiting + lag.in_hand == 0).await;
    assert_eq!((lag.waiting, lag.in_hand, lag.oldest), (0, 0, None));
}

async fn lag_counts_waiting_retries_and_knows_the_oldest(stage: Stage) {
    let broker = stage.broker().await;
    let mut consumer = consume(&broker, group("g", "tasks.#")).await;
    publish(&broker, "tasks.x", "x").await;
    next(&mut consumer).await.retry(Duration::from_secs(8)).unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    publish(&broker, "tasks.y", "y").await;
    let lag = lag_of(&stage, &broker, |lag| lag.waiting + lag.in_hand == 2).await;
    assert_eq!(lag.waiting + lag.in_hand, 2);
    if !stage.counts_late() {
        assert!(lag.oldest.unwrap() >= Duration::from_secs(2), "{lag:?}");
    }
}

async fn the_lag_of_an_unknown_group_is_not_found(stage: Stage) {
    let broker = stage.broker().await;
    let error = broker.lag(Some(&"nobody".parse().unwrap())).await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::NotFound);
}

async fn provisioning_twice_changes_nothing_and_drift_is_reported(stage: Stage) {
    let broker = stage.broker().await;
    let admin = broker.admin().unwrap();
    assert!(admin.plan(&topology()).await.unwrap().is_empty());
    let mut wanted = topology();
    wanted.streams[2].retention = Some(Duration::from_secs(3_600));
    wanted.streams.push(StreamConfig::new("audit".parse().unwrap(), StreamKind::Log));
    let plan = admin.plan(&wanted).await.unwrap();
    let steps: Vec<_> =
        plan.changes.iter().map(|change| (change.action, &*change.target)).collect();
    assert_eq!(steps, [(Action::Alter, "stream debates"), (Action::Create, "stream audit")]);
    assert!(plan.changes[0].detail.contains("1h"), "{}", plan.changes[0]);
    assert_eq!(broker.provision(wanted.clone()).await.unwrap(), plan);
    assert!(broker.provision(wanted).await.unwrap().is_empty());
    let unmanaged = admin.plan(&topology()).await.unwrap().unmanaged;
    assert_eq!(unmanaged, ["stream audit"]);
}

async fn a_provisioned_group_gets_what_comes_before_its_first_member(stage: Stage) {
    let broker = stage.broker().await;
    let patterns = Patterns::new(["events.#"]).unwrap();
    let wanted = topology().group(GroupConfig::new("g".parse().unwrap(), patterns));
    broker.provision(wanted).await.unwrap();
    publish(&broker, "events.x", "x").await;
    assert_eq!(bodies(&mut consume(&broker, group("g", "events.#")).await, 1).await, ["x"]);
    let error = broker.subscribe::<Bytes>(group("g", "events.x")).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::GroupConflict { .. }));
}

async fn provisioning_changes_the_patterns_of_a_group(stage: Stage) {
    let broker = stage.broker().await;
    drop(consume(&broker, group("g", "events.a")).await);
    publish(&broker, "events.a", "no longer wanted").await;
    let patterns = Patterns::new(["events.b"]).unwrap();
    let wanted = topology().group(GroupConfig::new("g".parse().unwrap(), patterns));
    let plan = broker.provision(wanted).await.unwrap();
    assert_eq!(plan.changes[0].action, Action::Alter);
    let detail = &plan.changes[0].detail;
    assert!(detail.contains("events.a") && detail.contains("events.b"), "{detail}");
    publish(&broker, "events.a", "not wanted").await;
    publish(&broker, "events.b", "wanted").await;
    let mut consumer = consume(&broker, group("g", "events.b")).await;
    assert_eq!(bodies(&mut consumer, 1).await, ["wanted"]);
    silence(&mut consumer).await;
}

async fn groups_outside_the_topology_are_unmanaged_and_no_drift(stage: Stage) {
    let broker = stage.broker().await;
    drop(consume(&broker, group("theirs", "tasks.#")).await);
    let patterns = Patterns::new(["events.#"]).unwrap();
    let wanted = topology().group(GroupConfig::new("ours".parse().unwrap(), patterns));
    broker.provision(wanted.clone()).await.unwrap();
    let plan = broker.admin().unwrap().plan(&wanted).await.unwrap();
    assert!(plan.is_empty(), "{plan:?}");
    assert_eq!(plan.unmanaged, ["group theirs"]);
    assert!("group theirs".parse::<Target>().is_ok());
}

async fn deleting_takes_what_is_named_and_nothing_else(stage: Stage) {
    let broker = stage.broker().await;
    let admin = broker.admin().unwrap();
    let member = consume(&broker, group("used", "tasks.#")).await;
    drop(consume(&broker, group("idle", "tasks.#")).await);
    publish(&broker, "tasks.x", "x").await;
    let [used, idle, never] = ["group used", "group idle", "group never"];
    let delete = async |name: &str| admin.delete(&name.parse().unwrap()).await;
    assert_eq!(*delete(never).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(*delete(used).await.unwrap_err().kind(), ErrorKind::Unavailable);
    // A member that was dropped leaves in a moment.
    let left = async {
        while let Err(error) = delete(idle).await {
            assert_eq!(*error.kind(), ErrorKind::Unavailable, "{error:?}");
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(Duration::from_secs(20), left).await.unwrap();
    assert_eq!(*delete(idle).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(admin.plan(&topology()).await.unwrap().unmanaged, [used]);
    let mut member = member;
    assert_eq!(bodies(&mut member, 1).await, ["x"]);

    let audit = StreamConfig::new("audit".parse().unwrap(), StreamKind::Log);
    let mut wanted = topology();
    wanted.streams.push(audit);
    broker.provision(wanted.clone()).await.unwrap();
    publish(&broker, "audit.x", "gone with its stream").await;
    delete("stream audit").await.unwrap();
    assert_eq!(admin.plan(&topology()).await.unwrap().unmanaged, [used]);
    assert_eq!(*delete("stream audit").await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(admin.plan(&wanted).await.unwrap().changes[0].action, Action::Create);
    broker.provision(wanted).await.unwrap();
    let mut new = consume(&broker, group("new", "audit.#")).await;
    publish(&broker, "audit.x", "after").await;
    assert_eq!(bodies(&mut new, 1).await, ["after"]);
}

async fn a_broker_that_serves_says_so(stage: Stage) {
    let broker = stage.broker().await;
    assert!(broker.admin().unwrap().health().await.unwrap().serving);
    assert!(!broker.address().is_empty());
}
