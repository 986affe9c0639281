//! Frames: what goes over the socket, and what comes back.

use std::collections::VecDeque;
use std::io;
use std::sync::{Mutex, OnceLock, PoisonError};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use messaging_core::{Error, ErrorKind, Result};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::{mpsc, oneshot};

/// A request as it goes out, and where its answer goes.
#[derive(Debug)]
pub(super) struct Exchange {
    /// With its length in front.
    pub(super) frame: Bytes,
    pub(super) correlation: i32,
    /// The largest answer.
    pub(super) limit: usize,
    /// Gets the answer behind its length, its header first.
    pub(super) answer: oneshot::Sender<Result<Bytes>>,
}

/// A request that was sent.
struct Sent {
    correlation: i32,
    limit: usize,
    answer: oneshot::Sender<Result<Bytes>>,
}

type InFlight = Mutex<VecDeque<Sent>>;

/// An answer that is so large gets room of its own.
const LARGE: usize = 256 << 10;
/// By how much that room grows beyond what has come; most answers fit at once.
const CHUNK: usize = 17 << 20;

/// Carries requests and answers until the socket ends. It says why before it drops what waits.
pub(super) async fn run<S: AsyncRead + AsyncWrite>(
    socket: S,
    mut queue: mpsc::Receiver<Exchange>,
    cause: &OnceLock<String>,
) {
    let (reading, writing) = tokio::io::split(socket);
    let in_flight = InFlight::default();
    let outcome = tokio::select! {
        outcome = read(reading, &in_flight) => outcome,
        outcome = write(writing, &mut queue, &in_flight) => outcome,
    };
    if let Err(error) = outcome {
        cause.get_or_init(|| error.to_string());
    }
}

async fn write<S: AsyncRead + AsyncWrite>(
    mut socket: WriteHalf<S>,
    queue: &mut mpsc::Receiver<Exchange>,
    in_flight: &InFlight,
) -> io::Result<()> {
    while let Some(Exchange { frame, correlation, limit, answer }) = queue.recv().await {
        // Before the first byte goes, so that no answer is too early.
        lock(in_flight).push_back(Sent { correlation, limit, answer });
        socket.write_all(&frame).await?;
        socket.flush().await?;
    }
    Ok(())
}

async fn read<S: AsyncRead + AsyncWrite>(
    mut socket: ReadHalf<S>,
    in_flight: &InFlight,
) -> io::Result<()> {
    let mut buffer = BytesMut::new();
    let mut rooms = Rooms::default();
    loop {
        fill(&mut socket, &mut buffer, 4).await?;
        let start = [buffer.get_u8(), buffer.get_u8(), buffer.get_u8(), buffer.get_u8()];
        let Some(Sent { correlation, limit, answer }) = lock(in_flight).pop_front() else {
            return Err(io::Error::other("it speaks without being asked"));
        };
        let length = u32::from_be_bytes(start) as usize;
        if let Some(error) = foreign(start).or_else(|| out_of_bounds(length, limit)) {
            let cause = io::Error::other(error.to_string());
            drop(answer.send(Err(error)));
            return Err(cause);
        }
        let frame = if length < LARGE {
            rooms.forget_one();
            fill(&mut socket, &mut buffer, length).await?;
            buffer.split_to(length).freeze()
        } else {
            let here = buffer.split_to(length.min(buffer.len()));
            rooms.read(&mut socket, &here, length).await?
        };
        if frame.first_chunk() != Some(&correlation.to_be_bytes()) {
            return Err(io::Error::other("it answers something that was not asked"));
        }
        drop(answer.send(Ok(frame)));
    }
}

/// Reads until the buffer has so many bytes, and what else is there.
async fn fill<R: AsyncRead + Unpin>(
    socket: &mut R,
    buffer: &mut BytesMut,
    length: usize,
) -> io::Result<()> {
    while buffer.len() < length {
        buffer.reserve((length - buffer.len()).max(8 << 10));
        read_some(socket, buffer).await?;
    }
    Ok(())
}

async fn read_some<R: AsyncRead + Unpin>(socket: &mut R, to: &mut impl BufMut) -> io::Result<()> {
    match socket.read_buf(to).await? {
        0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the other side closed it")),
        _ => Ok(()),
    }
}

/// The rooms of the large answers of late, with what each can take. Fresh memory costs more than what is
/// written into it, so a room in which nothing is needed any more is used again; with each small
/// answer there is one less.
#[derive(Default)]
struct Rooms(VecDeque<(usize, Bytes)>);

impl Rooms {
    const MOST: usize = 8;

    /// Reads an answer of which some is `here` already. Its room grows as it comes.
    async fn read<R: AsyncRead + Unpin>(
        &mut self,
        socket: &mut R,
        here: &[u8],
        length: usize,
    ) -> io::Result<Bytes> {
        let mut room = self.take(length);
        room.extend_from_slice(here);
        while room.len() < length {
            let missing = length - room.len();
            room.reserve(missing.min(room.len().max(CHUNK)));
            read_some(socket, &mut (&mut room).limit(missing)).await?;
        }
        let capacity = room.capacity();
        let answer = room.freeze();
        self.0.truncate(Self::MOST - 1);
        self.0.push_front((capacity, answer.clone()));
        Ok(answer)
    }

    /// The smallest free room that can take so much, or a new one; whole megabytes, so that it can take
    /// another answer too.
    fn take(&mut self, length: usize) -> BytesMut {
        let fits = |(_, (capacity, used)): &(usize, &(usize, Bytes))| {
            *capacity >= length && used.is_unique()
        };
        let free = self.0.iter().enumerate().filter(fits);
        let smallest = free.min_by_key(|(_, (capacity, _))| *capacity).map(|(at, _)| at);
        let used = smallest.and_then(|at| self.0.remove(at));
        let room = used.and_then(|(_, used)| used.try_into_mut().ok()).map(|mut room| {
            room.clear();
            room
        });
        let fresh = length.min(CHUNK).next_multiple_of(1 << 20);
        room.unwrap_or_else(|| BytesMut::with_capacity(fresh))
    }

    fn forget_one(&mut self) {
        self.0.pop_back();
    }
}

fn out_of_bounds(length: usize, limit: usize) -> Option<Error> {
    let text = || format!("an answer of {length} bytes (accepted: 4 to {limit})");
    if length > limit {
        return Some(Error::new(ErrorKind::TooLarge { size: length, limit }, text()));
    }
    (length < 4).then(|| Error::new(ErrorKind::Other, text()))
}

/// An error if these are the first bytes of another protocol. As lengths they would be above 300 MB.
fn foreign(start: [u8; 4]) -> Option<Error> {
    let speaks = match &start {
        b"HTTP" => "HTTP",
        b"AMQP" => "AMQP",
        b"SSH-" => "SSH",
        [b'-' | b'+', b'A'..=b'Z', ..] => "the protocol of Redis",
        // A TLS alert or handshake.
        [0x15 | 0x16, 3, ..] => {
            let text = "it speaks TLS; KAFKA_TLS=true is needed";
            return Some(Error::new(ErrorKind::InvalidConfig, text));
        }
        _ => return None,
    };
    Some(Error::new(ErrorKind::Other, format!("it is no Kafka broker: it speaks {speaks}")))
}

fn lock(in_flight: &InFlight) -> std::sync::MutexGuard<'_, VecDeque<Sent>> {
    in_flight.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use tokio::io::{DuplexStream, duplex};

    use super::*;

    fn ask(limit: usize) -> (Exchange, oneshot::Receiver<Result<Bytes>>) {
        let (answer, answered) = oneshot::channel();
        let frame = Bytes::from_static(b"\0\0\0\x04ask!");
        (Exchange { frame, correlation: 7, limit, answer }, answered)
    }

    async fn answered_with(bytes: &[u8], limit: usize) -> (Option<Result<Bytes>>, String) {
        let (ours, mut theirs): (DuplexStream, DuplexStream) = duplex(64 * 1024);
        let (queue, exchanges) = mpsc::channel(1);
        let (exchange, answered) = ask(limit);
        queue.send(exchange).await.unwrap();
        let peer = async {
            theirs.read_exact(&mut [0; 8]).await.unwrap();
            theirs.write_all(bytes).await.unwrap();
            drop(theirs);
        };
        let cause = OnceLock::new();
        tokio::join!(run(ours, exchanges, &cause), peer);
        (answered.await.ok(), cause.into_inner().unwrap())
    }

    #[tokio::test]
    async fn an_answer_reaches_its_question() {
        let (answer, _) = answered_with(b"\0\0\0\x06\0\0\0\x07hi", 100).await;
        assert_eq!(answer.unwrap().unwrap(), &b"\0\0\0\x07hi"[..]);
    }

    #[tokio::test]
    async fn an_answer_over_the_limit_is_refused_before_it_is_read() {
        let (answer, _) = answered_with(&[0x7f, 0xff, 0xff, 0xff], 100).await;
        assert!(answer.unwrap().unwrap_err().to_string().contains("2147483647 bytes"));
    }

    #[tokio::test]
    async fn an_answer_to_something_else_and_half_an_answer_end_the_connection() {
        let (answer, ended) = answered_with(b"\0\0\0\x04\0\0\0\x08", 100).await;
        assert!(answer.is_none(), "{ended}");
        let (answer, ended) = answered_with(b"\0\0\0\x06\0\0", 100).await;
        assert!(answer.is_none());
        assert_eq!(ended, "the other side closed it");
    }

    #[tokio::test]
    async fn the_room_of_a_large_answer_is_used_again_once_nobody_needs_it() {
        const LENGTH: usize = (2 << 20) + 3;
        let sent: Vec<u8> = (0..LENGTH).map(|at| at as u8).collect();
        let mut rooms = Rooms::default();
        let mut next = async |length: usize| {
            let mut socket = &sent[7..length];
            let answer = rooms.read(&mut socket, &sent[..7], length).await.unwrap();
            assert_eq!(answer, sent[..length]);
            answer
        };
        let first = next(LENGTH).await;
        let second = next(LENGTH).await;
        let (kept, room) = (first.slice(5..9), second.as_ptr());
        drop((first, second));
        assert_eq!(next(LENGTH).await.as_ptr(), room, "the first is still needed");
        assert_eq!(next(LARGE).await.as_ptr(), room, "a smaller one fits as well");
        assert_eq!(kept, sent[5..9]);
        rooms.forget_one();
        rooms.forget_one();
        assert!(rooms.0.is_empty());
    }

    #[tokio::test]
    async fn a_peer_of_another_protocol_is_named() {
        let (answer, _) = answered_with(b"HTTP/1.1 400 Bad Request\r\n\r\n", usize::MAX).await;
        assert!(answer.unwrap().unwrap_err().to_string().contains("speaks HTTP"));
        let (answer, _) = answered_with(&[0x15, 3, 3, 0, 2, 2, 40], usize::MAX).await;
        assert!(answer.unwrap().unwrap_err().to_string().contains("KAFKA_TLS=true"));
    }
}
