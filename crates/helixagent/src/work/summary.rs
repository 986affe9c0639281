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

    pub(super) const fn settled(&self) -> u64 {
        self.handled + self.dead_lettered
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
    pub(super) const fn is_clean(&self) -> bool {
        self.dead_lettered + self.bad + self.returned + self.left == 0
    }

    pub(super) fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |ms| format!("{ms} ms"));
        writeln!(f, "backend        {} ({})", self.backend, self.address)?;
        for (name, count) in [
            ("published", self.published),
            ("handled", self.handled),
            ("retried", self.retried),
            ("dead-lettered", self.dead_lettered),
            ("returned", self.returned),
            ("left", self.left),
            ("elsewhere", self.elsewhere),
            ("foreign", self.foreign),
            ("bad lines", self.bad),
        ] {
            writeln!(f, "{name:<14} {count}")?;
        }
        for reason in &self.reasons {
            writeln!(f, "  dead letter {reason}")?;
        }
        writeln!(f, "duration       {} s, {} messages/s", self.seconds, self.rate)?;
        write!(f, "publish to ack p50 {}, p99 {}", ms(self.p50_ms), ms(self.p99_ms))
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
    fn percentiles_are_of_what_was_seen() {
        let all: Vec<Duration> = (1..=200).map(Duration::from_millis).collect();
        assert_eq!(percentile(&all, 50), Some(100.0));
        assert_eq!(percentile(&all, 99), Some(198.0));
        assert_eq!(percentile(&all[..1], 99), Some(1.0));
        assert_eq!(percentile(&[], 50), None);
    }
}
