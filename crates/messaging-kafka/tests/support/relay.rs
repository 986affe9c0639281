//! What a broker's clients are told to connect to: it passes everything on, holds answers back, or
//! ends every connection.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Pass,
    HoldAnswers,
    /// Who comes is sent away.
    Refuse,
}

#[derive(Clone, Debug)]
pub(crate) struct Relay {
    pub(crate) port: u16,
    listener: Arc<std::net::TcpListener>,
    mode: watch::Sender<Mode>,
    cuts: watch::Sender<u64>,
}

impl Relay {
    /// Takes a port; nobody is served before [`Relay::serve`].
    pub(crate) fn bind() -> Self {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (mode, cuts) = (watch::Sender::new(Mode::Pass), watch::Sender::new(0));
        Self { port, listener: Arc::new(listener), mode, cuts }
    }

    /// Serves until the returned set is dropped.
    pub(crate) fn serve(&self, server: SocketAddr) -> JoinSet<()> {
        let mut serving = JoinSet::new();
        let relay = self.clone();
        let listener = TcpListener::from_std(self.listener.try_clone().unwrap()).unwrap();
        serving.spawn(async move {
            let mut links = JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.unwrap();
                if *relay.mode.borrow() != Mode::Refuse {
                    let server = TcpStream::connect(server).await.unwrap();
                    links.spawn(link(
                        client,
                        server,
                        relay.mode.subscribe(),
                        relay.cuts.subscribe(),
                    ));
                }
            }
        });
        serving
    }

    pub(crate) fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// Ends every connection, and passes on again.
    pub(crate) fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
        self.set(Mode::Pass);
    }
}

async fn link(
    client: TcpStream,
    server: TcpStream,
    mut mode: watch::Receiver<Mode>,
    mut cuts: watch::Receiver<u64>,
) {
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
        (client.into_split(), server.into_split());
    let requests = tokio::io::copy(&mut from_client, &mut to_server);
    let answers = async {
        let mut bytes = vec![0; 64 * 1024];
        loop {
            let count = from_server.read(&mut bytes).await?;
            if count == 0 {
                return std::io::Result::Ok(());
            }
            mode.wait_for(|mode| *mode != Mode::HoldAnswers).await.ok();
            to_client.write_all(&bytes[..count]).await?;
        }
    };
    tokio::select! {
        biased;
        _ = cuts.changed() => {}
        _ = requests => {}
        _ = answers => {}
        () = tokio::time::sleep(Duration::from_secs(600)) => {}
    }
}
