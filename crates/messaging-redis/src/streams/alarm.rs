//! A time that anybody may bring forward.

use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// Goes off at the earliest time it was set to.
#[derive(Debug, Default)]
pub(super) struct Alarm {
    at: Mutex<Option<Instant>>,
    earlier: Notify,
}

impl Alarm {
    /// Sets it, unless it goes off before that anyway.
    pub(super) fn set(&self, at: Instant) {
        let mut current = self.at.lock().unwrap_or_else(PoisonError::into_inner);
        if current.is_none_or(|known| at < known) {
            *current = Some(at);
            self.earlier.notify_one();
        }
    }

    /// Waits until it goes off, which clears it.
    ///
    /// # Cancellation
    /// It stays set.
    pub(super) async fn wait(&self) {
        loop {
            let at = *self.at.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(at) = at else {
                self.earlier.notified().await;
                continue;
            };
            tokio::select! {
                () = self.earlier.notified() => {}
                () = sleep_until(at) => {
                    let mut current = self.at.lock().unwrap_or_else(PoisonError::into_inner);
                    if *current == Some(at) {
                        *current = None;
                    }
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_goes_off_at_the_earliest_time() {
        let (alarm, start) = (Alarm::default(), Instant::now());
        alarm.set(start + Duration::from_secs(5));
        let bring_forward = async {
            tokio::task::yield_now().await;
            alarm.set(start + Duration::from_secs(2));
            alarm.set(start + Duration::from_secs(9));
        };
        tokio::join!(alarm.wait(), bring_forward);
        assert_eq!(start.elapsed().as_secs(), 2);
    }
}
