//! Kafka, on one broker or on several.

pub(crate) mod highest;
mod loose;
mod raw;

use std::ffi::OsString;
use std::time::Duration;

use tests_integration::audit::Promise;
use xtask::brokers::{self, Brokers, Options};

pub(crate) use self::loose::Loose;
use super::{Backend, ReadBack, Wish, output, pause, until};
use crate::clock;
use crate::dice::Dice;
use crate::faults::{Fault, Kind};
use crate::group::{Group, PREFETCH, STREAM};
use crate::identity::Identity;
use crate::role::Control;

/// Kafka with consumer groups.
#[derive(Debug)]
pub(super) struct Kafka;

/// How long what was settled may take to be committed.
const COMMITS: Duration = Duration::from_secs(20);

/// How long others may take to lead what a broker led that was killed.
const FAILOVER: Duration = Duration::from_secs(60);

/// After what silence a member's partitions go to others, and how often it says that it lives.
const SESSION: Duration = Duration::from_secs(6);
const HEARTBEAT: Duration = Duration::from_millis(500);

/// How many settlements of a member ask for a commit; at the rates of a run it follows at once.
const SETTLED: u64 = 1_000;

impl Backend for Kafka {
    fn name(&self) -> &'static str {
        "kafka"
    }

    fn broker(&self) -> brokers::Kind {
        brokers::Kind::Kafka
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
            Kind::Failover,
            Kind::CoordinatorKill,
        ]
    }

    /// A broker that was killed finds what it had written in the kernel's memory, so there is no
    /// setting under which a kill of the only one loses something.
    fn controls(&self) -> &'static [Control] {
        &[
            Control::AckEarly,
            Control::NoConfirm,
            Control::CommitHighest,
            Control::Acks1,
            Control::NoFencing,
        ]
    }

    fn options(&self, wish: &Wish, options: Options) -> Result<Options, String> {
        if wish.fsync.is_some() {
            return Err("--fsync is for redis: Kafka relies on its copies".to_owned());
        }
        let of_several = [Kind::Failover, Kind::CoordinatorKill];
        let needs_several = wish.faults.iter().find(|kind| of_several.contains(kind));
        if let Some(kind) = needs_several.filter(|_| options.nodes() < 3) {
            return Err(format!("{kind} needs --nodes 3: with fewer, nobody takes over"));
        }
        if wish.control == Some(Control::Acks1) && options.nodes() < 3 {
            return Err("acks-1 needs --nodes 3: one broker has all that it confirmed".to_owned());
        }
        if wish.control == Some(Control::Acks1) && wish.faults.iter().any(|it| it.is_of_network()) {
            return Err("acks-1 is for kills of leaders".to_owned());
        }
        Ok(options)
    }

    fn env(&self) -> Vec<(String, String)> {
        [("KAFKA_SESSION_TIMEOUT_MS", SESSION), ("KAFKA_HEARTBEAT_INTERVAL_MS", HEARTBEAT)]
            .map(|(name, time)| (name.to_owned(), time.as_millis().to_string()))
            .to_vec()
    }

    fn fences(&self) -> bool {
        true
    }

    /// What is settled is committed later.
    fn in_hand(&self) -> u64 {
        u64::from(PREFETCH) + SETTLED
    }

    fn promise(&self, promise: Promise) -> Promise {
        let fencing_grace = u64::try_from(HEARTBEAT.as_nanos()).unwrap_or(u64::MAX);
        Promise { fencing_grace, ..promise }
    }

    /// A broker is up again after some seconds; another one leads after three.
    fn takes(&self, kind: Kind) -> Duration {
        match kind {
            Kind::ServerKill | Kind::ServerRestart => Duration::from_secs(7),
            Kind::Failover | Kind::CoordinatorKill => Duration::from_secs(15),
            Kind::ConsumerKill => SESSION,
            _ => Duration::ZERO,
        }
    }

    fn target(&self, brokers: &Brokers, kind: Kind, dice: &mut Dice) -> Result<String, String> {
        let servers = brokers.servers();
        let address = match kind {
            Kind::Failover => {
                let leaders = raw::leaders(brokers, &topic())?;
                let chosen = dice.below(leaders.len().max(1) as u64) as usize;
                leaders.into_values().nth(chosen)
            }
            Kind::CoordinatorKill => {
                let groups = Group::AT_LEAST_ONCE;
                let group = groups.get(dice.below(groups.len() as u64) as usize);
                Some(raw::coordinator(brokers, group.map_or("", |group| group.name()))?)
            }
            _ => {
                let chosen = dice.below(servers.len().max(1) as u64) as usize;
                return servers
                    .get(chosen)
                    .map(|node| (*node).to_owned())
                    .ok_or("no server".into());
            }
        };
        let is_there = |node: &&str| {
            brokers.address(node).is_ok_and(|known| Some(known.to_string()) == address)
        };
        let node = servers.into_iter().find(is_there);
        node.map(str::to_owned).ok_or_else(|| format!("no broker is at {address:?}"))
    }

    fn strike(&self, brokers: &Brokers, fault: &Fault, node: &str) -> Result<u64, String> {
        match fault.kind {
            Kind::Failover | Kind::CoordinatorKill => fail_over(brokers, fault, node),
            other => Err(format!("kafka has no fault {other}")),
        }
    }

    fn settings(&self, brokers: &Brokers) -> Result<Vec<(String, String)>, String> {
        let versions = tool(brokers, "broker-api-versions", &["--version"])?;
        let version = versions.split_whitespace().next().unwrap_or("?").to_owned();
        let copies = brokers.servers().len().min(3);
        let in_step = if copies > 2 { 2 } else { 1 };
        let settings = [
            ("kafka", version),
            ("brokers", brokers.servers().len().to_string()),
            ("copies", format!("{copies}, of which {in_step} in step")),
            ("acks", "all".to_owned()),
            ("unclean.leader.election.enable", "false".to_owned()),
        ];
        Ok(settings.map(|(name, value)| (name.to_owned(), value)).to_vec())
    }

    fn read_back(&self, brokers: &Brokers, run: &Identity) -> Result<Option<ReadBack>, String> {
        let mut found = ReadBack::default();
        let counted = until(COMMITS, || {
            found.pending = pending(brokers)?;
            if found.pending == 0 { Ok(()) } else { Err(String::new()) }
        });
        drop(counted);
        let bodies = read(brokers, &topic())?;
        found.added = Some(bodies.lines().count() as u64);
        let claimed = |line: &str| run.claimed(line.as_bytes());
        found.kept = bodies.lines().filter_map(claimed).map(|(id, _)| id).collect();
        let dead = read(brokers, &format!("helixagent.dlq.{STREAM}"))?;
        found.dead = dead.lines().filter_map(claimed).count() as u64;
        Ok(Some(found))
    }
}

/// The topic that everything goes through.
fn topic() -> String {
    format!("helixagent.{STREAM}")
}

/// Kills a broker and waits until others lead all that it led; then it comes back.
fn fail_over(brokers: &Brokers, fault: &Fault, node: &str) -> Result<u64, String> {
    let address = brokers.address(node)?.to_string();
    brokers.kill(node)?;
    let mut taken_over = 0;
    until(FAILOVER, || {
        let leaders = raw::leaders(brokers, &topic())?;
        let coordinated = |group: &Group| raw::coordinator(brokers, group.name());
        let groups = Group::AT_LEAST_ONCE.iter().map(coordinated);
        let groups = groups.collect::<Result<Vec<String>, String>>()?;
        taken_over = clock::now();
        match leaders.into_values().chain(groups).any(|leads| leads == address) {
            true => Err(format!("nobody took over from {node}")),
            false => Ok(()),
        }
    })?;
    pause(fault.duration);
    brokers.start_node(node)?;
    // Until it is in step, the next fault could leave too few copies to write to.
    until(FAILOVER, || raw::in_step(brokers))?;
    Ok(taken_over)
}

/// What the groups have not committed, of their retries too, as Kafka's own tool counts it.
fn pending(brokers: &Brokers) -> Result<u64, String> {
    let mut sum = 0;
    for group in Group::AT_LEAST_ONCE {
        let args = ["--describe", "--offsets", "--group", group.name()];
        sum += lag(&tool(brokers, "consumer-groups", &args)?);
    }
    Ok(sum)
}

/// The sum of the column `LAG`, which has no number where nothing was committed and nothing is.
fn lag(table: &str) -> u64 {
    let mut rows = table.lines().filter(|line| !line.trim().is_empty());
    let is_column = |header: &str| header.split_whitespace().position(|name| name == "LAG");
    let Some(column) = rows.find_map(is_column) else { return 0 };
    rows.filter_map(|row| row.split_whitespace().nth(column)?.parse::<u64>().ok()).sum()
}

/// The bodies that a topic keeps, a line each.
fn read(brokers: &Brokers, topic: &str) -> Result<String, String> {
    let count: u64 = tool(brokers, "get-offsets", &["--topic", topic])?
        .lines()
        .filter_map(|line| line.rsplit(':').next()?.parse::<u64>().ok())
        .sum();
    if count == 0 {
        return Ok(String::new());
    }
    let count = count.to_string();
    let args = ["--topic", topic, "--from-beginning", "--max-messages", &count];
    tool(brokers, "console-consumer", &args)
}

fn tool(brokers: &Brokers, name: &str, args: &[&str]) -> Result<String, String> {
    brokers.kafka_tool(name, args.iter().map(OsString::from).collect()).and_then(output)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lag_of_a_group_is_the_sum_of_its_partitions() {
        let table = "\nGROUP TOPIC PARTITION CURRENT-OFFSET LOG-END-OFFSET LAG CONSUMER-ID HOST\n\
                     pool helixagent.tasks 0 7 10 3 - -\n\
                     pool helixagent.tasks 1 10 12 2 - -\n\
                     pool helixagent.retry.pool.1s 0 - 0 - - -\n";
        assert_eq!(lag(table), 5);
        assert_eq!(lag("Consumer group 'pool' has no active members.\n"), 0);
    }
}
