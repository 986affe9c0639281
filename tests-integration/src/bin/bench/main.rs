//! `bench BACKEND [--json] [--check]`: what the layer costs over a bare channel or client, within one
//! run.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program talks to its user")]
#![expect(clippy::unwrap_used, reason = "a benchmark that can't run has nothing to say")]

mod allocations;
mod bare;
mod cpu;
mod filters;
mod growth;
mod kafka;
mod latency;
mod ours;
mod processes;
mod rabbitmq;
mod redis;
mod table;
mod throughput;

use std::process::ExitCode;

use clap::Parser;

use crate::table::{Row, Table};

/// Benchmarks of a backend, as ratios within one run.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench")]
struct Args {
    /// The backend
    #[arg(value_parser = ["memory", "redis", "kafka", "rabbitmq"])]
    backend: String,
    /// Print the table as JSON
    #[arg(long)]
    json: bool,
    /// End with 1 if a target is not met
    #[arg(long)]
    check: bool,
    /// Only groups of rows whose name contains this
    #[arg(long, default_value = "", value_name = "FILTER")]
    row: String,
}

/// A group of rows that are measured together, and what it is called.
type Part = (&'static str, fn() -> Vec<Row>);

const MEMORY: &[Part] = &[
    ("throughput", throughput::rows),
    ("allocations", allocations::rows),
    ("growth", growth::rows),
    ("latency", latency::rows),
    ("filters", filters::rows),
    ("processes", processes::rows),
];

const RABBITMQ: &[Part] = &[("publish", rabbitmq::publish), ("consume", rabbitmq::consume)];

fn main() -> ExitCode {
    let args = Args::parse();
    let mut table = Table::default();
    let parts = match &*args.backend {
        "memory" => MEMORY,
        "redis" => redis::PARTS,
        "kafka" => kafka::PARTS,
        _ => RABBITMQ,
    };
    for (name, measure) in parts.iter().filter(|(name, _)| name.contains(&args.row)) {
        eprintln!("measuring {name} …");
        table.rows.extend(measure());
    }
    if args.json {
        println!("{}", serde_json::to_string(&table).unwrap());
    } else {
        println!("{table}");
    }
    if args.check && !table.is_met() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// A runtime as an application has it: a worker thread for each core.
fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap()
}
