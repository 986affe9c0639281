//! Processes that outlive us, known by a pid file that they write themselves.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::until::{Now, until};

/// How to start a server.
#[derive(Debug)]
pub(super) struct Launch {
    pub(super) program: PathBuf,
    pub(super) args: Vec<OsString>,
    pub(super) env: Vec<(String, OsString)>,
}

/// The process of a node: the leader of a session of its own, working in the node's directory.
#[derive(Debug)]
pub(super) struct Process {
    dir: PathBuf,
    /// The name of the program that serves; the leader may be a script around it.
    program: &'static str,
}

/// Detaches the rest of its arguments. The pid file is written before the program starts, by the
/// process itself, so that there is no moment in which it runs and is not known.
const DETACH: &str = r#"setsid sh -c 'echo $$ > pid.new && mv pid.new pid && exec "$@"' sh "$@" \
    </dev/null >>log 2>&1 &"#;

impl Process {
    pub(super) fn new(dir: PathBuf, program: &'static str) -> Self {
        Self { dir, program }
    }

    /// Where its output goes.
    pub(super) fn log(&self) -> PathBuf {
        self.dir.join("log")
    }

    pub(super) fn spawn(&self, launch: &Launch) -> Result<(), String> {
        let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", self.dir.display());
        let pid_file = self.dir.join("pid");
        match fs::remove_file(&pid_file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(failed(&error));
            }
            _ => {}
        }
        let mut command = Command::new("sh");
        command.args(["-c", DETACH, "sh"]).arg(&launch.program).args(&launch.args);
        command.current_dir(&self.dir).env_clear();
        for kept in ["PATH", "LANG", "TMPDIR", "JAVA_HOME"] {
            command.envs(std::env::var_os(kept).map(|value| (kept, value)));
        }
        command.envs(launch.env.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let status = command.status().map_err(|error| failed(&error))?;
        if !status.success() {
            return Err(failed(&status));
        }
        until(Duration::from_secs(10), || match pid_file.exists() {
            true => Now::Done,
            false => Now::NotYet(format!("{} is not there", pid_file.display())),
        })
    }

    /// The pid of the program that serves, while it runs.
    pub(super) fn pid(&self) -> Option<Pid> {
        self.members().into_iter().find(|member| member.program == self.program).map(|it| it.pid)
    }

    /// Whether anything of it is left.
    pub(super) fn is_alive(&self) -> bool {
        !self.members().is_empty()
    }

    /// Whether it serves, and was stopped by a signal: no thread of it works.
    pub(super) fn is_paused(&self) -> bool {
        let Some(pid) = self.pid() else { return false };
        let threads = fs::read_dir(format!("/proc/{}/task", pid.as_raw_nonzero()));
        let stats = threads.into_iter().flatten().flatten();
        let mut stats = stats.filter_map(|thread| Stat::read(&thread.path()));
        stats.all(|stat| matches!(stat.state, 'T' | 'Z' | 'X'))
    }

    pub(super) fn signal(&self, signal: Signal) -> Result<(), String> {
        let pid = self.pid().ok_or_else(|| format!("{} does not run", self.dir.display()))?;
        kill_process(pid, signal).map_err(|error| format!("{}: {error}", self.dir.display()))
    }

    /// Stops it, and waits until it stands still: for a moment, its other threads still serve.
    pub(super) fn pause(&self) -> Result<(), String> {
        self.signal(Signal::STOP)?;
        until(Duration::from_secs(10), || match self.is_paused() {
            true => Now::Done,
            false => Now::NotYet(format!("{} goes on", self.dir.display())),
        })
    }

    /// Sends a signal that ends it, and waits until nothing of it is left.
    pub(super) fn end(&self, signal: Signal, limit: Duration) -> Result<(), String> {
        if self.pid().is_some() {
            self.signal(signal)?;
        }
        until(limit, || match self.is_alive() {
            true => Now::NotYet(format!("{} runs", self.dir.display())),
            false => Now::Done,
        })
    }

    /// Ends whatever is left of it.
    pub(super) fn end_at_once(&self) -> Result<(), String> {
        until(Duration::from_secs(10), || {
            let members = self.members();
            for member in &members {
                if let Err(error) = kill_process(member.pid, Signal::KILL)
                    && error != rustix::io::Errno::SRCH
                {
                    return Now::Never(format!("{}: {error}", self.dir.display()));
                }
            }
            match members.is_empty() {
                true => Now::Done,
                false => Now::NotYet(format!("{} runs", self.dir.display())),
            }
        })
    }

    /// The processes of its session that work in its directory. Both must agree: a pid file may
    /// be older than the process that has the number now.
    fn members(&self) -> Vec<Member> {
        let Some(leader) = read_pid(&self.dir.join("pid")) else { return Vec::new() };
        let Ok(all) = fs::read_dir("/proc") else { return Vec::new() };
        all.flatten()
            .filter_map(|entry| Member::read(&entry.path(), leader))
            .filter(|member| member.dir == self.dir)
            .collect()
    }
}

/// A process as `/proc` shows it.
#[derive(Debug)]
struct Member {
    pid: Pid,
    program: String,
    dir: PathBuf,
}

impl Member {
    /// A process of that session, unless it has ended. One whose first thread has ended goes on,
    /// with its files and ports, until the last one has.
    fn read(process: &Path, session: i32) -> Option<Self> {
        let pid = process.file_name()?.to_str()?.parse().ok()?;
        Self::of_thread(process, pid, session).or_else(|| {
            let threads = fs::read_dir(process.join("task")).ok()?;
            threads.flatten().find_map(|thread| Self::of_thread(&thread.path(), pid, session))
        })
    }

    fn of_thread(thread: &Path, pid: i32, session: i32) -> Option<Self> {
        let Stat { program, state, session: its_session } = Stat::read(thread)?;
        if matches!(state, 'Z' | 'X') || its_session != session {
            return None;
        }
        let dir = fs::read_link(thread.join("cwd")).ok()?;
        Some(Self { pid: Pid::from_raw(pid)?, program, dir })
    }
}

/// What `/proc` says of a thread.
struct Stat {
    program: String,
    state: char,
    session: i32,
}

impl Stat {
    /// Reads `NUMBER (PROGRAM) STATE PARENT GROUP SESSION …`.
    fn read(thread: &Path) -> Option<Self> {
        let stat = fs::read_to_string(thread.join("stat")).ok()?;
        let (before, after) = stat.rsplit_once(')')?;
        let (_, program) = before.split_once('(')?;
        let mut fields = after.split_whitespace();
        let state = fields.next()?.chars().next()?;
        let session = fields.nth(2)?.parse().ok()?;
        Some(Self { program: program.to_owned(), state, session })
    }
}

fn read_pid(file: &Path) -> Option<i32> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeper(dir: &Path) -> Process {
        let process = Process::new(dir.canonicalize().unwrap(), "sleep");
        let launch = Launch { program: "sleep".into(), args: vec!["600".into()], env: Vec::new() };
        process.spawn(&launch).unwrap();
        process
    }

    fn serves(process: &Process) -> Now {
        match process.pid() {
            Some(_) => Now::Done,
            None => Now::NotYet("it does not serve".to_owned()),
        }
    }

    #[test]
    fn a_process_is_paused_resumed_and_ended_by_its_pid_file() {
        let dir = tempfile::tempdir().unwrap();
        let process = sleeper(dir.path());
        until(Duration::from_secs(10), || serves(&process)).unwrap();
        process.pause().unwrap();
        assert!(process.is_paused());
        process.signal(Signal::CONT).unwrap();
        process.end(Signal::KILL, Duration::from_secs(10)).unwrap();
        assert!(!process.is_alive());
        assert!(process.signal(Signal::KILL).is_err());
    }

    #[test]
    fn a_pid_file_that_names_the_process_of_somebody_else_ends_nothing() {
        let ours = tempfile::tempdir().unwrap();
        let theirs = tempfile::tempdir().unwrap();
        let process = sleeper(theirs.path());
        until(Duration::from_secs(10), || serves(&process)).unwrap();
        fs::copy(theirs.path().join("pid"), ours.path().join("pid")).unwrap();
        let mistaken = Process::new(ours.path().canonicalize().unwrap(), "sleep");
        mistaken.end_at_once().unwrap();
        assert!(process.is_alive());
        process.end_at_once().unwrap();
        assert!(!process.is_alive());
    }
}
