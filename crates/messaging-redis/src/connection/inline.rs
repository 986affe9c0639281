//! Connections whose traffic runs within the task that uses them: for small requests, handing over
//! between two tasks takes longer than the request.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, Either, pending, select};
use futures::task::AtomicWaker;
use messaging_core::Result;
use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{AsyncConnectionConfig, Client, ConnectionAddr, ErrorKind, RedisResult, Value};
use socket2::SockRef;
use tokio::net::TcpStream;

use super::{Connector, Link};

/// The traffic of a connection: nothing moves while it is not polled. It ends with the connection.
pub(crate) type Traffic = BoxFuture<'static, ()>;

impl Connector {
    /// Opens a connection whose traffic the caller runs, best as [`Together`] with what it does. On a
    /// cluster, the client library has tasks of its own for it, and there is nothing to run.
    pub(crate) async fn connect_inline(&self) -> Result<(Link, Traffic)> {
        if self.is_cluster() {
            let link = self.connect(Duration::ZERO).await?;
            return Ok((link, pending().boxed()));
        }
        let (connection, traffic) = self.any_node().await?;
        Ok((Link::Node(connection), traffic))
    }
}

/// Opens a connection and sees that the server serves us: one that still reads its data, or wants a
/// password, lets everybody connect. With TLS, the client library has a task of its own for the
/// traffic.
pub(super) async fn open(
    client: Client,
    config: AsyncConnectionConfig,
) -> RedisResult<(MultiplexedConnection, Traffic)> {
    let info = client.get_connection_info();
    let (mut connection, mut traffic) = match info.addr() {
        ConnectionAddr::Tcp(host, port) => {
            let stream = TcpStream::connect((host.as_str(), *port)).await?;
            set(&stream, info.tcp_settings())?;
            let settings = info.redis_settings();
            let opened = MultiplexedConnection::new_with_config(settings, stream, config).await?;
            (opened.0, opened.1.boxed())
        }
        _ => {
            let opened = client.get_multiplexed_async_connection_with_config(&config).await?;
            (opened, pending().boxed())
        }
    };
    alongside(&mut traffic, redis::cmd("PING").query_async::<Value>(&mut connection)).await??;
    Ok((connection, traffic))
}

/// Does something with a connection while its traffic runs.
///
/// # Errors
/// That the connection ended before.
pub(crate) async fn alongside<T>(
    traffic: &mut Traffic,
    what: impl Future<Output = T>,
) -> RedisResult<T> {
    match select(pin!(what), traffic).await {
        Either::Left((done, _)) => Ok(done),
        Either::Right(_) => Err((ErrorKind::Io, "the server ended the connection").into()),
    }
}

fn set(stream: &TcpStream, settings: &TcpSettings) -> std::io::Result<()> {
    let socket = SockRef::from(stream);
    socket.set_tcp_nodelay(settings.nodelay())?;
    if let Some(keepalive) = settings.keepalive() {
        socket.set_tcp_keepalive(keepalive)?;
    }
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(settings.user_timeout())?;
    Ok(())
}

/// A future whose parts wake each other within one poll, in place of being scheduled anew for each.
pub(crate) struct Together<F> {
    future: Pin<Box<F>>,
    state: Arc<State>,
    waker: Waker,
}

#[derive(Default)]
struct State {
    phase: AtomicU8,
    outer: AtomicWaker,
}

const IDLE: u8 = 0;
const POLLED: u8 = 1;
const WOKEN: u8 = 2;

/// How often it is polled in a row before others have their turn.
const ROUNDS: usize = 8;

impl<F> Together<F> {
    pub(crate) fn new(future: F) -> Self {
        let state = Arc::new(State::default());
        Self { future: Box::pin(future), waker: Arc::clone(&state).into(), state }
    }
}

impl<F: Future> Future for Together<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let Self { future, state, waker } = &mut *self;
        state.outer.register(cx.waker());
        for _ in 0..ROUNDS {
            state.phase.store(POLLED, Ordering::Release);
            if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(waker)) {
                return Poll::Ready(output);
            }
            let idle =
                state.phase.compare_exchange(POLLED, IDLE, Ordering::AcqRel, Ordering::Acquire);
            if idle.is_ok() {
                return Poll::Pending;
            }
        }
        // It stays woken, so nobody else need wake it.
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Wake for State {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Who polls looks again, and who was woken will.
        if self.phase.swap(WOKEN, Ordering::AcqRel) == IDLE {
            self.outer.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;
    use futures::stream::FuturesUnordered;
    use tokio::sync::oneshot;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicU8);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn parts_that_wake_each_other_wake_nobody_else() {
        let (sender, receiver) = oneshot::channel();
        let (from_outside, outside) = oneshot::channel();
        let mut answers: FuturesUnordered<_> = [receiver].into_iter().collect();
        let mut together = Together::new(async move {
            let answer = async { answers.next().await };
            let send = async { sender.send(7).unwrap() };
            let (answer, ()) = futures::join!(answer, send);
            outside.await.unwrap();
            answer.unwrap().unwrap()
        });
        let count = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&count));
        let mut poll = || Pin::new(&mut together).poll(&mut Context::from_waker(&waker));
        assert!(poll().is_pending());
        assert_eq!(count.0.load(Ordering::Relaxed), 0);
        from_outside.send(()).unwrap();
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        assert_eq!(poll(), Poll::Ready(7));
    }

    #[test]
    fn one_that_always_wakes_itself_lets_others_have_their_turn() {
        let mut polls = 0;
        let mut together = Together::new(std::future::poll_fn(|cx| {
            polls += 1;
            cx.waker().wake_by_ref();
            Poll::<()>::Pending
        }));
        let count = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&count));
        assert!(Pin::new(&mut together).poll(&mut Context::from_waker(&waker)).is_pending());
        drop(together);
        assert_eq!((polls, count.0.load(Ordering::Relaxed)), (ROUNDS, 1));
    }
}
