//! One connection through the proxy.

use std::io;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::watch;
use tokio::time::sleep;

use super::{Cut, Mode, Orders, Way};

/// Connects to the server and passes bytes both ways until one side ends it, or the proxy by the
/// first cut after this number.
pub(super) async fn run(client: TcpStream, orders: watch::Receiver<Orders>, since: u64) {
    let Some(server) = orders.borrow().server else { return };
    let mut ends = orders.clone();
    let connected = tokio::select! {
        connected = TcpStream::connect(server) => connected,
        _ = cut(&mut ends, since) => return,
    };
    let Ok(server) = connected else {
        // As if there were nobody on the port.
        drop(client.set_zero_linger());
        return;
    };
    // Small answers are to be passed on as they come. Where it fails, they are only slower.
    drop(client.set_nodelay(true));
    drop(server.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let mut requests = Pump { from: from_client, to: to_server, way: Way::Requests, orders };
    let orders = requests.orders.clone();
    let mut answers = Pump { from: from_server, to: to_client, way: Way::Answers, orders };
    let how = tokio::select! {
        how = cut(&mut ends, since) => how,
        ended = async { tokio::try_join!(requests.run(), answers.run()) } => match ended {
            Ok(_) => Cut::Finish,
            Err(_) => Cut::Reset,
        },
    };
    if how == Cut::Reset {
        // Both halves of a connection share its socket. A half that is only dropped says goodbye.
        drop(requests.from.as_ref().set_zero_linger());
        drop(answers.from.as_ref().set_zero_linger());
        requests.to.forget();
        answers.to.forget();
    }
}

/// Waits for the next end of all connections.
async fn cut(orders: &mut watch::Receiver<Orders>, since: u64) -> Cut {
    orders.wait_for(|orders| orders.cuts > since).await.map_or(Cut::Finish, |orders| orders.how)
}

/// One way of a connection.
struct Pump {
    from: OwnedReadHalf,
    to: OwnedWriteHalf,
    way: Way,
    orders: watch::Receiver<Orders>,
}

impl Pump {
    /// Passes bytes on until their source ends, then says so to the other side.
    async fn run(&mut self) -> io::Result<()> {
        let mut buffer = vec![0; 64 * 1024];
        let (mut set, mut passed) = (0, 0);
        loop {
            let orders = *self.orders.borrow_and_update();
            if orders.set != set {
                (set, passed) = (orders.set, 0);
            }
            let room = match (orders.mode, self.way) {
                (Mode::Swallow(Way::Both), _) => 0,
                (Mode::Swallow(way), own) if way == own => 0,
                (Mode::Half(most), Way::Answers) => most.saturating_sub(passed),
                _ => u64::MAX,
            };
            if room == 0 {
                self.next_orders().await?;
                continue;
            }
            tokio::select! {
                changed = self.orders.changed() => changed.map_err(|_| io::ErrorKind::NotConnected)?,
                readable = self.from.readable() => {
                    readable?;
                    let most = usize::try_from(room).unwrap_or(usize::MAX).min(buffer.len());
                    let room = buffer.get_mut(..most).unwrap_or_default();
                    let count = match self.from.try_read(room) {
                        Ok(0) => return self.to.shutdown().await,
                        Ok(count) => count,
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                        Err(error) => return Err(error),
                    };
                    if let Mode::Delay(time) = orders.mode {
                        sleep(time).await;
                    }
                    passed += count as u64;
                    self.to.write_all(room.get(..count).unwrap_or_default()).await?;
                }
            }
        }
    }

    async fn next_orders(&mut self) -> io::Result<()> {
        self.orders.changed().await.map_err(|_| io::ErrorKind::NotConnected.into())
    }
}
