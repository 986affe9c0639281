//! Every backend has the same rooms, so that a reader who knows one knows all.

use std::path::Path;

use super::Finding;

const BACKENDS: [(&str, &[&str]); 1] = [("messaging-memory", &[])];

/// The files of every backend; those with a broker to talk to have `wire` too.
const ROOMS: [&str; 8] =
    ["lib", "config", "driver", "sender", "subscription", "settle", "admin", "error"];

/// The crates of `crates/` that are no backends.
const OTHERS: [&str; 3] = ["messaging", "messaging-core", "helixagent"];

pub(super) fn check(root: &Path) -> Result<Vec<Finding>, String> {
    let crates = root.join("crates");
    let mut findings = Vec::new();
    for entry in std::fs::read_dir(&crates).map_err(|e| format!("crates: {e}"))? {
        let name = entry.map_err(|e| format!("crates: {e}"))?.file_name();
        let name = name.to_string_lossy();
        let known = BACKENDS.iter().any(|(backend, _)| *backend == name);
        if !known && !OTHERS.contains(&&*name) {
            findings.push(Finding::new(format!("crates/{name}"), "tidy does not know this crate"));
        }
    }
    for (backend, more) in BACKENDS {
        for room in ROOMS.iter().chain(more) {
            let file = format!("crates/{backend}/src/{room}.rs");
            if !root.join(&file).is_file() {
                findings.push(Finding::new(file, "every backend has this file"));
            }
        }
    }
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_room_and_an_unknown_crate_are_found() {
        let root = tempfile::tempdir().unwrap();
        let source = root.path().join("crates/messaging-memory/src");
        std::fs::create_dir_all(&source).unwrap();
        std::fs::create_dir_all(root.path().join("crates/messaging-nats")).unwrap();
        for room in ROOMS.iter().filter(|room| **room != "settle") {
            std::fs::write(source.join(format!("{room}.rs")), "").unwrap();
        }
        let places: Vec<String> =
            check(root.path()).unwrap().into_iter().map(|finding| finding.place).collect();
        assert_eq!(places, ["crates/messaging-nats", "crates/messaging-memory/src/settle.rs"]);
    }
}
