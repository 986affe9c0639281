//! `conformance BACKEND [--redis-mode MODE] [--nodes N] [--zookeeper] [--case FILTER] [--json]` and `conformance --controls`.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program talks to its user")]

use std::process::ExitCode;

use clap::Parser;
use tests_integration::broken::Fault;
use tests_integration::conformance::{Harness, Outcome, Tally, cases_of, harness_of, play_member};
use xtask::brokers::Wanted;

/// The contract of the messaging layer, tried on a backend.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask conformance")]
struct Args {
    /// The backend
    #[arg(required_unless_present = "controls")]
    backend: Option<String>,
    /// Only cases whose name contains this
    #[arg(long, value_name = "FILTER", default_value = "")]
    case: String,
    /// End with one line of JSON
    #[arg(long)]
    json: bool,
    /// Show that each deliberately broken driver is caught
    #[arg(long, conflicts_with_all = ["backend", "case", "json"])]
    controls: bool,
    #[command(flatten)]
    wanted: Wanted,
}

fn main() -> ExitCode {
    if let Some(played) = play_member() {
        return played;
    }
    let args = Args::parse();
    // A case fails by panicking; its message is shown beside its name.
    std::panic::set_hook(Box::new(|_| {}));
    match &args.backend {
        None => controls(),
        Some(backend) => match harness_of(backend, &args.wanted) {
            Ok(Some(harness)) => run(&*harness, &args),
            Err(error) => {
                eprintln!("{error}");
                ExitCode::from(2)
            }
            Ok(None) => {
                eprintln!(
                    "backend {backend:?} is unknown (accepted: memory, redis, redis-streams, rabbitmq, kafka)"
                );
                ExitCode::from(2)
            }
        },
    }
}

fn run(harness: &dyn Harness, args: &Args) -> ExitCode {
    let mut tally = Tally::of(harness.name());
    let cases = cases_of(harness).filter(|case| case.name.contains(&args.case));
    for case in cases {
        let outcome = case.run(harness);
        tally.add(&outcome);
        let rules = case.rules.join(" ");
        let how = match outcome {
            Outcome::Passed => "passed".to_owned(),
            Outcome::Refused(feature) => format!("refused ({feature})"),
            Outcome::Failed(why) => format!("FAILED: {why}"),
            Outcome::Ignored(why) => format!("ignored: {why}"),
        };
        println!("{}::{} [{rules}] {how}", harness.name(), case.name);
    }
    let Tally { passed, refused, failed, ignored, .. } = &tally;
    println!("{passed} passed, {refused} refused, {failed} failed, {ignored} ignored");
    if args.json {
        println!("{}", serde_json::to_string(&tally).unwrap_or_default());
    }
    let must_run = std::env::var_os("CI").is_some();
    let red = *failed > 0 || passed + refused + ignored == 0 || (must_run && *ignored > 0);
    if red { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn controls() -> ExitCode {
    let mut missed = 0;
    for (fault, case) in Fault::ALL {
        match fault.judge(case) {
            Outcome::Failed(why) => {
                let why = why.lines().next().unwrap_or_default();
                println!("{fault:?}: caught by {case}: {why}");
            }
            other => {
                missed += 1;
                println!("{fault:?}: NOT CAUGHT by {case}: {other:?}");
            }
        }
    }
    println!("{} broken drivers, {missed} not caught", Fault::ALL.len());
    if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
