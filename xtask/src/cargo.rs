//! Calls of cargo.

use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

/// One call at the root of the workspace: of cargo, or of what it has built.
#[derive(Debug)]
pub(crate) struct Cargo(Command);

impl Cargo {
    pub(crate) fn run<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Self {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
        let mut command = Command::new(cargo);
        command.args(args).current_dir(root());
        Self(command)
    }

    /// A program that was built for release, called by its name. `cargo run` could build it anew, as
    /// it takes one package, and features depend on all that are built together.
    pub(crate) fn released(name: &str) -> Result<Self, String> {
        let own = std::env::current_exe().map_err(|error| format!("own path: {error}"))?;
        let target = own.ancestors().nth(2).ok_or("own path is too short")?;
        let mut command = Command::new(target.join("release").join(name));
        command.current_dir(root());
        Ok(Self(command))
    }

    pub(crate) fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.0.args(args);
        self
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.0.env(name, value);
        self
    }

    /// Runs it and ends as it ends.
    pub(crate) fn pass_through(mut self) -> Result<ExitCode, String> {
        let status = self.0.status().map_err(|error| self.failed(&error))?;
        let code = status.code().and_then(|code| u8::try_from(code).ok());
        Ok(ExitCode::from(code.unwrap_or(1)))
    }

    /// Runs it; any end but success is an error.
    pub(crate) fn check(mut self) -> Result<(), String> {
        let status = self.0.status().map_err(|error| self.failed(&error))?;
        if status.success() { Ok(()) } else { Err(format!("{self}: {status}")) }
    }

    /// Runs it, shows each line of its standard output as it comes, and tells it to `see`.
    pub(crate) fn watch(mut self, mut see: impl FnMut(&str)) -> Result<bool, String> {
        let mut child =
            self.0.stdout(Stdio::piped()).spawn().map_err(|error| self.failed(&error))?;
        if let Some(out) = child.stdout.take() {
            for line in BufReader::new(out).lines() {
                let line = line.map_err(|error| self.failed(&error))?;
                println!("{line}");
                see(&line);
            }
        }
        let status = child.wait().map_err(|error| self.failed(&error))?;
        Ok(status.success())
    }

    /// Runs it and returns its standard output.
    pub(crate) fn output(mut self) -> Result<String, String> {
        let output =
            self.0.stderr(Stdio::inherit()).output().map_err(|error| self.failed(&error))?;
        if !output.status.success() {
            return Err(format!("{self}: {}", output.status));
        }
        String::from_utf8(output.stdout).map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &dyn std::fmt::Display) -> String {
        format!("{self}: {error}")
    }
}

impl std::fmt::Display for Cargo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", Path::new(self.0.get_program()).display())?;
        self.0.get_args().try_for_each(|arg| write!(f, " {}", arg.display()))
    }
}

/// The root of the workspace.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}
