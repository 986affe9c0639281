//! `helixagent work --at-most-once` as a user sees it.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

#[expect(clippy::unwrap_used, reason = "a test helper")]
fn run_on(input: &str, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_helixagent"));
    command.args(["work", "tasks.#", "--at-most-once"]).args(args).env_remove("MESSAGING_BACKEND");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A program that refuses its arguments reads nothing.
    child.stdin.take().unwrap().write_all(input.as_bytes()).ok();
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The JSON summary, which must add up.
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test helper")]
fn summary(output: &Output) -> Value {
    let text = text(&output.stdout);
    let summary: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    let of = |key: &str| summary[key].as_u64().unwrap();
    assert_eq!(of("published"), of("handled") + of("failed") + of("lost"), "{summary}");
    summary
}

fn tasks(count: usize) -> String {
    let task = |n| format!("{{\"id\":\"t{n}\",\"type\":\"job\",\"payload\":{{}}}}\n");
    (0..count).map(task).collect()
}

#[test]
fn every_line_is_run_once_with_its_bytes_unchanged() {
    let args = ["--from", "-", "--json", "--", "sh", "-c", "echo $MESSAGE_ID; cat; env >&2"];
    let output = run_on(&tasks(60), &args);
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{told}");
    assert_eq!(told.matches("at most once: each message is heard once or not at all").count(), 1);
    assert!(!told.contains("MESSAGE_HEADER_"), "plain JSON has no headers");
    let summary = summary(&output);
    assert_eq!((&summary["handled"], &summary["lost"]), (&60.into(), &0.into()));
    let printed = text(&output.stdout);
    for line in tasks(60).lines() {
        assert_eq!(printed.matches(line).count(), 1, "{line}");
    }
}

#[test]
fn more_lines_than_fit_on_the_way_are_all_heard() {
    let output = run_on(&tasks(3_000), &["--from", "-", "--json", "--", "true"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(summary(&output)["handled"], 3_000);
}

#[test]
fn a_command_that_fails_is_counted_and_not_repeated() {
    let script = "echo \"ran $MESSAGE_ATTEMPT\"; test \"$MESSAGE_ID\" != t1 || exit 65";
    let output = run_on(&tasks(3), &["--from", "-", "--json", "--", "sh", "-c", script]);
    assert_eq!(output.status.code(), Some(1));
    let summary = summary(&output);
    assert_eq!((&summary["failed"], &summary["handled"]), (&1.into(), &2.into()));
    assert_eq!((&summary["retried"], &summary["dead_lettered"]), (&0.into(), &0.into()));
    assert_eq!(text(&output.stdout).matches("ran 1\n").count(), 3);
    assert!(text(&output.stderr).contains("failed t1: exit status 65"), "{}", text(&output.stderr));
}

#[test]
fn a_signal_ends_it_and_what_was_not_run_is_lost_and_in_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let (rest, from) = (folder.path().join("rest.jsonl"), folder.path().join("tasks.jsonl"));
    std::fs::write(&from, tasks(20)).unwrap();
    let args = ["--concurrency", "1", "--json", "--from"].map(std::ffi::OsStr::new);
    let mut command = Command::new(env!("CARGO_BIN_EXE_helixagent"));
    command.args(["work", "tasks.#", "--at-most-once"]).args(args).arg(&from).arg("--rest");
    command.arg(&rest).args(["--", "sh", "-c", "sleep 0.5; kill -TERM $PPID; sleep 0.5"]);
    command.env_remove("MESSAGING_BACKEND");
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    let summary = summary(&output);
    let (handled, lost) = (&summary["handled"], summary["lost"].as_u64().unwrap());
    assert_eq!((handled, &summary["published"]), (&1.into(), &20.into()), "{summary}");
    assert_eq!(std::fs::read_to_string(rest).unwrap().lines().count() as u64, lost);
    assert_eq!(text(&output.stderr).matches(": lost\n").count() as u64, lost);
}

#[test]
fn what_has_no_meaning_at_most_once_is_refused() {
    for args in [["--group", "g"], ["--attempts", "2"]] {
        let output = run_on("", &[&args[..], &["--from", "-", "--", "true"]].concat());
        assert_eq!(output.status.code(), Some(2));
        assert!(text(&output.stderr).contains("--at-most-once"), "{}", text(&output.stderr));
    }
    let output = run_on("", &["--", "true"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("--from FILE"));
}
