//! `cargo xtask redis-cli …` and the like: the brokers' own tools, connected to what is up.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::ExitCode;

use clap::Subcommand;
use xtask::brokers::{Brokers, Kind};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a tool of Kafka, connected: kafka-tool topics --list is kafka-topics.sh --list
    #[command(disable_help_flag = true)]
    KafkaTool {
        /// The tool, without `kafka-` and `.sh`
        name: String,
        /// Passed on
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Run rabbitmqctl, connected: rabbitmqctl list_queues
    #[command(disable_help_flag = true)]
    Rabbitmqctl {
        /// Passed on
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Run redis-cli, connected: redis-cli XINFO STREAM tasks
    #[command(disable_help_flag = true)]
    RedisCli {
        /// Passed on
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
}

impl Command {
    /// Becomes the tool, which ends as it ends.
    pub(crate) fn run(self) -> Result<ExitCode, String> {
        let mut command = match self {
            Self::KafkaTool { name, args } => up(Kind::Kafka)?.kafka_tool(&name, args)?,
            Self::Rabbitmqctl { args } => up(Kind::RabbitMq)?.rabbitmqctl(args)?,
            Self::RedisCli { args } => up(Kind::Redis)?.redis_cli(args)?,
        };
        let error = command.exec();
        Err(format!("{}: {error}", command.get_program().display()))
    }
}

fn up(kind: Kind) -> Result<Brokers, String> {
    let name = kind.name();
    let brokers = Brokers::of_up(kind)?.filter(Brokers::is_up);
    brokers.ok_or_else(|| format!("{name} is not up: cargo xtask up {name}"))
}
