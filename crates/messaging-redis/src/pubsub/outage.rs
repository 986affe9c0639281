//! What is logged while connections are away: one warning if that takes long, and its end.

use std::mem;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use messaging_core::Error;
use tokio::time::Instant;

use super::driver::NAME;

/// What is over sooner than that is no warning, so that a server which comes and goes does not fill
/// a log. What it cost is told anyway: by the outcome of a publish, or by a gap.
const SHORT: Duration = Duration::from_secs(1);

/// How many connections of one driver have been away for long.
///
/// They share a server, so the first warns for all of them, and the last that is back says so.
#[derive(Default)]
pub(super) struct Outages(AtomicUsize);

/// The time in which one of them is away.
pub(super) struct Outage<'a> {
    all: &'a Outages,
    whose: &'static str,
    address: &'a str,
    reason: &'a str,
    began: Instant,
    is_long: bool,
}

impl Outages {
    pub(super) fn begin<'a>(
        &'a self,
        whose: &'static str,
        address: &'a str,
        reason: &'a str,
    ) -> Outage<'a> {
        Outage { all: self, whose, address, reason, began: Instant::now(), is_long: false }
    }
}

impl Outage<'_> {
    /// A new connection was tried in vain.
    pub(super) fn lasts(&mut self, error: &Error) {
        let Self { all, whose, address, reason, .. } = *self;
        let turns_long = !self.is_long && self.began.elapsed() >= SHORT;
        self.is_long |= turns_long;
        if turns_long && all.0.fetch_add(1, Ordering::Relaxed) == 0 {
            tracing::warn!(backend = NAME, address, reason, %error, "{whose} is lost");
        } else {
            tracing::debug!(backend = NAME, address, %error, "{whose} is not back yet");
        }
    }

    /// The connection is back.
    pub(super) fn end(mut self) {
        let was_last = self.leave();
        let Self { whose, address, reason, .. } = self;
        let milliseconds = self.began.elapsed().as_millis() as u64;
        if was_last {
            tracing::warn!(backend = NAME, address, reason, milliseconds, "{whose} is back");
        } else {
            tracing::debug!(backend = NAME, address, reason, milliseconds, "{whose} is back");
        }
    }

    /// Is no longer counted; whether it was the last that was away for long.
    fn leave(&mut self) -> bool {
        mem::take(&mut self.is_long) && self.all.0.fetch_sub(1, Ordering::Relaxed) == 1
    }
}

impl Drop for Outage<'_> {
    /// Whoever closes meanwhile does not wait for the end.
    fn drop(&mut self) {
        self.leave();
    }
}
