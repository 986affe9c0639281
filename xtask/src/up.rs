//! `cargo xtask up`, `down`, `status`, `env`, `logs` and `restart`: brokers to develop against.

use std::process::ExitCode;

use clap::Subcommand;
use xtask::brokers::{self, Brokers, Kind, State, Wanted};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start brokers on this machine, installing what they need; what is up stays
    Up {
        /// All, unless some are named
        brokers: Vec<Kind>,
        #[command(flatten)]
        wanted: Wanted,
    },
    /// End brokers and remove their data
    Down {
        /// All, unless some are named
        brokers: Vec<Kind>,
    },
    /// Show every node: exit status 1 if one that should run does not answer
    Status {
        /// All, unless some are named
        brokers: Vec<Kind>,
    },
    /// Print `export` lines for what is up: eval "$(cargo xtask env)"
    Env {
        /// All, unless some are named
        brokers: Vec<Kind>,
    },
    /// Show the ends of the logs
    Logs {
        /// All, unless some are named
        brokers: Vec<Kind>,
        /// How many lines of each
        #[arg(long, default_value_t = 20)]
        lines: usize,
    },
    /// End brokers gracefully and start them again with their data
    Restart {
        /// All that are there, unless some are named
        brokers: Vec<Kind>,
    },
}

impl Command {
    pub(crate) fn run(self) -> Result<ExitCode, String> {
        match self {
            Self::Up { brokers, wanted } => up(&kinds(brokers), &wanted),
            Self::Down { brokers } => down(&kinds(brokers)),
            Self::Status { brokers } => status(&kinds(brokers)),
            Self::Env { brokers } => env(&kinds(brokers)),
            Self::Logs { brokers, lines } => logs(&kinds(brokers), lines),
            Self::Restart { brokers } => restart(&kinds(brokers)),
        }
    }
}

fn kinds(named: Vec<Kind>) -> Vec<Kind> {
    if named.is_empty() { Kind::ALL.to_vec() } else { named }
}

/// Starts them at the same time; one that fails does not keep the others from starting.
fn up(kinds: &[Kind], wanted: &Wanted) -> Result<ExitCode, String> {
    wanted.check(kinds)?;
    let mut failed = false;
    let mut installed = Vec::new();
    for kind in kinds {
        // One after the other, as packages want it.
        match brokers::install(&wanted.options(*kind)) {
            Ok(()) => installed.push(*kind),
            Err(error) => {
                failed = true;
                eprintln!("{}: {error}", kind.name());
            }
        }
    }
    let start = |kind| {
        let options = wanted.options(kind).with_usual_ports();
        Brokers::start(&brokers::dir_of_up(kind), options)
    };
    std::thread::scope(|scope| {
        let starting: Vec<_> =
            installed.into_iter().map(|kind| (kind, scope.spawn(move || start(kind)))).collect();
        for (kind, start) in starting {
            match start.join().unwrap_or_else(|_| Err("its start panicked".to_owned())) {
                Ok(brokers) => println!("{}: up at {}", kind.name(), addresses(&brokers)?),
                Err(error) => {
                    failed = true;
                    eprintln!("{}: {error}", kind.name());
                }
            }
        }
        if !failed {
            println!("for clients: eval \"$(cargo xtask env)\"");
        }
        Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    })
}

fn addresses(brokers: &Brokers) -> Result<String, String> {
    let nodes = brokers.servers();
    let addresses: Result<Vec<String>, String> =
        nodes.iter().map(|node| Ok(brokers.address(node)?.to_string())).collect();
    Ok(addresses?.join(", "))
}

fn down(kinds: &[Kind]) -> Result<ExitCode, String> {
    for kind in kinds {
        match Brokers::of_up(*kind)? {
            Some(brokers) => {
                brokers.down()?;
                println!("{}: down", kind.name());
            }
            None => println!("{}: not there", kind.name()),
        }
    }
    brokers::end_abandoned()?;
    Ok(ExitCode::SUCCESS)
}

fn status(kinds: &[Kind]) -> Result<ExitCode, String> {
    let mut all_up = true;
    for kind in kinds {
        let Some(brokers) = Brokers::of_up(*kind)? else {
            println!("{:<12} not there", kind.name());
            continue;
        };
        for node in brokers.nodes() {
            let state = brokers.state(node)?;
            all_up &= state == State::Up;
            let address = brokers.address(node)?.to_string();
            let pid = brokers.pid(node)?.map(|pid| format!("pid {pid}")).unwrap_or_default();
            let line = format!("{node:<12} {:<8} {address:<16} {pid}", word(&state));
            println!("{}", line.trim_end());
            if let State::Silent(reason) = state {
                println!("{:<12} {reason}", "");
            }
        }
    }
    Ok(if all_up { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn word(state: &State) -> &'static str {
    match state {
        State::Up => "up",
        State::Paused => "paused",
        State::Silent(_) => "silent",
        State::Down => "down",
    }
}

fn env(kinds: &[Kind]) -> Result<ExitCode, String> {
    for kind in kinds {
        let Some(brokers) = Brokers::of_up(*kind)?.filter(Brokers::is_up) else { continue };
        for (name, value) in brokers.env() {
            println!("export {name}={}", quoted(&value));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// In single quotes, in which a shell changes nothing.
fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\'', r"'\''"))
}

fn logs(kinds: &[Kind], lines: usize) -> Result<ExitCode, String> {
    for kind in kinds {
        let Some(brokers) = Brokers::of_up(*kind)? else { continue };
        for node in brokers.nodes() {
            let path = brokers.log(node)?;
            println!("==> {}", path.display());
            let log = std::fs::read(&path).map_err(|e| format!("{}: {e}", path.display()))?;
            let log = String::from_utf8_lossy(&log);
            let all: Vec<&str> = log.lines().collect();
            for line in all.iter().skip(all.len().saturating_sub(lines)) {
                println!("{line}");
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn restart(kinds: &[Kind]) -> Result<ExitCode, String> {
    for kind in kinds {
        if let Some(brokers) = Brokers::of_up(*kind)? {
            brokers.restart_all()?;
            println!("{}: up at {}", kind.name(), addresses(&brokers)?);
        }
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_quoted_so_that_a_shell_takes_them_as_they_are() {
        assert_eq!(quoted("a b$c"), "'a b$c'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }
}
