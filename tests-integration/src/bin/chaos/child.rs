//! A process of the run, and what is known of it.

use std::io;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tests_integration::audit::What;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::interval;

use crate::ledger::{Ledger, Member};
use crate::role::{Order, Role};
use crate::wire::{Record, SIZE};

/// A process of the run. It is killed when it is dropped.
pub(crate) struct Child {
    pub(crate) member: Member,
    process: tokio::process::Child,
    pid: Pid,
    stdin: ChildStdin,
    /// The last line of its log.
    last_line: watch::Receiver<String>,
    /// Reads what it says and measures what it takes.
    watching: JoinSet<()>,
}

impl Child {
    /// Starts this program again in a role. `name` is what the auditor calls it.
    pub(crate) fn start(
        name: String,
        member: Member,
        role: &Role,
        env: &[(String, String)],
        ledger: &Arc<Ledger>,
    ) -> io::Result<Self> {
        let mut process = Command::new(std::env::current_exe()?)
            .arg("--role")
            .arg(serde_json::to_string(role)?)
            .envs(env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let ended = || io::Error::other("it ended at once");
        let pid =
            process.id().and_then(|pid| Pid::from_raw(pid.cast_signed())).ok_or_else(ended)?;
        let stdin = process.stdin.take().ok_or_else(ended)?;
        let lines = Arc::new(AtomicU64::new(0));
        let (last, last_line) = watch::channel(String::new());
        let mut watching = JoinSet::new();
        if let Some(stdout) = process.stdout.take() {
            watching.spawn(read_records(stdout, member, Arc::clone(ledger)));
        }
        if let Some(stderr) = process.stderr.take() {
            let (lines, ledger) = (Arc::clone(&lines), Arc::clone(ledger));
            watching.spawn(read_log(stderr, name.clone(), (lines, last), ledger));
        }
        watching.spawn(sample(pid, name, lines, Arc::clone(ledger)));
        Ok(Self { member, process, pid, stdin, last_line, watching })
    }

    pub(crate) fn signal(&self, signal: Signal) -> io::Result<()> {
        kill_process(self.pid, signal).map_err(io::Error::from)
    }

    pub(crate) async fn order(&mut self, order: Order) -> io::Result<()> {
        self.stdin.write_all(order.line().as_bytes()).await
    }

    /// Waits until it has ended and everything is read that it said; also tells what it said last.
    pub(crate) async fn ended(mut self) -> io::Result<(ExitStatus, String)> {
        let status = self.process.wait().await?;
        while self.watching.join_next().await.is_some() {}
        let last = self.last_line.borrow().clone();
        Ok((status, last))
    }

    /// Whether it has ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        !matches!(self.process.try_wait(), Ok(None))
    }
}

async fn read_records(mut from: ChildStdout, member: Member, ledger: Arc<Ledger>) {
    let mut buffer = Vec::with_capacity(64 * 1024);
    while let Ok(1..) = from.read_buf(&mut buffer).await {
        let (whole, _) = buffer.as_chunks::<SIZE>();
        let records: Vec<Record> = whole.iter().filter_map(Record::decode).collect();
        let read = whole.len() * SIZE;
        ledger.take(member, &records);
        buffer.drain(..read);
    }
}

async fn read_log(
    from: ChildStderr,
    process: String,
    (count, last): (Arc<AtomicU64>, watch::Sender<String>),
    ledger: Arc<Ledger>,
) {
    let mut lines = BufReader::new(from).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        count.fetch_add(1, Ordering::Relaxed);
        last.send_replace(line.clone());
        ledger.note(What::Logged { process: process.clone(), line });
    }
}

/// Measures a process each second until it is gone.
async fn sample(pid: Pid, process: String, lines: Arc<AtomicU64>, ledger: Arc<Ledger>) {
    let mut seconds = interval(Duration::from_secs(1));
    // At once it is not itself yet.
    seconds.tick().await;
    loop {
        seconds.tick().await;
        let Some((resident, descriptors)) = measure(pid) else { return };
        let log_lines = lines.load(Ordering::Relaxed);
        let process = process.clone();
        ledger.note(What::Sampled { process, resident, descriptors, log_lines });
    }
}

/// The resident memory in bytes and the open descriptors of a process that runs.
fn measure(pid: Pid) -> Option<(u64, u64)> {
    let of = PathBuf::from("/proc").join(pid.as_raw_nonzero().to_string());
    let status = std::fs::read_to_string(of.join("status")).ok()?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = resident.split_whitespace().next()?.parse().ok()?;
    let descriptors = std::fs::read_dir(of.join("fd")).ok()?.count();
    Some((kibibytes * 1_024, descriptors as u64))
}
