//! The figures of a run.

use std::fmt;
use std::time::Duration;

use messaging::driver::Settlement;
use serde::Serialize;

/// What is counted while the work goes on.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) published: u64,
    /// Messages of this run.
    pub(super) ours: Ends,
    /// Messages of somebody else.
    pub(super) foreign: Ends,
    pub(super) bad: u64,
    pub(super) returned: u64,
    pub(super) left: u64,
    pub(super) elsewhere: u64,
    /// At most once: what was never heard, or not to its end.
    pub(super) lost: Option<u64>,
    /// At most once: what the gaps count.
    pub(super) missed: u64,
    /// From publish to ack.
    pub(super) latencies: Vec<Duration>,
    pub(super) reasons: Vec<String>,
}

/// How hand-overs ended.
#[derive(Debug, Default)]
pub(super) struct Ends {
    handled: u64,
    retried: u64,
    dead_lettered: u64,
    failed: u64,
}

/// The summary, as it is printed.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    backend: &'static str,
    address: String,
    published: u64,
    handled: u64,
    retried: u64,
    dead_lettered: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    failed: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lost: Option<u64>,
    returned: u64,
    left: u64,
    elsewhere: u64,
    foreign: u64,
    bad: u64,
    seconds: f64,
    rate: f64,
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
    #[serde(skip)]
    reasons: Vec<String>,
}

impl Ends {
    pub(super) const fn count(&mut self, settlement: &Settlement) {
        match settlement {
            Settlement::Ack => self.handled += 1,
            Settlement::Retry { .. } | Settlement::Abandon => self.retried += 1,
            Settlement::Reject { .. } => self.dead_lettered += 1,
            Settlement::Release => {}
        }
    }

    /// A command ended, and nothing follows from how.
    pub(super) const fn count_end(&mut self, succeeded: bool) {
        if succeeded {
            self.handled += 1;
        } else {
            self.failed += 1;
        }
    }

    pub(super) const fn settled(&self) -> u64 {
        self.handled + self.dead_lettered + self.failed
    }
}

impl Summary {
    pub(super) fn new(
        backend: &'static str,
        address: String,
        mut tally: Tally,
        seconds: f64,
    ) -> Self {
        tally.latencies.sort_unstable();
        let rate = tally.ours.settled() as f64 / seconds.max(f64::EPSILON);
        Self {
            backend,
            address,
            published: tally.published,
            handled: tally.ours.handled,
            retried: tally.ours.retried,
            dead_lettered: tally.ours.dead_lettered,
            failed: tally.lost.map(|_| tally.ours.failed),
            lost: tally.lost,
            returned: tally.returned,
            left: tally.left,
            elsewhere: tally.elsewhere,
            foreign: tally.foreign.settled(),
            bad: tally.bad,
            seconds: round(seconds),
            rate: round(rate),
            p50_ms: percentile(&tally.latencies, 50),
            p99_ms: percentile(&tally.latencies, 99),
            reasons: tally.reasons,
        }
    }

    /// Whether everything was handled, here or by another member.
    pub(super) fn is_clean(&self) -> bool {
        let at_most_once = self.failed.unwrap_or_default() + self.lost.unwrap_or_default();
        self.dead_lettered + self.bad + self.returned + self.left + at_most_once == 0
    }

    pub(super) fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |ms| format!("{ms} ms"));
        writeln!(f, "backend        {} ({})", self.backend, self.address)?;
        let ends = match (self.failed, self.lost) {
            (Some(failed), Some(lost)) => vec![("failed", failed), ("lost", lost)],
            _ => vec![
                ("retried", self.retried),
                ("dead-lettered", self.dead_lettered),
                ("returned", self.returned),
                ("left", self.left),
                ("elsewhere", self.elsewhere),
            ],
        };
        let first = [("published", self.published), ("handled", self.handled)];
        let last = [("foreign", self.foreign), ("bad lines", self.bad)];
        for (name, count) in first.into_iter().chain(ends).chain(last) {
            writeln!(f, "{name:<14} {count}")?;
        }
        let what = if self.lost.is_some() { "failed" } else { "dead letter" };
        for reason in &self.reasons {
            writeln!(f, "  {what} {reason}")?;
        }
        writeln!(f, "duration       {} s, {} messages/s", self.seconds, self.rate)?;
        let end = if self.lost.is_some() { "end" } else { "ack" };
        write!(f, "publish to {end} p50 {}, p99 {}", ms(self.p50_ms), ms(self.p99_ms))
    }
}

fn percentile(sorted: &[Duration], percent: usize) -> Option<f64> {
    let rank = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(rank).map(|latency| round(latency.as_secs_f64() * 1_000.0))
}

/// To the thousandth, as more digits would only be noise.
fn round(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_or_failed_is_shown_at_most_once_only_and_is_not_clean() {
        let summary = |lost, failed| {
            let mut tally = Tally { published: 2, lost, ..Tally::default() };
            (0..failed).for_each(|_| tally.ours.count_end(false));
            Summary::new("redis", "here".to_owned(), tally, 1.0)
        };
        let plain = summary(None, 0);
        assert!(plain.is_clean() && !plain.to_json().contains("lost"));
        assert!(plain.to_string().contains("dead-lettered  0"));
        assert!(summary(Some(0), 0).is_clean());
        for bad in [summary(Some(1), 0), summary(Some(0), 1)] {
            assert!(!bad.is_clean());
            assert!(bad.to_json().contains("\"lost\":") && bad.to_json().contains("\"failed\":"));
            let text = bad.to_string();
            assert!(text.contains("lost           ") && !text.contains("dead"), "{text}");
        }
    }

    #[test]
    fn percentiles_are_of_what_was_seen() {
        let all: Vec<Duration> = (1..=200).map(Duration::from_millis).collect();
        assert_eq!(percentile(&all, 50), Some(100.0));
        assert_eq!(percentile(&all, 99), Some(198.0));
        assert_eq!(percentile(&all[..1], 99), Some(1.0));
        assert_eq!(percentile(&[], 50), None);
    }
}
