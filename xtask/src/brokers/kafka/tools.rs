//! Kafka's own tools.

use std::ffi::OsString;
use std::process::Command;

use super::{Brokers, jars, java};
use crate::brokers::Kind;
use crate::brokers::plan::Role;

/// The tools, the classes behind them in the order in which versions moved them, and whether they
/// connect to brokers.
const TOOLS: [(&str, &[&str], bool); 21] = [
    ("acls", &["AclCommand", "kafka.admin.AclCommand"], true),
    (
        "broker-api-versions",
        &["BrokerApiVersionsCommand", "kafka.admin.BrokerApiVersionsCommand"],
        true,
    ),
    ("configs", &["ConfigCommand", "kafka.admin.ConfigCommand"], true),
    ("console-consumer", &["consumer.ConsoleConsumer", "kafka.tools.ConsoleConsumer"], true),
    ("console-producer", &["ConsoleProducer", "kafka.tools.ConsoleProducer"], true),
    ("console-share-consumer", &["consumer.ConsoleShareConsumer"], true),
    (
        "consumer-groups",
        &["consumer.group.ConsumerGroupCommand", "kafka.admin.ConsumerGroupCommand"],
        true,
    ),
    ("consumer-perf-test", &["ConsumerPerformance", "kafka.tools.ConsumerPerformance"], true),
    ("delete-records", &["DeleteRecordsCommand", "kafka.admin.DeleteRecordsCommand"], true),
    ("dump-log", &["kafka.tools.DumpLogSegments"], false),
    ("features", &["FeatureCommand", "kafka.admin.FeatureCommand"], true),
    ("get-offsets", &["GetOffsetShell", "kafka.tools.GetOffsetShell"], true),
    ("groups", &["GroupsCommand"], true),
    ("leader-election", &["LeaderElectionCommand", "kafka.admin.LeaderElectionCommand"], true),
    ("log-dirs", &["LogDirsCommand", "kafka.admin.LogDirsCommand"], true),
    ("metadata-quorum", &["MetadataQuorumCommand", "kafka.admin.MetadataQuorumCommand"], true),
    ("producer-perf-test", &["ProducerPerformance"], false),
    (
        "reassign-partitions",
        &["reassign.ReassignPartitionsCommand", "kafka.admin.ReassignPartitionsCommand"],
        true,
    ),
    ("share-groups", &["consumer.group.ShareGroupCommand"], true),
    ("storage", &["kafka.tools.StorageTool"], false),
    ("topics", &["TopicCommand", "kafka.admin.TopicCommand"], true),
];

/// Where the package of most classes is not written out.
const PACKAGE: &str = "org.apache.kafka.tools.";

/// Where the brokers are, for clients.
pub(super) fn bootstrap(brokers: &Brokers) -> String {
    let options = &brokers.plan.options;
    let own = brokers.plan.with_role(Role::Server).map(|node| node.port);
    let ports: Vec<u16> = own
        .enumerate()
        .map(|(index, own)| *options.advertised.get(index).unwrap_or(&own))
        .collect();
    ports.iter().map(|port| format!("127.0.0.1:{port}")).collect::<Vec<_>>().join(",")
}

/// `kafka-NAME.sh ARGS`, connected unless the arguments say where to.
pub(in crate::brokers) fn tool(
    brokers: &Brokers,
    name: &str,
    args: Vec<OsString>,
) -> Result<Command, String> {
    if brokers.kind() != Kind::Kafka {
        return Err(format!("kafka-tool is not for {}", brokers.kind().name()));
    }
    let short = name.trim_start_matches("kafka-").trim_end_matches(".sh");
    let Some((_, classes, connects)) = TOOLS.iter().find(|(tool, ..)| *tool == short) else {
        let known: Vec<&str> = TOOLS.iter().map(|(tool, ..)| *tool).collect();
        return Err(format!("no tool {name}; there are {}", known.join(", ")));
    };
    let launch = java(brokers, "-Xmx256m", &[&class(brokers, name, classes)?])?;
    let mut command = Command::new(launch.program);
    command
        .args(["-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"])
        .args(launch.args)
        .envs(launch.env);
    if *connects && !args.iter().any(|arg| arg == "--bootstrap-server") {
        command.args(["--bootstrap-server", &bootstrap(brokers)]);
    }
    command.args(args);
    Ok(command)
}

fn class(brokers: &Brokers, name: &str, classes: &[&str]) -> Result<String, String> {
    let version = &brokers.plan.options.kafka_version;
    for class in classes {
        let class = match class.starts_with("kafka.") {
            true => (*class).to_owned(),
            false => format!("{PACKAGE}{class}"),
        };
        if jars::has_class(version, &class)? {
            return Ok(class);
        }
    }
    Err(format!("Kafka {version} has no {name}"))
}
