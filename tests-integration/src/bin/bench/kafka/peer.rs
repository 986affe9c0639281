//! rdkafka, in a workspace and a process of its own.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::{MESSAGES, Place, Spent};

/// A program that does the same work through rdkafka.
pub(super) struct Peer(PathBuf);

impl Peer {
    /// Builds it unless it is there.
    ///
    /// # Errors
    /// Why it can't be built, in a line.
    pub(super) fn find() -> Result<Self, String> {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let (manifest, target) = (here.join("peers/Cargo.toml"), here.join("../target/peers"));
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut build = Command::new(cargo);
        build.args(["build", "--release", "--locked", "--quiet", "--manifest-path"]).arg(manifest);
        let built = build.arg("--target-dir").arg(&target).output();
        let built = built.map_err(|error| error.to_string())?;
        if built.status.success() {
            return Ok(Self(target.join("release/peers")));
        }
        let text = String::from_utf8_lossy(&built.stderr).into_owned();
        let why = text.lines().find(|line| !line.trim().is_empty()).unwrap_or("no reason given");
        Err(format!("{} (it needs a C compiler and make)", why.trim()))
    }

    pub(super) fn run(&self, order: &str, place: &Place) -> Spent {
        let mut command = Command::new(&self.0);
        command.args([order, &place.address(), &place.topic(), &MESSAGES.to_string()]);
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let mut seconds = text.split_whitespace().map(|number| number.parse().unwrap());
        let mut next = || Duration::from_secs_f64(seconds.next().unwrap());
        Spent { took: next(), cpu: next() }
    }
}
