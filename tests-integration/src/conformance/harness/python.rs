//! Python's clients, installed beside the brokers where they are missing.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

/// Held while a library is installed, which cases may want at the same time.
static INSTALLING: Mutex<()> = Mutex::new(());

/// Makes sure that Python is there with a library, which has the name of its package.
pub(super) fn install(library: &str) -> Result<(), String> {
    install_as(library, library)
}

/// Makes sure that Python is there with a library that a package of another name brings.
pub(super) fn install_as(library: &str, import: &str) -> Result<(), String> {
    let _installing = INSTALLING.lock();
    let import = format!("import {import}");
    if run(&["-c", &import]).is_ok() {
        return Ok(());
    }
    let place = place();
    let place = place.to_string_lossy();
    let pip = ["-m", "pip", "install", "--quiet", "--upgrade", "--target", &place, library];
    run(&pip).map_err(|error| format!("Python's {library} can't be installed: {error}"))?;
    run(&["-c", &import]).map(drop)
}

/// A program, ready to run.
pub(super) fn command(program: &str, args: &[&str], variables: &[(String, String)]) -> Command {
    let mut command = python(&["-c", program]);
    command.args(args).envs(variables.iter().cloned());
    command
}

/// Runs a program and gives what it prints.
pub(super) fn call(
    program: &str,
    args: &[&str],
    variables: &[(String, String)],
) -> Result<String, String> {
    super::output(&mut command(program, args, variables))
}

/// Runs a program that is in a file and gives what it prints.
pub(super) fn call_file(file: &Path, args: &[&str]) -> Result<String, String> {
    let file = file.to_string_lossy();
    let args: Vec<&str> = std::iter::once(&*file).chain(args.iter().copied()).collect();
    run(&args)
}

fn run(args: &[&str]) -> Result<String, String> {
    super::output(&mut python(args))
}

fn python(args: &[&str]) -> Command {
    let mut command = Command::new("python3");
    command.args(args).env("PYTHONPATH", place());
    command
}

/// Where what is installed for tests goes.
pub(super) fn place() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).join(".brokers/python")
}
