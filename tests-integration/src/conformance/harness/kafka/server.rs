//! The Kafka brokers behind a stage, as cases drive them.

use std::ffi::OsString;
use std::io::Write;
use std::process::Stdio;
use std::sync::Arc;

use futures::FutureExt;
use messaging::Error;
use messaging::kafka::KafkaConfig;
use messaging::kafka::config::{Address, Mechanism};
use xtask::brokers::{Options, Private};

use super::{config, connect, impatient};
use crate::conformance::harness::nodes::each;
use crate::conformance::harness::{output, python};
use crate::conformance::{Connecting, Foreign, Server};

/// The usual Python client, the name under which programs import it, and a program with it.
const LIBRARY: &str = "kafka-python";
const IMPORT: &str = "kafka";
const PROGRAM: &str = include_str!("client.py");

/// Who we are for the brokers.
const USER: &str = "conformance";
const PASSWORD: &str = "p%ss wo/rd+w&th:é";

/// An address where nothing listens.
const NOBODY: (&str, u16) = ("127.0.0.1", 1);

/// Brokers that ask for a password on the listener between them, which our clients use; that for
/// clients is left to their own tools and to Python.
pub(super) fn with_login(options: Options) -> Options {
    let module = "org.apache.kafka.common.security.plain.PlainLoginModule";
    let login = format!(
        "{module} required username=\"{USER}\" password=\"{PASSWORD}\" user_{USER}=\"{PASSWORD}\";"
    );
    let protocols = "CLIENT:PLAINTEXT,BROKER:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT";
    options
        .with_setting("listener.security.protocol.map", protocols)
        .with_setting("sasl.enabled.mechanisms", "PLAIN")
        .with_setting("sasl.mechanism.inter.broker.protocol", "PLAIN")
        .with_setting("listener.name.broker.plain.sasl.jaas.config", &login.replace('é', "\\u00e9"))
}

/// A prefix of its own on brokers of ours.
#[derive(Debug)]
pub(super) struct KafkaServer {
    pub(super) nodes: Arc<Private>,
    pub(super) prefix: String,
}

impl KafkaServer {
    /// How our clients get here.
    pub(super) fn config(&self) -> Result<KafkaConfig, Error> {
        config(&self.variables())
    }

    /// Connects with another configuration than [`KafkaServer::config`].
    fn connect_with(&self, change: impl FnOnce(KafkaConfig) -> KafkaConfig) -> Connecting {
        let config = self.config().map(change);
        async { connect(config?).await }.boxed()
    }

    /// Runs one of Kafka's own tools.
    fn tool(&self, name: &str, args: &[&str]) -> Result<String, String> {
        output(&mut self.nodes.kafka_tool(name, args.iter().map(OsString::from).collect())?)
    }

    fn python(&self, args: &[&str]) -> Result<String, String> {
        python::call(PROGRAM, args, &self.nodes.env())
    }

    fn topic(&self, stream: &str) -> String {
        format!("{}.{stream}", self.prefix)
    }

    /// The end of each partition of a topic.
    fn ends(&self, topic: &str) -> Result<Vec<u64>, String> {
        let shown = self.tool("get-offsets", &["--topic", topic])?;
        let end = |line: &str| line.rsplit(':').next()?.parse().ok();
        shown.lines().map(|line| end(line).ok_or(format!("no offset: {line}"))).collect()
    }

    /// Types a line into Kafka's own producer.
    fn produce(&self, topic: &str, body: &str) -> Result<(), String> {
        let args = ["--topic", topic].iter().map(OsString::from).collect();
        let mut command = self.nodes.kafka_tool("console-producer", args)?;
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| error.to_string())?;
        let typed = child.stdin.take().map(|mut input| writeln!(input, "{body}"));
        let output = child.wait_with_output().map_err(|error| error.to_string())?;
        match (typed, output.status.success()) {
            (Some(Ok(())), true) => Ok(()),
            _ => Err(String::from_utf8_lossy(&output.stderr).trim_end().to_owned()),
        }
    }
}

impl Server for KafkaServer {
    fn kill(&self) -> Result<(), String> {
        each(&self.nodes, |nodes, node| nodes.kill(node))
    }

    fn stop(&self) -> Result<(), String> {
        each(&self.nodes, |nodes, node| nodes.stop(node))
    }

    fn start(&self) -> Result<(), String> {
        self.nodes.start_missing()
    }

    fn pause(&self) -> Result<(), String> {
        each(&self.nodes, |nodes, node| nodes.pause(node))
    }

    fn resume(&self) -> Result<(), String> {
        each(&self.nodes, |nodes, node| nodes.resume(node))
    }

    fn has(&self, client: Foreign) -> Result<(), String> {
        match client {
            Foreign::Tool => Ok(()),
            Foreign::Python(library) => python::install_as(library, IMPORT),
        }
    }

    fn libraries(&self) -> &'static [&'static str] {
        &[LIBRARY]
    }

    /// A record has no subject, so the stream is all that can be said.
    fn write(&self, client: Foreign, subject: &str, body: &str) -> Result<(), String> {
        let (stream, _) = subject.split_once('.').unwrap_or((subject, ""));
        let topic = self.topic(stream);
        match client {
            Foreign::Tool => self.produce(&topic, body),
            Foreign::Python(_) => self.python(&["write", &topic, body]).map(drop),
        }
    }

    fn read(&self, client: Foreign, stream: &str) -> Result<Vec<String>, String> {
        let topic = self.topic(stream);
        let all = match client {
            Foreign::Tool => {
                let count = self.ends(&topic)?.iter().sum::<u64>().to_string();
                let from = ["--topic", &topic, "--from-beginning", "--max-messages", &count];
                self.tool("console-consumer", &from)?
            }
            Foreign::Python(_) => self.python(&["read", &topic])?,
        };
        Ok(all.lines().map(str::to_owned).collect())
    }

    fn forget_group(&self, _: &str, group: &str) -> Result<(), String> {
        let group = format!("{}.group.{group}", self.prefix);
        let said = self.tool("consumer-groups", &["--delete", "--group", &group])?;
        // The tool ends with 0 where the broker refuses.
        if said.contains("Error") { Err(said) } else { Ok(()) }
    }

    fn keeps_groups_in_use(&self) -> bool {
        true
    }

    fn keeps_what_is_in_hand(&self) -> bool {
        true
    }

    /// Clients of ours make no topic of a stream but when they connect.
    fn forget_stream(&self, stream: &str) -> Result<(), String> {
        let topic = self.topic(stream);
        let partitions = self.ends(&topic)?.len().to_string();
        self.tool("topics", &["--delete", "--topic", &topic])?;
        let create = ["--create", "--topic", &topic, "--partitions", &partitions];
        self.tool("topics", &create).map(drop)
    }

    fn trim(&self, stream: &str) -> Result<(), String> {
        let topic = self.topic(stream);
        let partitions = 0..self.ends(&topic)?.len();
        let all = partitions.map(
            |partition| serde_json::json!({ "topic": topic, "partition": partition, "offset": -1 }),
        );
        let wanted = serde_json::json!({ "version": 1, "partitions": all.collect::<Vec<_>>() });
        let failed = |error: std::io::Error| error.to_string();
        let mut file = tempfile::NamedTempFile::new().map_err(failed)?;
        file.write_all(wanted.to_string().as_bytes()).map_err(failed)?;
        let path = file.path().to_string_lossy();
        self.tool("delete-records", &["--offset-json-file", &path]).map(drop)
    }

    fn password(&self) -> String {
        PASSWORD.to_owned()
    }

    fn with_password(&self, password: &str) -> Connecting {
        let password = password.to_owned();
        self.connect_with(|config| config.with_login(Mechanism::Plain, USER, password))
    }

    fn to_nobody(&self) -> (Connecting, String) {
        let nobody = Address::new(NOBODY.0, NOBODY.1);
        let address = nobody.to_string();
        (self.connect_with(|config| config.with_servers([nobody])), address)
    }

    fn impatiently(&self) -> Connecting {
        self.connect_with(impatient)
    }

    fn variables(&self) -> Vec<(String, String)> {
        let servers = self.nodes.servers().into_iter();
        let addresses = servers.filter_map(|node| self.nodes.address_between(node).ok());
        let addresses: Vec<String> = addresses.map(|address| address.to_string()).collect();
        let mut all = self.nodes.env();
        all.retain(|(name, _)| name != "KAFKA_BROKERS");
        let own = [
            ("KAFKA_BROKERS", addresses.join(",")),
            ("KAFKA_TOPIC_PREFIX", self.prefix.clone()),
            ("KAFKA_SASL_MECHANISM", "PLAIN".to_owned()),
            ("KAFKA_SASL_USERNAME", USER.to_owned()),
            ("KAFKA_SASL_PASSWORD", PASSWORD.to_owned()),
        ];
        all.extend(own.map(|(name, value)| (name.to_owned(), value)));
        all
    }
}
