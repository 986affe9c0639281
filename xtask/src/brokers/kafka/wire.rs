//! As much of Kafka's protocol as asking a broker whom it knows takes.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

/// How long a broker on this machine may take for one answer.
const LIMIT: Duration = Duration::from_secs(2);

/// No answer of interest is longer.
const MOST_BYTES: i32 = 1 << 20;

/// The request `Metadata`; in version 4 its answer has no compact types.
const METADATA: i16 = 3;
const VERSION: i16 = 4;

/// The ids of the brokers that the one at `port` says are in its cluster.
pub(super) fn brokers(port: u16) -> Result<Vec<i32>, String> {
    let failed = |error: std::io::Error| format!("127.0.0.1:{port}: {error}");
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, LIMIT).map_err(failed)?;
    stream.set_read_timeout(Some(LIMIT)).map_err(failed)?;
    stream.set_write_timeout(Some(LIMIT)).map_err(failed)?;
    stream.write_all(&request()).map_err(failed)?;
    let mut length = [0; 4];
    stream.read_exact(&mut length).map_err(failed)?;
    let length = i32::from_be_bytes(length);
    let length = usize::try_from(length.min(MOST_BYTES)).map_err(|error| error.to_string())?;
    let mut answer = vec![0; length];
    stream.read_exact(&mut answer).map_err(failed)?;
    ids(&answer).ok_or_else(|| "an answer that is no metadata".to_owned())
}

/// Asks for no topic, which must not create any.
fn request() -> Vec<u8> {
    let mut body = Vec::new();
    body.extend(METADATA.to_be_bytes());
    body.extend(VERSION.to_be_bytes());
    body.extend(1_i32.to_be_bytes()); // the number that the answer repeats
    body.extend((-1_i16).to_be_bytes()); // no client id
    body.extend(0_i32.to_be_bytes()); // no topics
    body.push(0); // none to be created
    let length = u32::try_from(body.len()).unwrap_or(0);
    [&length.to_be_bytes()[..], &body].concat()
}

/// Reads the number, the throttle time, and `[id host port rack]` for each broker.
fn ids(mut answer: &[u8]) -> Option<Vec<i32>> {
    let from = &mut answer;
    int(from)?;
    int(from)?;
    let count = int(from)?;
    let mut ids = Vec::new();
    for _ in 0..count {
        ids.push(int(from)?);
        skip_text(from)?;
        int(from)?;
        skip_text(from)?;
    }
    Some(ids)
}

fn int(from: &mut &[u8]) -> Option<i32> {
    let (int, rest) = from.split_first_chunk()?;
    *from = rest;
    Some(i32::from_be_bytes(*int))
}

/// A length of -1 stands for no text.
fn skip_text(from: &mut &[u8]) -> Option<()> {
    let (length, rest) = from.split_first_chunk()?;
    let length = usize::try_from(i16::from_be_bytes(*length)).unwrap_or(0);
    *from = rest.get(length..)?;
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_brokers_of_an_answer_are_read() {
        let answer = [
            &[0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2][..],
            &[0, 0, 0, 7, 0, 1, b'a', 0, 0, 35, 132, 255, 255],
            &[0, 0, 0, 9, 0, 1, b'b', 0, 0, 35, 132, 0, 1, b'r'],
        ]
        .concat();
        assert_eq!(ids(&answer), Some(vec![7, 9]));
        assert_eq!(ids(&answer[..20]), None);
    }
}
