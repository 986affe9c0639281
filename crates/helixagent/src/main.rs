//! The `helixagent` program: runs a command for each message, publishes, subscribes, and looks after
//! the broker.

#![expect(clippy::print_stderr, reason = "a program says on standard error what went wrong")]

mod cli;
mod dlq;
mod doctor;
mod exit;
mod lag;
mod lines;
mod output;
mod provision;
mod publish;
mod subscribe;
mod table;
mod work;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use tracing_subscriber::EnvFilter;

use crate::cli::{Cli, Command};
use crate::exit::Failure;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(said) => {
            drop(said.print());
            return exit::without_call(&said);
        }
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    match run(cli.command) {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("helixagent: {failure}");
            failure.code()
        }
    }
}

/// The stack of each thread, most of which is never used. What brokers send is read recursively: a
/// frame of RabbitMQ has room for tables within tables, thousands deep, that end a process with less.
const STACK: usize = 64 << 20;

fn run(command: Command) -> Result<ExitCode, Failure> {
    if let Command::Completions { shell } = command {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "helixagent", &mut script);
        output::write(&script)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.enable_all().thread_stack_size(STACK).build();
    let runtime = runtime.map_err(|error| Failure::usage(format!("no runtime: {error}")))?;
    let done = runtime.block_on(async {
        match command {
            Command::Work(args) => work::run(args).await,
            Command::Publish(args) => publish::run(&args).await,
            Command::Subscribe(args) => subscribe::run(&args).await,
            Command::Lag(args) => lag::run(&args).await,
            Command::Dlq(args) => dlq::run(&args).await,
            Command::Provision(args) => provision::run(&args).await,
            Command::Doctor(args) => doctor::run(&args).await,
            Command::Completions { .. } => Ok(ExitCode::SUCCESS),
        }
    });
    // Reading standard input can't be interrupted, and nothing else is left to wait for.
    runtime.shutdown_background();
    done
}
