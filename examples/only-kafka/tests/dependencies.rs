//! Depending on one backend brings in no other, and no facade.

#[test]
fn one_backend_brings_in_no_other_client_no_facade_and_no_program() {
    let needed = xtask::tree::needed("only-kafka").unwrap();
    let ours: Vec<&String> = needed.iter().filter(|id| id.contains("/crates/")).collect();
    assert_eq!(ours.len(), 2, "{ours:?}");
    for other in [
        "rdkafka",
        "lapin",
        "amqprs",
        "redis",
        "openssl-sys",
        "native-tls",
        "clap",
        "tracing-subscriber",
    ] {
        let bad: Vec<&String> = needed.iter().filter(|id| id.contains(other)).collect();
        assert!(bad.is_empty(), "{bad:?}");
    }
}
