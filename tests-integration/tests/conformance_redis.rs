//! The conformance suite on Redis.

use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Failed, Trial};
use tests_integration::conformance::{Harness, Outcome, RedisHarness, cases_of, play_member};

fn main() -> ExitCode {
    if let Some(played) = play_member() {
        return played;
    }
    let harness = Arc::new(RedisHarness::streams());
    let cases = cases_of(&*harness);
    let trials = cases.map(|case| {
        let harness = Arc::clone(&harness);
        let run = move || match case.run(&*harness) {
            Outcome::Passed | Outcome::Refused(_) => Ok(()),
            Outcome::Failed(why) => Err(Failed::from(why)),
            Outcome::Ignored(why) if std::env::var_os("CI").is_some() => Err(Failed::from(why)),
            Outcome::Ignored(why) => {
                eprintln!("ignored: {why}");
                Ok(())
            }
        };
        Trial::test(format!("{}::{}", harness_name(), case.name), run)
    });
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit_code()
}

fn harness_name() -> &'static str {
    RedisHarness::streams().name()
}
