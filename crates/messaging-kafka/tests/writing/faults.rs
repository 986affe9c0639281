//! What happens between us and the broker.

use std::time::Duration;

use messaging_core::{Broker, Bytes, ErrorKind, Publisher, Result, SendSpec};
use messaging_kafka::config::Address;
use messaging_kafka::{Kafka, KafkaConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::relay::Mode;
use crate::stand::{PATHS, Stand, keeps, message, on, open, publish, read};

/// A publisher whose messages have so long.
async fn publisher(broker: &Broker, time: Duration) -> Publisher<Bytes> {
    broker.publisher(SendSpec::to("tasks").unwrap().timeout(time)).await.unwrap()
}

async fn send(publisher: &Publisher<Bytes>, body: &str) -> Result<()> {
    publisher.publish_message(message(None, body.to_owned())).await.map(drop)
}

pub(crate) async fn a_cut_between_storing_and_the_answer_is_unknown(stand: &Stand) {
    for path in PATHS {
        let config = on(stand.config(), path);
        let topic = format!("{}.tasks", config.prefix);
        let broker = open(config, 1).await;
        let others = stand.others().await;
        assert!(publish(&broker, [message(None, "before")]).await[0].is_ok());
        let publisher = publisher(&broker, Duration::from_secs(30)).await;
        stand.relay.set(Mode::HoldAnswers);
        let publishing = send(&publisher, "cut");
        let cutting = async {
            keeps(&others, &topic, 0, 2).await;
            stand.relay.cut();
        };
        let (outcome, ()) = tokio::join!(publishing, cutting);
        assert!(outcome.unwrap_err().is_outcome_unknown());
        assert!(publish(&broker, [message(None, "after")]).await[0].is_ok());
        let bodies: Vec<_> = read(&others, &topic, 0).await;
        let bodies: Vec<_> = bodies.into_iter().map(|found| found.record.value.unwrap()).collect();
        assert_eq!(bodies, [&b"before"[..], b"cut", b"after"], "{path:?}");
        broker.close().await.unwrap();
    }
}

pub(crate) async fn what_is_not_confirmed_when_it_closes_says_so(stand: &Stand) {
    let config = stand.config();
    let topic = format!("{}.tasks", config.prefix);
    let broker = open(config, 1).await;
    assert!(publish(&broker, [message(None, "before")]).await[0].is_ok());
    let publisher = publisher(&broker, Duration::from_secs(30)).await;
    stand.relay.set(Mode::HoldAnswers);
    let publishing = send(&publisher, "held");
    let others = stand.others().await;
    let closing = async {
        keeps(&others, &topic, 0, 2).await;
        broker.close_within(Duration::from_millis(300)).await
    };
    let (outcome, closed) = tokio::join!(publishing, closing);
    stand.relay.cut();
    assert_eq!(*closed.unwrap_err().kind(), ErrorKind::Timeout);
    assert!(outcome.unwrap_err().is_outcome_unknown());
}

pub(crate) async fn a_quota_writes_no_copy_that_is_not_explained(stand: &Stand) {
    let quota = |change: &str, value: &str| {
        let entity = ["--entity-type", "clients", "--entity-name", "throttled", "--alter"];
        stand.tool("configs", &[&entity[..], &[change, value]].concat());
    };
    quota("--add-config", "producer_byte_rate=2000");
    for path in PATHS {
        let mut config = on(stand.config(), path);
        "throttled".clone_into(&mut config.client_id);
        let topic = format!("{}.tasks", config.prefix);
        let broker = open(config, 1).await;
        let publisher = publisher(&broker, Duration::from_secs(3)).await;
        let (mut confirmed, mut unknown) = (Vec::new(), Vec::new());
        for number in 0..8 {
            let body = format!("{number:04}").repeat(1_000);
            match send(&publisher, &body).await {
                Ok(()) => confirmed.push(body),
                Err(error) if error.is_outcome_unknown() => unknown.push(body),
                Err(error) => assert_eq!(*error.kind(), ErrorKind::NotSent, "{error:?}"),
            }
        }
        let found = read(&stand.others().await, &topic, 0).await;
        let copies = |body: &String| {
            let is = |record: &&rskafka::record::RecordAndOffset| {
                record.record.value.as_deref() == Some(body.as_bytes())
            };
            found.iter().filter(is).count()
        };
        assert!(confirmed.iter().all(|body| copies(body) == 1), "{path:?}");
        let explained: usize = unknown.iter().map(copies).sum();
        assert_eq!(confirmed.len() + explained, found.len(), "{path:?}");
        // Throttled, a lane goes on all the same.
        assert!(confirmed.len() >= 2, "{path:?}: {} confirmed", confirmed.len());
        broker.close_within(Duration::from_secs(20)).await.unwrap();
    }
    quota("--delete-config", "producer_byte_rate");
}

pub(crate) async fn a_listener_that_cannot_be_reached_is_named_in_time(stand: &Stand) {
    // The broker is found at its own port, and says to come back at the relay's.
    let server = stand.server();
    let config = stand.config().with_timeout(Duration::from_secs(2));
    let broker = open(config.clone(), 1).await;
    stand.relay.set(Mode::Refuse);
    let config = config.with_servers([Address::new("127.0.0.1", server.port())]);
    let found = Kafka::connect(config).await.unwrap();
    let lost = Broker::builder(found).as_found().open().await.unwrap();
    let publisher = publisher(&lost, Duration::from_secs(2)).await;
    let began = Instant::now();
    let outcome = send(&publisher, "lost").await;
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    let error = outcome.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::NotSent, "{error:?}");
    assert!(error.to_string().contains(&stand.relay.port.to_string()), "{error}");
    stand.relay.cut();
    broker.close().await.unwrap();
    lost.close().await.unwrap();
}

pub(crate) async fn a_peer_that_is_no_broker_is_named(_: &Stand) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let config = KafkaConfig::default().with_servers([Address::new("127.0.0.1", address.port())]);
    let serving = async {
        let (mut peer, _) = listener.accept().await.unwrap();
        assert!(peer.read(&mut [0; 1024]).await.unwrap() > 0);
        peer.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n").await.unwrap();
    };
    let (connected, ()) = tokio::join!(Kafka::connect(config.clone()), serving);
    let error = connected.unwrap_err().to_string();
    assert!(error.contains(&address.to_string()) && error.contains("speaks HTTP"), "{error}");
    // One that says nothing.
    let began = Instant::now();
    let silent = Kafka::connect(config.with_timeout(Duration::from_secs(1))).await.unwrap_err();
    assert_eq!(*silent.kind(), ErrorKind::Timeout, "{silent:?}");
    assert!(began.elapsed() < Duration::from_secs(3));
}

pub(crate) async fn brokers_that_hang_hold_nobody_up_and_share_one_deadline(stand: &Stand) {
    let listeners = [
        TcpListener::bind("127.0.0.1:0").await.unwrap(),
        TcpListener::bind("127.0.0.1:0").await.unwrap(),
    ];
    let hanging = listeners.each_ref().map(|listener| listener.local_addr().unwrap().port());
    let mut servers = hanging.map(|port| Address::new("127.0.0.1", port)).to_vec();
    let config = stand.config().with_timeout(Duration::from_secs(2));
    let began = Instant::now();
    let error = Kafka::connect(config.clone().with_servers(servers.clone())).await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Timeout, "{error:?}");
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    servers.push(Address::new("127.0.0.1", stand.server().port()));
    Kafka::connect(config.with_servers(servers)).await.unwrap();
}
