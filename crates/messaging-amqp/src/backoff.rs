//! How long to wait before the next try to connect.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

/// From 0.1 s, a quarter more each time, to 5 s; each with a jitter of a half, so that many clients
/// do not come at once. A wait is a quarter of the time before it: a server that was away for 8 s is
/// found within 2 s.
#[derive(Debug, Default)]
pub(crate) struct Backoff(u32);

impl Backoff {
    pub(crate) fn next(&mut self) -> Duration {
        let full = Duration::from_millis(100).mul_f64(1.25_f64.powi(self.0.min(20).cast_signed()));
        self.0 += 1;
        let full = full.min(Duration::from_secs(5));
        let random = RandomState::new().build_hasher().finish() as f64 / u64::MAX as f64;
        full.mul_f64(0.5 + random / 2.0)
    }

    pub(crate) const fn reset(&mut self) {
        self.0 = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_to_five_seconds_and_never_is_nothing() {
        let mut backoff = Backoff::default();
        let waits: Vec<Duration> = (0..20).map(|_| backoff.next()).collect();
        assert!(waits.iter().all(|wait| *wait >= Duration::from_millis(50)));
        assert!(waits.iter().all(|wait| *wait <= Duration::from_secs(5)));
        assert!(waits[19] >= Duration::from_millis(2_500));
        let mut before = Duration::ZERO;
        for wait in waits {
            assert!(wait <= before.mul_f64(0.6) + Duration::from_millis(100), "{wait:?}");
            before += wait;
        }
        backoff.reset();
        assert!(backoff.next() <= Duration::from_millis(100));
    }
}
