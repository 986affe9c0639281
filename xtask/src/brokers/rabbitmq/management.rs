//! The management API, for whoever drives the nodes.

use std::io::{Read, Write};
use std::time::Duration;

use serde_json::Value;

use super::connect;

/// How long an answer may take: a cluster agrees on what it is asked for.
const ANSWER: Duration = Duration::from_secs(30);

/// The management API of one node.
#[derive(Clone)]
pub struct Management {
    port: u16,
    user: &'static str,
    password: String,
}

impl std::fmt::Debug for Management {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Management").field("port", &self.port).finish_non_exhaustive()
    }
}

impl Management {
    pub(super) fn new(port: u16, user: &'static str, password: &str) -> Self {
        Self { port, user, password: password.to_owned() }
    }

    /// Asks for something; nothing where it does not exist.
    ///
    /// # Errors
    ///
    /// When the node does not answer, or with another error.
    pub fn get(&self, path: &str) -> Result<Option<Value>, String> {
        match self.call("GET", path, None)? {
            (404, _) => Ok(None),
            (200, body) => {
                serde_json::from_str(&body).map(Some).map_err(|e| format!("{path}: {e}"))
            }
            (status, _) => Err(format!("the management API says {status} to GET {path}")),
        }
    }

    /// Creates or changes something.
    ///
    /// # Errors
    ///
    /// When the node does not answer, or with an error.
    pub fn put(&self, path: &str, value: &Value) -> Result<(), String> {
        match self.call("PUT", path, Some(value))? {
            (200..300, _) => Ok(()),
            (status, body) => {
                Err(format!("the management API says {status} to PUT {path}: {body}"))
            }
        }
    }

    /// Asks for something that is more than looking.
    ///
    /// # Errors
    ///
    /// When the node does not answer, or with an error.
    pub fn post(&self, path: &str, value: &Value) -> Result<Value, String> {
        match self.call("POST", path, Some(value))? {
            (200..300, body) => serde_json::from_str(&body).map_err(|e| format!("{path}: {e}")),
            (status, body) => {
                Err(format!("the management API says {status} to POST {path}: {body}"))
            }
        }
    }

    /// Deletes something, unless it is gone already.
    ///
    /// # Errors
    ///
    /// When the node does not answer, or with another error.
    pub fn delete(&self, path: &str) -> Result<(), String> {
        match self.call("DELETE", path, None)? {
            (200..300 | 404, _) => Ok(()),
            (status, body) => {
                Err(format!("the management API says {status} to DELETE {path}: {body}"))
            }
        }
    }

    /// A file that it serves, such as the command-line tool.
    ///
    /// # Errors
    ///
    /// When the node does not answer, or has no such file.
    pub fn file(&self, path: &str) -> Result<String, String> {
        match self.call("GET", path, None)? {
            (200, body) => Ok(body),
            (status, _) => Err(format!("the management API says {status} to GET {path}")),
        }
    }

    /// How many nodes run, as this one sees it.
    pub(super) fn running(&self) -> Result<usize, String> {
        Ok(count(&self.get("/api/nodes")?.unwrap_or_default()))
    }

    fn call(
        &self,
        method: &str,
        path: &str,
        value: Option<&Value>,
    ) -> Result<(u16, String), String> {
        let failed = |error: std::io::Error| format!("127.0.0.1:{}: {error}", self.port);
        let credentials = base64(format!("{}:{}", self.user, self.password).as_bytes());
        let body = value.map(Value::to_string).unwrap_or_default();
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.0\r\nHost: 127.0.0.1\r\nAuthorization: Basic {credentials}\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        let mut stream = connect(self.port)?;
        stream.set_read_timeout(Some(ANSWER)).map_err(failed)?;
        stream.write_all(request.as_bytes()).map_err(failed)?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).map_err(failed)?;
        parse(&String::from_utf8_lossy(&answer))
    }
}

fn parse(answer: &str) -> Result<(u16, String), String> {
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("an answer that is no HTTP")?;
    let status = head.split_whitespace().nth(1).and_then(|status| status.parse().ok());
    Ok((status.ok_or("an answer without a status")?, body.to_owned()))
}

fn count(nodes: &Value) -> usize {
    let nodes = nodes.as_array().into_iter().flatten();
    nodes.filter(|node| node.get("running") == Some(&Value::Bool(true))).count()
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let three: Vec<u32> = (0..3).map(|i| chunk.get(i).map_or(0, |b| u32::from(*b))).collect();
        let bits = three.iter().fold(0, |bits, byte| bits << 8 | byte);
        for digit in 0..4 {
            let index = (bits >> (18 - 6 * digit)) & 63;
            let known = usize::try_from(index).ok().and_then(|index| DIGITS.get(index));
            let is_filled = digit <= chunk.len();
            text.push(known.filter(|_| is_filled).map_or('=', |digit| char::from(*digit)));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_encoded() {
        assert_eq!(base64(b""), "");
        assert_eq!(base64(b"a"), "YQ==");
        assert_eq!(base64(b"ab"), "YWI=");
        assert_eq!(base64(b"messaging:abc"), "bWVzc2FnaW5nOmFiYw==");
    }

    #[test]
    fn an_answer_has_a_status_and_a_body() {
        let answer = "HTTP/1.1 200 OK\r\na: b\r\n\r\n[{\"running\":true},{\"running\":false}]";
        let (status, body) = parse(answer).unwrap();
        assert_eq!((status, count(&serde_json::from_str(&body).unwrap())), (200, 1));
        assert_eq!(parse("HTTP/1.1 401 Unauthorized\r\n\r\n{}").unwrap().0, 401);
        assert!(parse("AMQP").is_err());
    }
}
