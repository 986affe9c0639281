//! Against a real server, through a proxy that counts connections.

use std::sync::atomic::Ordering;

use futures::StreamExt;

use super::*;
use crate::connection::Queue;
use crate::testing::{Proxy, panics, server, soon, unique};

/// How long the server may take to see connections off.
const PATIENCE: Duration = Duration::from_secs(20);

/// The server with an exchange of its own, through a proxy.
async fn place() -> (RabbitConfig, Proxy) {
    let config = server();
    let proxy = Proxy::start(&config).await;
    let config = config.with_nodes(vec![proxy.address.clone()]);
    (config.with_exchange(&unique("driver")).unwrap(), proxy)
}

async fn expect_at_most(proxy: &Proxy, connections: usize) {
    let settled = timeout(PATIENCE, proxy.at_most(connections)).await;
    assert!(settled.is_ok(), "{} connections", proxy.links());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a broker; cargo xtask test starts one"]
async fn a_connection_that_could_not_be_opened_leaves_none_at_the_server() {
    let config = server();
    let link = Link::open(Arc::new(config.clone()), Role::Consume).await.unwrap();
    let (channel, _) = link.session(soon()).await.unwrap().channel(soon()).await.unwrap();
    let exchange = unique("driver");
    channel.declare_exchange(&exchange, "fanout", false, soon()).await.unwrap();
    let proxy = Proxy::start(&config).await;
    let config = config.with_nodes(vec![proxy.address.clone()]).with_exchange(&exchange).unwrap();
    for _ in 0..20 {
        let error = Rabbit::connect(config.clone()).await.unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::InvalidConfig, "{error}");
    }
    expect_at_most(&proxy, 0).await;
    channel.delete_exchange(&exchange, soon()).await.unwrap();
    link.close(Duration::from_secs(1)).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a broker; cargo xtask test starts one"]
async fn a_subscribe_that_is_cancelled_or_refused_leaves_no_connection() {
    let (config, proxy) = place().await;
    let panics = panics();
    let rabbit = Rabbit::connect(config).await.unwrap();
    let before = proxy.links();
    let wanted = |name: &str| SubscribeSpec::group(name, ["tasks.#"]).unwrap();
    // The longer ones have a connection by the time they are cancelled, and some succeed.
    let group = unique("cancelled");
    for round in 0..20 {
        let subscribing = rabbit.subscribe(wanted(&group));
        timeout(Duration::from_millis(4 * round), subscribing).await.ok();
    }
    // There is a queue of another type in the group's place.
    let session = rabbit.shared.consuming.session(soon()).await.unwrap();
    let (channel, _) = session.channel(soon()).await.unwrap();
    let taken = unique("taken");
    let queue = Queue { name: taken.clone(), durable: true, ..Queue::default() };
    channel.declare_queue(queue, soon()).await.unwrap();
    let error = rabbit.subscribe(wanted(&taken)).await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::InvalidConfig, "{error}");
    expect_at_most(&proxy, before).await;
    channel.delete_queue(&taken, soon()).await.unwrap();

    let mut heard = rabbit.subscribe(wanted(&group)).await.unwrap().events;
    rabbit.close(Duration::from_secs(5)).await.unwrap();
    while heard.next().await.is_some() {}
    expect_at_most(&proxy, 0).await;
    assert_eq!(panics.load(Ordering::SeqCst), 0, "the client library survives it");
}
