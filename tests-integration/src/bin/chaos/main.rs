//! `chaos BACKEND --kills N --messages M --seed S`: kills servers and consumers while messages
//! flow, and judges what became of every one of them.
//!
//! Publishers and consumers are processes of their own: this program again, in a role. What they do
//! they say before they do it, over a pipe; this process takes it down and lets the auditor judge.

mod backend;
mod child;
mod clock;
mod consumer;
mod crew;
mod dice;
mod faults;
mod group;
mod identity;
mod inspector;
mod ledger;
mod listener;
mod nature;
mod pacer;
mod publisher;
mod role;
mod run;
mod site;
mod stalls;
mod strike;
mod summary;
mod wire;

#[cfg(test)]
mod tests;

use std::process::ExitCode;

use clap::Parser;
use messaging::Error;
use tests_integration::audit::Verdict;
use xtask::brokers::Wanted;

use crate::backend::{ALL, Backend, Wish, named};
use crate::faults::{Kind, schedule};
use crate::role::{Control, Role};
use crate::run::{Plan, run};
use crate::summary::Summary;

/// Kills servers and consumers while messages flow, and judges what became of every one.
///
/// Ends with 0 if the run is valid, 1 if it is not, 4 if nobody knows, 2 if it was called wrongly.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask chaos")]
struct Args {
    /// The backend
    #[arg(required_unless_present = "role", value_parser = backend)]
    backend: Option<&'static dyn Backend>,
    /// How many faults
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    kills: u32,
    /// How many messages
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(100..))]
    messages: u64,
    /// What everything that is left to chance follows from
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Which faults, evenly (unset: kills of the server and of consumers; on redis, of the server
    /// and of listeners' connections)
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    faults: Vec<Kind>,
    /// Make a mistake that has to be found
    #[arg(long)]
    control: Option<Control>,
    /// When Redis writes to the disk (unset: always)
    #[arg(long, value_parser = ["always", "everysec", "no"])]
    fsync: Option<String>,
    /// The most messages a second
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(1..))]
    rate: u64,
    /// End with one line of JSON
    #[arg(long)]
    json: bool,
    /// Keep what happened in this file, as a line of JSON for each event
    #[arg(long, value_name = "FILE")]
    history: Option<std::path::PathBuf>,
    #[command(flatten)]
    wanted: Wanted,
    /// What a process of a run is
    #[arg(long, hide = true)]
    role: Option<String>,
}

fn backend(name: &str) -> Result<&'static dyn Backend, String> {
    let why = match name {
        "memory" => "it ends with its process, so nothing of it can be killed",
        _ => "it is unknown",
    };
    let all = || ALL.map(Backend::name).join(", ");
    named(name).ok_or_else(|| format!("{why} (accepted: {})", all()))
}

fn main() -> ExitCode {
    let args = Args::parse();
    let ended = match &args.role {
        Some(role) => play(role),
        None => match planned(args) {
            Ok((plan, output)) => chaos(plan, &output),
            Err(error) => {
                say(&error);
                return ExitCode::from(2);
            }
        },
    };
    ended.unwrap_or_else(|error| {
        say(&error);
        ExitCode::from(4)
    })
}

/// Is one process of a run.
fn play(role: &str) -> Result<ExitCode, String> {
    let role: Role = serde_json::from_str(role).map_err(|error| format!("--role: {error}"))?;
    let level = std::env::var("RUST_LOG").unwrap_or_default();
    let filter = tracing_subscriber::EnvFilter::new(level);
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let ended = runtime.block_on(role.play());
    // A thread that waits for orders may be left.
    runtime.shutdown_background();
    ended.map_err(|error: Error| error.to_string()).map(|()| ExitCode::SUCCESS)
}

/// What is left for the end of a run.
struct Output {
    json: bool,
    history: Option<std::path::PathBuf>,
}

/// What is to be done, unless it makes no sense.
fn planned(args: Args) -> Result<(Plan, Output), String> {
    let Args { messages, seed, control, fsync, rate, wanted, json, history, .. } = args;
    let backend = args.backend.ok_or("no backend")?;
    let all = backend.faults();
    if let Some(other) = args.faults.iter().find(|kind| !all.contains(kind)) {
        let all: Vec<&str> = all.iter().map(|kind| kind.name()).collect();
        return Err(format!(
            "{} has no fault {other} (accepted: {})",
            backend.name(),
            all.join(", ")
        ));
    }
    let kinds =
        if args.faults.is_empty() { all.get(..2).unwrap_or(all).to_vec() } else { args.faults };
    if let Some(control) = control.filter(|control| !backend.controls().contains(control)) {
        let all: Vec<&str> = backend.controls().iter().map(|control| control.name()).collect();
        let (name, control, all) = (backend.name(), control.name(), all.join(", "));
        return Err(format!("{control} is no mistake on {name} (accepted: {all})"));
    }
    wanted.check(&[backend.broker()])?;
    let wanted = wanted.options(backend.broker());
    let faults = schedule(&kinds, args.kills as usize, seed);
    let wish = Wish { control, fsync, faults: kinds };
    backend.options(&wish, wanted.clone())?;
    let plan = Plan { backend, wanted, wish, messages, seed, faults, rate };
    Ok((plan, Output { json, history }))
}

#[expect(clippy::print_stdout, reason = "a program talks to its user")]
fn chaos(plan: Plan, output: &Output) -> Result<ExitCode, String> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let (backend, seed, control) = (plan.backend, plan.seed, plan.wish.control);
    let ended = runtime.block_on(run(plan))?;
    if let Some(file) = &output.history {
        let lines = ended.history.to_json_lines().map_err(|error| error.to_string())?;
        std::fs::write(file, lines).map_err(|error| format!("{}: {error}", file.display()))?;
    }
    let (summary, report) = Summary::of(backend, seed, control, ended);
    // Of each rule the first, with what happened to its message; the file has everything.
    let mut shown = std::collections::HashSet::new();
    for finding in report.findings.iter().filter(|finding| shown.insert(finding.rule)) {
        println!("{}: {}", finding.rule, finding.text);
        for event in &finding.timeline {
            println!("  {:>16} {:?}", event.at, event.what);
        }
    }
    println!("{summary}");
    if output.json {
        println!("{}", serde_json::to_string(&summary).map_err(|error| error.to_string())?);
    }
    Ok(match summary.verdict {
        Verdict::Valid => ExitCode::SUCCESS,
        Verdict::Invalid => ExitCode::FAILURE,
        Verdict::Unknown => ExitCode::from(4),
    })
}

#[expect(clippy::print_stderr, reason = "a program talks to its user")]
fn say(error: &str) {
    eprintln!("chaos: {error}");
}
