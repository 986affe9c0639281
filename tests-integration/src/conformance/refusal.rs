//! What must happen where a feature is missing: a typed error, before anything is created.

use messaging::driver::ReadSpec;
use messaging::{Bytes, ErrorKind, Feature, Result, Settled, Start, SubscribeSpec, Topology};

use super::stage::{
    Stage, bodies, consume, group, next, numbers, publish, publish_numbers, silence,
};

/// Asks for a feature that the backend says it lacks.
#[expect(clippy::panic, reason = "a case fails by panicking")]
pub(super) async fn check(stage: Stage, feature: Feature) {
    match feature {
        // Nobody asks for these: what has none does not make one up.
        Feature::Positions => {
            let receipt = publish(&stage.broker().await, "events.n", "x").await;
            return assert_eq!(receipt.position, None);
        }
        Feature::ConfirmedSettlement => return settled_is_not_durable(&stage).await,
        Feature::ParallelLanes => return one_member_is_active(&stage).await,
        _ => {}
    }
    match ask_for(&stage, feature).await {
        // What is asked for may need several features, and any that is missing is a reason.
        Err(error) if matches!(error.kind(), ErrorKind::Unsupported(named) if *named == feature || stage.lacks().contains(named)) =>
            {}
        Err(error) => panic!("{feature} is refused with another error: {error:?}"),
        Ok(()) => panic!("{feature} is said to be missing and was not refused"),
    }
}

#[expect(clippy::unwrap_used, reason = "a case fails by panicking")]
async fn settled_is_not_durable(stage: &Stage) {
    let broker = stage.broker().await;
    let mut consumer = consume(&broker, group("g", "tasks.#")).await;
    publish(&broker, "tasks.x", "x").await;
    let settled = next(&mut consumer).await.ack_confirmed().await.unwrap();
    assert_eq!(settled, Settled::HandedOver);
}

/// While one member of an ordered group is there, another gets nothing, whatever the keys.
async fn one_member_is_active(stage: &Stage) {
    let broker = stage.broker().await;
    let mut first = consume(&broker, group("g", "events.#").ordered()).await;
    let mut second = consume(&broker, group("g", "events.#").ordered()).await;
    publish_numbers(&broker, "events.n", 20).await;
    silence(&mut second).await;
    assert_eq!(bodies(&mut first, 20).await, numbers(20));
    drop(first);
    publish_numbers(&broker, "events.n", 1).await;
    assert_eq!(bodies(&mut second, 1).await, ["0"]);
}

#[expect(clippy::panic, reason = "a case fails by panicking")]
async fn ask_for(stage: &Stage, feature: Feature) -> Result<()> {
    let broker = stage.broker().await;
    let refused = SubscribeSpec::group("refused", ["events.#"])?;
    let spec = match feature {
        Feature::Settlement | Feature::Groups => refused,
        Feature::Broadcast => SubscribeSpec::broadcast(["events.#"])?,
        Feature::Ordered => refused.ordered(),
        Feature::Priority => refused.priority(),
        Feature::StartEarliest => refused.start(Start::Earliest),
        Feature::StartLatest => refused.start(Start::Latest),
        Feature::StartPosition => {
            refused.start(Start::Position(messaging::Position::new("none", 0, 0)))
        }
        Feature::StartTime => refused.start(Start::Time(std::time::SystemTime::UNIX_EPOCH)),
        Feature::DeadLetters => SubscribeSpec::dead_letters("refused", "events")?,
        Feature::Listen => {
            let spec = SubscribeSpec::broadcast(["events.#"])?;
            return broker.listen::<Bytes>(spec).await.map(drop);
        }
        Feature::Lag => return broker.lag(None).await.map(drop),
        Feature::Provision => return broker.provision(Topology::default()).await.map(drop),
        Feature::ReadRange => {
            let spec = ReadSpec::new("events".parse()?);
            return broker.reader().map(|reader| drop(reader.read(spec)));
        }
        other => panic!("{other} is missing, and the suite knows no way to ask for it"),
    };
    broker.subscribe::<Bytes>(spec).await.map(drop)
}
