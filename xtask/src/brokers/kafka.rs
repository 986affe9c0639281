//! Kafka: brokers that are controllers too (`KRaft`), or with a `ZooKeeper`.

mod jars;
mod properties;
mod tools;
mod wire;
mod zookeeper;

use std::ffi::OsString;

pub(super) use self::tools::tool;

use super::plan::{Node, Role, write_secret};
use super::ports::Ports;
use super::process::Launch;
use super::recipe::Recipe;
use super::until::until;
use super::{Brokers, LIMIT, Options, install};

/// Where to connect without configuration; further brokers follow.
const USUAL_PORT: u16 = 9092;
const USUAL_ZOOKEEPER_PORT: u16 = 2181;

#[derive(Debug)]
pub(super) struct Kafka;

impl Recipe for Kafka {
    fn install(&self, options: &Options) -> Result<(), String> {
        install::program("java", "default-jre-headless")?;
        jars::fetch(&options.kafka_version)
    }

    fn nodes(&self, options: &Options, ports: &mut Ports) -> Result<Vec<Node>, String> {
        let mut nodes = Vec::new();
        if options.zookeeper {
            let port = ports.usual(options.usual_ports.then_some(USUAL_ZOOKEEPER_PORT))?;
            let name = "zookeeper-1".to_owned();
            nodes.push(Node { name, role: Role::Support, port, peers: 0, second: 0 });
        }
        for (number, port) in (1..=options.nodes).zip(USUAL_PORT..) {
            let port = ports.usual(options.usual_ports.then_some(port))?;
            let peers = if options.zookeeper { 0 } else { ports.free()? };
            let name = format!("kafka-{number}");
            nodes.push(Node { name, role: Role::Server, port, peers, second: ports.free()? });
        }
        Ok(nodes)
    }

    fn program(&self, _: &Node) -> &'static str {
        "java"
    }

    fn launch(&self, brokers: &Brokers, node: &Node) -> Result<Launch, String> {
        let dir = brokers.dir_of(node);
        if node.role == Role::Support {
            write_secret(&dir.join("zoo.cfg"), &zookeeper::configuration(brokers, node))?;
            return java(brokers, "-Xmx128m", &[zookeeper::MAIN, "zoo.cfg"]);
        }
        write_secret(&dir.join("server.properties"), &properties::of(brokers, node))?;
        if brokers.plan.options.zookeeper {
            zookeeper::wait_for_expiry(brokers, node)?;
            return java(brokers, "-Xmx512m", &["kafka.Kafka", "server.properties"]);
        }
        let broker = java(brokers, "-Xmx512m", &["kafka.Kafka", "server.properties"])?;
        Ok(formatted(brokers, broker))
    }

    fn answers(&self, brokers: &Brokers, node: &Node) -> Result<(), String> {
        if node.role == Role::Support {
            return zookeeper::answers(node);
        }
        let known = wire::brokers(node.port)?;
        match known.contains(&properties::id(brokers, node)) {
            true => Ok(()),
            false => Err("it is not in the cluster yet".to_owned()),
        }
    }

    /// Waits until every broker knows all.
    fn join(&self, brokers: &Brokers, role: Role) -> Result<(), String> {
        let servers: Vec<&Node> = brokers.plan.with_role(Role::Server).collect();
        if role != Role::Server {
            return Ok(());
        }
        until(LIMIT, || {
            let whole = servers.iter().try_for_each(|node| {
                let known = wire::brokers(node.port)?.len();
                match known == servers.len() {
                    true => Ok(()),
                    false => Err(format!("{} knows {known} brokers", node.name)),
                }
            });
            whole.into()
        })
    }

    fn env(&self, brokers: &Brokers) -> Vec<(&'static str, String)> {
        let mut env = vec![("KAFKA_BROKERS", tools::bootstrap(brokers))];
        if brokers.plan.options.nodes >= 3 {
            env.push(("KAFKA_REPLICATION_FACTOR", "3".to_owned()));
            env.push(("KAFKA_MIN_INSYNC_REPLICAS", "2".to_owned()));
        }
        env
    }
}

/// A class of Kafka's jars with its arguments.
fn java(brokers: &Brokers, heap: &str, class_and_args: &[&str]) -> Result<Launch, String> {
    let program = install::program("java", "default-jre-headless")?;
    let mut args: Vec<OsString> = vec![
        heap.into(),
        // With it, Java leaves its directory for a moment, by which its process is known.
        "-XX:-UsePerfData".into(),
        "-Djava.awt.headless=true".into(),
        "-Dorg.slf4j.simpleLogger.showDateTime=true".into(),
        "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS".into(),
    ];
    args.extend(class_and_args.iter().map(OsString::from));
    let class_path = jars::class_path(&brokers.plan.options.kafka_version);
    Ok(Launch { program, args, env: vec![("CLASSPATH".to_owned(), class_path)] })
}

/// Formats the storage before the first start, in the same process group, so that nothing runs
/// that the pid file does not lead to.
const FORMAT: &str = r#"[ -f data/meta.properties ] ||
    "$1" -Xmx128m kafka.tools.StorageTool format -t "$0" -c server.properties || exit
    exec "$@""#;

fn formatted(brokers: &Brokers, broker: Launch) -> Launch {
    let mut args: Vec<OsString> = vec!["-c".into(), FORMAT.into()];
    args.push(properties::cluster_id(brokers).into());
    args.push(broker.program.into());
    args.extend(broker.args);
    Launch { program: "sh".into(), args, env: broker.env }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::brokers::{Kind, Private};

    fn topics(brokers: &Brokers, args: &[&str]) -> String {
        let args = args.iter().map(OsString::from).collect();
        let output = brokers.kafka_tool("topics", args).unwrap().output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    #[test]
    fn a_broker_that_was_killed_comes_back_with_its_topics() {
        let brokers = Private::start("test", Options::new(Kind::Kafka)).unwrap();
        let create = ["--create", "--topic", "a", "--partitions", "2"];
        topics(&brokers, &create);
        let address = brokers.address("kafka-1").unwrap();
        brokers.kill("kafka-1").unwrap();
        brokers.start_node("kafka-1").unwrap();
        assert_eq!(topics(&brokers, &["--list"]).trim(), "a");
        assert_eq!(brokers.env()[0], ("KAFKA_BROKERS".to_owned(), address.to_string()));
    }

    #[test]
    fn a_tool_that_there_is_not_is_named_with_those_that_there_are() {
        let options = Options::new(Kind::Kafka);
        let plan = crate::brokers::plan::Plan {
            options,
            nodes: Vec::new(),
            password: String::new(),
            id: String::new(),
        };
        let brokers = Brokers { dir: "nowhere".into(), plan };
        let error = brokers.kafka_tool("topic", Vec::new()).unwrap_err();
        assert!(error.contains("consumer-groups"), "{error}");
    }
}
