//! A member of a group in a process of its own: this program once more, in another role.

use std::io::Write;
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use messaging::{Broker, Bytes, Received, Result};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

use super::harness;
use super::stage::{group, text, topology};

/// Set where this process is a member: the backend.
const ROLE: &str = "CONFORMANCE_MEMBER";

/// What its group receives.
const PATTERN: &str = "CONFORMANCE_PATTERN";

/// The body on which a member's handler never ends.
pub(super) const DEADLY: &str = "deadly";

/// The group that members join.
const GROUP: &str = "g";

/// How long a member may take to say something.
const SOON: Duration = Duration::from_secs(20);

/// If this process was started as a member, is one until its standard input ends. Every program
/// that runs cases has to begin with this.
#[must_use]
pub fn play_member() -> Option<ExitCode> {
    let backend = std::env::var(ROLE).ok()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    let played = runtime.block_on(play(&backend));
    Some(if played.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Says what it handles: a line each, with the body and the attempt.
async fn play(backend: &str) -> Result<()> {
    let broker: Broker = harness::member_of(backend).await?.topology(topology()).open().await?;
    let handle = |message: Received<Bytes>| async move {
        let body = text(&message);
        say(&format!("{body} {}", message.attempt()));
        let lasts = if body == DEADLY { 3_600_000 } else { 20 };
        tokio::time::sleep(Duration::from_millis(lasts)).await;
    };
    let pattern = std::env::var(PATTERN).unwrap_or_default();
    let worker = broker.worker_on(group(GROUP, &pattern)).concurrency(4).prefetch(8);
    let worker = worker.spawn(handle).await?;
    say("ready");
    let mut input = Vec::new();
    // Any end of the input is the end.
    tokio::io::stdin().read_to_end(&mut input).await.unwrap_or_default();
    worker.stop().await?;
    broker.close().await
}

fn say(line: &str) {
    // Nobody listens any more where this fails.
    writeln!(std::io::stdout(), "{line}").unwrap_or_default();
}

/// A member that runs; dropping it kills it.
#[derive(Debug)]
pub(super) struct Member {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

#[expect(clippy::unwrap_used, clippy::panic, reason = "a case fails by panicking")]
impl Member {
    /// Starts one of the group that receives `tasks.#`; it is a member when this returns.
    pub(super) async fn start(backend: &str, variables: Vec<(String, String)>) -> Self {
        Self::start_on(backend, variables, "tasks.#").await
    }

    /// As [`Member::start`], of a group with this pattern.
    pub(super) async fn start_on(
        backend: &str,
        variables: Vec<(String, String)>,
        pattern: &str,
    ) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.env_clear().envs(variables).env(ROLE, backend).env(PATTERN, pattern);
        command.kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut member = Self { child, lines };
        assert_eq!(member.line().await.as_deref(), Some("ready"));
        member
    }

    /// What it says next, or nothing once it has ended.
    pub(super) async fn line(&mut self) -> Option<String> {
        match timeout(SOON, self.lines.next_line()).await {
            Ok(line) => line.unwrap(),
            Err(_) => panic!("the member says nothing"),
        }
    }

    /// Ends it in the middle of whatever it does (SIGKILL); gives what it had said.
    pub(super) async fn kill(mut self) -> Vec<String> {
        self.child.kill().await.unwrap();
        self.rest().await
    }

    /// Lets it stop in order; gives what it had said.
    pub(super) async fn stop(mut self) -> Vec<String> {
        drop(self.child.stdin.take());
        let said = self.rest().await;
        assert!(timeout(SOON, self.child.wait()).await.unwrap().unwrap().success());
        said
    }

    async fn rest(&mut self) -> Vec<String> {
        let mut all = Vec::new();
        while let Some(line) = self.line().await {
            all.push(line);
        }
        all
    }
}
