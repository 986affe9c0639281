//! Each broken driver is caught by the case about the rule it breaks.

use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};
use tests_integration::broken::Fault;
use tests_integration::conformance::Outcome;

fn main() -> ExitCode {
    let trials = Fault::ALL.into_iter().map(|(fault, case)| {
        let run = move || match fault.judge(case) {
            Outcome::Failed(_) => Ok(()),
            other => Err(Failed::from(format!("{case} did not catch it: {other:?}"))),
        };
        Trial::test(format!("controls::{fault:?}::{case}"), run)
    });
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit_code()
}
