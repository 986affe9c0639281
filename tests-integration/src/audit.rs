//! The delivery auditor: judges a recorded run by what must hold of every run.
//!
//! A [`Recorder`] writes down what happened; [`audit`] finds what must not have:
//!
//! | rule | finds |
//! |---|---|
//! | V1 | a confirmed message that a subscription never handled |
//! | V2 | an ack before its handler had succeeded |
//! | V3 | a delivery of what was never published, or with another body |
//! | V4 | a delivery of what had definitely failed |
//! | V5 | (counted only) what became of publishes with an unknown outcome |
//! | V6 | messages of a key delivered in another order than they were published |
//! | V7 | a message handled twice without a reason |
//! | V8 | two owners of a lane at once, or work of an earlier owner that counted |
//! | V9 | losses that an at-most-once subscription did not report in time, or reported and did not have |
//! | V10 | a call without an end, no work after a fault, silence while messages wait |
//! | V11 | a process that takes or logs more than it may |
//! | V12 | a message that ended in two ways |
//! | V13 | a panic or a secret in a log |
//!
//! ```
//! use tests_integration::audit::{Id, Outcome, Promise, Recorder, Verdict, audit};
//!
//! let recorder = Recorder::default();
//! recorder.subscribed("billing", &["tasks.#"]);
//! let id = Id { producer: 1, sequence: 1 };
//! recorder.publishing(id, "tasks.invoice", None, 7);
//! recorder.published(id, Outcome::Ok);
//! let report = audit(&recorder.history(), &Promise::default());
//! assert_eq!(report.verdict, Verdict::Invalid);
//! assert_eq!(report.count("V1"), 1);
//! ```

mod history;
mod index;
mod recorder;
mod report;
mod rules;
mod secret;

pub use self::history::{End, Event, Fate, History, Id, Outcome, Tenure, What};
use self::index::Index;
pub use self::recorder::Recorder;
use self::report::Findings;
pub use self::report::{Finding, HandOver, Recovery, Report, Verdict};

/// What the run was promised beyond the rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Promise {
    /// How long after a fault has ended its effects may still be seen, in nanoseconds.
    pub settling: u64,
    /// How many messages a subscription may handle twice for each fault.
    pub duplicates_per_fault: u64,
    /// How long after a lane has a new owner handlers of the old one may begin, in nanoseconds.
    pub fencing_grace: u64,
    /// How many more messages than were missing a gap may report.
    pub gap_slack: u64,
    /// How long a publish may take, in nanoseconds.
    pub deadline: u64,
    /// How long after a fault the first confirmation and the first delivery may take, in
    /// nanoseconds.
    pub recovery: u64,
    /// How long a subscription may be silent while messages wait for it, in nanoseconds.
    pub silence: u64,
    /// How many bytes of memory a process may grow by.
    pub resident_growth: u64,
    /// How many file descriptors a process may grow by.
    pub descriptor_growth: u64,
    /// How much a process may log, on average over ten seconds.
    pub lines_per_second: u64,
    /// What no log may show.
    pub secrets: Vec<String>,
}

impl Default for Promise {
    /// Effects for ten seconds, exact gaps and fences; everything else as long and as much as it takes.
    fn default() -> Self {
        Self {
            settling: 10_000_000_000,
            duplicates_per_fault: u64::MAX,
            fencing_grace: 0,
            gap_slack: 0,
            deadline: u64::MAX,
            recovery: u64::MAX,
            silence: u64::MAX,
            resident_growth: u64::MAX,
            descriptor_growth: u64::MAX,
            lines_per_second: u64::MAX,
            secrets: Vec::new(),
        }
    }
}

/// Judges a history. It takes time in proportion to its length, but for sorting.
#[must_use]
pub fn audit(history: &History, promise: &Promise) -> Report {
    let index = Index::of(history);
    let mut findings = Findings::new(history);
    for check in rules::ALL {
        check(&index, promise, &mut findings);
    }
    findings.into_report(&index)
}
