//! The conformance suite on the memory backend.

use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};
use tests_integration::conformance::{MemoryHarness, Outcome, cases_of};

fn main() -> ExitCode {
    let cases = cases_of(&MemoryHarness);
    let trials = cases.map(|case| {
        let run = || match case.run(&MemoryHarness) {
            Outcome::Passed | Outcome::Refused(_) => Ok(()),
            Outcome::Failed(why) | Outcome::Ignored(why) => Err(Failed::from(why)),
        };
        Trial::test(format!("memory::{}", case.name), run)
    });
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit_code()
}
