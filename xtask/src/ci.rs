//! What the CI runs.

use std::process::{Command, ExitCode, Stdio};

use crate::cargo::Cargo;
use crate::{test, tidy};

/// Runs every check, the fast ones first, then every test unless somebody else does.
pub(crate) fn run(without_tests: bool) -> Result<ExitCode, String> {
    Cargo::run(["fmt", "--all", "--check"]).check()?;
    Cargo::run([
        "clippy",
        "--workspace",
        "--all-targets",
        "--all-features",
        "--",
        "-D",
        "warnings",
    ])
    .check()?;
    Cargo::run(["doc", "--workspace", "--no-deps", "--all-features"])
        .env("RUSTDOCFLAGS", "-D warnings")
        .check()?;
    if tidy::run(false)? != ExitCode::SUCCESS {
        return Ok(ExitCode::FAILURE);
    }
    deny()?;
    if without_tests { Ok(ExitCode::SUCCESS) } else { test::run() }
}

/// Checks licences, sources and duplicates; advisories only where their database can be reached.
fn deny() -> Result<(), String> {
    if !is_installed() {
        Cargo::run(["install", "cargo-deny", "--locked", "--debug"]).check()?;
    }
    Cargo::run(["deny", "--all-features", "check", "bans", "licenses", "sources"]).check()?;
    if let Err(error) = Cargo::run(["deny", "fetch", "db"]).check() {
        println!("skipped: advisories, as their database can't be reached ({error})");
        return Ok(());
    }
    Cargo::run(["deny", "--all-features", "check", "--disable-fetch", "advisories"]).check()
}

fn is_installed() -> bool {
    let mut version = Command::new("cargo");
    version.args(["deny", "--version"]).stdout(Stdio::null()).stderr(Stdio::null());
    version.status().is_ok_and(|status| status.success())
}
