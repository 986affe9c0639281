//! One question to the management API.

use std::io::{Read, Write};

use serde_json::Value;

use super::connect;

/// How many nodes run, as the node with this management port sees it.
pub(super) fn running(port: u16, user: &str, password: &str) -> Result<usize, String> {
    let failed = |error: std::io::Error| format!("127.0.0.1:{port}: {error}");
    let credentials = base64(format!("{user}:{password}").as_bytes());
    let request = format!(
        "GET /api/nodes HTTP/1.0\r\nHost: 127.0.0.1\r\nAuthorization: Basic {credentials}\r\n\r\n"
    );
    let mut stream = connect(port)?;
    stream.write_all(request.as_bytes()).map_err(failed)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(failed)?;
    count(&answer)
}

fn count(answer: &str) -> Result<usize, String> {
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("an answer that is no HTTP")?;
    let status = head.lines().next().unwrap_or_default();
    if !status.contains(" 200 ") {
        return Err(format!("the management API says {status}"));
    }
    let nodes: Value = serde_json::from_str(body).map_err(|error| error.to_string())?;
    Ok(nodes
        .as_array()
        .into_iter()
        .flatten()
        .filter(|node| node.get("running") == Some(&Value::Bool(true)))
        .count())
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
    fn running_nodes_are_counted() {
        let answer = "HTTP/1.1 200 OK\r\na: b\r\n\r\n[{\"running\":true},{\"running\":false}]";
        assert_eq!(count(answer), Ok(1));
        assert!(count("HTTP/1.1 401 Unauthorized\r\n\r\n{}").unwrap_err().contains("401"));
    }
}
