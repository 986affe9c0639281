use std::fmt::Display;
use std::time::Duration;

/// What a handler says about its message.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// The work is done.
    Ack,
    /// It failed. The retry policy says when it comes again, until its attempts are used up.
    Fail {
        /// Why; the last one is kept with the dead letter.
        reason: String,
    },
    /// It failed. It comes again not before `after`, until its attempts are used up.
    Retry {
        /// The shortest time until then.
        after: Duration,
        /// Why; the last one is kept with the dead letter.
        reason: String,
    },
    /// It can't be handled: a dead letter at once.
    Reject {
        /// Why.
        reason: String,
    },
}

impl Verdict {
    /// [`Verdict::Fail`] for a reason.
    #[must_use]
    pub fn fail(reason: impl Into<String>) -> Self {
        Self::Fail { reason: reason.into() }
    }

    /// [`Verdict::Retry`] for a reason.
    #[must_use]
    pub fn retry(after: Duration, reason: impl Into<String>) -> Self {
        Self::Retry { after, reason: reason.into() }
    }

    /// [`Verdict::Reject`] for a reason.
    #[must_use]
    pub fn reject(reason: impl Into<String>) -> Self {
        Self::Reject { reason: reason.into() }
    }
}

/// What a handler may return: nothing, a [`Verdict`], or a `Result` of either.
pub trait IntoVerdict {
    /// The verdict it stands for.
    fn into_verdict(self) -> Verdict;
}

impl IntoVerdict for () {
    fn into_verdict(self) -> Verdict {
        Verdict::Ack
    }
}

impl IntoVerdict for Verdict {
    fn into_verdict(self) -> Verdict {
        self
    }
}

impl<T: IntoVerdict, E: Display> IntoVerdict for Result<T, E> {
    fn into_verdict(self) -> Verdict {
        self.map_or_else(|error| Verdict::fail(error.to_string()), T::into_verdict)
    }
}
