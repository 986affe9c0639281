//! The fault proxy, between a client and a server that answers with what it is sent.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::io::ErrorKind;
use std::time::Duration;

use tests_integration::proxy::{Cut, Mode, Proxy, Way};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::{JoinSet, yield_now};
use tokio::time::timeout;

/// A server that echoes, and tells what it gets.
struct Echo {
    proxy: Proxy,
    got: mpsc::Receiver<Vec<u8>>,
    _serving: JoinSet<()>,
}

impl Echo {
    async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let proxy = Proxy::start(listener.local_addr().unwrap()).await.unwrap();
        let (tell, got) = mpsc::channel(64);
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((connection, _)) = listener.accept().await {
                connections.spawn(serve(connection, tell.clone()));
            }
        });
        Self { proxy, got, _serving: serving }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.proxy.address()).await.unwrap()
    }
}

async fn serve(mut connection: TcpStream, tell: mpsc::Sender<Vec<u8>>) {
    let mut buffer = [0; 1024];
    while let Ok(count @ 1..) = connection.read(&mut buffer).await {
        if connection.write_all(&buffer[..count]).await.is_err() {
            return;
        }
        tell.send(buffer[..count].to_vec()).await.unwrap();
    }
}

async fn ask(client: &mut TcpStream, text: &str) -> String {
    client.write_all(text.as_bytes()).await.unwrap();
    read(client, text.len()).await
}

async fn read(client: &mut TcpStream, count: usize) -> String {
    let mut buffer = vec![0; count];
    client.read_exact(&mut buffer).await.unwrap();
    String::from_utf8(buffer).unwrap()
}

fn has_nothing(client: &TcpStream) -> bool {
    matches!(client.try_read(&mut [0]), Err(error) if error.kind() == ErrorKind::WouldBlock)
}

#[tokio::test]
async fn it_passes_everything_on_and_the_end_too() {
    let echo = Echo::start().await;
    let mut client = echo.connect().await;
    assert_eq!(ask(&mut client, "hello").await, "hello");
    assert_eq!(echo.proxy.connections(), 1);
    client.shutdown().await.unwrap();
    assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
}

#[tokio::test]
async fn swallowed_answers_come_when_it_passes_again() {
    let mut echo = Echo::start().await;
    let mut client = echo.connect().await;
    echo.proxy.set(Mode::Swallow(Way::Answers)).await;
    client.write_all(b"held").await.unwrap();
    assert_eq!(echo.got.recv().await.unwrap(), b"held");
    assert!(has_nothing(&client));
    echo.proxy.set(Mode::Pass).await;
    assert_eq!(read(&mut client, 4).await, "held");
}

#[tokio::test]
async fn swallowed_requests_reach_the_server_late_and_in_order() {
    let mut echo = Echo::start().await;
    let mut client = echo.connect().await;
    assert_eq!(ask(&mut client, "0").await, "0");
    echo.got.recv().await.unwrap();
    for way in [Way::Requests, Way::Both] {
        echo.proxy.set(Mode::Swallow(way)).await;
        client.write_all(b"12").await.unwrap();
        client.write_all(b"34").await.unwrap();
        assert!(echo.got.try_recv().is_err());
        echo.proxy.set(Mode::Pass).await;
        assert_eq!(read(&mut client, 4).await, "1234");
        while echo.got.try_recv().is_ok() {}
    }
}

#[tokio::test]
async fn of_an_answer_only_a_part_comes_though_the_server_has_the_request() {
    let mut echo = Echo::start().await;
    let mut client = echo.connect().await;
    echo.proxy.set(Mode::Half(3)).await;
    client.write_all(b"answer").await.unwrap();
    assert_eq!(echo.got.recv().await.unwrap(), b"answer");
    assert_eq!(read(&mut client, 3).await, "ans");
    assert!(has_nothing(&client));
    client.write_all(b"more").await.unwrap();
    assert_eq!(echo.got.recv().await.unwrap(), b"more");
    assert!(has_nothing(&client));
    echo.proxy.cut(Cut::Reset).await;
    assert_eq!(client.read(&mut [0]).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_is_over_though_clients_come_back_at_once() {
    let echo = Echo::start().await;
    let address = echo.proxy.address();
    let mut clients = JoinSet::<()>::new();
    for _ in 0..4 {
        clients.spawn(async move {
            loop {
                if let Ok(client) = TcpStream::connect(address).await {
                    client.readable().await.ok();
                }
            }
        });
    }
    let cuts = async {
        for _ in 0..1000 {
            while echo.proxy.connections() < 4 {
                yield_now().await;
            }
            echo.proxy.cut(Cut::Reset).await;
        }
    };
    timeout(Duration::from_secs(30), cuts).await.unwrap();
}

#[tokio::test]
async fn connections_are_reset_or_finished_and_new_ones_work() {
    let echo = Echo::start().await;
    let mut client = echo.connect().await;
    assert_eq!(ask(&mut client, "a").await, "a");
    echo.proxy.cut(Cut::Reset).await;
    assert_eq!(client.read(&mut [0]).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    let mut client = echo.connect().await;
    assert_eq!(ask(&mut client, "b").await, "b");
    echo.proxy.cut(Cut::Finish).await;
    assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
    assert_eq!(echo.proxy.connections(), 0);
    assert_eq!(ask(&mut echo.connect().await, "c").await, "c");
}

#[tokio::test]
async fn who_is_refused_can_not_connect_and_who_is_connected_stays() {
    let echo = Echo::start().await;
    let mut client = echo.connect().await;
    assert_eq!(ask(&mut client, "a").await, "a");
    echo.proxy.set(Mode::Refuse).await;
    let refused = TcpStream::connect(echo.proxy.address()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    assert_eq!(ask(&mut client, "b").await, "b");
    echo.proxy.set(Mode::Pass).await;
    assert_eq!(ask(&mut echo.connect().await, "c").await, "c");
}

#[tokio::test]
async fn a_delay_holds_back_both_ways() {
    let echo = Echo::start().await;
    let mut client = echo.connect().await;
    echo.proxy.set(Mode::Delay(Duration::from_millis(20))).await;
    let began = tokio::time::Instant::now();
    assert_eq!(ask(&mut client, "slow").await, "slow");
    assert!(began.elapsed() >= Duration::from_millis(40));
}

#[tokio::test]
async fn a_server_that_is_not_there_ends_the_connection() {
    let unused = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let proxy = Proxy::start(unused.local_addr().unwrap()).await.unwrap();
    drop(unused);
    let mut client = TcpStream::connect(proxy.address()).await.unwrap();
    assert!(matches!(client.read(&mut [0]).await, Err(_) | Ok(0)));
}
