//! The application runs against a real server.

use std::process::Command;

use xtask::brokers::{Kind, Options, Private};

#[test]
fn it_publishes_a_task_and_handles_it() {
    let server = Private::start("only-kafka", Options::new(Kind::Kafka)).unwrap();
    let output =
        Command::new(env!("CARGO_BIN_EXE_only-kafka")).envs(server.env()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("attempt 1: \"helix-ensemble\""), "{text}");
    assert!(text.contains("1 acked"), "{text}");
}
