//! As much of Redis's protocol (RESP 2) as asking a server how it is takes.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

/// How long a server on this machine may take for one answer.
const LIMIT: Duration = Duration::from_secs(2);

/// A connection to a server.
#[derive(Debug)]
pub(super) struct Connection(BufReader<TcpStream>);

/// What a server answers, errors apart.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reply {
    Text(String),
    List(Vec<Self>),
    Nothing,
}

impl Connection {
    /// Connects, and authenticates where there is a password.
    pub(super) fn open(port: u16, password: Option<&str>) -> Result<Self, String> {
        let failed = |error: std::io::Error| format!("127.0.0.1:{port}: {error}");
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let stream = TcpStream::connect_timeout(&address, LIMIT).map_err(failed)?;
        stream.set_read_timeout(Some(LIMIT)).map_err(failed)?;
        stream.set_write_timeout(Some(LIMIT)).map_err(failed)?;
        let mut connection = Self(BufReader::new(stream));
        if let Some(password) = password {
            connection.call(&["AUTH", password])?;
        }
        Ok(connection)
    }

    /// Sends a command and reads its answer. An error of the server is one of ours.
    pub(super) fn call(&mut self, words: &[&str]) -> Result<Reply, String> {
        let mut request = format!("*{}\r\n", words.len());
        for word in words {
            request.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
        self.0.get_mut().write_all(request.as_bytes()).map_err(|error| error.to_string())?;
        Reply::read(&mut self.0)
    }

    /// Sends a command whose answer is text or a number.
    pub(super) fn text(&mut self, words: &[&str]) -> Result<String, String> {
        match self.call(words)? {
            Reply::Text(text) => Ok(text),
            other => Err(format!("{}: {other:?}", words.join(" "))),
        }
    }
}

impl Reply {
    fn read(from: &mut impl BufRead) -> Result<Self, String> {
        let failed = |error: std::io::Error| error.to_string();
        let mut line = String::new();
        from.read_line(&mut line).map_err(failed)?;
        let line = line.strip_suffix("\r\n").ok_or("the connection was closed")?;
        let Some((kind, rest)) = line.split_at_checked(1) else {
            return Err("an empty answer".to_owned());
        };
        let count = || rest.parse::<i64>().map_err(|error| format!("{line}: {error}"));
        match kind {
            "+" | ":" => Ok(Self::Text(rest.to_owned())),
            "-" => Err(rest.to_owned()),
            "$" => {
                let Ok(length) = u64::try_from(count()?) else { return Ok(Self::Nothing) };
                let mut bytes = Vec::new();
                from.take(length + 2).read_to_end(&mut bytes).map_err(failed)?;
                let text = String::from_utf8_lossy(&bytes);
                let text = text.strip_suffix("\r\n").ok_or("the connection was closed")?;
                Ok(Self::Text(text.to_owned()))
            }
            "*" => {
                let Ok(count) = u64::try_from(count()?) else { return Ok(Self::Nothing) };
                (0..count).map(|_| Self::read(from)).collect::<Result<_, _>>().map(Self::List)
            }
            _ => Err(format!("an answer that is no RESP: {line}")),
        }
    }

    /// The value of a field, where fields and values take turns.
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        let Self::List(items) = self else { return None };
        let (pairs, _) = items.as_chunks::<2>();
        pairs.iter().find_map(|[field, value]| match (field, value) {
            (Self::Text(field), Self::Text(value)) if field == name => Some(&**value),
            _ => None,
        })
    }
}

/// The value of a line `name:value`, as INFO and CLUSTER INFO have them.
pub(super) fn line<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(mut bytes: &[u8]) -> Result<Reply, String> {
        Reply::read(&mut bytes)
    }

    #[test]
    fn answers_are_read() {
        assert_eq!(read(b"+PONG\r\n"), Ok(Reply::Text("PONG".to_owned())));
        assert_eq!(read(b"$4\r\na\r\nb\r\n"), Ok(Reply::Text("a\r\nb".to_owned())));
        assert_eq!(read(b"$-1\r\n"), Ok(Reply::Nothing));
        assert_eq!(read(b"-NOAUTH no\r\n"), Err("NOAUTH no".to_owned()));
        assert!(read(b"$10\r\nhalf").is_err());
        assert!(read(b"").is_err());
        let fields = read(b"*4\r\n+flags\r\n+master\r\n+slaves\r\n:2\r\n").unwrap();
        assert_eq!(fields.field("slaves"), Some("2"));
        assert_eq!(fields.field("flag"), None);
    }

    #[test]
    fn a_line_of_info_is_found_by_its_whole_name() {
        let info = "# Replication\r\nrole_x:1\r\nrole:slave\r\n";
        assert_eq!(line(info, "role"), Some("slave"));
        assert_eq!(line(info, "rol"), None);
    }
}
