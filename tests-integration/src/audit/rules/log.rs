//! V13: the log is clean: no panic, and no secret in any spelling.

use super::super::Promise;
use super::super::index::Index;
use super::super::report::Findings;
use super::super::secret::spellings;

/// What a panic looks like on standard error.
const PANICS: [&str; 3] = ["panicked at", "`Option::unwrap()`", "`Result::unwrap()`"];

pub(super) fn check(index: &Index, promise: &Promise, findings: &mut Findings<'_>) {
    let secrets: Vec<String> = promise.secrets.iter().flat_map(|s| spellings(s)).collect();
    for (name, process) in &index.processes {
        for line in &process.lines {
            if PANICS.iter().any(|panic| line.contains(panic)) {
                findings.add("V13", None, || format!("{name} panicked: {line}"));
            }
            // The line itself would spread the secret.
            if secrets.iter().any(|secret| line.contains(secret.as_str())) {
                findings.add("V13", None, || format!("{name} logged a secret"));
            }
        }
    }
}
