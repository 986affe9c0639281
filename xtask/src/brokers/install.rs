//! Getting the programs that brokers need.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where a program is, in the path or in the places of system programs.
pub(super) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/usr/lib/rabbitmq/bin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(system).map(|dir| dir.join(program)).find(|p| p.is_file())
}

/// Where a program is; if it is nowhere, its Debian package is installed.
///
/// # Errors
/// What is missing, with the way out.
pub fn program(program: &str, package: &str) -> Result<PathBuf, String> {
    if let Some(found) = find(program) {
        return Ok(found);
    }
    let missing = format!("{program} is missing");
    if !rustix::process::geteuid().is_root() {
        return Err(format!("{missing}: run `sudo apt-get install {package}`"));
    }
    if find("apt-get").is_none() {
        return Err(format!("{missing}: install {package} with this system's packages"));
    }
    let policy = Policy::forbid_starts();
    let installed = apt(&["install", "-y", "--no-install-recommends", package])
        || (apt(&["update"]) && apt(&["install", "-y", "--no-install-recommends", package]));
    drop(policy);
    match find(program) {
        Some(found) if installed => Ok(found),
        _ => Err(format!("{missing}: `apt-get install {package}` failed; see its output above")),
    }
}

/// Runs apt-get with its output on standard error, as ours is for programs to read.
fn apt(args: &[&str]) -> bool {
    let mut command = Command::new("apt-get");
    command.arg("-qq").args(args).env("DEBIAN_FRONTEND", "noninteractive");
    command.stdin(Stdio::null()).stdout(std::io::stderr());
    command.status().is_ok_and(|status| status.success())
}

/// Keeps packages from starting the servers that they install, where nothing else does.
#[derive(Debug)]
struct Policy(Option<&'static Path>);

impl Policy {
    fn forbid_starts() -> Self {
        use std::os::unix::fs::PermissionsExt;
        let path = Path::new("/usr/sbin/policy-rc.d");
        let made = !path.exists()
            && std::fs::write(path, "#!/bin/sh\nexit 101\n").is_ok()
            && std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).is_ok();
        Self(made.then_some(path))
    }
}

impl Drop for Policy {
    fn drop(&mut self) {
        let Some(path) = self.0 else { return };
        // Who can write there can remove there; if not, the file says what it does.
        std::fs::remove_file(path).unwrap_or_default();
    }
}
