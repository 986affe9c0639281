//! Depending on one backend brings in no other, and no facade.

use std::collections::{BTreeSet, HashMap};
use std::process::Command;

use serde_json::Value;

/// The crates that building this application needs, build dependencies among them.
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test helper")]
fn needed() -> BTreeSet<String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    let mut command = Command::new(cargo);
    command.args(["metadata", "--format-version", "1", "--manifest-path", manifest]);
    command.args(["--filter-platform", "x86_64-unknown-linux-gnu"]);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let nodes = metadata["resolve"]["nodes"].as_array().unwrap();
    let nodes: HashMap<&str, &Value> =
        nodes.iter().map(|node| (node["id"].as_str().unwrap(), node)).collect();
    let root = nodes.keys().find(|id| id.contains("/only-redis#")).unwrap();
    let mut found = BTreeSet::new();
    let mut open = vec![*root];
    while let Some(id) = open.pop() {
        if !found.insert(id.to_owned()) {
            continue;
        }
        for dependency in nodes[id]["deps"].as_array().unwrap() {
            let kinds = dependency["dep_kinds"].as_array().unwrap();
            if kinds.iter().any(|kind| kind["kind"] != "dev") {
                open.push(dependency["pkg"].as_str().unwrap());
            }
        }
    }
    found
}

#[test]
fn one_backend_brings_in_no_other_client_no_facade_and_no_program() {
    let needed = needed();
    let ours: Vec<&String> = needed.iter().filter(|id| id.contains("/crates/")).collect();
    assert_eq!(ours.len(), 2, "{ours:?}");
    for other in ["kafka", "amqp", "openssl", "native-tls", "clap", "axum", "tracing-subscriber"] {
        let bad: Vec<&String> = needed.iter().filter(|id| id.contains(other)).collect();
        assert!(bad.is_empty(), "{bad:?}");
    }
}
