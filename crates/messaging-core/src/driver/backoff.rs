use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

/// How long a driver waits before its next try: from 0.1 s, growing to 5 s, each with a jitter of a
/// half, so that many clients do not come at once.
///
/// The default grows by a quarter each time. A wait is a quarter of the time before it: a server that
/// was away for 8 s is found within 2 s.
#[derive(Debug)]
pub struct Backoff {
    growth: f64,
    tries: u32,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { growth: 1.25, tries: 0 }
    }
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(100);
    const LONGEST: Duration = Duration::from_secs(5);

    /// One that doubles each time, for what is asked of a server that is there.
    #[must_use]
    pub const fn doubling() -> Self {
        Self { growth: 2.0, tries: 0 }
    }

    /// The next wait.
    #[expect(clippy::should_implement_trait, reason = "it never ends, and nobody iterates over it")]
    pub fn next(&mut self) -> Duration {
        let full = Self::FIRST.mul_f64(self.growth.powi(self.tries.min(20).cast_signed()));
        self.tries += 1;
        let full = full.min(Self::LONGEST);
        let random = RandomState::new().build_hasher().finish() as f64 / u64::MAX as f64;
        full.mul_f64(0.5 + random / 2.0)
    }

    /// Begins anew.
    pub const fn reset(&mut self) {
        self.tries = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grows_and_begins_anew(mut backoff: Backoff, tries: usize) -> Vec<Duration> {
        let waits: Vec<Duration> = (0..tries).map(|_| backoff.next()).collect();
        assert!(waits.iter().all(|wait| *wait >= Duration::from_millis(50)));
        assert!(waits.iter().all(|wait| *wait <= Duration::from_secs(5)));
        assert!(waits[tries - 1] >= Duration::from_millis(2_500));
        backoff.reset();
        assert!(backoff.next() <= Duration::from_millis(100));
        waits
    }

    #[test]
    fn it_grows_to_five_seconds_and_never_is_nothing() {
        let waits = grows_and_begins_anew(Backoff::default(), 20);
        // Whenever the server comes back, the wait that it falls into is not long beside what was before.
        let mut before = Duration::ZERO;
        for wait in waits {
            assert!(
                wait <= Duration::from_millis(100) + before.mul_f64(0.6),
                "{wait:?} {before:?}"
            );
            assert!(
                wait <= Duration::from_millis(125) + before.mul_f64(0.55),
                "{wait:?} {before:?}"
            );
            before += wait;
        }
    }

    #[test]
    fn doubling_gets_there_sooner() {
        grows_and_begins_anew(Backoff::doubling(), 12);
    }
}
