use std::any::Any;

use messaging::Feature;
use serde::Serialize;

/// How a case ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It held.
    Passed,
    /// The backend lacks this feature, and refuses it with a typed error.
    Refused(Feature),
    /// It did not hold.
    Failed(String),
    /// The broker is not there.
    Ignored(String),
}

/// How many cases ended how.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// The backend.
    pub backend: String,
    /// Cases that held.
    pub passed: usize,
    /// Cases whose refusal was checked instead.
    pub refused: usize,
    /// Cases that did not hold.
    pub failed: usize,
    /// Cases without a broker.
    pub ignored: usize,
}

impl Tally {
    /// Starts to count for a backend.
    #[must_use]
    pub fn of(backend: &str) -> Self {
        Self { backend: backend.to_owned(), ..Self::default() }
    }

    /// Counts an outcome.
    pub const fn add(&mut self, outcome: &Outcome) {
        let counter = match outcome {
            Outcome::Passed => &mut self.passed,
            Outcome::Refused(_) => &mut self.refused,
            Outcome::Failed(_) => &mut self.failed,
            Outcome::Ignored(_) => &mut self.ignored,
        };
        *counter += 1;
    }
}

/// What a case panics with that can't run on this machine.
pub(super) struct CantRun(pub(super) String);

pub(super) fn of_panic(panic: &(dyn Any + Send)) -> Outcome {
    if let Some(CantRun(reason)) = panic.downcast_ref() {
        return Outcome::Ignored(reason.clone());
    }
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    Outcome::Failed(text.unwrap_or("no text").to_owned())
}
