//! The cases as tests of `cargo test`.

use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Failed, Trial};

use super::{Harness, Outcome, cases_of, play_member};

/// Runs the suite on each backend, or plays the member of a group that a case has started.
///
/// A missing broker is a failure in CI, and elsewhere a reason to ignore that backend's cases.
#[must_use]
pub fn run_as_tests<H: Harness + 'static>(harnesses: impl IntoIterator<Item = H>) -> ExitCode {
    if let Some(played) = play_member() {
        return played;
    }
    let trials = harnesses.into_iter().flat_map(|harness| trials_of(Arc::new(harness)));
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit_code()
}

#[expect(clippy::print_stdout, reason = "a missing broker is told with its reason")]
fn trials_of(harness: Arc<dyn Harness>) -> impl Iterator<Item = Trial> {
    let missing = harness.missing().filter(|_| std::env::var_os("CI").is_none());
    if let Some(reason) = &missing {
        println!("ignored: {reason}");
    }
    cases_of(&*harness).map(move |case| {
        let name = format!("{}::{}", harness.name(), case.name);
        let harness = Arc::clone(&harness);
        let run = move || match case.run(&*harness) {
            Outcome::Passed | Outcome::Refused(_) => Ok(()),
            Outcome::Failed(why) | Outcome::Ignored(why) => Err(Failed::from(why)),
        };
        Trial::test(name, run).with_ignored_flag(missing.is_some())
    })
}
