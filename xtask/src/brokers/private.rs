//! Brokers that belong to one test or run.

use std::fs;
use std::ops::Deref;
use std::path::Path;

use super::{Brokers, Options, home};

/// Brokers on free ports in a fresh directory that end when this is dropped. If the process dies
/// before, the next one that starts private brokers ends them, as does `cargo xtask down`.
#[derive(Debug)]
pub struct Private(Brokers);

impl Private {
    /// Starts brokers of its own; `name` says whose they are.
    ///
    /// # Errors
    ///
    /// When they do not come up; nothing of them is left then.
    pub fn start(name: &str, options: Options) -> Result<Self, String> {
        end_abandoned()?;
        let all = home().join("private");
        let dir = all.join(format!("{}-{name}-{}", own_mark()?, super::plan::random_hex(4)?));
        match Brokers::start(&dir, options) {
            Ok(brokers) => Ok(Self(brokers)),
            Err(error) => {
                if let Some(brokers) = Brokers::load(&dir)? {
                    let log = last_words(&brokers);
                    brokers.down()?;
                    return Err(format!("{error}{log}"));
                }
                Err(error)
            }
        }
    }
}

impl Deref for Private {
    type Target = Brokers;

    fn deref(&self) -> &Brokers {
        &self.0
    }
}

impl Drop for Private {
    #[expect(clippy::print_stderr, reason = "a drop can't return what went wrong")]
    fn drop(&mut self) {
        if let Err(error) = self.0.down() {
            eprintln!("private brokers could not be ended: {error}");
        }
    }
}

/// Ends the private brokers of processes that no longer run.
///
/// # Errors
///
/// When something can't be ended or removed.
pub fn end_abandoned() -> Result<(), String> {
    let Ok(all) = fs::read_dir(home().join("private")) else { return Ok(()) };
    for entry in all.flatten() {
        let dir = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        let mut parts = name.splitn(3, '-');
        let (Some(pid), Some(start)) = (parts.next(), parts.next()) else { continue };
        if start_of(Path::new("/proc").join(pid).as_path()).is_some_and(|now| now == start) {
            continue;
        }
        let ended = match Brokers::load(&dir) {
            Ok(Some(brokers)) => brokers.down(),
            Ok(None) => fs::remove_dir_all(&dir).map_err(|e| format!("{}: {e}", dir.display())),
            Err(error) => Err(error),
        };
        // Two may do this at the same time.
        if dir.exists() {
            ended?;
        }
    }
    Ok(())
}

/// Tells this process from every other: its pid, and when it started.
fn own_mark() -> Result<String, String> {
    let start = start_of(Path::new("/proc/self"));
    let start = start.ok_or("private brokers need /proc, which this system does not have")?;
    Ok(format!("{}-{start}", std::process::id()))
}

/// The 22nd field of `stat`; the second is the program's name, which may hold anything.
fn start_of(process: &Path) -> Option<String> {
    let stat = fs::read_to_string(process.join("stat")).ok()?;
    let (_, after) = stat.rsplit_once(')')?;
    after.split_whitespace().nth(19).map(str::to_owned)
}

/// The ends of the logs, which are gone with the directory.
fn last_words(brokers: &Brokers) -> String {
    let mut words = String::new();
    for node in brokers.nodes() {
        let Ok(log) = brokers
            .log(node)
            .and_then(|log| fs::read_to_string(log).map_err(|error| error.to_string()))
        else {
            continue;
        };
        for line in log.lines().rev().take(5).collect::<Vec<_>>().into_iter().rev() {
            words.push('\n');
            words.push_str(node);
            words.push_str(": ");
            words.push_str(line);
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::brokers::Kind;

    #[test]
    fn brokers_of_a_process_that_is_gone_are_ended() {
        // No process has this number, as the kernel's largest is smaller.
        let dir = home().join("private").join("99999999-1-test-abandoned");
        let brokers = Brokers::start(&dir, Options::new(Kind::Redis)).unwrap();
        let address = brokers.address("redis-1").unwrap();
        end_abandoned().unwrap();
        assert!(!dir.exists());
        assert!(std::net::TcpStream::connect(address).is_err());
    }

    #[test]
    fn private_brokers_leave_nothing() {
        let brokers = Private::start("test", Options::new(Kind::Redis)).unwrap();
        let (dir, address) = (brokers.dir.clone(), brokers.address("redis-1").unwrap());
        drop(brokers);
        assert!(!dir.exists());
        assert!(std::net::TcpStream::connect(address).is_err());
    }
}
