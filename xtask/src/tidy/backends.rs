//! Every backend has the same rooms, so that a reader who knows one knows all.

use std::path::Path;

use super::Finding;

/// A backend: its crate, where in its source it lives, and what it has besides the rooms.
type Backend = (&'static str, &'static str, &'static [&'static str]);

/// The crates, each with its backends. A crate of several has what they share beside them.
const BACKENDS: [Backend; 4] = [
    ("messaging-memory", "", &["settle"]),
    ("messaging-redis", "streams/", &["settle"]),
    ("messaging-amqp", "", &["settle", "connection", "confirms", "management"]),
    ("messaging-kafka", "", &["settle", "connection", "group", "offsets", "read", "write"]),
];

/// Redis Pub/Sub settles nothing.
const WITHOUT_SETTLEMENT: [Backend; 1] = [("messaging-redis", "pubsub/", &[])];

/// The files of every backend.
const ROOMS: [&str; 4] = ["driver", "sender", "subscription", "admin"];

/// The files of every crate with backends; those with a broker to talk to have `wire` too.
const SHARED: [(&str, &[&str]); 4] = [
    ("messaging-memory", &["lib", "config", "error"]),
    ("messaging-amqp", &["lib", "config", "error", "wire"]),
    ("messaging-kafka", &["lib", "config", "error", "wire"]),
    ("messaging-redis", &["lib", "config", "error", "wire"]),
];

/// The crates of `crates/` that are no backends.
const OTHERS: [&str; 3] = ["messaging", "messaging-core", "helixagent"];

pub(super) fn check(root: &Path) -> Result<Vec<Finding>, String> {
    let crates = root.join("crates");
    let mut findings = Vec::new();
    for entry in std::fs::read_dir(&crates).map_err(|e| format!("crates: {e}"))? {
        let name = entry.map_err(|e| format!("crates: {e}"))?.file_name();
        let name = name.to_string_lossy();
        let known = SHARED.iter().any(|(backend, _)| *backend == name);
        if !known && !OTHERS.contains(&&*name) {
            findings.push(Finding::new(format!("crates/{name}"), "tidy does not know this crate"));
        }
    }
    let shared = SHARED.iter().flat_map(|(backend, files)| {
        files.iter().map(move |file| format!("crates/{backend}/src/{file}.rs"))
    });
    let own = BACKENDS.iter().chain(&WITHOUT_SETTLEMENT).flat_map(|(backend, folder, more)| {
        let rooms = ROOMS.iter().chain(*more);
        rooms.map(move |room| format!("crates/{backend}/src/{folder}{room}.rs"))
    });
    for file in shared.chain(own).filter(|file| !root.join(file).is_file()) {
        findings.push(Finding::new(file, "every backend has this file"));
    }
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_room_and_an_unknown_crate_are_found() {
        let root = tempfile::tempdir().unwrap();
        let write = |file: &str| {
            let path = root.path().join("crates").join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        };
        write("messaging-nats/src/lib.rs");
        for (backend, files) in SHARED {
            files.iter().for_each(|file| write(&format!("{backend}/src/{file}.rs")));
        }
        for (backend, folder, more) in BACKENDS.into_iter().chain(WITHOUT_SETTLEMENT) {
            for room in ROOMS.iter().chain(more) {
                if (backend, *room) != ("messaging-memory", "settle") {
                    write(&format!("{backend}/src/{folder}{room}.rs"));
                }
            }
        }
        let places: Vec<String> =
            check(root.path()).unwrap().into_iter().map(|finding| finding.place).collect();
        assert_eq!(places, ["crates/messaging-nats", "crates/messaging-memory/src/settle.rs"]);
    }
}
