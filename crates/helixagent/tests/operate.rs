//! The commands that look after a broker, as a user sees them.

use std::process::{Command, Output};

use serde_json::Value;

#[expect(clippy::unwrap_used, reason = "a test helper")]
fn run(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_helixagent"));
    command.args(args).env_remove("MESSAGING_BACKEND").env_remove("MESSAGING_TOPOLOGY");
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn what_makes_no_sense_within_one_process_is_refused_with_the_reason() {
    for (args, code) in [
        (&["lag"][..], 2),
        (&["lag", "--watch"], 2),
        (&["dlq", "list", "tasks"], 2),
        (&["dlq", "show", "tasks", "t-1"], 2),
        (&["provision", "--plan"], 1),
        (&["publish", "tasks.x"], 2),
        (&["subscribe", "tasks.#"], 2),
    ] {
        let output = run(args);
        assert_eq!(output.status.code(), Some(code), "{args:?}");
        let told = text(&output.stderr);
        assert!(told.contains("the memory backend lives in one process"), "{args:?}: {told}");
        assert!(output.stdout.is_empty(), "{args:?}");
    }
}

#[test]
fn the_doctor_says_what_is_promised_in_memory_and_what_is_not() {
    let output = run(&["doctor"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let told = text(&output.stdout);
    for part in
        ["backend     memory", "no promise ", "nothing survives it", "native      settlement"]
    {
        assert!(told.contains(part), "{part}: {told}");
    }
    let found: Value = serde_json::from_slice(&run(&["doctor", "--json"]).stdout).unwrap();
    assert_eq!((&found["reached"], &found["sound"]), (&true.into(), &true.into()));
}

#[test]
fn a_wrong_configuration_or_call_is_no_drift() {
    let output = run(&["provision", "--check", "--file", "missing.toml"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("missing.toml"));
    let output = run(&["provision", "--delete", "worker-1"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("stream NAME, or group NAME"));
    assert_eq!(run(&["lag", "--chek"]).status.code(), Some(2));
}

#[test]
fn every_command_has_an_example() {
    for command in [
        &["work"][..],
        &["publish"],
        &["subscribe"],
        &["lag"],
        &["dlq"],
        &["dlq", "list"],
        &["dlq", "show"],
        &["provision"],
        &["doctor"],
        &["completions"],
    ] {
        let help = text(&run(&[command, &["--help"]].concat()).stdout);
        let call = format!("helixagent {}", command.join(" "));
        assert!(help.contains("Example") && help.matches(&call).count() > 1, "{command:?}: {help}");
    }
}
