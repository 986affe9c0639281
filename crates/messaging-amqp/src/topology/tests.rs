//! Against a real server.

use std::collections::BTreeMap;
use std::time::Duration;

use messaging_core::driver::{Admin, Driver};
use messaging_core::topology::GroupConfig;
use messaging_core::{ErrorKind, Patterns, SubscribeSpec, Topology};
use serde_json::Value;

use super::INITIAL_SIZE;
use crate::config::{HaMode, RabbitConfig};
use crate::driver::Rabbit;
use crate::management::Api;
use crate::testing::{server, unique};

fn topology(groups: &[&str]) -> Topology {
    let patterns = Patterns::new(["tasks.#"]).unwrap();
    let config = |name: &&str| GroupConfig::new(name.parse().unwrap(), patterns.clone());
    groups.iter().map(config).fold(Topology::default(), Topology::group)
}

async fn subscribe(rabbit: &Rabbit, group: &str, patterns: &[&str]) -> messaging_core::Result<()> {
    let spec = SubscribeSpec::group(group, patterns.iter().copied())?;
    rabbit.subscribe(spec).await.map(|_| ())
}

/// On how many nodes the server was asked to make the queues whose names hold `part`.
async fn sizes(config: &RabbitConfig, part: &str) -> BTreeMap<String, Option<Value>> {
    let api = Api::new(config).unwrap().unwrap();
    let queues = api.queues().await.unwrap().into_iter().filter(|it| it.name.contains(part));
    queues.map(|mut it| (it.name, it.arguments.remove(INITIAL_SIZE))).collect()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a broker; cargo xtask test starts one"]
async fn queues_stay_as_they_were_made_when_copies_are_configured_later_or_no_more() {
    let plain = server().with_exchange(&unique("copies")).unwrap();
    let mut copied = plain.clone();
    copied.nodes = vec![plain.nodes[0].clone(); 2];
    copied.ha_mode = HaMode::All;
    let (old, new) = (unique("old"), unique("new"));
    let grace = Duration::from_secs(5);

    let rabbit = Rabbit::connect(plain.clone()).await.unwrap();
    rabbit.apply(&topology(&[&old])).await.unwrap();
    rabbit.close(grace).await.unwrap();

    let mut blind = copied.clone();
    blind.management = None;
    let rabbit = Rabbit::connect(blind).await.unwrap();
    rabbit.apply(&topology(&[&old, &new])).await.unwrap();
    rabbit.close(grace).await.unwrap();
    assert!(sizes(&plain, &old).await.values().all(Option::is_none));
    let made = sizes(&plain, &new).await;
    let asked = |(queue, size): (&String, &Option<Value>)| *queue == new && *size == Some(2.into());
    assert!(made.len() > 3 && made.iter().any(asked), "{made:?}");
    assert!(
        made.values().all(|size| *size == Some(2.into())),
        "a new queue is asked for: {made:?}"
    );

    for config in [copied, plain] {
        let rabbit = Rabbit::connect(config).await.unwrap();
        let changes = rabbit.plan(&topology(&[&old, &new])).await.unwrap().changes;
        assert!(changes.is_empty(), "{changes:?}");
        for group in [&*old, &*new] {
            subscribe(&rabbit, group, &["tasks.#"]).await.unwrap();
            let error = subscribe(&rabbit, group, &["tasks.x"]).await.unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::GroupConflict { .. }), "{error}");
        }
        rabbit.close(grace).await.unwrap();
    }
}
