//! What must happen where a feature is missing: a typed error, before anything is created.

use messaging::driver::ReadSpec;
use messaging::{Bytes, ErrorKind, Feature, Result, Start, SubscribeSpec, Topology};

use super::stage::{Stage, publish};

/// Asks for a feature that the backend says it lacks.
#[expect(clippy::panic, reason = "a case fails by panicking")]
pub(super) async fn check(stage: Stage, feature: Feature) {
    if feature == Feature::Positions {
        // Nobody asks for them: what has none does not make one up.
        let receipt = publish(&stage.broker().await, "events.n", "x").await;
        assert_eq!(receipt.position, None);
        return;
    }
    match ask_for(&stage, feature).await {
        // What is asked for may need several features, and any that is missing is a reason.
        Err(error) if matches!(error.kind(), ErrorKind::Unsupported(named) if *named == feature || stage.lacks().contains(named)) =>
            {}
        Err(error) => panic!("{feature} is refused with another error: {error:?}"),
        Ok(()) => panic!("{feature} is said to be missing and was not refused"),
    }
}

#[expect(clippy::panic, reason = "a case fails by panicking")]
async fn ask_for(stage: &Stage, feature: Feature) -> Result<()> {
    let broker = stage.broker().await;
    let group = SubscribeSpec::group("refused", ["events.#"])?;
    let spec = match feature {
        Feature::Settlement | Feature::Groups => group,
        Feature::Broadcast => SubscribeSpec::broadcast(["events.#"])?,
        Feature::Ordered | Feature::ParallelLanes => group.ordered(),
        Feature::Priority => group.priority(),
        Feature::StartEarliest => group.start(Start::Earliest),
        Feature::StartLatest => group.start(Start::Latest),
        Feature::StartPosition => {
            group.start(Start::Position(messaging::Position::new("none", 0, 0)))
        }
        Feature::StartTime => group.start(Start::Time(std::time::SystemTime::UNIX_EPOCH)),
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
