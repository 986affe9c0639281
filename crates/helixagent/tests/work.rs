//! `helixagent work` as a user sees it.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn work(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_helixagent"));
    command.arg("work").args(args).env_remove("MESSAGING_BACKEND");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

#[expect(clippy::unwrap_used, reason = "a test helper")]
fn run(args: &[&str]) -> Output {
    work(args).output().unwrap()
}

#[expect(clippy::unwrap_used, reason = "a test helper")]
fn run_on(input: &[u8], args: &[&str]) -> Output {
    let mut child = work(args).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap()
}

fn examples() -> String {
    concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/tasks.jsonl").to_owned()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The JSON summary, which must be the last line of standard output and must add up.
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test helper")]
fn summary(output: &[u8]) -> Value {
    let text = text(output);
    let summary: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    let of = |key: &str| summary[key].as_u64().unwrap();
    let parts = ["handled", "dead_lettered", "returned", "left", "elsewhere"];
    assert_eq!(of("published"), parts.into_iter().map(of).sum::<u64>(), "{summary}");
    summary
}

fn tasks(count: usize) -> String {
    let task = |n| format!("{{\"id\":\"t{n}\",\"type\":\"job\",\"payload\":{{\"n\":{n}}}}}\n");
    (0..count).map(task).collect()
}

#[expect(clippy::unwrap_used, reason = "a test helper")]
fn file(folder: &Path, name: &str, content: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, content).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn every_task_of_the_examples_is_handled_once_with_its_bytes_unchanged() {
    let output = run(&["tasks.#", "--from", &examples(), "--json", "--", "cat"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let all = std::fs::read_to_string(examples()).unwrap();
    let summary = summary(&output.stdout);
    assert!(all.lines().count() >= 200);
    assert_eq!(summary["handled"], all.lines().count());
    let printed = text(&output.stdout);
    for line in all.lines() {
        assert_eq!(printed.matches(line).count(), 1, "{line}");
    }
    assert!(text(&output.stderr).contains("backend        memory"));
}

#[test]
fn what_keeps_failing_is_a_dead_letter_with_its_reason() {
    let args = ["tasks.#", "--from", &examples(), "--json", "--attempts", "2", "--", "false"];
    let output = run(&args);
    assert_eq!(output.status.code(), Some(1));
    let summary = summary(&output.stdout);
    assert_eq!(summary["dead_lettered"], summary["published"]);
    assert_eq!(summary["retried"], summary["published"]);
    assert!(text(&output.stderr).contains("exit status 1"));
}

#[test]
fn the_command_gets_the_body_and_its_environment_says_the_rest() {
    let line = "{ \"id\": \"t-1\", \"type\": \"a.b\",  \"payload\": {} }\n";
    let script = "printf '%s|%s|%s|%s|' \"$MESSAGE_ID\" \"$MESSAGE_SUBJECT\" \"$MESSAGE_ATTEMPT\" \
                  \"${MESSAGE_KEY-unset}\"; cat";
    let output = run_on(line.as_bytes(), &["#", "--from", "-", "--", "sh", "-c", script]);
    let wanted = format!("t-1|tasks.a.b|1|unset|{}", line.trim_end());
    assert_eq!((text(&output.stdout), output.status.code()), (wanted, Some(0)));
}

#[test]
fn exit_65_is_a_dead_letter_at_once_with_the_last_line_of_standard_error() {
    let script = "echo first >&2; echo 'no such model' >&2; echo >&2; exit 65";
    let args = ["tasks.#", "--from", "-", "--json", "--", "sh", "-c", script];
    let output = run_on(tasks(1).as_bytes(), &args);
    assert_eq!(output.status.code(), Some(1));
    let summary = summary(&output.stdout);
    assert_eq!((&summary["retried"], &summary["dead_lettered"]), (&0.into(), &1.into()));
    assert!(text(&output.stderr).contains("dead letter t0: no such model"));
}

#[test]
fn a_command_that_fails_at_first_is_retried_until_it_succeeds() {
    let script = "test \"$MESSAGE_ATTEMPT\" = 2 || kill -9 $$";
    let args = ["tasks.#", "--from", "-", "--json", "--", "sh", "-c", script];
    let output = run_on(tasks(1).as_bytes(), &args);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let summary = summary(&output.stdout);
    assert_eq!((&summary["retried"], &summary["handled"]), (&1.into(), &1.into()));
}

#[test]
fn what_commands_print_is_never_mixed_and_large_input_and_output_pass() {
    let script = "for n in 1 2 3 4 5 6 7 8; do echo \"$MESSAGE_ID\"; done; \
                  head -c 300000 /dev/zero | tr '\\0' x; echo; echo \"$MESSAGE_ID\"";
    let args = ["tasks.#", "--from", "-", "--concurrency", "8", "--", "sh", "-c", script];
    let output = run_on(tasks(24).as_bytes(), &args);
    let printed = text(&output.stdout);
    let lines: Vec<&str> = printed.lines().collect();
    assert_eq!(lines.len(), 240);
    for piece in lines.chunks(10) {
        assert!(piece[..8].iter().all(|line| *line == piece[0]), "{:?}", &piece[..8]);
        assert_eq!((piece[8].len(), piece[9]), (300_000, piece[0]));
    }
}

#[test]
fn a_command_that_does_not_read_its_input_is_no_error() {
    let prompt = "p".repeat(500_000);
    let line = format!("{{\"id\":\"t\",\"type\":\"x\",\"payload\":{{\"prompt\":\"{prompt}\"}}}}");
    let output = run_on(line.as_bytes(), &["tasks.#", "--from", "-", "--", "true"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
}

#[test]
fn a_timeout_ends_the_whole_process_group() {
    let folder = tempfile::tempdir().unwrap();
    let pid = folder.path().join("pid");
    let script = format!("sleep 1000 & echo $! > '{}'; wait", pid.display());
    let args = [
        "tasks.#",
        "--from",
        "-",
        "--attempts",
        "1",
        "--timeout",
        "300ms",
        "--",
        "sh",
        "-c",
        &script,
    ];
    let output = run_on(tasks(1).as_bytes(), &args);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("took longer than 300ms"), "{}", text(&output.stderr));
    let pid = std::fs::read_to_string(pid).unwrap();
    let state = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    assert!(state.is_empty() || state.contains(") Z "), "still there: {state}");
}

#[test]
fn bad_lines_are_named_and_the_others_go_on() {
    let deep = "[".repeat(100_000);
    let mut input = Vec::new();
    for line in [
        &b"{\"id\":\"good\",\"type\":\"job\",\"payload\":{}}"[..],
        b"",
        b"not json",
        b"{\"id\":\"a\",\"type\":\"x\",\"payload\":{\"k\":\"\xff\"}}",
        b"{\"id\":\"a\",\"id\":\"b\",\"type\":\"x\",\"payload\":{}}",
        b"{\"id\":\"a\",\"type\":\"two words\",\"payload\":{}}",
        b"{\"id\":\"e\",\"type\":\"x\",\"source\":\"s\",\"data\":{}}",
        deep.as_bytes(),
        b"{\"id\":\"also-good\",\"type\":\"job\",\"payload\":{}}",
    ] {
        input.extend_from_slice(line);
        input.push(b'\n');
    }
    let output = run_on(&input, &["tasks.#", "--from", "-", "--json", "--", "true"]);
    assert_eq!(output.status.code(), Some(1));
    let summary = summary(&output.stdout);
    assert_eq!((&summary["handled"], &summary["bad"]), (&2.into(), &7.into()));
    let told = text(&output.stderr);
    for (number, why) in [
        (2, "empty"),
        (3, "JSON"),
        (4, "JSON"),
        (5, "duplicate"),
        (6, "illegal character"),
        (7, "no pattern"),
        (8, "JSON"),
    ] {
        let line = told.lines().find(|line| line.starts_with(&format!("stdin:{number}: ")));
        assert!(line.is_some_and(|line| line.contains(why)), "{number}: {line:?}");
    }
}

#[test]
fn wrong_use_ends_with_2_and_says_what_is_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path().to_str().unwrap();
    let script = file(folder.path(), "script", "#!/bin/sh\n");
    for (args, why) in [
        (&["tasks.#", "--", "true"][..], "--from FILE"),
        (&["tasks.#", "--from", "missing.jsonl", "--", "true"], "missing.jsonl"),
        (&["tasks.#", "--from", here, "--", "true"], "directory"),
        (&["ta*", "--from", "-", "--", "true"], "wildcards"),
        (&["tasks.#", "--from", "-", "--", "no-such-command"], "not found"),
        (&["tasks.#", "--from", "-", "--", &script], "not executable"),
        (&["tasks.#", "--from", "-", "--timeout", "soon", "--", "true"], "30s"),
        (&["tasks.#", "--from", "-", "--concurrency", "0", "--", "true"], "1.."),
        (&["nowhere.#", "--from", "-", "--", "true"], "tasks, events"),
        (&["tasks.#", "--from", "-", "--group", "a b", "--", "true"], "A-Za-z0-9"),
        (&["tasks.#", "--from", "-"], "CMD"),
    ] {
        let output = run(args);
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {told}");
        assert!(told.contains(why), "{args:?}: {told}");
    }
    let output =
        work(&["tasks.#", "--from", "-", "--", "true"]).env("MESSAGING_BACKEND", "nats").output();
    assert!(text(&output.unwrap().stderr).contains("compiled in: memory"));
}

#[test]
fn a_standard_output_that_can_not_be_written_is_named() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let args = ["tasks.#", "--from", &examples(), "--", "echo", "x"];
    let output = work(&args).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("standard output"), "{}", text(&output.stderr));
}

#[test]
fn a_signal_loses_nothing_and_the_rest_completes_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let from = file(folder.path(), "tasks.jsonl", &tasks(60));
    let rest: PathBuf = folder.path().join("rest.jsonl");
    let rest = rest.to_str().unwrap();
    let script = "echo \"$MESSAGE_ID\"; sleep 0.1; test \"$MESSAGE_ID\" != t1 || exit 7";
    let args = [
        "tasks.#",
        "--from",
        &from,
        "--rest",
        rest,
        "--concurrency",
        "4",
        "--json",
        "--",
        "sh",
        "-c",
        script,
    ];
    let mut child = work(&args).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut printed: Vec<String> = lines.by_ref().take(6).map(Result::unwrap).collect();
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    printed.extend(lines.map(Result::unwrap));
    let told = text(&child.wait_with_output().unwrap().stderr);
    let first = summary(printed.join("\n").as_bytes());
    assert_eq!(first["published"], 60, "{told}");
    let handled = first["handled"].as_u64().unwrap();
    assert!((6..60).contains(&handled), "{first}");
    assert_eq!(first["returned"], 1, "the failed one waits for its retry: {told}");
    assert_eq!(told.matches(": left").count() as u64, first["left"].as_u64().unwrap());
    assert!(told.contains(": returned"), "{told}");

    let output =
        run(&["tasks.#", "--from", rest, "--json", "--", "sh", "-c", "echo \"$MESSAGE_ID\""]);
    assert_eq!(output.status.code(), Some(0));
    let second = summary(&output.stdout);
    assert_eq!(handled + second["handled"].as_u64().unwrap(), 60);
    let ids = |lines: &mut dyn Iterator<Item = &str>| -> BTreeSet<String> {
        lines.filter(|line| line.starts_with('t')).map(str::to_owned).collect()
    };
    let mut all = ids(&mut printed.iter().map(String::as_str));
    all.extend(ids(&mut text(&output.stdout).lines()));
    assert_eq!(all.len(), 60);
}
