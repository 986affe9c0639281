use std::time::Duration;

/// How long a failed message waits for its next attempt: a first delay, doubled each time, up to a
/// longest. The default is 1 s, at most 30 s.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    first: Duration,
    longest: Duration,
}

impl RetryPolicy {
    /// Doubles the delay from `first` up to `longest`.
    #[must_use]
    pub const fn exponential(first: Duration, longest: Duration) -> Self {
        Self { first, longest }
    }

    /// Waits equally long each time; zero retries at once.
    #[must_use]
    pub const fn fixed(delay: Duration) -> Self {
        Self { first: delay, longest: delay }
    }

    /// The delay after an attempt has failed; the first attempt is 1. Backends round it up to one
    /// of the topology's tiers.
    #[must_use]
    pub fn delay(&self, attempt: u32) -> Duration {
        let doubled = 2_u32.checked_pow(attempt.saturating_sub(1)).unwrap_or(u32::MAX);
        self.first.saturating_mul(doubled).min(self.longest)
    }

    /// The longest delay.
    #[must_use]
    pub const fn longest(&self) -> Duration {
        self.longest
    }
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self::exponential(Duration::from_secs(1), Duration::from_secs(30))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_doubles_from_one_second_to_thirty() {
        let policy = RetryPolicy::default();
        let delays: Vec<u64> = (1..=7).map(|attempt| policy.delay(attempt).as_secs()).collect();
        assert_eq!(delays, [1, 2, 4, 8, 16, 30, 30]);
        assert_eq!(policy.delay(u32::MAX), Duration::from_secs(30));
    }
}
