//! `helixagent work … -- true` beside `xargs -n 1 true`: both start a process for each line.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::table::{ROUNDS, Row, Target};

const PROCESSES: usize = 2_000;

pub(crate) fn rows() -> Vec<Row> {
    let program = std::env::current_exe().unwrap().with_file_name("helixagent");
    let parallel = std::thread::available_parallelism().map_or(1, usize::from).to_string();
    let numbers: String = (0..PROCESSES).map(|n| format!("{n}\n")).collect();
    let task = |n| format!("{{\"id\":\"t{n}\",\"type\":\"x\",\"payload\":{{}}}}\n");
    let tasks: String = (0..PROCESSES).map(task).collect();
    let (mut theirs, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        theirs.push(rate("xargs".into(), &["-P", &parallel, "-n", "1", "true"], &numbers));
        let args = ["work", "tasks.#", "--from", "-", "--concurrency", &parallel, "--", "true"];
        ours.push(rate(program.clone(), &args, &tasks));
    }
    let ratio = ours.iter().zip(&theirs).map(|(a, b)| a / b).collect();
    vec![
        Row::new("xargs", "processes/s", theirs),
        Row::new("helixagent work", "processes/s", ours),
        Row::new("  of xargs", "×", ratio).target(Target::AtLeast(0.8)),
    ]
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
fn rate(program: PathBuf, args: &[&str], input: &str) -> f64 {
    let began = Instant::now();
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
    PROCESSES as f64 / began.elapsed().as_secs_f64()
}
