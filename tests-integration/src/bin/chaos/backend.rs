//! The one place that knows what the broker of a run is: a [`Backend`] each.
//!
//! Faults of processes and of the network are the same everywhere ([`strike`](crate::strike)). A
//! backend says which node they meet, carries out those that only it has, and reads back what its
//! own tools find. Another backend is a file here and a line in [`ALL`].

pub(crate) mod kafka;
mod rabbitmq;
mod redis;

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::process::Command;
use std::time::Duration;

use tests_integration::audit::{Id, Promise};
use xtask::brokers::{self, Brokers, Options};

use crate::dice::Dice;
use crate::faults::{Fault, Kind};
use crate::group::{Group, PREFETCH};
use crate::identity::Identity;
use crate::role::Control;

/// What the runner asks of a backend. All of it may block.
pub(crate) trait Backend: Debug + Sync {
    /// What `MESSAGING_BACKEND` calls it.
    fn name(&self) -> &'static str;

    /// The brokers that it needs.
    fn broker(&self) -> brokers::Kind;

    /// The faults that it can be given; the first two unless others are asked for.
    fn faults(&self) -> &'static [Kind];

    /// Who gets messages.
    fn groups(&self) -> &'static [Group] {
        Group::AT_LEAST_ONCE
    }

    /// The mistakes that can be made on it.
    fn controls(&self) -> &'static [Control] {
        &[Control::AckEarly, Control::NoConfirm, Control::Volatile]
    }

    /// The options of the brokers, or why that makes no sense. `options` is what the command line
    /// says of nodes and versions.
    fn options(&self, wish: &Wish, options: Options) -> Result<Options, String>;

    /// What the processes find in their environment beside where the brokers are.
    fn env(&self) -> Vec<(String, String)> {
        Vec::new()
    }

    /// Whether lanes of an ordered group have owners whose epochs grow from one to the next.
    fn fences(&self) -> bool {
        false
    }

    /// How many messages one member may handle again after a fault.
    fn in_hand(&self) -> u64 {
        PREFETCH.into()
    }

    /// How long such a fault takes beside its own duration, so that messages are left for those
    /// that follow.
    fn takes(&self, kind: Kind) -> Duration {
        let _ = kind;
        Duration::ZERO
    }

    /// The node that a fault of the server meets.
    fn target(&self, brokers: &Brokers, kind: Kind, dice: &mut Dice) -> Result<String, String> {
        let (_, servers) = (kind, brokers.servers());
        let chosen = dice.below(servers.len().max(1) as u64) as usize;
        servers.get(chosen).map(|node| (*node).to_owned()).ok_or_else(|| "no server".to_owned())
    }

    /// What happens to a server that was killed, before it is started again.
    fn killed(&self, wish: &Wish, brokers: &Brokers, node: &str) -> Result<(), String> {
        let _ = (wish, brokers, node);
        Ok(())
    }

    /// Makes a fault that only this backend has and ends it; tells when the brokers answered again,
    /// by [`clock::now`](crate::clock::now). `node` is the target.
    fn strike(&self, brokers: &Brokers, fault: &Fault, node: &str) -> Result<u64, String> {
        let _ = (brokers, node);
        Err(format!("{} has no fault {}", self.name(), fault.kind))
    }

    /// The settings that the result assumes, as the servers have them.
    fn settings(&self, brokers: &Brokers) -> Result<Vec<(String, String)>, String>;

    /// What is there at the end, read without our client; nothing where nothing is kept.
    fn read_back(&self, brokers: &Brokers, run: &Identity) -> Result<Option<ReadBack>, String>;

    /// Changes what is promised on this backend.
    fn promise(&self, promise: Promise) -> Promise {
        promise
    }
}

/// The backends that can be tried.
pub(crate) const ALL: [&dyn Backend; 4] =
    [&redis::PubSub, &redis::Streams, &rabbitmq::RabbitMq, &kafka::Kafka];

/// The backend of that name.
pub(crate) fn named(name: &str) -> Option<&'static dyn Backend> {
    ALL.into_iter().find(|backend| backend.name() == name)
}

/// What the command line wishes of a run.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    pub(crate) control: Option<Control>,
    /// When the server writes to the disk.
    pub(crate) fsync: Option<String>,
    /// The kinds of faults, each once.
    pub(crate) faults: Vec<Kind>,
}

/// What is there at the end.
#[derive(Debug, Default)]
pub(crate) struct ReadBack {
    /// How many messages were ever added, if the broker tells.
    pub(crate) added: Option<u64>,
    /// Whose messages are still kept.
    pub(crate) kept: BTreeSet<Id>,
    /// How many dead letters there are.
    pub(crate) dead: u64,
    /// What waits or is in hand in any group, as the server counts it.
    pub(crate) pending: u64,
}

/// What a command of a broker's own tools prints.
pub(crate) fn output(mut command: Command) -> Result<String, String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| format!("{program}: {error}"))?;
    let text = String::from_utf8(output.stdout).map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(text);
    }
    Err(format!("{program}: {text}{}", String::from_utf8_lossy(&output.stderr)))
}

/// Looks again and again until it is so, at most as long as `limit`; the error says what is not.
pub(crate) fn until(
    limit: Duration,
    mut look: impl FnMut() -> Result<(), String>,
) -> Result<(), String> {
    let deadline = crate::clock::now() + limit.as_nanos() as u64;
    loop {
        match look() {
            Ok(()) => return Ok(()),
            Err(why) if crate::clock::now() > deadline => return Err(why),
            // Asking takes a process of its own, and the machine has other things to do.
            Err(_) => pause(Duration::from_millis(20)),
        }
    }
}

/// Lets time pass.
#[expect(clippy::disallowed_methods, reason = "this is a thread of its own, without a runtime")]
pub(crate) fn pause(time: Duration) {
    std::thread::sleep(time);
}
