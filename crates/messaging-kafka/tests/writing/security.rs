//! Who we are, and whether others can listen.

use messaging_core::{Broker, ErrorKind};
use messaging_kafka::Kafka;
use messaging_kafka::config::{Address, Mechanism, Tls};

use crate::stand::{PASSWORD, PATHS, Stand, message, on, open, publish};

pub(crate) async fn a_password_is_proved_and_a_wrong_one_is_denied(stand: &Stand) {
    let users = ["--entity-type", "users", "--entity-name", "app", "--alter", "--add-config"];
    for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-512"] {
        let scram = format!("{mechanism}=[password={PASSWORD}]");
        stand.tool("configs", &[&users[..], &[&scram]].concat());
    }
    let known = [
        (Mechanism::Plain, "broker"),
        (Mechanism::ScramSha256, "app"),
        (Mechanism::ScramSha512, "app"),
    ];
    let here = Address::new("127.0.0.1", stand.sasl_port());
    for (mechanism, user) in known {
        for path in PATHS {
            let config = on(stand.config(), path).with_servers([here.clone()]);
            let config = config.with_login(mechanism, user, PASSWORD);
            let broker = open(config, 1).await;
            let outcomes = publish(&broker, [message(None, "known")]).await;
            assert!(outcomes[0].is_ok(), "{mechanism:?} {path:?}: {outcomes:?}");
            broker.close().await.unwrap();
        }
        let config = stand.config().with_servers([here.clone()]);
        let config = config.with_login(mechanism, user, "wr0ng-one");
        let error = Kafka::connect(config).await.unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::Denied, "{mechanism:?}: {error:?}");
        let shown = format!("{error} {error:?}");
        assert!(shown.contains(user) && !shown.contains("wr0ng-one"), "{shown}");
    }
    // Nobody asks at the other listener, and here somebody does.
    let config = stand.config().with_login(Mechanism::Plain, "broker", PASSWORD);
    let error = Kafka::connect(config).await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::InvalidConfig, "{error:?}");
    let unasked = Kafka::connect(stand.config().with_servers([here])).await;
    assert!(unasked.is_err());
}

pub(crate) async fn tls_and_plain_do_not_mix(stand: &Stand) {
    let config = stand.config().with_tls(Tls::default());
    let began = tokio::time::Instant::now();
    let error = Kafka::connect(config.clone()).await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Unavailable, "{error:?}");
    assert!(error.to_string().contains("without TLS"), "{error}");
    assert!(began.elapsed() < config.timeout * 2);
    drop(Broker::builder(Kafka::connect(stand.config()).await.unwrap()).open().await.unwrap());
}
