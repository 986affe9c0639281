//! Every test, counted.

use std::process::ExitCode;

use xtask::brokers::{Kind, Options, Private};

use crate::cargo::Cargo;

#[derive(Debug, Default)]
struct Counts {
    passed: u64,
    failed: u64,
    skipped: u64,
    /// Those that failed, to be read at the end of a log of thousands of lines.
    failures: Vec<String>,
    /// What they said, without the stacks.
    reasons: Vec<String>,
    is_reason: bool,
}

/// What tests within a crate share: `#[ignore]` says that they need it.
const SHARED: [Kind; 2] = [Kind::RabbitMq, Kind::Kafka];

/// Runs unit, integration and documentation tests, among them the conformance suite and the
/// controls that show that it can fail.
pub(crate) fn run() -> Result<ExitCode, String> {
    let mut counts = Counts::default();
    let mut tests = Cargo::run(["test", "--workspace", "--all-features", "--no-fail-fast"]);
    let brokers: Result<Vec<Private>, String> =
        SHARED.into_iter().map(|kind| Private::start("test", Options::new(kind))).collect();
    match &brokers {
        Ok(brokers) => {
            for (name, value) in brokers.iter().flat_map(|brokers| brokers.env()) {
                tests = tests.env(&name, &value);
            }
            tests = tests.args(["--", "--include-ignored"]);
        }
        Err(reason) if std::env::var_os("CI").is_some() => return Err(reason.clone()),
        Err(reason) => println!("ignored, what needs a broker of its crate: {reason}"),
    }
    let passed = tests.watch(|line| counts.add(line))?;
    if !passed && counts.failed == 0 {
        return Err("the tests could not be built or run".to_owned());
    }
    let Counts { passed, failed, skipped, failures, reasons, .. } = counts;
    println!();
    for line in reasons {
        println!("{line}");
    }
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    for name in failures {
        println!("failed: {name}");
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Counts {
    /// Adds a line like `test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; …`,
    /// `test name ... FAILED`, or one of the section that `---- name stdout ----` begins.
    fn add(&mut self, line: &str) {
        let ends = ["failures:", "stack backtrace:", "test result:"];
        self.is_reason = line.starts_with("---- ")
            || self.is_reason && !ends.iter().any(|end| line.starts_with(end));
        if self.is_reason && !line.is_empty() {
            self.reasons.push(line.to_owned());
        }
        let failure = line.strip_prefix("test ").and_then(|line| line.strip_suffix("... FAILED"));
        self.failures.extend(failure.map(|name| name.trim().to_owned()));
        let Some(result) = line.strip_prefix("test result: ") else { return };
        for part in result.split([';', '.']) {
            let mut words = part.split_whitespace();
            let Some(count) = words.next().and_then(|word| word.parse::<u64>().ok()) else {
                continue;
            };
            match words.next() {
                Some("passed") => self.passed += count,
                Some("failed") => self.failed += count,
                Some("ignored") => self.skipped += count,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_added_up() {
        let mut counts = Counts::default();
        counts.add("running 3 tests");
        counts.add("test a::slow_one ... ok");
        counts.add("test a::broken_one   ... FAILED");
        for line in ["failures:", "", "---- a::broken_one stdout ----", "left: 1", "", "right: 2"] {
            counts.add(line);
        }
        for line in ["stack backtrace:", "   0: main", "failures:", "    a::broken_one"] {
            counts.add(line);
        }
        counts.add("test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.05s");
        counts
            .add("test result: FAILED. 2 passed; 4 failed; 0 ignored; 0 measured; 9 filtered out");
        assert_eq!((counts.passed, counts.failed, counts.skipped), (5, 4, 1));
        assert_eq!(counts.failures, ["a::broken_one"]);
        assert_eq!(counts.reasons, ["---- a::broken_one stdout ----", "left: 1", "right: 2"]);
    }
}
