//! The fault runner on a server of its own: a short run, and the mistakes that it has to find.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::process::Command;
use std::sync::{Mutex, PoisonError};

use serde_json::Value;

/// One run at a time: each is many processes.
static ALONE: Mutex<()> = Mutex::new(());

/// The exit status of a run, and its last line.
fn chaos(backend: &str, args: &[&str]) -> (Option<i32>, Value) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut command = Command::new(env!("CARGO_BIN_EXE_chaos"));
    command.args([backend, "--messages", "3000", "--json"]).args(args);
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let summary = text.lines().last().and_then(|line| serde_json::from_str(line).ok());
    let errors = String::from_utf8_lossy(&output.stderr);
    (output.status.code(), summary.unwrap_or_else(|| panic!("no summary: {text}{errors}")))
}

fn is_caught(backend: &str, control: &str, rule: &str) {
    let (code, summary) = chaos(backend, &["--kills", "2", "--control", control]);
    assert_eq!(code, Some(1), "{summary:#}");
    assert_eq!(summary["verdict"], "invalid");
    assert_eq!(summary["caught_by"], rule, "{summary:#}");
}

#[test]
fn nothing_confirmed_is_lost_under_kills() {
    let (code, summary) = chaos("redis-streams", &["--kills", "4"]);
    assert_eq!(code, Some(0), "{summary:#}");
    assert_eq!(summary["verdict"], "valid");
    assert_eq!(summary["server_kills"], 2);
    assert_eq!(summary["consumer_kills"], 2);
    assert!(summary["order_checked"].as_u64().unwrap() > 0);
}

#[test]
fn consumers_that_ack_early_are_caught() {
    is_caught("redis-streams", "ack-early", "V2");
}

#[test]
fn a_server_that_keeps_nothing_is_caught() {
    is_caught("redis-streams", "volatile", "V1");
}

#[test]
fn listeners_are_told_of_everything_they_miss() {
    let (code, summary) = chaos("redis", &["--kills", "4"]);
    assert_eq!(code, Some(0), "{summary:#}");
    assert_eq!(summary["verdict"], "valid");
    assert_eq!(
        (&summary["server_kills"], &summary["faults"]["listener-cut"]),
        (&2.into(), &2.into())
    );
    // Each fault took the connection of the one listener.
    assert!(summary["gaps"].as_u64().unwrap() >= 4, "{summary:#}");
}

#[test]
fn listeners_that_keep_losses_to_themselves_are_caught() {
    is_caught("redis", "silent", "V9");
}

#[test]
fn what_makes_no_sense_is_wrong_use() {
    for args in [
        ["redis", "--faults", "consumer-kill"],
        ["redis", "--control", "volatile"],
        ["redis-streams", "--nodes", "3"],
        ["redis-streams", "--faults", "failover"],
    ] {
        let status = Command::new(env!("CARGO_BIN_EXE_chaos")).args(args).output().unwrap().status;
        assert_eq!(status.code(), Some(2), "{args:?}");
    }
}
