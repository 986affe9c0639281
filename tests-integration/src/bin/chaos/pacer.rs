//! Paces the publishers: they publish as many messages as they are allowed to.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use crate::child::Child;
use crate::ledger::Ledger;
use crate::role::Order;

/// Allows messages at a rate, up to a limit; both can be changed while it runs.
pub(crate) struct Pacer {
    pace: Arc<Pace>,
    running: JoinSet<Result<Vec<Child>, String>>,
}

#[derive(Debug, Default)]
struct Pace {
    per_second: AtomicU64,
    limit: AtomicU64,
    allowed: AtomicU64,
    /// All messages of the run.
    messages: u64,
}

/// How many messages may be allowed that have not returned, or are not handled in every group, so
/// that a slow machine is not flooded. Some return or are handled twice, so this is about.
const AHEAD: u64 = 10_000;

/// How often it allows some more.
const TICK: Duration = Duration::from_millis(20);

impl Pacer {
    pub(crate) fn start(publishers: Vec<Child>, messages: u64, ledger: Arc<Ledger>) -> Self {
        let pace = Arc::new(Pace { messages, ..Pace::default() });
        let mut running = JoinSet::new();
        running.spawn(run(publishers, Arc::clone(&pace), ledger));
        Self { pace, running }
    }

    /// How many messages are not allowed yet.
    pub(crate) fn left(&self) -> u64 {
        self.pace.messages - self.pace.allowed.load(Ordering::Relaxed)
    }

    /// Allows so many a second from now on, and keeps `reserve` back.
    pub(crate) fn set(&self, per_second: u64, reserve: u64) {
        self.pace.per_second.store(per_second, Ordering::Relaxed);
        let limit = self.pace.messages.saturating_sub(reserve);
        self.pace.limit.store(limit, Ordering::Relaxed);
    }

    /// Allows some of those that are kept back, where no others are left.
    pub(crate) fn spare(&self, some: u64) {
        let limit = self.pace.limit.load(Ordering::Relaxed);
        if self.pace.allowed.load(Ordering::Relaxed) >= limit {
            let limit = self.pace.messages.min(limit + some);
            self.pace.limit.store(limit, Ordering::Relaxed);
        }
    }

    /// Waits until every message is allowed, and gives the publishers back; they know that no more
    /// will come.
    pub(crate) async fn finish(mut self) -> Result<Vec<Child>, String> {
        match self.running.join_next().await {
            Some(Ok(publishers)) => publishers,
            Some(Err(died)) => Err(died.to_string()),
            None => Ok(Vec::new()),
        }
    }
}

async fn run(
    mut publishers: Vec<Child>,
    pace: Arc<Pace>,
    ledger: Arc<Ledger>,
) -> Result<Vec<Child>, String> {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let (mut allowed, mut due) = (0, 0.0);
    while allowed < pace.messages {
        ticks.tick().await;
        due += pace.per_second.load(Ordering::Relaxed) as f64 * TICK.as_secs_f64();
        let limit = pace.limit.load(Ordering::Relaxed);
        let slowest = ledger.seen().slowest();
        let most = limit.min(slowest + AHEAD).saturating_sub(allowed);
        let now = (due as u64).min(most);
        // What could not be allowed is not owed later.
        due = if now == most { 0.0 } else { due - now as f64 };
        let count = publishers.len() as u64;
        for (number, publisher) in (0..).zip(&mut publishers) {
            let share = now / count + u64::from(number < now % count);
            if share > 0 {
                let order = Order::Publish(u32::try_from(share).unwrap_or(u32::MAX));
                publisher.order(order).await.map_err(|error| format!("a publisher: {error}"))?;
            }
        }
        allowed += now;
        pace.allowed.store(allowed, Ordering::Relaxed);
    }
    for publisher in &mut publishers {
        publisher.order(Order::End).await.map_err(|error| format!("a publisher: {error}"))?;
    }
    Ok(publishers)
}
