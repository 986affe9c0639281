//! Redis, Streams and Pub/Sub: on one server, on a primary with Sentinels, or on a cluster.

use std::time::Duration;

use xtask::brokers::{self, Brokers, Options, RedisMode};

use super::{Backend, ReadBack, Wish, output, pause, until};
use crate::clock;
use crate::dice::Dice;
use crate::faults::{Fault, Kind};
use crate::group::{Group, LANES, STREAM};
use crate::identity::Identity;
use crate::role::Control;

/// Redis Streams.
#[derive(Debug)]
pub(super) struct Streams;

/// Redis Pub/Sub.
#[derive(Debug)]
pub(super) struct PubSub;

/// How long Sentinels may take to make another server the primary.
const FAILOVER: Duration = Duration::from_secs(60);

impl Backend for Streams {
    fn name(&self) -> &'static str {
        "redis-streams"
    }

    fn broker(&self) -> brokers::Kind {
        brokers::Kind::Redis
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
        ]
    }

    fn options(&self, wish: &Wish, options: Options) -> Result<Options, String> {
        let options = checked(wish, options)?;
        Ok(match wish.control {
            Some(Control::Volatile) => options.with_setting("appendonly", "no"),
            _ => options,
        })
    }

    fn takes(&self, kind: Kind) -> Duration {
        takes(kind)
    }

    fn target(&self, brokers: &Brokers, _: Kind, dice: &mut Dice) -> Result<String, String> {
        target(brokers, dice)
    }

    fn strike(&self, brokers: &Brokers, fault: &Fault, node: &str) -> Result<u64, String> {
        fail_over(brokers, fault, node)
    }

    fn settings(&self, brokers: &Brokers) -> Result<Vec<(String, String)>, String> {
        settings(brokers)
    }

    fn read_back(&self, brokers: &Brokers, run: &Identity) -> Result<Option<ReadBack>, String> {
        let mut found = ReadBack::default();
        let mut added = 0;
        for lane in 0..LANES {
            let key = if lane == 0 {
                format!("helixagent.{STREAM}")
            } else {
                format!("helixagent.{STREAM}:{lane}")
            };
            if tool(brokers, &["EXISTS", &key])?.trim() == "0" {
                continue;
            }
            let info = tool(brokers, &["XINFO", "STREAM", &key])?;
            added += field(&info, "entries-added").unwrap_or_default();
            let groups = tool(brokers, &["XINFO", "GROUPS", &key])?;
            found.pending += sum_of(&groups, "pending");
            // Counted, as the server's own lag was seen to be wrong after it had been killed.
            for last in values_of(&groups, "last-delivered-id") {
                let mut count = 0;
                let after = format!("({last}");
                read_entries(brokers, &key, &after, |line| count += u64::from(is_entry_id(line)))?;
                found.pending += count;
            }
            read_entries(brokers, &key, "-", |line| {
                found.kept.extend(run.claimed(line.as_bytes()).map(|(id, _)| id));
            })?;
        }
        found.added = Some(added);
        let dead = format!("helixagent.dlq.{STREAM}");
        read_entries(brokers, &dead, "-", |line| {
            found.dead += u64::from(run.claimed(line.as_bytes()).is_some());
        })?;
        Ok(Some(found))
    }
}

impl Backend for PubSub {
    fn name(&self) -> &'static str {
        "redis"
    }

    fn broker(&self) -> brokers::Kind {
        brokers::Kind::Redis
    }

    fn groups(&self) -> &'static [Group] {
        Group::AT_MOST_ONCE
    }

    fn controls(&self) -> &'static [Control] {
        &[Control::Silent]
    }

    /// Who was killed does not listen, and misses nothing: there are no faults of consumers.
    fn faults(&self) -> &'static [Kind] {
        &[
            Kind::ServerKill,
            Kind::ListenerCut,
            Kind::Reset,
            Kind::ServerRestart,
            Kind::ServerPause,
            Kind::HalfOpen,
            Kind::Cut,
            Kind::Failover,
        ]
    }

    fn options(&self, wish: &Wish, options: Options) -> Result<Options, String> {
        checked(wish, options)
    }

    fn takes(&self, kind: Kind) -> Duration {
        takes(kind)
    }

    fn target(&self, brokers: &Brokers, _: Kind, dice: &mut Dice) -> Result<String, String> {
        target(brokers, dice)
    }

    fn strike(&self, brokers: &Brokers, fault: &Fault, node: &str) -> Result<u64, String> {
        match fault.kind {
            Kind::ListenerCut => {
                let kill = ["CLIENT", "KILL", "TYPE", "pubsub"];
                brokers.redis_cli_of(node, kill).and_then(output)?;
                Ok(clock::now())
            }
            _ => fail_over(brokers, fault, node),
        }
    }

    fn settings(&self, brokers: &Brokers) -> Result<Vec<(String, String)>, String> {
        settings(brokers)
    }

    fn read_back(&self, _: &Brokers, _: &Identity) -> Result<Option<ReadBack>, String> {
        Ok(None)
    }
}

/// What both assume of the servers, and which faults need which.
fn checked(wish: &Wish, options: Options) -> Result<Options, String> {
    let mode = options.redis_mode();
    if mode != RedisMode::Single && wish.faults.iter().any(|kind| kind.is_of_network()) {
        return Err("faults of the network are for one server: Sentinels and clusters tell \
                    clients addresses that lead past the proxy"
            .to_owned());
    }
    if mode != RedisMode::Sentinel && wish.faults.contains(&Kind::Failover) {
        return Err("failover needs --redis-mode sentinel".to_owned());
    }
    Ok(options.with_setting("appendfsync", wish.fsync.as_deref().unwrap_or("always")))
}

/// Sentinels wait for 2 s, agree, and the server that was killed has to catch up.
const fn takes(kind: Kind) -> Duration {
    match kind {
        Kind::Failover => Duration::from_secs(15),
        _ => Duration::ZERO,
    }
}

/// A primary: nothing is written anywhere else.
fn target(brokers: &Brokers, dice: &mut Dice) -> Result<String, String> {
    let mut primaries = primaries(brokers);
    match primaries.len() {
        0 => Err("no Redis server is a primary".to_owned()),
        count => Ok(primaries.swap_remove(dice.below(count as u64) as usize)),
    }
}

/// Kills a primary and waits until another server has taken over; then the first one comes back.
fn fail_over(brokers: &Brokers, fault: &Fault, node: &str) -> Result<u64, String> {
    brokers.kill(node)?;
    let mut promoted = 0;
    until(FAILOVER, || {
        // Not the one that was killed: it does not run.
        let primary = primaries(brokers);
        promoted = clock::now();
        primary.first().map(drop).ok_or_else(|| format!("nobody took over from {node}"))
    })?;
    pause(fault.duration);
    brokers.start_node(node)?;
    // Until it follows, the next fault could meet the only copy.
    brokers.start_missing()?;
    Ok(promoted)
}

fn settings(brokers: &Brokers) -> Result<Vec<(String, String)>, String> {
    let names = [
        "appendonly",
        "appendfsync",
        "save",
        "maxmemory-policy",
        "no-appendfsync-on-rewrite",
        "min-replicas-to-write",
    ];
    let mut settings = Vec::new();
    let info = tool(brokers, &["INFO", "server"])?;
    let version = info.lines().find_map(|line| line.strip_prefix("redis_version:"));
    settings.push(("redis".to_owned(), version.unwrap_or("?").trim().to_owned()));
    let mode = format!("{:?}", brokers.options().redis_mode()).to_lowercase();
    settings.push(("servers".to_owned(), format!("{} ({mode})", brokers.servers().len())));
    // Clients take it from the environment of the runner.
    let replicas = std::env::var("REDIS_WAIT_REPLICAS").unwrap_or_else(|_| "0".to_owned());
    settings.push(("REDIS_WAIT_REPLICAS".to_owned(), replicas));
    for name in names {
        let text = tool(brokers, &["CONFIG", "GET", name])?;
        let value = text.lines().nth(1).unwrap_or_default();
        let value = if value.is_empty() { "(nothing)" } else { value };
        settings.push((name.to_owned(), value.to_owned()));
    }
    Ok(settings)
}

/// The servers that say that they are primaries.
fn primaries(brokers: &Brokers) -> Vec<String> {
    if brokers.options().redis_mode() == RedisMode::Single {
        return brokers.servers().into_iter().map(str::to_owned).collect();
    }
    let is_primary = |node: &&str| {
        let asked = brokers.redis_cli_of(node, ["INFO", "replication"]).and_then(output);
        asked.is_ok_and(|info| info.lines().any(|line| line.trim_end() == "role:master"))
    };
    brokers.servers().into_iter().filter(is_primary).map(str::to_owned).collect()
}

/// The output of `redis-cli`, connected to a primary.
fn tool(brokers: &Brokers, args: &[&str]) -> Result<String, String> {
    let primary = primaries(brokers).into_iter().next().ok_or("no Redis server is a primary")?;
    brokers.redis_cli_of(&primary, args).and_then(output)
}

/// Shows each line of each entry of a stream.
fn read_entries(
    brokers: &Brokers,
    key: &str,
    from: &str,
    mut see: impl FnMut(&str),
) -> Result<(), String> {
    let mut from = from.to_owned();
    loop {
        let page = tool(brokers, &["XRANGE", key, &from, "+", "COUNT", "2000"])?;
        page.lines().for_each(&mut see);
        let Some(last) = page.lines().rfind(|line| is_entry_id(line)) else { return Ok(()) };
        from = format!("({last}");
    }
}

fn is_entry_id(line: &str) -> bool {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    line.split_once('-').is_some_and(|(time, count)| number(time) && number(count))
}

/// The value on the line after a name.
fn field(text: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().skip_while(|line| *line != name);
    lines.nth(1)?.parse().ok()
}

fn sum_of(text: &str, name: &str) -> u64 {
    values_of(text, name).filter_map(|value| value.parse::<u64>().ok()).sum()
}

/// The values on the lines after a name, wherever it stands.
fn values_of<'a>(text: &'a str, name: &'a str) -> impl Iterator<Item = &'a str> {
    let lines = text.lines().zip(text.lines().skip(1));
    lines.filter(move |(line, _)| *line == name).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tools_answers_are_read() {
        let groups = "name\npool\npending\n2\nlag\n0\nname\nkeyed\npending\n3\nlag\n\n";
        assert_eq!((sum_of(groups, "pending"), sum_of(groups, "lag")), (5, 0));
        assert_eq!(field("length\n1\nentries-added\n77\n", "entries-added"), Some(77));
        assert!(is_entry_id("1732551234567-0") && !is_entry_id("application/octet-stream"));
    }
}
