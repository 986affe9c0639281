//! Which settings of the server keep the promises of this backend.

use messaging_core::Result;
use messaging_core::driver::{Health, Promise};

use super::super::driver::Shared;
use crate::config::Servers;
use crate::connection::Link;
use crate::wire::{array, bytes, text};

pub(super) async fn health(shared: &Shared) -> Health {
    let asked = shared.connector.in_time(ask(shared)).await;
    asked.unwrap_or_else(|error| Health::not_serving(error.to_string()))
}

async fn ask(shared: &Shared) -> Result<Health> {
    let mut link = shared.connector.command().await?;
    let info = link.run(&redis::cmd("INFO"), "health").await?;
    let info = bytes(info).unwrap_or_default();
    let info = String::from_utf8_lossy(&info).into_owned();
    let of = |name: &str| {
        let found = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        found.unwrap_or_default().trim().to_owned()
    };
    let fsync = setting(&mut link, "appendfsync").await;
    let mut health = Health::serving()
        .with_version(of("redis_version"))
        .with_promise(Promise::kept("a confirmed publish reaches every group at least once"))
        .with_promise(durable(&of("aof_enabled"), fsync.as_deref()))
        .with_promise(complete(&of("maxmemory"), &of("maxmemory_policy")));
    let failover = "a confirmed publish survives a failover";
    health = health.with_promise(match &shared.config.servers {
        Servers::Node(_) => Promise::not_made(failover, "there is one server"),
        _ if shared.config.wait_replicas > 0 => Promise::not_made(
            failover,
            "replication is asynchronous; REDIS_WAIT_REPLICAS makes what may be lost unknown",
        ),
        _ => Promise::not_made(failover, "replication is asynchronous"),
    });
    if of("role") == "slave" {
        health = health.with_note("this server is a replica and takes no writes");
    }
    if of("aof_last_write_status") == "err" {
        health = health.with_note("the last write of the append-only file failed");
    }
    Ok(health)
}

fn durable(aof_enabled: &str, fsync: Option<&str>) -> Promise {
    let what = "a confirmed publish survives a crash of the server";
    if aof_enabled != "1" {
        return Promise::broken(what, "appendonly is no and has to be yes");
    }
    match fsync {
        Some("always") => Promise::kept(what),
        Some(other) => {
            Promise::broken(what, format!("appendfsync is {other} and has to be always"))
        }
        None => Promise::broken(what, "appendfsync can't be read and has to be always"),
    }
}

fn complete(maxmemory: &str, policy: &str) -> Promise {
    let what = "nothing is evicted";
    if maxmemory == "0" || policy == "noeviction" {
        return Promise::kept(what);
    }
    Promise::broken(what, format!("maxmemory-policy is {policy} and has to be noeviction"))
}

/// A setting of the server, where it may be read.
async fn setting(link: &mut Link, name: &str) -> Option<String> {
    let mut command = redis::cmd("CONFIG");
    command.arg("GET").arg(name);
    let answer = array(link.run(&command, "health").await.ok()?);
    answer.get(1).and_then(text).map(str::to_owned)
}
