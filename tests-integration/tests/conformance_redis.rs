//! The conformance suite on both backends over Redis.

#![expect(clippy::print_stdout, reason = "a missing broker is told with its reason")]

use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Failed, Trial};
use tests_integration::conformance::{Harness, Outcome, RedisHarness, cases_of, play_member};
use xtask::brokers::RedisMode;

fn main() -> ExitCode {
    if let Some(played) = play_member() {
        return played;
    }
    let backends =
        [RedisHarness::streams(), RedisHarness::pubsub_on(RedisMode::Single)].map(Arc::new);
    // A missing server is a failure in CI, and elsewhere a reason to ignore.
    let missing = backends.iter().find_map(|harness| harness.missing());
    let ignored = missing.is_some() && std::env::var_os("CI").is_none();
    if let Some(reason) = missing.filter(|_| ignored) {
        println!("ignored: {reason}");
    }
    let trials = backends.iter().flat_map(|harness| {
        cases_of(&**harness).map(move |case| {
            let name = format!("{}::{}", harness.name(), case.name);
            let harness = Arc::clone(harness);
            let run = move || match case.run(&*harness) {
                Outcome::Passed | Outcome::Refused(_) => Ok(()),
                Outcome::Failed(why) | Outcome::Ignored(why) => Err(Failed::from(why)),
            };
            Trial::test(name, run).with_ignored_flag(ignored)
        })
    });
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit_code()
}
