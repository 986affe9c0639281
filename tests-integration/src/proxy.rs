//! A TCP proxy that makes faults between clients and a server.
//!
//! A [`Proxy`] listens on a port of its own and passes everything on, until it is told otherwise:
//! [`Proxy::set`] changes what it does from now on, to the connections that there are as well;
//! [`Proxy::cut`] ends them. What it holds back is late, never lost: when it passes again, bytes
//! arrive in order, as after a partition of the network.

mod link;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What a proxy does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// It passes everything on.
    #[default]
    Pass,
    /// It passes everything on after this time.
    Delay(Duration),
    /// Both ends stay connected, and nothing is passed on that way.
    Swallow(Way),
    /// Requests are passed on, and of the answers only so many bytes on each connection.
    Half(u64),
    /// Nobody can connect; the connections that there are go on.
    Refuse,
}

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From client to server.
    Requests,
    /// From server to client.
    Answers,
    /// Both ways.
    Both,
}

/// How connections are ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cut {
    /// By a reset (RST).
    Reset,
    /// In order (FIN).
    #[default]
    Finish,
}

/// A proxy in front of one server. It ends, and its connections with it, when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    orders: watch::Sender<Orders>,
    links: watch::Receiver<Links>,
    listening: watch::Receiver<bool>,
    _accepting: JoinSet<()>,
}

/// How many connections there are, by the number of the cut that they came after.
type Links = BTreeMap<u64, usize>;

/// What the connections are to do.
#[derive(Clone, Copy, Debug, Default)]
struct Orders {
    mode: Mode,
    /// How often the mode was set; what is counted in a mode begins anew with it.
    set: u64,
    /// How often all connections were ended, and how the last time.
    cuts: u64,
    how: Cut,
    /// Where new connections lead to.
    server: Option<SocketAddr>,
}

impl Proxy {
    /// Starts to listen on a free port of the loopback address.
    ///
    /// # Errors
    /// When there is none.
    pub async fn start(server: SocketAddr) -> io::Result<Self> {
        let proxy = Self::open().await?;
        proxy.lead_to(server);
        Ok(proxy)
    }

    /// Starts to listen before its server is known; until then it ends every connection.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn open() -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let (orders, ordered) = watch::channel(Orders::default());
        let (count, links) = watch::channel(Links::new());
        let (hears, listening) = watch::channel(true);
        let mut accepting = JoinSet::new();
        let door = Door { address, ordered, count: Arc::new(count), hears };
        accepting.spawn(door.keep(listener));
        Ok(Self { address, orders, links, listening, _accepting: accepting })
    }

    /// Leads new connections to this server.
    pub fn lead_to(&self, server: SocketAddr) {
        self.orders.send_modify(|orders| orders.server = Some(server));
    }

    /// Where clients connect to.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes what it does. When it returns, nobody can connect who is to be refused, and
    /// everybody else can.
    pub async fn set(&self, mode: Mode) {
        self.orders.send_modify(|orders| (orders.mode, orders.set) = (mode, orders.set + 1));
        let hears = mode != Mode::Refuse;
        // It fails only where nobody listens any more.
        drop(self.listening.clone().wait_for(|listening| *listening == hears).await);
    }

    /// Ends every connection that there is and waits until they are gone. Who connects in the
    /// meantime stays.
    pub async fn cut(&self, how: Cut) {
        self.orders.send_modify(|orders| (orders.cuts, orders.how) = (orders.cuts + 1, how));
        let cuts = self.orders.borrow().cuts;
        let are_gone = |links: &Links| links.keys().all(|&since| since >= cuts);
        drop(self.links.clone().wait_for(are_gone).await);
    }

    /// How many connections there are.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.links.borrow().values().sum()
    }
}

/// The side that clients come in by.
struct Door {
    address: SocketAddr,
    ordered: watch::Receiver<Orders>,
    count: Arc<watch::Sender<Links>>,
    hears: watch::Sender<bool>,
}

impl Door {
    /// Accepts until the proxy is dropped; closes the port while it is to refuse.
    async fn keep(mut self, first: TcpListener) {
        let mut links = JoinSet::new();
        let mut listener = Some(first);
        loop {
            let refuses = self.ordered.borrow_and_update().mode == Mode::Refuse;
            if refuses {
                listener = None;
            } else if listener.is_none() {
                listener = listen(self.address).ok();
            }
            self.hears.send_replace(listener.is_some());
            tokio::select! {
                changed = self.ordered.changed() => if changed.is_err() { return },
                accepted = accept(listener.as_ref()) => if let Ok((client, _)) = accepted {
                    let counted = self.count();
                    let ordered = self.ordered.clone();
                    links.spawn(async move {
                        link::run(client, ordered, counted.since).await;
                        drop(counted);
                    });
                },
                Some(_) = links.join_next() => {}
            }
        }
    }

    /// Counts a connection. A cut either comes first, and lets it stay, or waits for it.
    fn count(&self) -> Counted {
        let mut since = 0;
        self.count.send_modify(|links| {
            since = self.ordered.borrow().cuts;
            *links.entry(since).or_default() += 1;
        });
        Counted { count: Arc::clone(&self.count), since }
    }
}

/// The next client; never one while there is no listener.
async fn accept(listener: Option<&TcpListener>) -> io::Result<(TcpStream, SocketAddr)> {
    match listener {
        Some(listener) => listener.accept().await,
        None => std::future::pending().await,
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(1024)
}

/// Takes a connection off the count, however it ends.
struct Counted {
    count: Arc<watch::Sender<Links>>,
    /// The number of the cut that it came after.
    since: u64,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.count.send_modify(|links| {
            links.entry(self.since).and_modify(|count| *count -= 1);
            links.retain(|_, count| *count > 0);
        });
    }
}
