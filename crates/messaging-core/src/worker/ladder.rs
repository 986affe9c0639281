//! The failure ladder: what a verdict means at an attempt.

use super::retry::RetryPolicy;
use super::verdict::Verdict;
use crate::delivery::bounded;
use crate::driver::Settlement;
use crate::topology::Topology;

/// When failures come again, and when they are given up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ladder {
    pub(super) policy: RetryPolicy,
    pub(super) max_attempts: u32,
}

impl Ladder {
    /// How a verdict settles its message.
    ///
    /// A handler's delay beyond the longest tier can't be kept, so its message is a dead letter that
    /// says so, rather than one that comes back too soon.
    pub(super) fn settlement(
        &self,
        verdict: Verdict,
        attempt: u32,
        topology: &Topology,
    ) -> Settlement {
        let (after, reason) = match verdict {
            Verdict::Ack => return Settlement::Ack,
            Verdict::Reject { reason } => return reject(reason),
            Verdict::Fail { reason } => (self.policy.delay(attempt), reason),
            Verdict::Retry { after, reason } => (after, reason),
        };
        if attempt >= self.max_attempts {
            return reject(reason);
        }
        match topology.tier_for(after) {
            Ok(after) => Settlement::Retry { after },
            Err(error) => reject(format!("{error}; it failed: {reason}")),
        }
    }
}

fn reject(reason: String) -> Settlement {
    Settlement::Reject { reason: bounded(reason) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn settle(verdict: Verdict, attempt: u32) -> Settlement {
        let ladder = Ladder { policy: RetryPolicy::default(), max_attempts: 3 };
        ladder.settlement(verdict, attempt, &Topology::default())
    }

    #[test]
    fn a_failure_is_retried_later_each_time_and_then_given_up_with_its_reason() {
        let after = |seconds| Settlement::Retry { after: Duration::from_secs(seconds) };
        assert_eq!(settle(Verdict::fail("no"), 1), after(1));
        assert_eq!(settle(Verdict::fail("no"), 2), after(2));
        assert_eq!(settle(Verdict::fail("no"), 3), Settlement::Reject { reason: "no".into() });
    }

    #[test]
    fn a_delay_of_the_handlers_is_rounded_up_and_never_shortened() {
        let retry = |seconds| Verdict::retry(Duration::from_secs(seconds), "later");
        assert_eq!(settle(retry(3), 1), Settlement::Retry { after: Duration::from_secs(4) });
        let Settlement::Reject { reason } = settle(retry(1_000_000), 1) else { panic!() };
        assert!(reason.contains("longest retry tier") && reason.contains("later"), "{reason}");
    }
}
