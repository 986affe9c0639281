//! `cargo xtask …`: the project's own commands.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program talks to its user")]

mod cargo;
mod ci;
mod test;
mod tidy;
mod tools;
mod up;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::cargo::Cargo;

/// The project's own commands.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask")]
struct Xtask {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run every test, installing what it needs; ends with `N passed, N failed, N skipped`
    Test,
    /// Run what the CI runs: format, clippy, docs, dependencies, tidy, then test
    Ci {
        /// Leave the tests to `cargo xtask test`
        #[arg(long)]
        without_tests: bool,
    },
    /// Run the conformance suite: BACKEND [--case FILTER] [--json], or --controls
    Conformance {
        /// Passed on to the suite
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        args: Vec<OsString>,
    },
    /// Run the benchmarks: BACKEND [--json] [--check]
    Bench {
        /// Passed on to the benchmark
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        args: Vec<OsString>,
    },
    /// Kill servers and consumers while messages flow: BACKEND --kills N --messages M --seed S
    Chaos {
        /// Passed on to the fault runner
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        args: Vec<OsString>,
    },
    /// Make the broker have the topology's streams and groups: [--plan] [--check] [--file FILE] …
    Provision {
        /// Passed on to the program
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Check what no compiler checks: dependencies, names, lengths, generated tables
    Tidy {
        /// Rewrite the generated tables
        #[arg(long)]
        bless: bool,
    },
    #[command(flatten)]
    Brokers(up::Command),
    #[command(flatten)]
    Tools(tools::Command),
}

fn main() -> ExitCode {
    let ended = match Xtask::parse().command {
        Command::Test => test::run(),
        Command::Ci { without_tests } => ci::run(without_tests),
        Command::Conformance { args } => Cargo::run([
            "run",
            "--quiet",
            "--package",
            "tests-integration",
            "--bin",
            "conformance",
            "--",
        ])
        .args(args)
        .pass_through(),
        Command::Bench { args } => bench(args),
        Command::Chaos { args } => chaos(args),
        Command::Provision { args } => {
            let program = ["run", "--quiet", "--package", "helixagent", "--", "provision"];
            Cargo::run(program).args(args).pass_through()
        }
        Command::Tidy { bless } => tidy::run(bless),
        Command::Brokers(command) => command.run(),
        Command::Tools(command) => command.run(),
    };
    ended.unwrap_or_else(|error| {
        eprintln!("xtask: {error}");
        ExitCode::FAILURE
    })
}

/// Built as the tests are, so that what the compiler checks only there is checked under faults too.
fn chaos(args: Vec<OsString>) -> Result<ExitCode, String> {
    let run = ["run", "--quiet", "--package", "tests-integration", "--bin", "chaos"];
    Cargo::run(run).args(["--"]).args(args).pass_through()
}

/// The benchmark compares the program with other ways to start processes, so it is built too.
fn bench(args: Vec<OsString>) -> Result<ExitCode, String> {
    let packages = ["--package", "helixagent", "--package", "tests-integration"];
    let programs = ["--bin", "helixagent", "--bin", "bench"];
    Cargo::run(["build", "--release", "--quiet"]).args(packages).args(programs).check()?;
    Cargo::released("bench")?.args(args).pass_through()
}
