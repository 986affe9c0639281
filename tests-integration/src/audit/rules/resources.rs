//! V11: what a process takes and says stays bounded.

use super::super::Promise;
use super::super::index::{Index, Process, Sample};
use super::super::report::Findings;

/// Over how much time lines of the log are averaged, in nanoseconds.
const WINDOW: u64 = 10_000_000_000;

pub(super) fn check(index: &Index, promise: &Promise, findings: &mut Findings<'_>) {
    for (name, process) in &index.processes {
        let Some(first) = process.samples.first() else { continue };
        let most = |of: fn(&Sample) -> u64| process.samples.iter().map(of).max().unwrap_or(0);
        let resident = most(|sample| sample.resident);
        if resident.saturating_sub(first.resident) > promise.resident_growth {
            let text = || format!("{name} grew from {} to {resident} bytes", first.resident);
            findings.add("V11", None, text);
        }
        let open = most(|sample| sample.descriptors);
        if open.saturating_sub(first.descriptors) > promise.descriptor_growth {
            let text = || format!("{name} grew from {} to {open} descriptors", first.descriptors);
            findings.add("V11", None, text);
        }
        if let Some((lines, time)) = storm(process, promise.lines_per_second) {
            let seconds = time / 1_000_000_000;
            findings.add("V11", None, || format!("{name} logged {lines} lines in {seconds} s"));
        }
    }
}

/// The first time in which a process logged more than it may, and how much.
fn storm(process: &Process, lines_per_second: u64) -> Option<(u64, u64)> {
    let mut samples = process.samples.as_slice();
    for sample in &process.samples {
        // The latest that is a window older, or the first.
        while samples.get(1).is_some_and(|next| sample.at.saturating_sub(next.at) >= WINDOW) {
            samples = samples.get(1..).unwrap_or_default();
        }
        let before = samples.first()?;
        let (lines, time) = (sample.log_lines - before.log_lines, sample.at - before.at);
        let seconds = time.max(WINDOW) / 1_000_000_000;
        if lines > lines_per_second.saturating_mul(seconds) {
            return Some((lines, time));
        }
    }
    None
}
