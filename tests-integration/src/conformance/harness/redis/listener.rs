//! A foreign client that listens, in a process of its own.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// How long it may take to say something.
const SOON: Duration = Duration::from_secs(20);

/// A client that prints each push in three lines, as `redis-cli SUBSCRIBE` does: what it is, the
/// channel, the payload. Dropping it ends it.
#[derive(Debug)]
pub(super) struct ForeignListener {
    child: Child,
    lines: Receiver<String>,
}

impl ForeignListener {
    /// Starts it; it is subscribed when this returns.
    pub(super) fn start(command: &mut Command) -> Result<Self, String> {
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(|error| error.to_string())?;
        let output = child.stdout.take().ok_or("it has no output")?;
        let (line, lines) = channel();
        // It ends with the output, which ends with the process.
        std::thread::spawn(move || {
            let all = BufReader::new(output).lines().map_while(Result::ok);
            all.into_iter().try_for_each(|read| line.send(read))
        });
        let mut listener = Self { child, lines };
        listener.push("subscribe")?;
        Ok(listener)
    }

    /// The next payload.
    pub(super) fn next(&mut self) -> Result<String, String> {
        self.push("message")
    }

    fn push(&mut self, wanted: &str) -> Result<String, String> {
        let line = || self.lines.recv_timeout(SOON).map_err(|_| format!("no {wanted} is printed"));
        let (kind, _channel, payload) = (line()?, line()?, line()?);
        if kind == wanted { Ok(payload) } else { Err(format!("{kind} in place of {wanted}")) }
    }
}

impl Drop for ForeignListener {
    fn drop(&mut self) {
        // Where it fails, it has ended.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
