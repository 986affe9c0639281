//! RabbitMQ: one node or a cluster, each with the management plugin.

mod management;

use std::ffi::OsString;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

pub use self::management::Management;
use super::plan::{Node, Role, write_secret};
use super::ports::Ports;
use super::process::Launch;
use super::recipe::Recipe;
use super::until::until;
use super::{Brokers, Kind, LIMIT, Options, State, install};

/// Where to connect without configuration; further nodes follow.
const USUAL_PORT: u16 = 5672;
const USUAL_HTTP_PORT: u16 = 15672;

/// The user who may do everything.
const USER: &str = "messaging";

/// The package and its scripts. Those in the path switch to another user and his node.
const PACKAGE: &str = "rabbitmq-server";
const SCRIPTS: &str = "/usr/lib/rabbitmq/bin";

#[derive(Debug)]
pub(super) struct RabbitMq;

impl Recipe for RabbitMq {
    fn install(&self, _: &Options) -> Result<(), String> {
        script(PACKAGE).map(drop)
    }

    fn nodes(&self, options: &Options, ports: &mut Ports) -> Result<Vec<Node>, String> {
        let name = "epmd".to_owned();
        let port = ports.free()?;
        let mut nodes = vec![Node { name, role: Role::Support, port, peers: 0, second: 0 }];
        for (number, offset) in (1..=options.nodes).zip(0..) {
            let usual = |first: u16| options.usual_ports.then_some(first + offset);
            nodes.push(Node {
                name: format!("rabbitmq-{number}"),
                role: Role::Server,
                port: ports.usual(usual(USUAL_PORT))?,
                peers: ports.free()?,
                second: ports.usual(usual(USUAL_HTTP_PORT))?,
            });
        }
        Ok(nodes)
    }

    fn program(&self, node: &Node) -> &'static str {
        if node.role == Role::Support { "epmd" } else { "beam.smp" }
    }

    fn launch(&self, brokers: &Brokers, node: &Node) -> Result<Launch, String> {
        let env = erlang(brokers);
        if node.role == Role::Support {
            let args = ["-address", "127.0.0.1", "-port", &node.port.to_string()];
            let args = args.map(OsString::from).to_vec();
            return Ok(Launch { program: install::program("epmd", "erlang-base")?, args, env });
        }
        let dir = brokers.dir_of(node);
        write_secret(&brokers.dir.join(COOKIE), &brokers.plan.id)?;
        write_secret(&dir.join("rabbitmq.conf"), &configuration(brokers, node))?;
        write_secret(&dir.join("enabled_plugins"), "[rabbitmq_management].\n")?;
        Ok(Launch { program: script(PACKAGE)?, args: Vec::new(), env: server(env, &dir, node) })
    }

    fn answers(&self, _: &Brokers, node: &Node) -> Result<(), String> {
        if node.role == Role::Support {
            return connect(node.port).map(drop);
        }
        let mut stream = connect(node.port)?;
        let failed = |error: std::io::Error| format!("{}: {error}", node.name);
        // The header of AMQP 0-9-1; a server answers with the method connection.start (10, 10).
        stream.write_all(b"AMQP\x00\x00\x09\x01").map_err(failed)?;
        let mut start = [0; 11];
        stream.read_exact(&mut start).map_err(failed)?;
        match start {
            [1, 0, 0, _, _, _, _, 0, 10, 0, 10] => Ok(()),
            _ => Err(format!("{} does not speak AMQP 0-9-1", node.name)),
        }
    }

    /// Waits until the management API of every node says that all of them run, and until all have
    /// booted: a node of several answers a moment before, and what is declared then passes it by.
    fn join(&self, brokers: &Brokers, role: Role) -> Result<(), String> {
        if role != Role::Server {
            return Ok(());
        }
        let nodes: Vec<&Node> = brokers.plan.with_role(Role::Server).collect();
        until(LIMIT, || {
            let whole = nodes.iter().try_for_each(|node| {
                let running =
                    Management::new(node.second, USER, &brokers.plan.password).running()?;
                match running == nodes.len() {
                    true => Ok(()),
                    false => Err(format!("{}: {running} nodes run", node.name)),
                }
            });
            whole.into()
        })?;
        match nodes[..] {
            [_] => Ok(()),
            _ => nodes.into_iter().try_for_each(|node| await_startup(brokers, node)),
        }
    }

    fn env(&self, brokers: &Brokers) -> Vec<(&'static str, String)> {
        let password = &brokers.plan.password;
        let mut env = Vec::new();
        if let Some(Node { port, second, .. }) = brokers.plan.with_role(Role::Server).next() {
            let at = format!("{USER}:{password}@127.0.0.1");
            env.push(("RABBITMQ_URL", format!("amqp://{at}:{port}/")));
            env.push(("RABBITMQ_MANAGEMENT_URL", format!("http://{at}:{second}")));
        }
        if brokers.plan.options.nodes > 1 {
            let nodes = brokers.plan.with_role(Role::Server);
            let entry = |it: &Node| format!("{}@127.0.0.1:{}", it.name, it.port);
            let nodes: Vec<String> = nodes.map(entry).collect();
            env.push(("RABBITMQ_CLUSTER_NODES", nodes.join(",")));
        }
        if brokers.plan.options.nodes >= 3 {
            env.push(("RABBITMQ_HA_MODE", "all".to_owned()));
        }
        env
    }
}

/// The cookie by which Erlang nodes know each other, in what they take for the home directory.
const COOKIE: &str = ".erlang.cookie";

fn script(name: &str) -> Result<PathBuf, String> {
    install::program(PACKAGE, PACKAGE)?;
    let path = Path::new(SCRIPTS).join(name);
    match path.is_file() {
        true => Ok(path),
        false => Err(format!("{} is missing: install Debian's {PACKAGE}", path.display())),
    }
}

/// The name of a node among Erlang nodes.
fn erlang_name(node: &Node) -> String {
    format!("{}@localhost", node.name)
}

/// A node that forwards what has waited for its retry may lose the answer with another node. It sends it
/// again after so many milliseconds, in place of three minutes.
const FORWARDED_AGAIN: &str = "-rabbit dead_letter_worker_publisher_confirm_timeout 10000";

/// What every Erlang program of ours needs: where the others are, and that it listens nowhere else.
fn erlang(brokers: &Brokers) -> Vec<(String, OsString)> {
    let epmd = brokers.plan.with_role(Role::Support).next().map_or(0, |node| node.port);
    let loopback = "-kernel inet_dist_use_interface {127,0,0,1}";
    let conf = brokers.dir.join("none.conf");
    [
        ("HOME", brokers.dir.clone().into_os_string()),
        ("ERL_EPMD_PORT", epmd.to_string().into()),
        ("ERL_EPMD_ADDRESS", "127.0.0.1".into()),
        ("RABBITMQ_CTL_ERL_ARGS", loopback.into()),
        ("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", format!("{loopback} {FORWARDED_AGAIN}").into()),
        // The machine's own configuration is not for us.
        ("RABBITMQ_CONF_ENV_FILE", conf.clone().into_os_string()),
        ("RABBITMQ_ADVANCED_CONFIG_FILE", conf.into_os_string()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec()
}

fn server(mut env: Vec<(String, OsString)>, dir: &Path, node: &Node) -> Vec<(String, OsString)> {
    let own = [
        ("RABBITMQ_NODENAME", erlang_name(node).into()),
        ("RABBITMQ_DIST_PORT", node.peers.to_string().into()),
        ("RABBITMQ_CONFIG_FILE", dir.join("rabbitmq.conf").into_os_string()),
        ("RABBITMQ_ENABLED_PLUGINS_FILE", dir.join("enabled_plugins").into_os_string()),
        ("RABBITMQ_MNESIA_BASE", dir.join("data").into_os_string()),
        ("RABBITMQ_LOG_BASE", dir.join("logs").into_os_string()),
        ("RABBITMQ_PID_FILE", dir.join("rabbitmq.pid").into_os_string()),
        ("RABBITMQ_LOGS", "-".into()),
        // With it the script becomes the server, where it would else wait for it as a parent.
        ("RUNNING_UNDER_SYSTEMD", "true".into()),
    ];
    env.extend(own.map(|(name, value)| (name.to_owned(), value)));
    env
}

/// Nodes that find each other by their names when they are new.
fn configuration(brokers: &Brokers, node: &Node) -> String {
    let options = &brokers.plan.options;
    let mut lines = vec![
        ("listeners.tcp.1".to_owned(), format!("127.0.0.1:{}", node.port)),
        ("management.tcp.ip".to_owned(), "127.0.0.1".to_owned()),
        ("management.tcp.port".to_owned(), node.second.to_string()),
        ("default_user".to_owned(), USER.to_owned()),
        ("default_pass".to_owned(), brokers.plan.password.clone()),
        ("net_ticktime".to_owned(), "15".to_owned()),
    ];
    if options.nodes > 1 {
        let name = "cluster_formation.peer_discovery_backend".to_owned();
        lines.push((name, "classic_config".to_owned()));
        for (number, peer) in (1..).zip(brokers.plan.with_role(Role::Server)) {
            let name = format!("cluster_formation.classic_config.nodes.{number}");
            lines.push((name, erlang_name(peer)));
        }
    }
    if options.nodes >= 3 {
        lines.push(("cluster_partition_handling".to_owned(), "pause_minority".to_owned()));
    }
    lines.retain(|(name, _)| !options.settings.iter().any(|(other, _)| other == name));
    lines.extend(options.settings.iter().cloned());
    lines.iter().map(|(name, value)| format!("{name} = {value}\n")).collect()
}

fn connect(port: u16) -> Result<TcpStream, String> {
    let failed = |error: std::io::Error| format!("127.0.0.1:{port}: {error}");
    let limit = Duration::from_secs(2);
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let stream = TcpStream::connect_timeout(&address, limit).map_err(failed)?;
    stream.set_read_timeout(Some(limit)).map_err(failed)?;
    stream.set_write_timeout(Some(limit)).map_err(failed)?;
    Ok(stream)
}

/// The management API of the first node that answers.
pub(super) fn management(brokers: &Brokers) -> Result<Management, String> {
    let server = first_up(brokers)?;
    Ok(Management::new(server.second, USER, &brokers.plan.password))
}

/// `rabbitmqctl` for the first node that answers, unless the arguments name another.
pub(super) fn ctl(brokers: &Brokers) -> Result<Command, String> {
    ctl_of(brokers, first_up(brokers)?)
}

fn ctl_of(brokers: &Brokers, node: &Node) -> Result<Command, String> {
    let mut command = Command::new(script("rabbitmqctl")?);
    command.envs(erlang(brokers)).env("RABBITMQ_NODENAME", erlang_name(node));
    Ok(command)
}

/// Waits until a node has booted.
fn await_startup(brokers: &Brokers, node: &Node) -> Result<(), String> {
    let limit = LIMIT.as_secs().to_string();
    let mut command = ctl_of(brokers, node)?;
    let waited = command.args(["--quiet", "await_startup", "--timeout", &limit]).output();
    let output = waited.map_err(|error| format!("rabbitmqctl: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => {
            let why = String::from_utf8_lossy(&output.stderr);
            Err(format!("{} does not boot: {}", node.name, why.trim()))
        }
    }
}

fn first_up(brokers: &Brokers) -> Result<&Node, String> {
    if brokers.kind() != Kind::RabbitMq {
        return Err(format!("this is not for {}", brokers.kind().name()));
    }
    let mut servers = brokers.plan.with_role(Role::Server);
    let server = servers.find(|node| brokers.state(&node.name) == Ok(State::Up));
    server.ok_or_else(|| "no RabbitMQ node answers".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::brokers::Private;
    use crate::brokers::plan::Plan;

    fn ctl(brokers: &Brokers, args: &[&str]) -> String {
        let output = brokers.rabbitmqctl(args).unwrap().output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    #[test]
    fn a_node_that_was_killed_comes_back_with_what_was_declared() {
        let brokers = Private::start("test", Options::new(Kind::RabbitMq)).unwrap();
        ctl(&brokers, &["add_vhost", "a"]);
        let address = brokers.address("rabbitmq-1").unwrap();
        brokers.kill("rabbitmq-1").unwrap();
        assert_eq!(brokers.state("rabbitmq-1"), Ok(State::Down));
        brokers.start_node("rabbitmq-1").unwrap();
        let hosts = ctl(&brokers, &["--quiet", "list_vhosts"]);
        assert!(hosts.lines().any(|line| line == "a"), "{hosts}");
        assert_eq!(brokers.address("rabbitmq-1").unwrap(), address);
    }

    #[test]
    fn clients_are_told_of_every_node_by_name_and_address() {
        let node = |number: u16| Node {
            name: format!("rabbitmq-{number}"),
            role: Role::Server,
            port: 7000 + number,
            peers: 0,
            second: 8000 + number,
        };
        let options = Options::new(Kind::RabbitMq).with_nodes(3);
        let nodes = (1..=3).map(node).collect();
        let (password, id) = ("p".to_owned(), String::new());
        let brokers = Brokers { dir: "/d".into(), plan: Plan { options, nodes, password, id } };
        let env = RabbitMq.env(&brokers);
        let (_, told) = env.iter().find(|(name, _)| *name == "RABBITMQ_CLUSTER_NODES").unwrap();
        let all = "rabbitmq-1@127.0.0.1:7001,rabbitmq-2@127.0.0.1:7002,rabbitmq-3@127.0.0.1:7003";
        assert_eq!(told, all);
    }
}
