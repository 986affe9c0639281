//! The broker of a run, with what can be done to it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tests_integration::proxy::Proxy;
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use xtask::brokers::{Kind, Options, Private};

use crate::clock;
use crate::role::Control;

/// A broker of its own, on this machine.
pub(crate) struct Site {
    brokers: Arc<Private>,
    node: String,
    /// Where clients connect to, if faults of the network are to be made.
    pub(crate) proxy: Option<Proxy>,
    topology: tempfile::TempPath,
}

/// The backends that can be tried.
pub(crate) const BACKENDS: [&str; 1] = ["redis-streams"];

impl Site {
    /// Starts the broker.
    pub(crate) async fn start(
        control: Option<Control>,
        fsync: &str,
        topology: &str,
        with_proxy: bool,
    ) -> Result<Self, String> {
        let mut options = Options::new(Kind::Redis).with_setting("appendfsync", fsync);
        if control == Some(Control::Volatile) {
            options = options.with_setting("appendonly", "no");
        }
        let brokers = blocking(move || Private::start("chaos", options)).await?;
        let servers = brokers.servers();
        let node = (*servers.first().ok_or("the broker has no server")?).to_owned();
        let failed = |error: std::io::Error| error.to_string();
        let proxy = match with_proxy {
            true => Some(Proxy::start(brokers.address(&node)?).await.map_err(failed)?),
            false => None,
        };
        let mut file = tempfile::NamedTempFile::new().map_err(failed)?;
        file.write_all(topology.as_bytes()).map_err(failed)?;
        let topology = file.into_temp_path();
        Ok(Self { brokers: Arc::new(brokers), node, proxy, topology })
    }

    /// The environment of the processes.
    pub(crate) fn env(&self, backend: &str) -> Result<Vec<(String, String)>, String> {
        let mut env = self.brokers.env();
        if let Some(proxy) = &self.proxy {
            let direct = self.brokers.address(&self.node)?.port().to_string();
            let through = proxy.address().port().to_string();
            for (_, value) in env.iter_mut().filter(|(name, _)| name != "REDIS_PASSWORD") {
                *value = value.replace(&format!(":{direct}/"), &format!(":{through}/"));
                if *value == direct {
                    value.clone_from(&through);
                }
            }
        }
        env.push(("MESSAGING_BACKEND".to_owned(), backend.to_owned()));
        env.push(("MESSAGING_TOPOLOGY".to_owned(), self.topology.display().to_string()));
        env.push(("RUST_LOG".to_owned(), "warn".to_owned()));
        Ok(env)
    }

    /// What no log may show.
    pub(crate) fn secrets(&self) -> Vec<String> {
        let env = self.brokers.env();
        let secret = env.into_iter().filter(|(name, _)| name.ends_with("PASSWORD"));
        secret.map(|(_, value)| value).collect()
    }

    /// The process of the server.
    pub(crate) async fn process(&self) -> Result<Pid, String> {
        self.running().await?.ok_or_else(|| format!("{} does not run", self.node))
    }

    /// Kills the server at once, and waits until it is gone.
    pub(crate) async fn kill(&self, process: Pid) -> Result<(), String> {
        kill_process(process, Signal::KILL).map_err(|error| format!("{}: {error}", self.node))?;
        while self.running().await?.is_some() {
            sleep(Duration::from_millis(2)).await;
        }
        Ok(())
    }

    async fn running(&self) -> Result<Option<Pid>, String> {
        let (brokers, node) = (Arc::clone(&self.brokers), self.node.clone());
        let pid = blocking(move || brokers.pid(&node)).await?;
        Ok(pid.and_then(Pid::from_raw))
    }

    pub(crate) async fn stop(&self) -> Result<(), String> {
        self.with(|brokers, node| brokers.stop(node)).await
    }

    /// Starts the server again and tells when it first answered.
    pub(crate) async fn start_again(&self) -> Result<u64, String> {
        let address = self.brokers.address(&self.node)?;
        let password = self.secrets().into_iter().next().unwrap_or_default();
        let started = self.with(|brokers, node| brokers.start_node(node));
        let answers = async {
            while !blocking_answers(address, password.clone()).await {
                sleep(Duration::from_millis(2)).await;
            }
            Ok(clock::now())
        };
        let ((), at) = tokio::try_join!(started, answers)?;
        Ok(at)
    }

    /// The output of `redis-cli`.
    pub(crate) async fn tool(&self, args: &[&str]) -> Result<String, String> {
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        let brokers = Arc::clone(&self.brokers);
        let run = move || {
            let output = brokers.redis_cli(&args)?.output().map_err(|error| error.to_string())?;
            let text = String::from_utf8(output.stdout).map_err(|error| error.to_string())?;
            if output.status.success() { Ok(text) } else { Err(format!("redis-cli: {text}")) }
        };
        blocking(run).await
    }

    async fn with(
        &self,
        act: impl FnOnce(&Private, &str) -> Result<(), String> + Send + 'static,
    ) -> Result<(), String> {
        let (brokers, node) = (Arc::clone(&self.brokers), self.node.clone());
        blocking(move || act(&brokers, &node)).await
    }
}

async fn blocking<T: Send + 'static>(
    act: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    spawn_blocking(act).await.map_err(|died| died.to_string())?
}

async fn blocking_answers(address: SocketAddr, password: String) -> bool {
    let asked = blocking(move || ping(address, &password).map_err(|error| error.to_string()));
    asked.await.unwrap_or(false)
}

/// Whether the server answers its own protocol, and not only that it is loading.
fn ping(address: SocketAddr, password: &str) -> std::io::Result<bool> {
    let limit = Duration::from_millis(500);
    let mut stream = TcpStream::connect_timeout(&address, limit)?;
    stream.set_read_timeout(Some(limit))?;
    stream.write_all(format!("AUTH {password}\r\nPING\r\n").as_bytes())?;
    let mut answer = Vec::new();
    let mut buffer = [0; 256];
    while answer.iter().filter(|byte| **byte == b'\n').count() < 2 {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Ok(false);
        }
        answer.extend_from_slice(buffer.get(..count).unwrap_or_default());
    }
    Ok(answer.ends_with(b"+PONG\r\n"))
}
