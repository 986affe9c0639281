//! Kafka, on one broker or on several.

use std::ffi::OsString;
use std::time::Duration;

use xtask::brokers::{self, Brokers, Options};

use super::{Backend, ReadBack, Wish, output, until};
use crate::faults::Kind;
use crate::group::{Group, STREAM};
use crate::identity::Identity;
use crate::role::Control;

/// Kafka with consumer groups.
#[derive(Debug)]
pub(super) struct Kafka;

/// How long what was settled may take to be committed.
const COMMITS: Duration = Duration::from_secs(20);

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
            Kind::Reset,
            Kind::HalfOpen,
            Kind::Cut,
        ]
    }

    /// A broker that was killed finds what it had written in the kernel's memory, so there is no
    /// setting under which a kill loses something.
    fn controls(&self) -> &'static [Control] {
        &[Control::AckEarly, Control::NoConfirm]
    }

    fn options(&self, wish: &Wish, options: Options) -> Result<Options, String> {
        if wish.fsync.is_some() {
            return Err("--fsync is for redis: Kafka relies on its copies".to_owned());
        }
        Ok(options)
    }

    /// A broker is up again after some seconds.
    fn takes(&self, kind: Kind) -> Duration {
        match kind {
            Kind::ServerKill | Kind::ServerRestart => Duration::from_secs(7),
            _ => Duration::ZERO,
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
        let bodies = read(brokers, &format!("helixagent.{STREAM}"))?;
        found.added = Some(bodies.lines().count() as u64);
        let claimed = |line: &str| run.claimed(line.as_bytes());
        found.kept = bodies.lines().filter_map(claimed).map(|(id, _)| id).collect();
        let dead = read(brokers, &format!("helixagent.dlq.{STREAM}"))?;
        found.dead = dead.lines().filter_map(claimed).count() as u64;
        Ok(Some(found))
    }
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
