//! Against a real server.

use std::time::Duration;

use messaging_core::driver::{Action, Admin, Driver, Target};
use messaging_core::topology::GroupConfig;
use messaging_core::{ErrorKind, Patterns, Topology};

use crate::connection::Channel;
use crate::driver::Rabbit;
use crate::testing::{server, soon, unique};

/// A broker with an exchange of its own, and a name for a group.
async fn place() -> (Rabbit, String, GroupConfig) {
    let exchange = unique("admin");
    let config = server().with_exchange(&exchange).unwrap();
    let group = format!("{exchange}-g").parse().unwrap();
    let group = GroupConfig::new(group, Patterns::new(["tasks.#", "events.*"]).unwrap());
    (Rabbit::connect(config).await.unwrap(), exchange, group)
}

/// A channel over which somebody else changes things.
async fn stranger(rabbit: &Rabbit) -> Channel {
    let session = rabbit.shared.consuming.session(soon()).await.unwrap();
    session.channel(soon()).await.unwrap().0
}

fn topology(group: &GroupConfig) -> Topology {
    Topology::default().group(group.clone())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a broker; cargo xtask test starts one"]
async fn a_binding_that_somebody_took_away_is_drift_that_is_named_and_put_back() {
    let (rabbit, exchange, group) = place().await;
    let topology = topology(&group);
    rabbit.apply(&topology).await.unwrap();
    assert!(rabbit.plan(&topology).await.unwrap().changes.is_empty());

    let channel = stranger(&rabbit).await;
    let queue = group.name.as_str();
    channel.unbind_queue(queue, &exchange, "events.*", soon()).await.unwrap();
    let back = format!("{exchange}.return.{queue}");
    channel.unbind_queue(queue, &back, "", soon()).await.unwrap();
    let changes = rabbit.plan(&topology).await.unwrap().changes;
    let [change] = &*changes else { panic!("{changes:?}") };
    assert_eq!((change.action, &*change.target), (Action::Alter, &*format!("group {queue}")));
    for lost in [format!("binding events.* of {queue} to {exchange}"), format!("{queue} to {back}")]
    {
        assert!(change.detail.contains(&lost), "{lost}: {}", change.detail);
    }

    assert_eq!(rabbit.apply(&topology).await.unwrap().changes, changes);
    assert!(rabbit.plan(&topology).await.unwrap().changes.is_empty());
    rabbit.close(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a broker; cargo xtask test starts one"]
async fn a_group_that_is_to_have_another_type_of_queue_is_refused_with_the_way_out() {
    let (rabbit, _, plain) = place().await;
    let mut urgent = plain.clone();
    urgent.priority = true;
    rabbit.apply(&topology(&plain)).await.unwrap();
    for (is_now, is_to_be) in [(&plain, &urgent), (&urgent, &plain)] {
        let wanted = topology(is_to_be);
        let planned = rabbit.plan(&wanted).await.map(|_| ());
        for refused in [planned, rabbit.apply(&wanted).await.map(|_| ())] {
            let error = refused.unwrap_err();
            assert_eq!(*error.kind(), ErrorKind::InvalidConfig, "{error}");
            let way_out = format!("helixagent provision --delete 'group {}'", plain.name);
            let kinds = if is_now.priority { ["classic", "quorum"] } else { ["quorum", "classic"] };
            let said = format!("is a {} queue and is to be a {} one", kinds[0], kinds[1]);
            for part in [&*way_out, &*said, "another name"] {
                assert!(error.to_string().contains(part), "{part}: {error}");
            }
        }
        // What was there is as it was, and the way out leads there.
        assert!(rabbit.plan(&topology(is_now)).await.unwrap().changes.is_empty());
        rabbit.delete(&Target::Group(plain.name.clone())).await.unwrap();
        rabbit.apply(&wanted).await.unwrap();
        assert!(rabbit.plan(&wanted).await.unwrap().changes.is_empty());
    }
    rabbit.close(Duration::from_secs(5)).await.unwrap();
}
