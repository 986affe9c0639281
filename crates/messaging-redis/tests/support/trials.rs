//! Tests that need a server.

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

use crate::server;

/// One test for each function.
macro_rules! trials {
    ($($name:ident),* $(,)?) => {
        vec![$(libtest_mimic::Trial::test(stringify!($name), || {
            tokio::runtime::Runtime::new()?.block_on($name());
            Ok(())
        })),*]
    };
}

/// Runs them. A missing server is a failure in CI, and elsewhere a reason to ignore.
pub(crate) fn run(trials: Vec<Trial>) -> ExitCode {
    let missing = server::missing().filter(|_| std::env::var_os("CI").is_none());
    if let Some(reason) = &missing {
        println!("ignored: {reason}");
    }
    let trials = trials.into_iter().map(|trial| trial.with_ignored_flag(missing.is_some()));
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit_code()
}
