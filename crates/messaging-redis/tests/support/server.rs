//! A server of a test's own: on a free port, in its own directory, with a password.

use std::net::{Ipv4Addr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use messaging_redis::RedisConfig;
use messaging_redis::config::{Address, Servers};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

/// A running server. Dropping it kills it.
pub(crate) struct Server {
    pub(crate) port: u16,
    options: &'static [&'static str],
    directory: TempDir,
    child: Child,
}

pub(crate) const PASSWORD: &str = "p@ss word/of%20this:test";

impl Server {
    /// Starts one; `None` where the machine has none, which is a failure in CI.
    pub(crate) async fn start(options: &'static [&'static str]) -> Option<Self> {
        if let Err(error) = Command::new("redis-server").arg("--version").output() {
            let reason =
                format!("redis-server can't be run: {error}; apt-get install redis-server");
            assert!(std::env::var_os("CI").is_none(), "{reason}");
            eprintln!("ignored: {reason}");
            return None;
        }
        for _ in 0..10 {
            let port = free_port();
            let directory = tempfile::tempdir().unwrap();
            let child = spawn(port, &directory, options);
            let mut server = Self { port, options, directory, child };
            if server.answers().await {
                return Some(server);
            }
        }
        panic!("redis-server ends at once, on ten ports");
    }

    /// Whether it comes to answer; `false` if it has ended, as when its port was taken.
    async fn answers(&mut self) -> bool {
        let answering = async {
            loop {
                if self.child.try_wait().unwrap().is_some() {
                    return false;
                }
                if self.client().get_multiplexed_async_connection().await.is_ok() {
                    return true;
                }
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(Duration::from_secs(20), answering).await.expect("redis-server does not answer")
    }

    pub(crate) fn config(&self) -> RedisConfig {
        let address = Address::new("127.0.0.1", self.port);
        RedisConfig::default().with_servers(Servers::Node(address)).with_password(PASSWORD)
    }

    /// A client of others.
    pub(crate) fn client(&self) -> redis::Client {
        use redis::IntoConnectionInfo;
        let info = ("127.0.0.1", self.port).into_connection_info().unwrap();
        let login = redis::RedisConnectionInfo::default().set_password(PASSWORD);
        redis::Client::open(info.set_redis_settings(login)).unwrap()
    }

    /// Sends one command.
    pub(crate) async fn run(&self, command: &redis::Cmd) -> redis::Value {
        let mut connection = self.client().get_multiplexed_async_connection().await.unwrap();
        command.query_async(&mut connection).await.unwrap()
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again on its port.
    pub(crate) async fn revive(&mut self) {
        self.child = spawn(self.port, &self.directory, self.options);
        assert!(self.answers().await, "redis-server does not come back");
    }

    /// It stays connected and says nothing more.
    pub(crate) fn deafen(&self) {
        kill_process(Pid::from_child(&self.child), Signal::STOP).unwrap();
    }

    pub(crate) fn wake(&self) {
        kill_process(Pid::from_child(&self.child), Signal::CONT).unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

fn spawn(port: u16, directory: &TempDir, options: &[&str]) -> Child {
    Command::new("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--requirepass", PASSWORD])
        .args(["--save", "", "--appendonly", "no", "--logfile", "redis.log", "--dir"])
        .arg(directory.path())
        .args(options)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}
