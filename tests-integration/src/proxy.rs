//! A TCP proxy that makes faults between clients and a server.
//!
//! A [`Proxy`] listens on a port of its own and passes everything on, until it is told otherwise:
//! [`Proxy::set`] changes what it does from now on, to the connections that there are as well;
//! [`Proxy::cut`] ends them. What it holds back is late, never lost: when it passes again, bytes
//! arrive in order, as after a partition of the network.

mod link;

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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// By a reset (RST).
    Reset,
    /// In order (FIN).
    Finish,
}

/// A proxy in front of one server. It ends, and its connections with it, when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    orders: watch::Sender<Orders>,
    links: watch::Receiver<usize>,
    listening: watch::Receiver<bool>,
    _accepting: JoinSet<()>,
}

/// What the connections are to do.
#[derive(Clone, Copy, Debug, Default)]
struct Orders {
    mode: Mode,
    /// How often the mode was set; what is counted in a mode begins anew with it.
    set: u64,
    /// The last end of all connections, and its number.
    cut: Option<(Cut, u64)>,
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
        let (count, links) = watch::channel(0);
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

    /// Ends every connection that there is and waits until they are gone.
    pub async fn cut(&self, how: Cut) {
        self.orders.send_modify(|orders| {
            let number = orders.cut.map_or(0, |(_, number)| number);
            orders.cut = Some((how, number + 1));
        });
        drop(self.links.clone().wait_for(|links| *links == 0).await);
    }

    /// How many connections there are.
    #[must_use]
    pub fn connections(&self) -> usize {
        *self.links.borrow()
    }
}

/// The side that clients come in by.
struct Door {
    address: SocketAddr,
    ordered: watch::Receiver<Orders>,
    count: Arc<watch::Sender<usize>>,
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
                    self.count.send_modify(|count| *count += 1);
                    let counted = Counted(Arc::clone(&self.count));
                    let ordered = self.ordered.clone();
                    links.spawn(async move {
                        link::run(client, ordered).await;
                        drop(counted);
                    });
                },
                Some(_) = links.join_next() => {}
            }
        }
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
struct Counted(Arc<watch::Sender<usize>>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}
