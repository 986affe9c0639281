//! Against a real server.

use std::sync::atomic::Ordering;

use amqprs::FieldTable;
use tokio::net::TcpListener;
use tokio::time::timeout;

use super::*;
use crate::config::Address;
use crate::error::Fault;
use crate::testing::{Flow, Proxy, manage, panics, server, soon, unique, with_user};

async fn open(config: RabbitConfig, role: Role) -> Arc<Link> {
    Link::open(Arc::new(config), role).await.unwrap()
}

async fn refusal(config: RabbitConfig) -> Error {
    let password = config.password.clone();
    let began = Instant::now();
    let limit = config.timeout + Duration::from_secs(1);
    let error = Link::open(Arc::new(config), Role::Consume).await.unwrap_err();
    assert!(began.elapsed() < limit, "{:?}: {error}", began.elapsed());
    assert!(!error.to_string().contains(password.reveal()), "{error}");
    error
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a broker; cargo xtask test starts one"]
async fn what_keeps_it_from_connecting_is_named_within_the_deadline() {
    let config = server();
    let mut wrong = config.clone().with_login("nobody", "hunter2-wrong");
    let error = refusal(wrong.clone()).await;
    assert_eq!(*error.kind(), ErrorKind::Denied);
    assert!(error.to_string().contains("nobody"), "{error}");

    wrong = config.clone();
    wrong.vhost = "nowhere".to_owned();
    let error = refusal(wrong).await;
    assert_eq!(*error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("nowhere"), "{error}");

    let api = config.management.clone().unwrap();
    let error = refusal(config.clone().with_nodes(vec![api.address])).await;
    // It waits for the rest of a request, longer than we wait for it.
    assert!(matches!(error.kind(), ErrorKind::Timeout | ErrorKind::InvalidConfig), "{error}");
    assert!(error.to_string().contains("management"), "{error}");

    let unused = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = Address::new("127.0.0.1", unused.local_addr().unwrap().port());
    let mut hasty = config.clone().with_nodes(vec![silent.clone()]);
    hasty.timeout = Duration::from_secs(2);
    let error = refusal(hasty).await;
    assert_eq!(*error.kind(), ErrorKind::Timeout, "{error}");

    // Of several nodes, one that answers is enough, whatever the others do.
    let good = config.nodes[0].clone();
    let link = open(config.clone().with_nodes(vec![silent.clone(), good]), Role::Consume).await;
    link.close(Duration::from_secs(1)).await;

    drop(unused);
    let error = refusal(config.with_nodes(vec![silent])).await;
    assert_eq!(*error.kind(), ErrorKind::Unavailable, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a broker; cargo xtask test starts one"]
async fn what_the_server_refuses_is_typed_and_leaves_other_channels_alone() {
    let config = server();
    let link = open(config, Role::Consume).await;
    let session = link.session(soon()).await.unwrap();
    let (other, _events) = session.channel(soon()).await.unwrap();
    let queue = unique("others");
    let exclusive = Queue { name: queue.clone(), exclusive: true, ..Queue::default() };
    other.declare_queue(exclusive, soon()).await.unwrap();

    let (channel, mut events) = session.channel(soon()).await.unwrap();
    let fault = channel.find_queue("nowhere", soon()).await.unwrap_err();
    assert_eq!(fault.code(), Some(404));
    assert!(
        matches!(events.recv().await, Some(ChannelEvent::Closed(refusal)) if refusal.code == 404)
    );
    assert!(events.recv().await.is_none());
    let fault = channel.find_queue("nowhere", soon()).await.unwrap_err();
    assert_eq!(*fault.at("queue").kind(), ErrorKind::NotFound, "a closed channel says why");

    let (channel, _events) = session.channel(soon()).await.unwrap();
    let exchange = unique("fanout");
    channel.declare_exchange(&exchange, "fanout", false, soon()).await.unwrap();
    let fault = channel.declare_exchange(&exchange, "topic", false, soon()).await.unwrap_err();
    assert_eq!(fault.code(), Some(406));
    let error = fault.at(&format!("exchange {exchange}"));
    assert_eq!(*error.kind(), ErrorKind::InvalidConfig);
    assert!(error.to_string().contains(&exchange) && error.to_string().contains("type"), "{error}");

    let long = "x".repeat(256);
    let fault = other.bind_queue(&queue, &long, "#", soon()).await.unwrap_err();
    assert_eq!(*fault.at("").kind(), ErrorKind::InvalidName);
    other.delete_exchange(&exchange, soon()).await.unwrap();
    link.close(Duration::from_secs(1)).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a broker; cargo xtask test starts one"]
async fn a_missing_permission_is_denied() {
    let config = server();
    let api = config.management.clone().unwrap();
    let config = with_user(&config, r#"{"configure":"","write":"","read":""}"#).await;
    let user = config.user.clone();
    let link = open(config, Role::Consume).await;
    let session = link.session(soon()).await.unwrap();
    let (channel, _events) = session.channel(soon()).await.unwrap();
    let name = unique("forbidden");
    let fault =
        channel.declare_queue(Queue { name, ..Queue::default() }, soon()).await.unwrap_err();
    assert_eq!(*fault.at("queue").kind(), ErrorKind::Denied);
    link.close(Duration::from_secs(1)).await;
    manage(&api, "DELETE", &format!("users/{user}"), "").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a broker; cargo xtask test starts one"]
async fn a_consumer_hears_that_its_queue_is_gone() {
    let config = server();
    let link = open(config, Role::Consume).await;
    let session = link.session(soon()).await.unwrap();
    let (channel, mut events) = session.channel(soon()).await.unwrap();
    let name = unique("gone");
    channel.declare_queue(Queue { name: name.clone(), ..Queue::default() }, soon()).await.unwrap();
    channel.set_prefetch(1, soon()).await.unwrap();
    let (tag, mut deliveries) =
        channel.consume(&name, "", false, FieldTable::new(), soon()).await.unwrap();
    channel.delete_queue(&name, soon()).await.unwrap();
    let heard = timeout(Duration::from_secs(5), events.recv()).await.unwrap();
    assert!(matches!(heard, Some(ChannelEvent::Cancelled(gone)) if gone == tag));
    assert!(deliveries.recv().await.is_none());
    link.close(Duration::from_secs(1)).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a broker; cargo xtask test starts one"]
async fn a_server_that_says_nothing_is_left_and_found_again() {
    let config = server();
    let proxy = Proxy::start(&config).await;
    let link = open(config.with_nodes(vec![proxy.address.clone()]), Role::Consume).await;
    let session = link.session(soon()).await.unwrap();
    proxy.set(Flow::Nothing);
    timeout(Duration::from_secs(9), session.ended()).await.expect("silence is not noticed");
    proxy.set(Flow::Both);
    let again = link.session(Instant::now() + Duration::from_secs(15)).await.unwrap();
    assert_eq!(again.epoch(), 2);
    link.close(Duration::from_secs(1)).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a broker; cargo xtask test starts one"]
async fn a_request_without_an_answer_ends_the_connection_and_nothing_panics() {
    let config = server();
    let panics = panics();
    let proxy = Proxy::start(&config).await;
    let link = open(config.with_nodes(vec![proxy.address.clone()]), Role::Consume).await;
    let session = link.session(soon()).await.unwrap();
    let (channel, _events) = session.channel(soon()).await.unwrap();
    proxy.set(Flow::Nothing);
    let at_once = Instant::now() + Duration::from_millis(300);
    let fault = channel.set_prefetch(1, at_once).await.unwrap_err();
    assert!(matches!(fault, Fault::Late), "{fault:?}");
    assert!(session.is_over());
    proxy.set(Flow::Both);
    link.session(soon()).await.unwrap();
    link.close(Duration::from_secs(1)).await;
    assert_eq!(panics.load(Ordering::SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a broker; cargo xtask test starts one"]
async fn three_thousand_channels_closed_by_the_server_cost_some_reconnects_and_no_panic() {
    let config = server();
    let panics = panics();
    let link = open(config, Role::Consume).await;
    for _ in 0..3_000 {
        let session = link.session(soon()).await.unwrap();
        // The connection may end between the two.
        if let Ok((channel, _events)) = session.channel(soon()).await {
            channel.find_queue("nowhere", soon()).await.unwrap_err();
        }
    }
    // One for each 256, and perhaps some that another test forced.
    let epoch = link.session(soon()).await.unwrap().epoch();
    assert!((11..=20).contains(&epoch), "{epoch}");
    link.close(Duration::from_secs(1)).await;
    assert_eq!(panics.load(Ordering::SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a broker; cargo xtask test starts one"]
async fn two_hundred_reconnects_leave_nothing_behind() {
    let config = server();
    let proxy = Proxy::start(&config).await;
    let link = open(config.with_nodes(vec![proxy.address.clone()]), Role::Publish).await;
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let mut before = None;
    for round in 0..205_u32 {
        let session = link.session(soon()).await.unwrap();
        let (channel, _events) = session.channel(soon()).await.unwrap();
        channel.set_prefetch(1, soon()).await.unwrap();
        if round == 4 {
            before = Some(tasks());
        }
        session.end("the test wants it");
    }
    link.session(soon()).await.unwrap();
    let before = before.unwrap();
    // Closing takes a moment.
    let settled = async {
        while tasks() > before + 5 || proxy.links() > 1 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let settled = timeout(Duration::from_secs(15), settled).await;
    let links = proxy.links();
    assert!(settled.is_ok(), "{before} → {} tasks, {links} connections", tasks());
    link.close(Duration::from_secs(1)).await;
}
