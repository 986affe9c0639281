use std::fmt;
use std::process::ExitCode;

use messaging::{Error, ErrorKind};

/// Why the program ends early, and with which code.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    text: String,
}

/// Something was dead-lettered, bad or unfinished.
pub(crate) const UNFINISHED: u8 = 1;
/// Wrong use or configuration.
const USAGE: u8 = 2;
/// The broker is not as the topology says.
pub(crate) const DRIFT: u8 = 2;
/// The broker was not reachable in time.
const UNREACHABLE: u8 = 3;

impl Failure {
    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Self { code: USAGE, text: text.into() }
    }

    pub(crate) fn unfinished(text: impl fmt::Display) -> Self {
        Self { code: UNFINISHED, text: text.to_string() }
    }

    pub(crate) fn code(&self) -> ExitCode {
        self.code.into()
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let code = match error.kind() {
            ErrorKind::Unavailable | ErrorKind::Timeout => UNREACHABLE,
            ErrorKind::NotSent | ErrorKind::OutcomeUnknown | ErrorKind::Closed => UNFINISHED,
            ErrorKind::Other | ErrorKind::Stale | ErrorKind::Unroutable => UNFINISHED,
            _ => USAGE,
        };
        Self { code, text: error.to_string() }
    }
}

/// The end of a call that asked for help or is wrong; of `provision`, 2 would say that there is drift.
pub(crate) fn without_call(said: &clap::Error) -> ExitCode {
    match said.exit_code() {
        0 => ExitCode::SUCCESS,
        _ if std::env::args_os().nth(1).is_some_and(|name| name == "provision") => {
            UNFINISHED.into()
        }
        _ => USAGE.into(),
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
