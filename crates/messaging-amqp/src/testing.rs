//! A real server for tests, and a network in front of it that can be stopped.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy, split};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

use crate::config::{Address, Management, RabbitConfig};

/// The server that `cargo xtask env` tells of.
pub(crate) fn server() -> RabbitConfig {
    let hint = "cargo xtask up rabbitmq, then cargo xtask env";
    assert!(std::env::var_os("RABBITMQ_URL").is_some(), "RABBITMQ_URL is not set; {hint}");
    RabbitConfig::from_env().unwrap()
}

/// The same server, as a user of its own with these permissions.
pub(crate) async fn with_user(config: &RabbitConfig, permissions: &str) -> RabbitConfig {
    let api = config.management.clone().unwrap();
    let user = unique("user");
    manage(&api, "PUT", &format!("users/{user}"), r#"{"password":"p","tags":""}"#).await;
    manage(&api, "PUT", &format!("permissions/%2F/{user}"), permissions).await;
    config.clone().with_login(&user, "p")
}

/// A name that no other test uses.
pub(crate) fn unique(what: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("test-{what}-{}-{number}", std::process::id())
}

pub(crate) fn soon() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

/// Counts the panics of this runtime's tasks from now on: the client library must not have any.
pub(crate) fn panics() -> Arc<AtomicU64> {
    let count = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&count);
    let ours = Handle::current().id();
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if Handle::try_current().is_ok_and(|runtime| runtime.id() == ours) {
            counted.fetch_add(1, Ordering::SeqCst);
        }
        before(info);
    }));
    count
}

/// What flows through a [`Proxy`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    Both,
    /// The server does not get what the client sends, as when it is short of memory.
    Answers,
    Nothing,
}

/// A network between client and server.
pub(crate) struct Proxy {
    pub(crate) address: Address,
    flow: watch::Sender<Flow>,
    links: watch::Sender<usize>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    pub(crate) async fn start(server: &RabbitConfig) -> Self {
        Self::start_with(server, None).await
    }

    /// As [`Proxy::start`]; clients speak TLS to it.
    pub(crate) async fn start_with(server: &RabbitConfig, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let target = server.nodes[0].clone();
        let (flow, seen) = watch::channel(Flow::Both);
        let links = watch::Sender::new(0);
        let count = links.clone();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut links = JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let target = (target.host.clone(), target.port);
                let seen = seen.clone();
                let (tls, count) = (tls.clone(), count.clone());
                links.spawn(async move {
                    count.send_modify(|links| *links += 1);
                    link(client, target, tls, seen).await;
                    count.send_modify(|links| *links -= 1);
                });
            }
        });
        Self { address: Address::new("127.0.0.1", port), flow, links, _tasks: tasks }
    }

    pub(crate) fn set(&self, flow: Flow) {
        self.flow.send_replace(flow);
    }

    /// How many connections go through it.
    pub(crate) fn links(&self) -> usize {
        *self.links.borrow()
    }

    /// Waits until at most so many connections go through it.
    pub(crate) async fn at_most(&self, most: usize) {
        self.links.subscribe().wait_for(|links| *links <= most).await.unwrap();
    }
}

async fn link(
    client: TcpStream,
    target: (String, u16),
    tls: Option<TlsAcceptor>,
    flow: watch::Receiver<Flow>,
) {
    let Ok(server) = TcpStream::connect(target).await else { return };
    match tls {
        Some(tls) => {
            // A client that refuses the certificate ends here.
            if let Ok(client) = tls.accept(client).await {
                join(client, server, flow).await;
            }
        }
        None => join(client, server, flow).await,
    }
}

async fn join(
    client: impl AsyncRead + AsyncWrite,
    server: impl AsyncRead + AsyncWrite,
    flow: watch::Receiver<Flow>,
) {
    let (from_client, to_client) = split(client);
    let (from_server, to_server) = split(server);
    tokio::select! {
        () = pump(from_client, to_server, flow.clone(), Flow::Both) => {}
        () = pump(from_server, to_client, flow, Flow::Answers) => {}
    }
}

/// Copies while the flow is `Both`, or `also`.
async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut flow: watch::Receiver<Flow>,
    also: Flow,
) {
    let mut buffer = vec![0; 65_536];
    loop {
        if flow.wait_for(|flow| *flow == Flow::Both || *flow == also).await.is_err() {
            return;
        }
        tokio::select! {
            read = from.read(&mut buffer) => match read {
                Ok(0) | Err(_) => return,
                Ok(length) => {
                    let allowed = |flow: &Flow| *flow == Flow::Both || *flow == also;
                    if flow.wait_for(allowed).await.is_err()
                        || to.write_all(&buffer[..length]).await.is_err()
                    {
                        return;
                    }
                    to.flush().await.ok();
                }
            },
            changed = flow.changed() => if changed.is_err() { return },
        }
    }
}

/// One request to the management API; the body of its answer.
pub(crate) async fn manage(api: &Management, method: &str, path: &str, body: &str) -> String {
    let login = base64(format!("{}:{}", api.user, api.password.reveal()).as_bytes());
    let request = format!(
        "{method} {}/api/{path} HTTP/1.0\r\nAuthorization: Basic {login}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        api.path,
        body.len()
    );
    let mut stream = TcpStream::connect((&*api.address.host, api.address.port)).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    copy(&mut stream, &mut answer).await.unwrap();
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 2") || head.starts_with("HTTP/1.0 2"), "{path}: {answer}");
    body.to_owned()
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0_u32, |word, byte| (word << 8) | u32::from(*byte));
        let word = word << (8 * (3 - chunk.len()));
        for at in 0..4 {
            let digit = DIGITS[(word >> (18 - 6 * at)) as usize & 63];
            text.push(if at <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    text
}
