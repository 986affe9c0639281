//! RabbitMQ, on one node or on a cluster.

use std::time::Duration;

use serde_json::{Value, json};
use xtask::brokers::{self, Brokers, Management, Options};

use super::{Backend, ReadBack, Wish, output, pause, until};
use crate::clock;
use crate::faults::{Fault, Kind};
use crate::group::{Group, STREAM};
use crate::identity::Identity;
use crate::role::Control;

/// RabbitMQ with quorum queues.
#[derive(Debug)]
pub(super) struct RabbitMq;

/// The share of memory at which a node blocks publishers unless told otherwise.
const WATERMARK: &str = "0.4";

/// How long a node may take to raise an alarm or to end it.
const ALARM: Duration = Duration::from_secs(20);

/// How long the server's counts may take to be those of now.
const STATISTICS: Duration = Duration::from_secs(20);

impl Backend for RabbitMq {
    fn name(&self) -> &'static str {
        "rabbitmq"
    }

    fn broker(&self) -> brokers::Kind {
        brokers::Kind::RabbitMq
    }

    fn faults(&self) -> &'static [Kind] {
        &[
            Kind::ServerKill,
            Kind::ConsumerKill,
            Kind::ServerRestart,
            Kind::ServerPause,
            Kind::ConsumerPause,
            Kind::ConsumerRestart,
            Kind::ConsumerChurn,
            Kind::Reset,
            Kind::HalfOpen,
            Kind::Cut,
            Kind::MemoryAlarm,
            Kind::ConnectionClose,
        ]
    }

    fn options(&self, wish: &Wish, options: Options) -> Result<Options, String> {
        if wish.fsync.is_some() {
            return Err("--fsync is for redis: a quorum queue always writes to the disk".to_owned());
        }
        if wish.control == Some(Control::Volatile) && options.nodes() > 1 {
            return Err("volatile is for one node: others would have what it forgets".to_owned());
        }
        Ok(options)
    }

    /// A node is up again after five seconds, and the tool by which alarms are made takes its time.
    fn takes(&self, kind: Kind) -> Duration {
        match kind {
            Kind::ServerKill | Kind::ServerRestart => Duration::from_secs(7),
            Kind::MemoryAlarm => Duration::from_secs(4),
            _ => Duration::ZERO,
        }
    }

    /// No setting keeps a quorum queue from the disk, so what is there is thrown away.
    fn killed(&self, wish: &Wish, brokers: &Brokers, node: &str) -> Result<(), String> {
        match wish.control {
            Some(Control::Volatile) => brokers.forget(node),
            _ => Ok(()),
        }
    }

    fn strike(&self, brokers: &Brokers, fault: &Fault, node: &str) -> Result<u64, String> {
        match fault.kind {
            Kind::MemoryAlarm => {
                set_watermark(brokers, node, "absolute 1MB")?;
                let alarmed = until(ALARM, || alarm_is(brokers, node, true));
                pause(fault.duration);
                set_watermark(brokers, node, WATERMARK)?;
                until(ALARM, || alarm_is(brokers, node, false))?;
                alarmed.map(|()| clock::now())
            }
            Kind::ConnectionClose => {
                let management = brokers.management()?;
                for connection in names(&management, "/api/connections?columns=name")? {
                    management.delete(&format!("/api/connections/{}", encoded(&connection)))?;
                }
                Ok(clock::now())
            }
            other => Err(format!("rabbitmq has no fault {other}")),
        }
    }

    fn settings(&self, brokers: &Brokers) -> Result<Vec<(String, String)>, String> {
        let management = brokers.management()?;
        let overview = management.get("/api/overview")?.unwrap_or_default();
        let version = overview.get("rabbitmq_version").and_then(Value::as_str).unwrap_or("?");
        let nodes = brokers.servers().len();
        let partitions = if nodes >= 3 { "pause_minority" } else { "(one node)" };
        let settings = [
            ("rabbitmq", version.to_owned()),
            ("nodes", nodes.to_string()),
            ("cluster_partition_handling", partitions.to_owned()),
            ("queues", "quorum, at-least-once dead lettering, delivery limit 100".to_owned()),
            ("vm_memory_high_watermark", WATERMARK.to_owned()),
        ];
        Ok(settings.map(|(name, value)| (name.to_owned(), value)).to_vec())
    }

    fn read_back(&self, brokers: &Brokers, run: &Identity) -> Result<Option<ReadBack>, String> {
        let management = brokers.management()?;
        let mut found = ReadBack::default();
        // What was in hand a moment ago comes back, and is counted later.
        let counted = until(STATISTICS, || {
            found.pending = pending(&management)?;
            if found.pending == 0 { Ok(()) } else { Err(String::new()) }
        });
        drop(counted);
        let dead = format!("/api/queues/%2F/helixagent.dlq.{STREAM}/get");
        let wish = json!({
            "count": 1_000_000, "ackmode": "ack_requeue_true", "encoding": "auto",
        });
        let letters = management.post(&dead, &wish)?;
        let payloads = letters.as_array().into_iter().flatten();
        let payloads = payloads.filter_map(|letter| letter.get("payload")?.as_str());
        found.dead = payloads.filter(|body| run.claimed(body.as_bytes()).is_some()).count() as u64;
        Ok(Some(found))
    }
}

/// What waits or is in hand in the queues of the groups, their retries among them.
fn pending(management: &Management) -> Result<u64, String> {
    let path = "/api/queues/%2F?columns=name,messages";
    let queues = management.get(path)?.unwrap_or_default();
    let is_of_group = |name: &str| {
        Group::AT_LEAST_ONCE.iter().any(|group| {
            let group = group.name();
            name == group
                || name.starts_with(&format!("helixagent.retry.{group}."))
                || name == format!("helixagent.suspects.{group}")
        })
    };
    let count = |queue: &Value| {
        let name = queue.get("name")?.as_str()?;
        queue.get("messages")?.as_u64().filter(|_| is_of_group(name))
    };
    Ok(queues.as_array().into_iter().flatten().filter_map(count).sum())
}

fn set_watermark(brokers: &Brokers, node: &str, mark: &str) -> Result<(), String> {
    let erlang = format!("{node}@localhost");
    let mut args = vec!["-n", &erlang, "set_vm_memory_high_watermark"];
    args.extend(mark.split(' '));
    brokers.rabbitmqctl(args).and_then(output).map(drop)
}

fn alarm_is(brokers: &Brokers, node: &str, wanted: bool) -> Result<(), String> {
    let nodes = brokers.management()?.get("/api/nodes?columns=name,mem_alarm")?.unwrap_or_default();
    let name = format!("{node}@localhost");
    let mut nodes = nodes.as_array().into_iter().flatten();
    let found = nodes.find(|it| it.get("name").and_then(Value::as_str) == Some(&name));
    let alarm = found.and_then(|it| it.get("mem_alarm")).and_then(Value::as_bool);
    match alarm == Some(wanted) {
        true => Ok(()),
        false => Err(format!("{node}: its alarm is {alarm:?} and not {wanted}")),
    }
}

fn names(management: &Management, path: &str) -> Result<Vec<String>, String> {
    let all = management.get(path)?.unwrap_or_default();
    let all = all.as_array().into_iter().flatten();
    Ok(all.filter_map(|it| Some(it.get("name")?.as_str()?.to_owned())).collect())
}

/// A name as one segment of a path.
fn encoded(name: &str) -> String {
    let encode = |byte: u8| match byte.is_ascii_alphanumeric() {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    name.bytes().map(encode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_connection_is_one_segment() {
        assert_eq!(encoded("127.0.0.1:5 -> a"), "127%2E0%2E0%2E1%3A5%20%2D%3E%20a");
    }
}
