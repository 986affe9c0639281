//! Real brokers on this machine, as processes of ours, on loopback addresses only.
//!
//! A set of brokers lives in a directory: its plan, and for each node its configuration, data, log
//! and pid file. The plan is written before anything starts, and each process writes its own pid
//! file before it becomes a server; so whatever happens in between, [`Brokers::down`] finds it.
//!
//! Every call blocks until what it says is the case; [`Brokers`] may be shared between threads.

mod damage;
mod install;
mod kafka;
mod options;
mod plan;
mod ports;
mod private;
mod process;
mod rabbitmq;
mod recipe;
mod redis;
mod tools;
mod until;
mod variables;
mod wanted;

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;

pub use self::install::program;
pub use self::options::{Kind, Options, RedisMode};
pub use self::private::{Private, end_abandoned};
pub use self::rabbitmq::Management;
pub use self::wanted::Wanted;

use self::plan::{Node, Plan, Role};
use self::ports::Ports;
use self::process::Process;
use self::recipe::recipe;
use self::until::{Now, until};

/// How long a node may take to answer or to end.
const LIMIT: Duration = Duration::from_secs(180);

/// The nodes of one kind of broker, in one directory.
#[derive(Debug)]
pub struct Brokers {
    dir: PathBuf,
    plan: Plan,
}

/// How a node is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It answers.
    Up,
    /// It was stopped by a signal.
    Paused,
    /// It runs; why it does not answer.
    Silent(String),
    /// It does not run.
    Down,
}

impl Brokers {
    /// Starts what is asked for and waits until it answers, clusters until they are whole. What
    /// runs already stays as it is; what was started before and ended keeps its ports and data.
    ///
    /// # Errors
    ///
    /// When the directory holds brokers with other options, when a program is missing and can't
    /// be installed, and when a node does not come up; what has been started then runs until
    /// [`down`](Self::down).
    pub fn start(dir: &Path, options: Options) -> Result<Self, String> {
        let options = options.checked()?;
        let recipe = recipe(options.kind);
        recipe.install(&options)?;
        let failed = |error: std::io::Error| format!("{}: {error}", dir.display());
        fs::create_dir_all(dir).map_err(failed)?;
        let dir = dir.canonicalize().map_err(failed)?;
        let _lock = lock(&dir)?;
        let plan = match Plan::load(&dir)? {
            Some(plan) if plan.options == options => plan,
            Some(_) => {
                let kind = options.kind.name();
                return Err(format!("{kind} is there with other options: end it first (down)"));
            }
            None => {
                let nodes = recipe.nodes(&options, &mut Ports::default())?;
                let password = plan::random_hex(16)?;
                let plan = Plan { options, nodes, password, id: plan::random_hex(16)? };
                plan.save(&dir)?;
                plan
            }
        };
        let brokers = Self { dir, plan };
        brokers.start_missing()?;
        Ok(brokers)
    }

    /// The brokers in a directory, whether they run or not; nothing where there never were any.
    ///
    /// # Errors
    ///
    /// When the directory can't be read.
    pub fn load(dir: &Path) -> Result<Option<Self>, String> {
        let Some(plan) = Plan::load(dir)? else { return Ok(None) };
        let dir = dir.canonicalize().map_err(|error| format!("{}: {error}", dir.display()))?;
        Ok(Some(Self { dir, plan }))
    }

    /// The brokers of that kind that `cargo xtask up` made.
    ///
    /// # Errors
    ///
    /// When their directory can't be read.
    pub fn of_up(kind: Kind) -> Result<Option<Self>, String> {
        Self::load(&dir_of_up(kind))
    }

    /// What they are.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.plan.options.kind
    }

    /// The options they were started with.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.plan.options
    }

    /// The names of all nodes, in the order in which they start.
    #[must_use]
    pub fn nodes(&self) -> Vec<&str> {
        self.plan.nodes.iter().map(|node| &*node.name).collect()
    }

    /// The names of the brokers themselves, without Sentinels, ZooKeeper and the like.
    #[must_use]
    pub fn servers(&self) -> Vec<&str> {
        self.plan.with_role(Role::Server).map(|node| &*node.name).collect()
    }

    /// Where clients connect to a node.
    ///
    /// # Errors
    ///
    /// When there is no such node.
    pub fn address(&self, node: &str) -> Result<SocketAddr, String> {
        Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, self.node(node)?.port)))
    }

    /// The process of a node, while it runs.
    ///
    /// # Errors
    ///
    /// When there is no such node.
    pub fn pid(&self, node: &str) -> Result<Option<i32>, String> {
        let pid = self.process(self.node(node)?).pid();
        Ok(pid.map(|pid| pid.as_raw_nonzero().get()))
    }

    /// The output of a node.
    ///
    /// # Errors
    ///
    /// When there is no such node.
    pub fn log(&self, node: &str) -> Result<PathBuf, String> {
        Ok(self.process(self.node(node)?).log())
    }

    /// How a node is doing.
    ///
    /// # Errors
    ///
    /// When there is no such node.
    pub fn state(&self, node: &str) -> Result<State, String> {
        let node = self.node(node)?;
        let process = self.process(node);
        Ok(match process.is_alive() {
            false => State::Down,
            true if process.is_paused() => State::Paused,
            true => match recipe(self.kind()).answers(self, node) {
                Ok(()) => State::Up,
                Err(reason) => State::Silent(reason),
            },
        })
    }

    /// Whether a broker answers, so that clients find something.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.servers().iter().any(|node| self.state(node) == Ok(State::Up))
    }

    /// Ends a node with SIGKILL and waits until it is gone.
    ///
    /// # Errors
    ///
    /// When there is no such node, or it outlives the signal.
    pub fn kill(&self, node: &str) -> Result<(), String> {
        self.process(self.node(node)?).end(Signal::KILL, LIMIT)
    }

    /// Ends a node gracefully (SIGTERM) and waits until it is gone; a paused one goes on first.
    ///
    /// # Errors
    ///
    /// When there is no such node, or it does not end in time.
    pub fn stop(&self, node: &str) -> Result<(), String> {
        let process = self.process(self.node(node)?);
        if process.is_paused() {
            process.signal(Signal::CONT)?;
        }
        process.end(Signal::TERM, LIMIT)
    }

    /// Makes a node hang (SIGSTOP): its connections stay open and nothing answers.
    ///
    /// # Errors
    ///
    /// When there is no such node, or it does not run.
    pub fn pause(&self, node: &str) -> Result<(), String> {
        self.process(self.node(node)?).pause()
    }

    /// Lets a paused node go on (SIGCONT).
    ///
    /// # Errors
    ///
    /// When there is no such node, or it does not run.
    pub fn resume(&self, node: &str) -> Result<(), String> {
        self.process(self.node(node)?).signal(Signal::CONT)
    }

    /// Starts a node that has ended, on its port and data, and waits until it answers.
    ///
    /// # Errors
    ///
    /// When there is no such node, or it does not come up.
    pub fn start_node(&self, node: &str) -> Result<(), String> {
        let node = self.node(node)?;
        let is_new = self.spawn(node)?;
        self.wait(node, is_new)
    }

    /// Ends a node gracefully and starts it again.
    ///
    /// # Errors
    ///
    /// As [`stop`](Self::stop) and [`start_node`](Self::start_node).
    pub fn restart(&self, node: &str) -> Result<(), String> {
        self.stop(node)?;
        self.start_node(node)
    }

    /// Ends every node gracefully and starts all of them again.
    ///
    /// # Errors
    ///
    /// As [`stop`](Self::stop) and [`start_missing`](Self::start_missing).
    pub fn restart_all(&self) -> Result<(), String> {
        for role in [Role::Sentinel, Role::Server, Role::Support] {
            // All at once: the last of a cluster can't leave it in order.
            std::thread::scope(|scope| {
                let nodes = self.plan.with_role(role);
                let ending: Vec<_> =
                    nodes.map(|node| scope.spawn(|| self.stop(&node.name))).collect();
                let ended = ending.into_iter().map(|it| it.join());
                ended.into_iter().try_for_each(|it| it.unwrap_or_else(|_| Err("panic".to_owned())))
            })?;
        }
        self.start_missing()
    }

    /// Starts every node that does not run and waits until the set is whole.
    ///
    /// # Errors
    ///
    /// When a node does not come up.
    pub fn start_missing(&self) -> Result<(), String> {
        for role in [Role::Support, Role::Server, Role::Sentinel] {
            let mut nodes = Vec::new();
            for node in self.plan.with_role(role) {
                nodes.push((node, self.spawn(node)?));
            }
            for (node, is_new) in nodes {
                self.wait(node, is_new)?;
            }
            recipe(self.kind()).join(self, role)?;
        }
        Ok(())
    }

    /// Ends every node at once and removes the directory with everything in it.
    ///
    /// # Errors
    ///
    /// When something can't be ended or removed.
    pub fn down(&self) -> Result<(), String> {
        let _lock = lock(&self.dir)?;
        for node in self.plan.nodes.iter().rev() {
            self.process(node).end_at_once()?;
        }
        let removed = fs::remove_dir_all(&self.dir);
        removed.map_err(|error| format!("{}: {error}", self.dir.display()))
    }

    /// Starts a node unless it runs: then, it may be about to end.
    fn spawn(&self, node: &Node) -> Result<bool, String> {
        let process = self.process(node);
        if process.is_alive() {
            return Ok(false);
        }
        // What was killed a moment ago may still hold them.
        until(Duration::from_secs(5), || {
            let ports = [node.port, node.peers, node.second];
            match ports.into_iter().find(|port| *port != 0 && !ports::is_free(*port)) {
                Some(port) => Now::NotYet(format!("another program has port {port}")),
                None => Now::Done,
            }
        })
        .map_err(|reason| format!("{}: {reason}", node.name))?;
        let dir = self.dir_of(node);
        fs::create_dir_all(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        process.spawn(&recipe(self.kind()).launch(self, node)?)?;
        Ok(true)
    }

    /// Waits until a node answers; one that was there before and has ended since is started again.
    fn wait(&self, node: &Node, mut is_new: bool) -> Result<(), String> {
        let process = self.process(node);
        let answered = until(LIMIT, || match process.is_alive() {
            true => recipe(self.kind()).answers(self, node).into(),
            false if is_new => Now::Never("it has ended".to_owned()),
            false => {
                is_new = true;
                match self.spawn(node) {
                    Ok(_) => Now::NotYet("it has just been started".to_owned()),
                    Err(reason) => Now::Never(reason),
                }
            }
        });
        answered.map_err(|reason| {
            format!("{} does not answer: {reason}; see {}", node.name, process.log().display())
        })
    }

    fn node(&self, name: &str) -> Result<&Node, String> {
        let found = self.plan.nodes.iter().find(|node| node.name == name);
        found.ok_or_else(|| format!("no node {name}; there are {}", self.nodes().join(", ")))
    }

    fn dir_of(&self, node: &Node) -> PathBuf {
        self.dir.join(&node.name)
    }

    fn process(&self, node: &Node) -> Process {
        Process::new(self.dir_of(node), recipe(self.kind()).program(node))
    }
}

/// The directory for everything that has to do with brokers, which git ignores.
fn home() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).join(".brokers")
}

/// Installs what these brokers need.
///
/// # Errors
///
/// When something is missing and can't be installed; it says what and the way out.
pub fn install(options: &Options) -> Result<(), String> {
    let options = options.clone().checked()?;
    recipe(options.kind).install(&options)
}

/// Where `cargo xtask up` keeps the brokers of that kind.
#[must_use]
pub fn dir_of_up(kind: Kind) -> PathBuf {
    home().join(kind.name())
}

/// Keeps others from changing a set until it is dropped.
fn lock(dir: &Path) -> Result<fs::File, String> {
    let failed = |error: std::io::Error| format!("{}: {error}", dir.display());
    let dir = fs::File::open(dir).map_err(failed)?;
    let locked = rustix::fs::flock(&dir, rustix::fs::FlockOperation::LockExclusive);
    locked.map_err(|error| failed(error.into()))?;
    Ok(dir)
}
