//! Whether the machine let this process run: one that stands still itself sees nothing.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

/// Measures how late timers are.
pub(crate) struct Stalls {
    late: Arc<Mutex<Vec<Duration>>>,
    _ticking: JoinSet<()>,
}

const TICK: Duration = Duration::from_millis(10);

/// How late 999 in 1,000 timers may be.
const MOST: Duration = Duration::from_millis(500);

impl Stalls {
    pub(crate) fn watch() -> Self {
        let late = Arc::new(Mutex::new(Vec::new()));
        let mut ticking = JoinSet::new();
        ticking.spawn(tick(Arc::clone(&late)));
        Self { late, _ticking: ticking }
    }

    /// Why the run can't be judged, if it can't.
    pub(crate) fn trouble(&self) -> Option<String> {
        let mut late = self.late.lock().unwrap_or_else(PoisonError::into_inner);
        late.sort_unstable();
        let at = (late.len() * 999).div_ceil(1_000).saturating_sub(1);
        let worst = late.get(at).filter(|late| **late > MOST)?;
        Some(format!("the machine was too busy: timers were {} ms late", worst.as_millis()))
    }
}

async fn tick(late: Arc<Mutex<Vec<Duration>>>) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let due = ticks.tick().await;
        let behind = Instant::now().saturating_duration_since(due);
        late.lock().unwrap_or_else(PoisonError::into_inner).push(behind);
    }
}
