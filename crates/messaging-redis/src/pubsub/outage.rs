//! What is logged while a connection is away: a warning if that takes long, and its end.

use std::time::Duration;

use messaging_core::Error;
use tokio::time::Instant;

use super::driver::NAME;

/// What is over sooner than that is no warning, so that a server which comes and goes does not fill
/// a log. What it cost is told anyway: by the outcome of a publish, or by a gap.
const SHORT: Duration = Duration::from_secs(1);

/// The time in which there is no connection.
pub(super) struct Outage<'a> {
    whose: &'static str,
    address: &'a str,
    reason: &'a str,
    began: Instant,
    is_told: bool,
}

impl<'a> Outage<'a> {
    pub(super) fn begin(whose: &'static str, address: &'a str, reason: &'a str) -> Self {
        Self { whose, address, reason, began: Instant::now(), is_told: false }
    }

    /// A new connection was tried in vain.
    pub(super) fn lasts(&mut self, error: &Error) {
        let Self { whose, address, reason, .. } = *self;
        if self.is_told || self.began.elapsed() < SHORT {
            tracing::debug!(backend = NAME, address, %error, "{whose} is not back yet");
        } else {
            tracing::warn!(backend = NAME, address, reason, %error, "{whose} is lost");
            self.is_told = true;
        }
    }

    pub(super) fn end(self) {
        let Self { whose, address, reason, .. } = self;
        let milliseconds = self.began.elapsed().as_millis() as u64;
        tracing::warn!(
            backend = NAME,
            address,
            reason,
            milliseconds,
            "{whose} was lost and is back"
        );
    }
}
