use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use messaging::driver::Target;
use messaging::duration::parse_duration;
use messaging::{GroupName, MessageId, Pattern, StreamName, Subject};

/// Tasks and events over any broker, from the command line.
///
/// MESSAGING_BACKEND names the backend (unset: memory), MESSAGING_TOPOLOGY a TOML file with the
/// streams and groups.
#[derive(Debug, Parser)]
#[command(name = "helixagent", version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a command for each message
    #[command(after_help = WORK_EXAMPLE)]
    Work(WorkArgs),
    /// Publish a message, or a message a line
    #[command(after_help = PUBLISH_EXAMPLE)]
    Publish(PublishArgs),
    /// Print the bodies of messages, one a line
    #[command(after_help = SUBSCRIBE_EXAMPLE)]
    Subscribe(SubscribeArgs),
    /// Say what waits, what is in hand and how old the oldest of it is, per stream and group
    #[command(after_help = LAG_EXAMPLE)]
    Lag(LagArgs),
    /// List the dead letters of a stream, or show one
    #[command(after_help = DLQ_EXAMPLE)]
    Dlq(DlqArgs),
    /// Make the broker have the streams and groups of the topology
    #[command(after_help = PROVISION_EXAMPLE)]
    Provision(ProvisionArgs),
    /// Reach the broker and say what is promised there, and which settings break it
    #[command(after_help = DOCTOR_EXAMPLE)]
    Doctor(DoctorArgs),
    /// Print the completion script for a shell
    #[command(after_help = "Example:\n  helixagent completions bash > helixagent.bash")]
    Completions {
        /// The shell
        shell: Shell,
    },
}

const WORK_EXAMPLE: &str = "\
The command gets the body as standard input and MESSAGE_ID, MESSAGE_SUBJECT, MESSAGE_ATTEMPT,
MESSAGE_KEY and MESSAGE_HEADER_<NAME> in its environment. Exit 0 acks the message, exit 65
dead-letters it with the last line of standard error as the reason, anything else retries it.

Examples:
  helixagent work 'tasks.#' --from examples/tasks.jsonl -- jq .type
  helixagent work 'tasks.completion' --group completions --concurrency 8 -- ./complete.sh

With --at-most-once a command that fails is only counted, and a line of --from that was not heard
until 5 s after the last traffic is lost. Brokers that don't settle messages need it.

Exit status: 0 all handled; 1 something dead-lettered, failed, lost, bad or unfinished; 2 wrong use
or configuration; 3 broker not reachable in time.";

const PUBLISH_EXAMPLE: &str = "\
Example:
  helixagent publish tasks.completion task.json --key user-7 --header tenant=acme";

const SUBSCRIBE_EXAMPLE: &str = "\
Example:
  helixagent subscribe 'events.debate.#' --count 10";

const LAG_EXAMPLE: &str = "\
Example:
  helixagent lag --group worker-1 --watch";

const DLQ_EXAMPLE: &str = "\
Examples:
  helixagent dlq list tasks --limit 20
  helixagent dlq show tasks 01890a5d-ac96-774b-bcce-b302099a8057";

const PROVISION_EXAMPLE: &str = "\
Shows what is created or changed, and does it. Repeating it is harmless. What the topology does not
name is listed as unmanaged and left alone, unless it is deleted by its exact name.

Examples:
  helixagent provision --plan --file topology.toml
  helixagent provision --delete 'group worker-0'

Exit status: 0 nothing to do, or done; 2 drift, with --check; 1 an error.";

const DOCTOR_EXAMPLE: &str = "\
Example:
  MESSAGING_BACKEND=redis-streams helixagent doctor

Exit status: 0 fine; 1 a setting breaks a promise; 2 wrong configuration; 3 broker not reachable.";

/// What `work` is told.
#[derive(Debug, Args)]
pub(crate) struct WorkArgs {
    /// The subjects to work on: words, * for one, # for any number
    #[arg(required = true, value_name = "PATTERN")]
    pub(crate) patterns: Vec<Pattern>,
    /// Publish the tasks and events of this JSON-lines file (- is standard input), end when done
    #[arg(long, value_name = "FILE")]
    pub(crate) from: Option<PathBuf>,
    /// Write the lines that were not finished to this file
    #[arg(long, value_name = "FILE", requires = "from")]
    pub(crate) rest: Option<PathBuf>,
    /// The group whose messages are shared
    #[arg(long, default_value = GroupName::DEFAULT)]
    pub(crate) group: GroupName,
    /// Hear each message once or not at all: no group, no retry, no dead letter
    #[arg(long, conflicts_with_all = ["group", "attempts"])]
    pub(crate) at_most_once: bool,
    /// How many commands run at once; as many as there are processors unless set
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) concurrency: Option<u32>,
    /// How many attempts a message gets
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) attempts: u32,
    /// End a command after this time (500ms, 30s, 5m); unless set, when the broker's limit nears:
    /// RABBITMQ_CONSUMER_TIMEOUT, KAFKA_MAX_POLL_INTERVAL_MS
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(crate) timeout: Option<Duration>,
    /// How long running commands get to end after a signal
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_duration)]
    pub(crate) grace: Duration,
    /// Print the summary as the last line of standard output, as JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    pub(crate) command: Vec<OsString>,
}

/// What `publish` is told.
#[derive(Debug, Args)]
pub(crate) struct PublishArgs {
    /// Where it goes
    pub(crate) subject: Subject,
    /// The body (- or nothing is standard input)
    #[arg(value_name = "FILE", default_value = "-")]
    pub(crate) file: PathBuf,
    /// Publish each line as a message of its own
    #[arg(long)]
    pub(crate) lines: bool,
    /// Messages with the same key keep their order
    #[arg(long)]
    pub(crate) key: Option<String>,
    /// A header; may be repeated
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = header)]
    pub(crate) headers: Vec<(String, String)>,
    /// What the body is; application/json where it is one JSON value, unless set
    #[arg(long, value_name = "TYPE")]
    pub(crate) content_type: Option<String>,
}

/// What `subscribe` is told.
#[derive(Debug, Args)]
pub(crate) struct SubscribeArgs {
    /// The subjects to receive: words, * for one, # for any number
    #[arg(required = true, value_name = "PATTERN")]
    pub(crate) patterns: Vec<Pattern>,
    /// Share the messages of this group; without it every message is received
    #[arg(long)]
    pub(crate) group: Option<GroupName>,
    /// End after this many messages
    #[arg(long, value_name = "N")]
    pub(crate) count: Option<u64>,
    /// Print subject, id, key, headers, attempt and body as one JSON object a line
    #[arg(long)]
    pub(crate) json: bool,
}

/// What `lag` is told.
#[derive(Debug, Args)]
pub(crate) struct LagArgs {
    /// Only this group
    #[arg(long)]
    pub(crate) group: Option<GroupName>,
    /// Repeat it each second until a signal
    #[arg(long)]
    pub(crate) watch: bool,
    /// Print one JSON object, each time on one line
    #[arg(long)]
    pub(crate) json: bool,
}

/// What `dlq` is told.
#[derive(Debug, Args)]
pub(crate) struct DlqArgs {
    #[command(subcommand)]
    pub(crate) command: DlqCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DlqCommand {
    /// List the dead letters of a stream, the oldest first
    #[command(after_help = "Example:\n  helixagent dlq list tasks --limit 20 --json")]
    List {
        /// The stream, such as tasks
        stream: StreamName,
        /// List at most so many
        #[arg(long, value_name = "N", default_value_t = 100)]
        limit: usize,
        /// Print one JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Show a dead letter with its headers and its body
    #[command(after_help = "Example:\n  helixagent dlq show tasks task-17")]
    Show {
        /// The stream, such as tasks
        stream: StreamName,
        /// The message's id
        id: MessageId,
    },
}

/// What `provision` is told.
#[derive(Debug, Args)]
pub(crate) struct ProvisionArgs {
    /// Show what there is to do, and change nothing
    #[arg(long)]
    pub(crate) plan: bool,
    /// Change nothing, and end with 2 if there is anything to create or to change
    #[arg(long)]
    pub(crate) check: bool,
    /// The topology; what MESSAGING_TOPOLOGY names unless set
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Delete something unmanaged with all that it keeps, such as 'group worker-0'; may be repeated
    #[arg(long, value_name = "TARGET", conflicts_with = "check")]
    pub(crate) delete: Vec<Target>,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// What `doctor` is told.
#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("it has no = (accepted: NAME=VALUE)")?;
    Ok((name.to_owned(), value.to_owned()))
}
