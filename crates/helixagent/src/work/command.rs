//! One run of the command for one message.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::pin::{Pin, pin};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use futures::FutureExt;
use futures::future::FusedFuture;
use messaging::duration::format_duration;
use messaging::{Bytes, Message, Received, Verdict};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::pieces::{Piece, Pieces};
use crate::exit::Failure;

/// `EX_DATAERR` of `sysexits.h`: the message itself is wrong, so no attempt will help.
const DATA_ERROR: i32 = 65;

/// How long a process group has between TERM and KILL, and how long what a command started may
/// keep its output open after it has ended.
const GRACE: Duration = Duration::from_secs(5);

/// Runs the command.
#[derive(Debug)]
pub(super) struct Runner {
    program: PathBuf,
    arguments: Vec<OsString>,
    limit: Option<Duration>,
    pieces: Pieces,
    /// Variables of an outer run that must not look like this message's.
    stale: Vec<OsString>,
}

/// Finds the program of a command and checks that it can be started.
pub(super) fn find(command: &[OsString]) -> Result<(PathBuf, Vec<OsString>), Failure> {
    let (name, arguments) = command.split_first().ok_or_else(|| Failure::usage("no command"))?;
    let refuse = |why: &str| Failure::usage(format!("command {}: {why}", name.display()));
    let program = if name.as_bytes().contains(&b'/') {
        PathBuf::from(name)
    } else {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut candidates = std::env::split_paths(&path).map(|folder| folder.join(name));
        candidates.find(|file| is_executable(file)).ok_or_else(|| refuse("not found in PATH"))?
    };
    if !program.is_file() {
        return Err(refuse("not found, or no file"));
    }
    if !is_executable(&program) {
        return Err(refuse("not executable"));
    }
    if let Some(interpreter) = interpreter(&program)
        && !is_executable(&interpreter)
    {
        return Err(refuse(&format!("its interpreter {} can't be run", interpreter.display())));
    }
    Ok((program, arguments.to_vec()))
}

fn is_executable(file: &Path) -> bool {
    file.metadata().is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

/// The program that runs a script.
fn interpreter(program: &Path) -> Option<PathBuf> {
    let mut head = [0; 256];
    let count = io::Read::read(&mut std::fs::File::open(program).ok()?, &mut head).ok()?;
    let line = head.get(..count)?.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let word = line.trim_ascii().split(u8::is_ascii_whitespace).next()?;
    (!word.is_empty()).then(|| PathBuf::from(OsStr::from_bytes(word)))
}

impl Runner {
    pub(super) fn new(
        program: PathBuf,
        arguments: Vec<OsString>,
        limit: Option<Duration>,
        pieces: Pieces,
    ) -> Self {
        let ours = |name: &OsString| {
            name == "MESSAGE_KEY" || name.as_bytes().starts_with(b"MESSAGE_HEADER_")
        };
        let stale = std::env::vars_os().map(|(name, _)| name).filter(ours).collect();
        Self { program, arguments, limit, pieces, stale }
    }

    /// Runs the command to its end, its limit or its cancellation, which ends its process group.
    pub(super) async fn run(&self, message: Received<Bytes>) -> Verdict {
        let mut child = match self.command(&message).spawn() {
            Ok(child) => child,
            Err(error) => return not_started(&self.program, &error),
        };
        let group = Group::of(&child);
        let mut out = Piece::default();
        let mut err = Piece::default();
        let ended = self.attend(&mut child, &group, message.message(), &mut out, &mut err).await;
        group.spare();
        let reason = err.last_line();
        self.pieces.pass_on(out, err);
        match ended {
            Err(error) => Verdict::fail(format!("the command was lost sight of: {error}")),
            Ok(None) => {
                let limit = self.limit.map(format_duration).unwrap_or_default();
                Verdict::fail(format!("the command took longer than {limit}"))
            }
            Ok(Some(status)) => judge(status, reason),
        }
    }

    fn command(&self, message: &Received<Bytes>) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        for name in &self.stale {
            command.env_remove(name);
        }
        let attempt = message.attempt().to_string();
        let Message { subject, id, key, headers, .. } = message.message();
        command.env("MESSAGE_ID", id.to_string());
        command.env("MESSAGE_SUBJECT", &**subject);
        command.env("MESSAGE_ATTEMPT", attempt);
        if let Some(key) = key {
            command.env("MESSAGE_KEY", OsString::from_vec(key.to_vec()));
        }
        for (name, value) in headers.application() {
            let letter =
                |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
            let name: String = name.chars().map(letter).collect();
            command.env(format!("MESSAGE_HEADER_{name}"), OsString::from_vec(value.to_vec()));
        }
        command
    }

    /// Feeds the command and takes what it prints until it has ended; `None` at its limit.
    async fn attend(
        &self,
        child: &mut Child,
        group: &Group,
        message: &Message,
        out: &mut Piece,
        err: &mut Piece,
    ) -> io::Result<Option<ExitStatus>> {
        let (stdin, stdout, stderr) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let feed = async move {
            if let Some(mut stdin) = stdin {
                // A command need not read its input.
                stdin.write_all(&message.body).await.ok();
            }
        };
        let streams = async { tokio::join!(feed, out.take(stdout), err.take(stderr)) };
        let mut streams = pin!(streams.map(|((), out, err)| out.and(err)).fuse());
        let Some(limit) = self.limit else {
            return end_of(child, streams).await.map(Some);
        };
        match timeout(limit, end_of(child, streams.as_mut())).await {
            Ok(status) => status.map(Some),
            Err(_) => {
                group.signal(Signal::TERM);
                if timeout(GRACE, end_of(child, streams)).await.is_err() {
                    group.signal(Signal::KILL);
                    child.wait().await?;
                }
                Ok(None)
            }
        }
    }
}

/// Waits for the end of the process, then a moment for what it started to close its output.
async fn end_of<F>(child: &mut Child, mut streams: Pin<&mut F>) -> io::Result<ExitStatus>
where
    F: FusedFuture<Output = io::Result<()>>,
{
    let status = loop {
        tokio::select! {
            status = child.wait() => break status?,
            taken = &mut streams, if !streams.is_terminated() => taken?,
        }
    };
    if !streams.is_terminated() {
        timeout(GRACE, streams).await.unwrap_or(Ok(()))?;
    }
    Ok(status)
}

fn judge(status: ExitStatus, last_line: Option<String>) -> Verdict {
    let because = |what: String| match &last_line {
        Some(line) => format!("{what}: {line}"),
        None => what,
    };
    match (status.code(), status.signal()) {
        (Some(0), _) => Verdict::Ack,
        (Some(DATA_ERROR), _) => {
            let nothing = format!("exit status {DATA_ERROR}, nothing on standard error");
            Verdict::reject(last_line.unwrap_or(nothing))
        }
        (Some(code), _) => Verdict::fail(because(format!("exit status {code}"))),
        (None, Some(signal)) => Verdict::fail(because(format!("ended by signal {signal}"))),
        (None, None) => Verdict::fail(because("ended without a status".to_owned())),
    }
}

/// What no environment can hold will not fit at the next attempt either.
fn not_started(program: &Path, error: &io::Error) -> Verdict {
    let reason = format!("{} could not be started: {error}", program.display());
    match error.kind() {
        io::ErrorKind::InvalidInput | io::ErrorKind::ArgumentListTooLong => Verdict::reject(reason),
        _ => Verdict::fail(reason),
    }
}

/// The process group of a command. Dropped while the command runs, it kills it.
#[derive(Debug)]
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Self {
        Self(child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?)))
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = self.0 {
            // It may have ended just now.
            kill_process_group(pid, signal).ok();
        }
    }

    fn spare(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}
