//! The brokers of a run, with what can be done to them.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tests_integration::proxy::Proxy;
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use xtask::brokers::{Brokers, Options, Private, State};

use crate::backend::{Backend, ReadBack, Wish};
use crate::clock;
use crate::faults::Fault;
use crate::identity::Identity;

/// Brokers of its own, on this machine.
pub(crate) struct Site {
    pub(crate) backend: &'static dyn Backend,
    wish: Wish,
    brokers: Arc<Private>,
    /// Where clients connect to, if faults of the network are to be made: one for each server.
    pub(crate) proxies: Vec<Proxy>,
    topology: tempfile::TempPath,
}

/// A server that runs.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    node: String,
    process: Pid,
}

/// How long brokers may take to be whole again.
const LIMIT: Duration = Duration::from_secs(120);

impl Site {
    /// Starts the brokers.
    pub(crate) async fn start(
        backend: &'static dyn Backend,
        wish: &Wish,
        wanted: Options,
        topology: &str,
    ) -> Result<Self, String> {
        let failed = |error: std::io::Error| error.to_string();
        let mut options = backend.options(wish, wanted)?;
        let mut proxies = Vec::new();
        if wish.faults.iter().any(|kind| kind.is_of_network()) {
            for _ in 0..options.nodes() {
                proxies.push(Proxy::open().await.map_err(failed)?);
            }
            let ports: Vec<u16> = proxies.iter().map(|proxy| proxy.address().port()).collect();
            options = options.with_advertised_ports(&ports);
        }
        let brokers = blocking(move || Private::start("chaos", options)).await?;
        for (proxy, node) in proxies.iter().zip(brokers.servers()) {
            proxy.lead_to(brokers.address(node)?);
        }
        let mut file = tempfile::NamedTempFile::new().map_err(failed)?;
        file.write_all(topology.as_bytes()).map_err(failed)?;
        let topology = file.into_temp_path();
        let (wish, brokers) = (wish.clone(), Arc::new(brokers));
        Ok(Self { backend, wish, brokers, proxies, topology })
    }

    /// The environment of the processes.
    pub(crate) fn env(&self) -> Result<Vec<(String, String)>, String> {
        let mut env = self.brokers.env();
        for (proxy, node) in self.proxies.iter().zip(self.brokers.servers()) {
            let direct = self.brokers.address(node)?.port();
            let through = proxy.address().port();
            for (_, value) in env.iter_mut().filter(|(name, _)| !is_secret(name)) {
                *value = with_port(value, direct, through);
            }
        }
        env.extend(self.backend.env());
        env.push(("MESSAGING_BACKEND".to_owned(), self.backend.name().to_owned()));
        env.push(("MESSAGING_TOPOLOGY".to_owned(), self.topology.display().to_string()));
        env.push(("RUST_LOG".to_owned(), "warn".to_owned()));
        Ok(env)
    }

    /// What no log may show.
    pub(crate) fn secrets(&self) -> Vec<String> {
        let all = self.brokers.env().into_iter();
        all.filter_map(|(name, value)| match is_secret(&name) {
            true => Some(value),
            false => password_of(&value).map(str::to_owned),
        })
        .collect()
    }

    /// The server that a fault meets.
    pub(crate) async fn target(&self, fault: &mut Fault) -> Result<Server, String> {
        let (kind, mut dice) = (fault.kind, fault.dice.clone());
        let (backend, brokers) = (self.backend, Arc::clone(&self.brokers));
        let target = move || {
            let node = backend.target(&brokers, kind, &mut dice)?;
            Ok((node, dice))
        };
        let (node, dice) = blocking(target).await?;
        fault.dice = dice;
        let process = self.running(&node).await?;
        let process = process.ok_or_else(|| format!("{node} does not run"))?;
        Ok(Server { node, process })
    }

    /// Kills a server at once, and waits until it is gone.
    pub(crate) async fn kill(&self, server: &Server) -> Result<(), String> {
        self.signal(server, Signal::KILL)?;
        while self.running(&server.node).await?.is_some() {
            sleep(Duration::from_millis(2)).await;
        }
        let (backend, wish, node) = (self.backend, self.wish.clone(), server.node.clone());
        self.with(move |brokers| backend.killed(&wish, brokers, &node)).await
    }

    pub(crate) fn signal(&self, server: &Server, signal: Signal) -> Result<(), String> {
        let Server { node, process } = server;
        kill_process(*process, signal).map_err(|error| format!("{node}: {error}"))
    }

    /// Stops a server in order.
    pub(crate) async fn stop(&self, server: &Server) -> Result<(), String> {
        let node = server.node.clone();
        self.with(move |brokers| brokers.stop(&node)).await
    }

    /// Starts a server again and tells when it first answered.
    pub(crate) async fn start_again(&self, server: &Server) -> Result<u64, String> {
        let node = server.node.clone();
        let started = self.with(move |brokers| brokers.start_node(&node));
        let ((), at) = tokio::try_join!(started, self.answers(server))?;
        Ok(at)
    }

    /// Waits until a server answers its own protocol, and tells when that was.
    pub(crate) async fn answers(&self, server: &Server) -> Result<u64, String> {
        loop {
            let node = server.node.clone();
            if self.with(move |brokers| brokers.state(&node)).await? == State::Up {
                return Ok(clock::now());
            }
            sleep(Duration::from_millis(2)).await;
        }
    }

    /// Makes a fault that only this backend has, and tells when it was over.
    pub(crate) async fn strike(&self, fault: &Fault, server: &Server) -> Result<u64, String> {
        let (backend, fault, node) = (self.backend, fault.clone(), server.node.clone());
        self.with(move |brokers| backend.strike(brokers, &fault, &node)).await
    }

    /// Waits until every node is there and the set is whole.
    pub(crate) async fn heal(&self) -> Result<(), String> {
        let whole = self.with(Brokers::start_missing);
        let in_time = tokio::time::timeout(LIMIT, whole).await;
        in_time.map_err(|_| format!("the brokers were not whole after {} s", LIMIT.as_secs()))?
    }

    pub(crate) async fn settings(&self) -> Result<Vec<(String, String)>, String> {
        let backend = self.backend;
        self.with(move |brokers| backend.settings(brokers)).await
    }

    pub(crate) async fn read_back(&self, identity: Identity) -> Result<Option<ReadBack>, String> {
        let backend = self.backend;
        self.with(move |brokers| backend.read_back(brokers, &identity)).await
    }

    async fn running(&self, node: &str) -> Result<Option<Pid>, String> {
        let node = node.to_owned();
        let pid = self.with(move |brokers| brokers.pid(&node)).await?;
        Ok(pid.and_then(Pid::from_raw))
    }

    async fn with<T: Send + 'static>(
        &self,
        act: impl FnOnce(&Brokers) -> Result<T, String> + Send + 'static,
    ) -> Result<T, String> {
        let brokers = Arc::clone(&self.brokers);
        blocking(move || act(&brokers)).await
    }
}

async fn blocking<T: Send + 'static>(
    act: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    spawn_blocking(act).await.map_err(|died| died.to_string())?
}

fn is_secret(name: &str) -> bool {
    name.ends_with("PASSWORD")
}

/// The password within a URL.
fn password_of(url: &str) -> Option<&str> {
    let (login, _) = url.split_once("://")?.1.split_once('@')?;
    Some(login.split_once(':')?.1)
}

/// The value of a variable with another port, wherever it stands: alone or after a colon.
fn with_port(value: &str, from: u16, to: u16) -> String {
    let (from, to) = (from.to_string(), to.to_string());
    if value == from {
        return to;
    }
    let mut parts = value.split(':');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let digits = part.bytes().take_while(u8::is_ascii_digit).count();
        let (port, rest) = part.split_at(digits);
        // What is longer is no port, but a password perhaps.
        let is_whole = !rest.starts_with(|next: char| next.is_alphanumeric() || next == '@');
        let port = if port == from && is_whole { &to } else { port };
        text.push_str(&format!(":{port}{rest}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_found_in_a_url() {
        assert_eq!(password_of("amqp://user:secret@127.0.0.1:5672/"), Some("secret"));
        assert_eq!(password_of("redis://127.0.0.1:6379/"), None);
    }

    #[test]
    fn clients_are_led_through_the_proxy() {
        for (value, led) in [
            ("6379", "7000"),
            ("redis://:6379a@127.0.0.1:6379/", "redis://:6379a@127.0.0.1:7000/"),
            ("127.0.0.1:16379,127.0.0.1:6379", "127.0.0.1:16379,127.0.0.1:7000"),
        ] {
            assert_eq!(with_port(value, 6379, 7000), led);
        }
    }
}
