//! Redis: one server, a primary with Sentinels, or a cluster.

mod cluster;
mod resp;
mod sentinel;

use std::fmt::Write;
use std::process::Command;

use self::resp::Connection;
use super::plan::{Node, Role, write_secret};
use super::ports::Ports;
use super::process::Launch;
use super::recipe::Recipe;
use super::{Brokers, Kind, Options, RedisMode, State, install};

/// Where to connect without configuration; further servers follow.
const USUAL_PORT: u16 = 6379;
const USUAL_SENTINEL_PORT: u16 = 26379;

#[derive(Debug)]
pub(super) struct Redis;

impl Recipe for Redis {
    fn install(&self, _: &Options) -> Result<(), String> {
        install::program("redis-cli", "redis-tools")?;
        install::program("redis-server", "redis-server").map(drop)
    }

    fn nodes(&self, options: &Options, ports: &mut Ports) -> Result<Vec<Node>, String> {
        let mut nodes = Vec::new();
        let sentinels = if options.redis_mode == RedisMode::Sentinel { 3 } else { 0 };
        let groups = [
            ("redis", Role::Server, options.nodes, USUAL_PORT),
            ("sentinel", Role::Sentinel, sentinels, USUAL_SENTINEL_PORT),
        ];
        for (name, role, count, first) in groups {
            for (number, port) in (1..=count).zip(first..) {
                let port = ports.usual(options.usual_ports.then_some(port))?;
                let in_cluster = options.redis_mode == RedisMode::Cluster;
                let peers = if in_cluster { ports.free()? } else { 0 };
                nodes.push(Node { name: format!("{name}-{number}"), role, port, peers, second: 0 });
            }
        }
        Ok(nodes)
    }

    fn program(&self, _: &Node) -> &'static str {
        "redis-server"
    }

    fn launch(&self, brokers: &Brokers, node: &Node) -> Result<Launch, String> {
        let file = brokers.dir_of(node).join("redis.conf");
        // Sentinels rewrite their own configuration and that of the servers when roles change.
        if !file.exists() {
            let text = match node.role {
                Role::Sentinel => sentinel::configuration(brokers, node),
                Role::Support | Role::Server => configuration(brokers, node),
            };
            write_secret(&file, &text)?;
        }
        let mut args = vec!["redis.conf".into()];
        if node.role == Role::Sentinel {
            args.push("--sentinel".into());
        }
        let program = install::program("redis-server", "redis-server")?;
        Ok(Launch { program, args, env: Vec::new() })
    }

    fn answers(&self, brokers: &Brokers, node: &Node) -> Result<(), String> {
        connect(brokers, node)?.call(&["PING"]).map(drop)
    }

    fn join(&self, brokers: &Brokers, role: Role) -> Result<(), String> {
        match (brokers.plan.options.redis_mode, role) {
            (RedisMode::Sentinel, Role::Server) => sentinel::wait_for_replicas(brokers),
            (RedisMode::Sentinel, Role::Sentinel) => sentinel::wait_for_quorum(brokers),
            (RedisMode::Cluster, Role::Server) => cluster::join(brokers),
            _ => Ok(()),
        }
    }

    fn env(&self, brokers: &Brokers) -> Vec<(&'static str, String)> {
        let password = &brokers.plan.password;
        let addresses = |role| {
            let nodes = brokers.plan.with_role(role);
            nodes.map(|node| format!("127.0.0.1:{}", node.port)).collect::<Vec<_>>().join(",")
        };
        let mut env = Vec::new();
        let first = match brokers.plan.options.redis_mode {
            RedisMode::Sentinel => sentinel::primary(brokers),
            RedisMode::Single | RedisMode::Cluster => brokers.plan.with_role(Role::Server).next(),
        };
        if let Some(Node { port, .. }) = first {
            env.push(("REDIS_HOST", "127.0.0.1".to_owned()));
            env.push(("REDIS_PORT", port.to_string()));
            env.push(("REDIS_PASSWORD", password.clone()));
            env.push(("REDIS_URL", format!("redis://:{password}@127.0.0.1:{port}/")));
        }
        match brokers.plan.options.redis_mode {
            RedisMode::Single => {}
            RedisMode::Sentinel => {
                env.push(("REDIS_SENTINELS", addresses(Role::Sentinel)));
                env.push(("REDIS_SENTINEL_MASTER", sentinel::MASTER.to_owned()));
            }
            RedisMode::Cluster => env.push(("REDIS_CLUSTER_NODES", addresses(Role::Server))),
        }
        env
    }
}

/// `redis-cli` for the first server that answers; in a cluster it follows redirections.
pub(super) fn cli(brokers: &Brokers) -> Result<Command, String> {
    if brokers.kind() != Kind::Redis {
        return Err(format!("redis-cli is not for {}", brokers.kind().name()));
    }
    let mut servers = brokers.servers().into_iter();
    let server = servers.find(|node| brokers.state(node) == Ok(State::Up));
    cli_of(brokers, server.ok_or("no Redis server answers")?)
}

/// `redis-cli` for one server.
pub(super) fn cli_of(brokers: &Brokers, server: &str) -> Result<Command, String> {
    let port = brokers.address(server)?.port().to_string();
    let mut command = Command::new(install::program("redis-cli", "redis-tools")?);
    command.args(["-h", "127.0.0.1", "-p", &port]).env("REDISCLI_AUTH", &brokers.plan.password);
    if brokers.plan.options.redis_mode == RedisMode::Cluster {
        command.arg("-c");
    }
    Ok(command)
}

/// Connects as its user; Sentinels have no password.
fn connect(brokers: &Brokers, node: &Node) -> Result<Connection, String> {
    let password = (node.role == Role::Server).then_some(&*brokers.plan.password);
    Connection::open(node.port, password)
}

/// A server that has written what it confirms, before it confirms.
fn configuration(brokers: &Brokers, node: &Node) -> String {
    let password = &brokers.plan.password;
    let mut text = format!(
        "bind 127.0.0.1\n\
         port {}\n\
         dir \"{}\"\n\
         requirepass {password}\n\
         masterauth {password}\n\
         save \"\"\n\
         appendonly yes\n\
         appendfsync always\n",
        node.port,
        brokers.dir_of(node).display(),
    );
    match brokers.plan.options.redis_mode {
        RedisMode::Single => {}
        RedisMode::Sentinel => text.push_str(&sentinel::replication(brokers, node)),
        RedisMode::Cluster => text.push_str(&cluster::membership(node)),
    }
    for (name, value) in &brokers.plan.options.settings {
        // Writing to a string can't fail.
        writeln!(text, "{name} {value}").unwrap_or_default();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::brokers::{Kind, Private};

    fn call(brokers: &Brokers, words: &[&str]) -> String {
        let node = brokers.plan.nodes.first().unwrap();
        connect(brokers, node).unwrap().text(words).unwrap()
    }

    #[test]
    fn what_a_server_confirmed_is_there_after_a_kill() {
        let brokers = Private::start("test", Options::new(Kind::Redis)).unwrap();
        let address = brokers.address("redis-1").unwrap();
        call(&brokers, &["SET", "a", "1"]);
        brokers.kill("redis-1").unwrap();
        assert_eq!(brokers.state("redis-1"), Ok(State::Down));
        brokers.start_node("redis-1").unwrap();
        assert_eq!(call(&brokers, &["GET", "a"]), "1");
        assert_eq!(brokers.address("redis-1").unwrap(), address);
    }

    #[test]
    fn settings_win_over_ours_and_volatile_servers_forget() {
        let options = Options::new(Kind::Redis).with_setting("appendonly", "no");
        let brokers = Private::start("test", options).unwrap();
        call(&brokers, &["SET", "a", "1"]);
        brokers.restart("redis-1").unwrap();
        assert_eq!(call(&brokers, &["EXISTS", "a"]), "0");
    }

    #[test]
    fn a_second_start_is_no_start_and_other_options_are_refused() {
        let brokers = Private::start("test", Options::new(Kind::Redis)).unwrap();
        let pid = brokers.pid("redis-1").unwrap();
        let again = Brokers::start(&brokers.dir, Options::new(Kind::Redis)).unwrap();
        assert_eq!(again.pid("redis-1").unwrap(), pid);
        let others = Options::new(Kind::Redis).with_redis_mode(RedisMode::Cluster);
        assert!(Brokers::start(&brokers.dir, others).unwrap_err().contains("other options"));
    }

    #[test]
    fn a_paused_server_is_silent_until_it_is_resumed() {
        let brokers = Private::start("test", Options::new(Kind::Redis)).unwrap();
        brokers.pause("redis-1").unwrap();
        assert_eq!(brokers.state("redis-1"), Ok(State::Paused));
        brokers.resume("redis-1").unwrap();
        assert_eq!(brokers.state("redis-1"), Ok(State::Up));
    }

    #[test]
    fn brokers_are_found_again_with_nothing_but_their_directory() {
        let brokers = Private::start("test", Options::new(Kind::Redis)).unwrap();
        let found = Brokers::load(&brokers.dir).unwrap().unwrap();
        found.kill("redis-1").unwrap();
        assert_eq!(brokers.state("redis-1"), Ok(State::Down));
        assert!(brokers.kill("redis-2").unwrap_err().contains("there are redis-1"));
    }
}
