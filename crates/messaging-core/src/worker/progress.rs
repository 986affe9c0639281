//! What a worker has done so far, and who waits for how much of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;

use super::report::WorkerReport;
use crate::driver::Settlement;

/// The dispatcher's half. Dropping it tells the other half that the worker has ended.
///
/// Waking somebody costs more than handling a message, so it is done when what the most modest
/// waiter wants is reached, not for each message.
#[derive(Debug)]
pub(super) struct Progress {
    report: watch::Sender<WorkerReport>,
    wanted: Arc<AtomicU64>,
}

/// The worker's half.
#[derive(Clone, Debug)]
pub(super) struct Watched {
    report: watch::Receiver<WorkerReport>,
    /// The fewest settled messages that anybody waits for. Written only while `report` is locked,
    /// so that no wish is lost between the dispatcher's look and its answer.
    wanted: Arc<AtomicU64>,
}

const NOBODY_WAITS: u64 = u64::MAX;

pub(super) fn progress() -> (Progress, Watched) {
    let (sender, report) = watch::channel(WorkerReport::default());
    let wanted = Arc::new(AtomicU64::new(NOBODY_WAITS));
    (Progress { report: sender, wanted: Arc::clone(&wanted) }, Watched { report, wanted })
}

impl Progress {
    pub(super) fn count(&self, settlement: &Settlement) {
        self.report.send_if_modified(|report| {
            report.count(settlement);
            let reached = report.settled() >= self.wanted.load(Ordering::Relaxed);
            if reached {
                self.wanted.store(NOBODY_WAITS, Ordering::Relaxed);
            }
            reached
        });
    }
}

impl Watched {
    pub(super) fn report(&self) -> WorkerReport {
        *self.report.borrow()
    }

    /// Waits until so many are settled; `false` if the worker ends with fewer.
    pub(super) async fn settled(&self, count: u64) -> bool {
        let mut report = self.report.clone();
        loop {
            if self.want(&mut report, count) {
                return true;
            }
            if report.changed().await.is_err() {
                return self.report().settled() >= count;
            }
        }
    }

    /// Whether there are so many; if not, somebody waits for them from now on.
    fn want(&self, report: &mut watch::Receiver<WorkerReport>, count: u64) -> bool {
        let report = report.borrow_and_update();
        if report.settled() >= count {
            return true;
        }
        self.wanted.fetch_min(count, Ordering::Relaxed);
        false
    }

    pub(super) async fn ended(&self) {
        let mut report = self.report.clone();
        while report.changed().await.is_ok() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_waiter_is_told_when_its_own_number_is_reached() {
        let (progress, watched) = progress();
        let wait = |count| {
            let watched = watched.clone();
            async move { watched.settled(count).await }
        };
        let counting = async {
            for _ in 0..3 {
                progress.count(&Settlement::Ack);
                tokio::task::yield_now().await;
            }
            drop(progress);
        };
        let (first, third, fourth, ()) = tokio::join!(wait(1), wait(3), wait(4), counting);
        assert_eq!((first, third, fourth), (true, true, false));
    }
}
