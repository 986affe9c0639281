//! The lines of a file or of standard input, read on a thread of their own.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use messaging::Bytes;
use tokio::sync::mpsc;

use crate::exit::Failure;

/// The longest line, in bytes: the largest body that is published.
pub(crate) const LONGEST: usize = 1024 * 1024;

/// A line without its newline, or why it could not be read.
#[derive(Debug)]
pub(crate) struct Line {
    /// Counted from 1.
    pub(crate) number: u64,
    pub(crate) bytes: Result<Bytes, String>,
}

/// Where lines come from.
#[derive(Clone, Debug)]
pub(crate) struct Source(PathBuf);

impl Source {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// The name for messages: the file as it was given, or `stdin`.
    pub(crate) fn name(&self) -> String {
        if self.is_stdin() { "stdin".to_owned() } else { self.0.display().to_string() }
    }

    pub(crate) fn is_stdin(&self) -> bool {
        self.0 == Path::new("-")
    }

    /// Opens it; what can't be a source of lines is named.
    pub(crate) fn open(&self) -> Result<Box<dyn BufRead + Send>, Failure> {
        if self.is_stdin() {
            return Ok(Box::new(BufReader::new(io::stdin())));
        }
        let refuse = |why: &dyn std::fmt::Display| {
            Failure::usage(format!("{}: {why} (accepted: a readable file, or -)", self.name()))
        };
        let file = File::open(&self.0).map_err(|error| refuse(&error))?;
        if file.metadata().map_err(|error| refuse(&error))?.is_dir() {
            return Err(refuse(&"it is a directory"));
        }
        Ok(Box::new(BufReader::new(file)))
    }

    /// Starts to read. The thread ends with the source or with the receiver.
    pub(crate) fn read(&self) -> Result<mpsc::Receiver<Line>, Failure> {
        let mut reader = self.open()?;
        let (sender, receiver) = mpsc::channel(256);
        let read = move || {
            for number in 1.. {
                let Some(bytes) = next_line(&mut *reader) else { break };
                let ends = bytes.is_err() && !matches!(&bytes, Err(Unread::TooLong(_)));
                let bytes = bytes.map_err(|unread| unread.to_string());
                if sender.blocking_send(Line { number, bytes }).is_err() || ends {
                    break;
                }
            }
        };
        // Not a task of the runtime: a read of standard input can't be interrupted.
        let thread = std::thread::Builder::new().name("lines".to_owned()).spawn(read);
        thread.map_err(|error| Failure::usage(format!("{}: {error}", self.name())))?;
        Ok(receiver)
    }
}

/// Why a line could not be read.
#[derive(Debug)]
enum Unread {
    TooLong(usize),
    Failed(io::Error),
}

impl std::fmt::Display for Unread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::TooLong(size) => write!(f, "the line has {size} bytes, the limit is {LONGEST}"),
            Self::Failed(error) => write!(f, "reading failed: {error}"),
        }
    }
}

/// The next line without its newline; of one that is too long only the length is kept.
fn next_line(reader: &mut dyn BufRead) -> Option<Result<Bytes, Unread>> {
    let mut line = Vec::new();
    let mut length = 0;
    loop {
        let buffer = match reader.fill_buf() {
            Ok(buffer) => buffer,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Some(Err(Unread::Failed(error))),
        };
        if buffer.is_empty() && length == 0 {
            return None;
        }
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let part = buffer.get(..end.unwrap_or(buffer.len())).unwrap_or_default();
        length += part.len();
        if length <= LONGEST {
            line.extend_from_slice(part);
        }
        let (used, at_end) = (part.len() + usize::from(end.is_some()), buffer.is_empty());
        reader.consume(used);
        if end.is_some() || at_end {
            let fits = length <= LONGEST;
            return Some(if fits { Ok(line.into()) } else { Err(Unread::TooLong(length)) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &[u8]) -> Vec<Result<Bytes, String>> {
        let mut reader = BufReader::with_capacity(7, text);
        std::iter::from_fn(|| next_line(&mut reader))
            .map(|line| line.map_err(|unread| unread.to_string()))
            .collect()
    }

    #[test]
    fn a_final_newline_begins_no_line_and_an_empty_line_is_one() {
        let lines = all(b"first line\n\nlast");
        let texts: Vec<&[u8]> = lines.iter().map(|line| &**line.as_ref().unwrap()).collect();
        assert_eq!(texts, [&b"first line"[..], b"", b"last"]);
        assert_eq!(all(b"only\n").len(), 1);
        assert!(all(b"").is_empty());
    }

    #[test]
    fn a_line_that_is_too_long_is_named_and_the_next_is_read() {
        let mut text = vec![b'x'; LONGEST + 1];
        text.extend_from_slice(b"\nnext\n");
        let lines = all(&text);
        assert!(lines[0].as_ref().unwrap_err().contains("1048577 bytes"));
        assert_eq!(lines[1].as_deref().unwrap(), b"next");
    }
}
