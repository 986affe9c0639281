//! Depending on one backend brings in no other, and few crates.

#[test]
fn one_backend_brings_in_no_other_and_fewer_than_60_crates() {
    let needed = xtask::tree::needed("only-memory").unwrap();
    assert!(needed.len() < 60, "{} crates: {needed:#?}", needed.len());
    let ours: Vec<&String> = needed.iter().filter(|id| id.contains("/crates/")).collect();
    assert_eq!(ours.len(), 2, "{ours:?}");
    for other in ["redis", "kafka", "amqp", "toml", "tracing", "clap"] {
        let bad: Vec<&String> = needed.iter().filter(|id| id.contains(other)).collect();
        assert!(bad.is_empty(), "{bad:?}");
    }
}
