//! The conformance suite on RabbitMQ, one node.

#![expect(clippy::print_stdout, reason = "a missing broker is told with its reason")]

use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Failed, Trial};
use tests_integration::conformance::{Outcome, RabbitHarness, cases_of, play_member};

fn main() -> ExitCode {
    if let Some(played) = play_member() {
        return played;
    }
    let harness = Arc::new(RabbitHarness::one_node());
    // A missing server is a failure in CI, and elsewhere a reason to ignore.
    let missing = harness.missing();
    let ignored = missing.is_some() && std::env::var_os("CI").is_none();
    if let Some(reason) = missing.filter(|_| ignored) {
        println!("ignored: {reason}");
    }
    let trials = cases_of(&*harness).map(|case| {
        let harness = Arc::clone(&harness);
        let run = move || match case.run(&*harness) {
            Outcome::Passed | Outcome::Refused(_) => Ok(()),
            Outcome::Failed(why) | Outcome::Ignored(why) => Err(Failed::from(why)),
        };
        Trial::test(format!("rabbitmq::{}", case.name), run).with_ignored_flag(ignored)
    });
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit_code()
}
