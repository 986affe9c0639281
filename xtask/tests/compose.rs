//! The stacks of `compose/`, read as an engine reads them.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test ends where its input is wrong")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

/// Every stack, and the services that must be in it besides `helixagent`.
const STACKS: [(&str, &[&str]); 7] = [
    ("kafka", &["kafka"]),
    ("kafka-zookeeper", &["zookeeper", "kafka"]),
    ("kafka-ha", &["kafka1", "kafka2", "kafka3"]),
    ("rabbitmq", &["rabbitmq"]),
    ("rabbitmq-ha", &["rabbitmq1", "rabbitmq2", "rabbitmq3"]),
    ("redis", &["redis"]),
    ("redis-sentinel", &["redis1", "redis2", "redis3", "sentinel1", "sentinel2", "sentinel3"]),
];

/// The images of brokers, each with the version that is meant.
const IMAGES: [&str; 5] = [
    "apache/kafka:4.1.0",
    "confluentinc/cp-kafka:7.5.0",
    "confluentinc/cp-zookeeper:7.5.0",
    "rabbitmq:3.12-management",
    "redis:7.2",
];

/// What is published on this machine, in the container: Kafka, AMQP, its management, Redis.
const PORTS: [&str; 4] = ["9092", "5672", "15672", "6379"];

const BACKENDS: [&str; 5] = ["memory", "redis", "redis-streams", "rabbitmq", "kafka"];

/// The variables of our configuration that name brokers.
const VARIABLES: [&str; 40] = [
    "MESSAGING_BACKEND",
    "MESSAGING_TOPOLOGY",
    "RABBITMQ_URL",
    "RABBITMQ_EXCHANGE",
    "RABBITMQ_HOST",
    "RABBITMQ_PORT",
    "RABBITMQ_USER",
    "RABBITMQ_PASSWORD",
    "RABBITMQ_VHOST",
    "RABBITMQ_PREFETCH_COUNT",
    "RABBITMQ_PUBLISHER_CONFIRM",
    "RABBITMQ_CLUSTER_NODES",
    "RABBITMQ_HA_MODE",
    "RABBITMQ_MANAGEMENT_URL",
    "KAFKA_BROKERS",
    "KAFKA_BROKER",
    "KAFKA_CLIENT_ID",
    "KAFKA_GROUP_ID",
    "KAFKA_CONSUMER_GROUP",
    "KAFKA_TOPIC_PREFIX",
    "KAFKA_REPLICATION_FACTOR",
    "KAFKA_MIN_INSYNC_REPLICAS",
    "KAFKA_COMPRESSION",
    "KAFKA_REQUIRED_ACKS",
    "KAFKA_MAX_WAIT_TIME",
    "KAFKA_SESSION_TIMEOUT_MS",
    "KAFKA_HEARTBEAT_INTERVAL_MS",
    "KAFKA_SASL_USERNAME",
    "KAFKA_SASL_PASSWORD",
    "KAFKA_PASSWORD",
    "REDIS_HOST",
    "REDIS_PORT",
    "REDIS_PASSWORD",
    "REDIS_USER",
    "REDIS_DB",
    "REDIS_URL",
    "REDIS_SENTINELS",
    "REDIS_SENTINEL_MASTER",
    "REDIS_CLUSTER_NODES",
    "REDIS_PUBSUB_FORMAT",
];

/// A service and its name.
type Service = (String, Map<String, Value>);

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../compose")
}

fn read(name: &str) -> String {
    let path = folder().join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn stack(name: &str) -> Value {
    let mut yaml: serde_yaml_ng::Value = serde_yaml_ng::from_str(&read(name)).unwrap();
    yaml.apply_merge().unwrap();
    serde_json::to_value(yaml).unwrap()
}

fn services(stack: &Value) -> Vec<Service> {
    let services = stack["services"].as_object().unwrap();
    services.iter().map(|(name, it)| (name.clone(), it.as_object().unwrap().clone())).collect()
}

/// Calls with the name of each stack, the stack, and its services.
fn each(mut check: impl FnMut(&str, &Value, &[Service])) {
    for (name, _) in STACKS {
        let stack = stack(&format!("{name}.yaml"));
        check(name, &stack, &services(&stack));
    }
}

fn strings(value: Option<&Value>) -> Vec<&str> {
    value.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
}

/// The variables of a service as text.
fn environment(service: &Map<String, Value>) -> Vec<(String, String)> {
    let all = service.get("environment").and_then(Value::as_object);
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    all.into_iter().flatten().map(|(name, value)| (name.clone(), text(value))).collect()
}

#[test]
fn every_stack_has_its_brokers_and_the_service() {
    each(|name, _, services| {
        let (_, brokers) = STACKS.iter().find(|(stack, _)| *stack == name).unwrap();
        let found: BTreeSet<&str> = services.iter().map(|(name, _)| &**name).collect();
        assert_eq!(found, brokers.iter().copied().chain(["helixagent"]).collect(), "{name}");
    });
}

#[test]
fn every_file_of_the_folder_is_tried_here() {
    let files = fs::read_dir(folder()).unwrap().map(|it| it.unwrap().file_name());
    let files = files.map(|name| name.into_string().unwrap()).filter(|it| it.ends_with(".yaml"));
    let known = STACKS.iter().map(|(name, _)| format!("{name}.yaml"));
    assert_eq!(files.collect::<BTreeSet<_>>(), known.collect::<BTreeSet<_>>());
}

#[test]
fn images_are_known_and_have_versions_except_the_one_that_is_built_here() {
    each(|stack, _, services| {
        for (name, service) in services {
            let image = service["image"].as_str().unwrap();
            if name == "helixagent" {
                assert_eq!(image, "helixagent:latest", "{stack}");
                let file = service["build"]["dockerfile"].as_str().unwrap();
                assert!(folder().join("..").join(file).is_file(), "{stack}: {file}");
            } else {
                assert!(IMAGES.contains(&image), "{stack}: {name} is {image}");
            }
        }
    });
}

#[test]
fn ports_are_published_on_the_loopback_address_only_and_each_once() {
    each(|stack, _, services| {
        let mut published = BTreeSet::new();
        for (name, service) in services {
            for port in strings(service.get("ports")) {
                let parts: Vec<&str> = port.split(':').collect();
                let [address, outside, inside] = parts[..] else { panic!("{stack}: {port}") };
                assert_eq!(address, "127.0.0.1", "{stack}: {name}");
                assert!(PORTS.contains(&inside), "{stack}: {name} publishes {inside}");
                assert!(published.insert(outside.to_owned()), "{stack}: {outside} twice");
            }
        }
    });
}

#[test]
fn the_first_broker_is_where_clients_look_without_configuration() {
    let usual = [("kafka", "9092"), ("rabbitmq", "5672"), ("redis", "6379")];
    for (name, port) in usual {
        let stack = stack(&format!("{name}.yaml"));
        let ports = strings(stack["services"][name].get("ports"));
        assert!(ports.contains(&&*format!("127.0.0.1:{port}:{port}")), "{name}: {ports:?}");
    }
}

#[test]
fn brokers_have_health_checks_and_volumes_that_are_declared() {
    each(|stack, whole, services| {
        let declared = whole["volumes"].as_object().unwrap();
        let mut used = BTreeSet::new();
        for (name, service) in services.iter().filter(|(name, _)| name != "helixagent") {
            let check = service["healthcheck"]["test"].as_array().unwrap();
            assert!(check.len() > 1, "{stack}: {name} has no health check");
            let volumes = strings(service.get("volumes"));
            let own = volumes.iter().filter_map(|volume| volume.split(':').next());
            let (files, named): (Vec<&str>, Vec<&str>) = own.partition(|it| it.starts_with('.'));
            assert!(!named.is_empty(), "{stack}: {name} forgets its data");
            for file in files {
                assert!(folder().join(file).is_file(), "{stack}: {name} mounts {file}");
            }
            for volume in named {
                assert!(used.insert(volume.to_owned()), "{stack}: {volume} is used twice");
            }
        }
        assert_eq!(used, declared.keys().cloned().collect(), "{stack}");
    });
}

#[test]
fn whoever_depends_on_others_waits_until_they_are_healthy() {
    each(|stack, _, services| {
        for (name, service) in services {
            let needed = service.get("depends_on").and_then(Value::as_object);
            assert!(
                name != "helixagent" || needed.is_some(),
                "{stack}: the service waits for none"
            );
            for (other, how) in needed.into_iter().flatten() {
                assert_eq!(how["condition"], "service_healthy", "{stack}: {name} on {other}");
                assert!(services.iter().any(|(it, _)| it == other), "{stack}: no {other}");
            }
        }
    });
}

#[test]
fn every_variable_of_the_service_exists_and_its_backend_too() {
    each(|stack, whole, _| {
        let service = whole["services"]["helixagent"].as_object().unwrap();
        for (name, value) in environment(service) {
            assert!(VARIABLES.contains(&&*name), "{stack}: {name} is no variable of ours");
            if name == "MESSAGING_BACKEND" {
                assert!(BACKENDS.contains(&&*value), "{stack}: no backend {value}");
            }
        }
    });
}

#[test]
fn addresses_lead_to_services_of_the_stack() {
    each(|stack, whole, services| {
        let service = whole["services"]["helixagent"].as_object().unwrap();
        let lists = ["KAFKA_BROKERS", "RABBITMQ_CLUSTER_NODES", "REDIS_SENTINELS", "REDIS_HOST"];
        for (name, value) in environment(service) {
            let hosts: Vec<&str> = match &*name {
                "RABBITMQ_URL" | "RABBITMQ_MANAGEMENT_URL" => value.rsplit('@').take(1).collect(),
                name if lists.contains(&name) => value.split(',').collect(),
                _ => continue,
            };
            for address in hosts {
                // A node of RabbitMQ has a name before its host.
                let host = address.rsplit('@').next().unwrap().split(':').next().unwrap();
                assert!(services.iter().any(|(it, _)| it == host), "{stack}: no host {host}");
            }
        }
    });
}

#[test]
fn kafka_tells_clients_inside_and_outside_where_it_is() {
    for name in ["kafka", "kafka-zookeeper", "kafka-ha"] {
        for (broker, service) in services(&stack(&format!("{name}.yaml"))) {
            let variables = environment(&service);
            let variable = |wanted: &str| {
                let found = variables.iter().find(|(name, _)| name == wanted);
                found.map(|(_, value)| value.clone())
            };
            let Some(advertised) = variable("KAFKA_ADVERTISED_LISTENERS") else { continue };
            let port = strings(service.get("ports"))[0].split(':').nth(1).unwrap().to_owned();
            let wanted = format!("INSIDE://{broker}:29092,HOST://localhost:{port}");
            assert_eq!(advertised, wanted, "{name}");
        }
    }
}

#[test]
fn secrets_come_from_a_file_that_is_not_kept_here() {
    let example = read(".env.example");
    let known: Vec<&str> = example.lines().filter_map(|it| it.strip_suffix('=')).collect();
    let ignored = fs::read_to_string(folder().join("../.gitignore")).unwrap();
    assert!(ignored.lines().any(|line| line == "/compose/.env"));
    for (name, _) in STACKS {
        let text = read(&format!("{name}.yaml"));
        for part in text.split("${").skip(1) {
            let (variable, rest) =
                part.split_once(":?").expect("a default would be a known secret");
            assert!(known.contains(&variable), "{name}: {variable} is not in .env.example");
            assert!(rest.contains('}'), "{name}: {variable}");
        }
        let passwords = text.lines().filter(|it| it.contains("PASS:") || it.contains("PASSWORD:"));
        assert!(passwords.clone().all(|line| line.contains("${")), "{name}: a password is written");
    }
}

#[test]
fn the_service_is_not_run_by_root() {
    let file = read("Dockerfile");
    let last = file.rsplit("FROM ").next().unwrap();
    assert!(last.lines().any(|line| line == "USER helixagent"));
    assert!(last.lines().any(|line| line == "ENTRYPOINT [\"helixagent\"]"));
}
