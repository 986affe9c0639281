//! Tests that need a server: without one, failures in CI, and elsewhere ignored.

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

/// One test for each function.
macro_rules! trials {
    ($($name:ident),* $(,)?) => {
        vec![$(libtest_mimic::Trial::test(stringify!($name), || {
            tokio::runtime::Runtime::new()?.block_on($name());
            Ok(())
        })),*]
    };
}

pub(crate) use trials;

pub(crate) fn run(trials: Vec<Trial>) -> ExitCode {
    let missing = crate::server::missing().filter(|_| std::env::var_os("CI").is_none());
    if let Some(reason) = &missing {
        println!("ignored: {reason}");
    }
    let trials = trials.into_iter().map(|trial| trial.with_ignored_flag(missing.is_some()));
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit_code()
}
