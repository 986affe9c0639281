//! Which faults there are, and when a run has which. One that only some backends have is carried
//! out by [`Backend::strike`](crate::backend::Backend::strike).

use std::fmt;
use std::time::Duration;

use clap::ValueEnum;

use crate::dice::Dice;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Kind {
    /// SIGKILL of the server, which is started again
    ServerKill,
    /// The server stops in order and is started again
    ServerRestart,
    /// SIGSTOP of the server, then SIGCONT
    ServerPause,
    /// The server ends the connections of those who listen, and of nobody else
    ListenerCut,
    /// SIGKILL of the server that leads, which comes back after another one has taken over
    Failover,
    /// SIGKILL of the server that coordinates a group, which comes back after another one does
    CoordinatorKill,
    /// SIGKILL of a consumer, in whose place a new one starts
    ConsumerKill,
    /// A consumer ends in order, and a new one takes its place
    ConsumerRestart,
    /// SIGSTOP of a consumer, then SIGCONT
    ConsumerPause,
    /// A consumer joins its group or one leaves it in order: it has 2 to 12, and nobody waits
    ConsumerChurn,
    /// Every connection is reset
    Reset,
    /// Connections stay open and pass nothing on, one way or both
    HalfOpen,
    /// Connections end between a request and its answer
    Cut,
    /// The server is short of memory and blocks publishers
    MemoryAlarm,
    /// The server closes every connection by order of an operator
    ConnectionClose,
}

impl Kind {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::ServerKill => "server-kill",
            Self::ServerRestart => "server-restart",
            Self::ServerPause => "server-pause",
            Self::ListenerCut => "listener-cut",
            Self::Failover => "failover",
            Self::ConsumerKill => "consumer-kill",
            Self::ConsumerRestart => "consumer-restart",
            Self::CoordinatorKill => "coordinator-kill",
            Self::ConsumerPause => "consumer-pause",
            Self::ConsumerChurn => "consumer-churn",
            Self::Reset => "reset",
            Self::HalfOpen => "half-open",
            Self::Cut => "cut",
            Self::MemoryAlarm => "memory-alarm",
            Self::ConnectionClose => "connection-close",
        }
    }

    /// The kind of the fault that is called so.
    pub(crate) fn of(fault: &str) -> Option<Self> {
        let (kind, _) = fault.split_once(' ')?;
        Self::value_variants().iter().copied().find(|known| known.name() == kind)
    }

    /// Whether it is made by the proxy.
    pub(crate) const fn is_of_network(self) -> bool {
        matches!(self, Self::Reset | Self::HalfOpen | Self::Cut)
    }

    /// Whether it meets one consumer only.
    pub(crate) const fn is_of_consumer(self) -> bool {
        matches!(self, Self::ConsumerKill | Self::ConsumerPause) || self.is_of_membership()
    }

    /// Whether consumers come and go in order, and nothing else is wrong.
    pub(crate) const fn is_of_membership(self) -> bool {
        matches!(self, Self::ConsumerRestart | Self::ConsumerChurn)
    }

    /// Whether it meets a server itself.
    pub(crate) const fn is_of_server(self) -> bool {
        !self.is_of_network() && !self.is_of_consumer()
    }

    /// Whether a server ends without warning.
    pub(crate) const fn is_server_kill(self) -> bool {
        matches!(self, Self::ServerKill | Self::Failover | Self::CoordinatorKill)
    }

    /// How long it lasts.
    fn duration(self, dice: &mut Dice) -> Duration {
        match self {
            Self::ServerKill | Self::ServerRestart | Self::Failover | Self::CoordinatorKill => {
                dice.millis(0, 1_500)
            }
            Self::ConsumerKill | Self::ConsumerRestart => dice.millis(0, 500),
            Self::ConsumerPause | Self::ServerPause | Self::HalfOpen => dice.millis(500, 15_000),
            Self::Reset | Self::ListenerCut | Self::ConnectionClose | Self::ConsumerChurn => {
                Duration::ZERO
            }
            Self::MemoryAlarm => dice.millis(500, 8_000),
            Self::Cut => dice.millis(0, 2_000),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A fault as it is planned.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    pub(crate) kind: Kind,
    /// How long it lasts.
    pub(crate) duration: Duration,
    /// Which part of its share of the run passes before it, in percent.
    pub(crate) offset: u32,
    /// How long after a confirmation it begins, where it is aimed at one.
    pub(crate) after_confirm: Option<Duration>,
    /// For what else is left to chance.
    pub(crate) dice: Dice,
}

/// As many faults as are asked for, evenly split between the kinds, in an order that follows from
/// the seed.
pub(crate) fn schedule(kinds: &[Kind], count: usize, seed: u64) -> Vec<Fault> {
    let mut dice = Dice::of(&[seed, 2]);
    let mut all: Vec<Kind> = kinds.iter().copied().cycle().take(count).collect();
    dice.shuffle(&mut all);
    // A third is aimed, so that a fifth surely hits.
    let aims = |number: usize| number.is_multiple_of(3);
    let mut plan: Vec<Fault> = (0..)
        .zip(all)
        .map(|(number, kind)| Fault {
            kind,
            duration: kind.duration(&mut dice),
            offset: dice.below(50) as u32 + 10,
            after_confirm: aims(number).then(|| Duration::from_micros(dice.below(4_000))),
            dice: Dice::of(&[seed, 3, number as u64]),
        })
        .collect();
    dice.shuffle(&mut plan);
    plan
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_split_evenly_and_follow_from_the_seed() {
        let kinds = [Kind::ServerKill, Kind::ConsumerKill];
        let plan = schedule(&kinds, 100, 7);
        let count = |kind| plan.iter().filter(|fault| fault.kind == kind).count();
        assert_eq!(kinds.map(count), [50, 50]);
        assert!(plan.iter().filter(|fault| fault.after_confirm.is_some()).count() >= 20);
        let text = |seed| format!("{:?}", schedule(&kinds, 100, seed));
        assert!(text(7) == text(7) && text(7) != text(8));
    }
}
