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
//! | V9 | losses that an at-most-once subscription did not report, or reported and did not have |
//! | V12 | a message that ended in two ways |
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

pub use self::history::{End, Event, Fate, History, Id, Outcome, What};
use self::index::Index;
pub use self::recorder::Recorder;
use self::report::Findings;
pub use self::report::{Finding, Report, Verdict};

/// What the run was promised beyond the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Promise {
    /// How long after a fault has ended its effects may still be seen, in nanoseconds.
    pub settling: u64,
    /// How many messages a subscription may handle twice for each fault.
    pub duplicates_per_fault: u64,
    /// How many more messages than were missing a gap may report.
    pub gap_slack: u64,
}

impl Default for Promise {
    /// Effects for ten seconds, as many duplicates as it takes, exact gaps.
    fn default() -> Self {
        Self { settling: 10_000_000_000, duplicates_per_fault: u64::MAX, gap_slack: 0 }
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
    let (recovered, vanished) = rules::unknown::count(&index);
    findings.into_report(index.is_complete(), recovered, vanished)
}
