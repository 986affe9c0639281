//! Waiting for what another process does, which no event of ours announces.

use std::time::{Duration, Instant};

/// What is the case now.
#[derive(Debug)]
pub(super) enum Now {
    /// It has happened.
    Done,
    /// Not yet, and why.
    NotYet(String),
    /// It won't happen any more, and why.
    Never(String),
}

impl From<Result<(), String>> for Now {
    fn from(done: Result<(), String>) -> Self {
        match done {
            Ok(()) => Self::Done,
            Err(reason) => Self::NotYet(reason),
        }
    }
}

/// Looks again and again until it is done, at most as long as `limit`.
#[expect(
    clippy::disallowed_methods,
    reason = "no runtime here, and other processes have no events"
)]
pub(super) fn until(limit: Duration, mut look: impl FnMut() -> Now) -> Result<(), String> {
    let start = Instant::now();
    let mut pause = Duration::from_millis(2);
    loop {
        let reason = match look() {
            Now::Done => return Ok(()),
            Now::Never(reason) => return Err(reason),
            Now::NotYet(reason) => reason,
        };
        if start.elapsed() > limit {
            return Err(format!("not within {} s: {reason}", limit.as_secs()));
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_ends_when_it_is_done_or_can_not_be_done() {
        let mut left = 3;
        let countdown = || {
            left -= 1;
            if left == 0 { Now::Done } else { Now::NotYet(String::new()) }
        };
        assert_eq!(until(Duration::from_secs(60), countdown), Ok(()));
        let never = || Now::Never("gone".to_owned());
        assert_eq!(until(Duration::from_secs(60), never), Err("gone".to_owned()));
        let not_yet = || Now::NotYet("busy".to_owned());
        assert_eq!(until(Duration::ZERO, not_yet), Err("not within 0 s: busy".to_owned()));
    }
}
