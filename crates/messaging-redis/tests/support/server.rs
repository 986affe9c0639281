//! A server of a test's own: on a free port, in its own directory, with a password.

use std::net::{Ipv4Addr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use messaging_redis::RedisConfig;
use messaging_redis::config::{Address, Servers};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

/// A running server. Dropping it kills it.
pub(crate) struct Server {
    pub(crate) port: u16,
    child: Child,
    _directory: TempDir,
}

pub(crate) const PASSWORD: &str = "p@ss word/of%20this:test";

/// Why no server can be started, if none can.
pub(crate) fn missing() -> Option<String> {
    let error = Command::new("redis-server").arg("--version").output().err()?;
    Some(format!("redis-server can't be run: {error}; apt-get install redis-server"))
}

impl Server {
    /// Starts one; fails where the machine has none.
    pub(crate) async fn start(options: &[&str]) -> Self {
        assert_eq!(missing(), None);
        for _ in 0..10 {
            let port = free_port();
            let directory = tempfile::tempdir().unwrap();
            let child = spawn(port, &directory, options);
            let mut server = Self { port, child, _directory: directory };
            if server.answers().await {
                return server;
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
