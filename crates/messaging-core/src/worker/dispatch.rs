//! The dispatcher: takes messages in, runs handlers, settles, and ends in order.

use std::any::Any;
use std::collections::HashMap;
use std::fmt::Display;
use std::future::poll_fn;
use std::marker::PhantomData;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::FutureExt;
use tokio::sync::oneshot;
use tokio::task::{AbortHandle, Id, JoinSet};
use tokio::time::{Instant, timeout, timeout_at};

use super::ladder::Ladder;
use super::progress::Progress;
use super::report::Outcome;
use super::verdict::{IntoVerdict, Verdict};
use crate::delivery::{Received, Settling, Ticket};
use crate::driver::{Settlement, Token};
use crate::duration::format_duration;
use crate::error::Result;
use crate::intake::{Admitted, Intake, Signal};
use crate::message::Message;
use crate::payload::Payload;

pub(super) type Observe = dyn Fn(&Outcome) + Send + Sync;

/// The worker's options, as its dispatcher needs them.
pub(super) struct Rules {
    pub(super) concurrency: usize,
    pub(super) timeout: Option<Duration>,
    pub(super) grace: Duration,
    pub(super) ladder: Ladder,
}

pub(super) struct Dispatch<T, H> {
    intake: Intake,
    settling: Arc<Settling>,
    handler: Arc<H>,
    rules: Rules,
    observe: Option<Arc<Observe>>,
    progress: Progress,
    tasks: JoinSet<Settlement>,
    running: HashMap<Id, Running>,
    payload: PhantomData<fn() -> T>,
}

/// A handler that runs.
struct Running {
    token: Token,
    attempt: u32,
    /// Kept only for an observer.
    message: Option<Arc<Message>>,
    abort: AbortHandle,
}

impl<T, H, F> Dispatch<T, H>
where
    T: Payload,
    H: Fn(Received<T>) -> F + Send + Sync + 'static,
    F: Future<Output: IntoVerdict> + Send + 'static,
{
    pub(super) fn new(
        intake: Intake,
        handler: H,
        rules: Rules,
        observe: Option<Arc<Observe>>,
        progress: Progress,
    ) -> Result<Self> {
        let settling = intake.require_settling()?;
        Ok(Self {
            intake,
            settling,
            handler: Arc::new(handler),
            rules,
            observe,
            progress,
            tasks: JoinSet::new(),
            running: HashMap::new(),
            payload: PhantomData,
        })
    }

    /// Works until it is told to stop or the subscription ends, then ends in order.
    pub(super) async fn run(mut self, mut stopped: oneshot::Receiver<()>) -> Result<()> {
        let ended = loop {
            self.start_waiting();
            // Signals are taken while all handlers are busy too: a lost lane can't wait for them.
            tokio::select! {
                biased;
                _ = &mut stopped => break Ok(()),
                Some(_) = reap(&mut self.tasks, &mut self.running, &self.observe, &self.progress) => {}
                signal = poll_fn(|cx| self.intake.poll_signal(cx)) => match signal {
                    Some(Ok(Signal::Lost(lanes))) => self.cancel(|token| lanes.contains(token.lane)),
                    Some(Ok(Signal::Expired(tokens))) => self.cancel(|token| tokens.contains(token)),
                    Some(Ok(Signal::Messages | Signal::Gap(_))) => {}
                    Some(Err(error)) => break Err(error),
                    None => break Ok(()),
                },
            }
        };
        self.finish().await;
        ended
    }

    fn start_waiting(&mut self) {
        while self.tasks.len() < self.rules.concurrency
            && let Some(incoming) = self.intake.pop()
        {
            let token = incoming.token;
            let attempt = incoming.attempt;
            match self.intake.admit(&self.settling, incoming) {
                Admitted::Delivery(received, ticket) => self.start(token, received, ticket),
                Admitted::Refused(incoming, reason) => {
                    let settlement = Settlement::Reject { reason };
                    let message = self.observe.is_some().then_some(incoming.message);
                    record(&self.observe, &self.progress, message, attempt, settlement);
                }
            }
        }
    }

    fn start(&mut self, token: Token, received: Received<T>, ticket: Ticket) {
        let attempt = received.attempt();
        let message = self.observe.is_some().then(|| received.shared_message());
        let handler = Arc::clone(&self.handler);
        let limit = self.rules.timeout;
        let ladder = self.rules.ladder;
        let settling = Arc::clone(&self.settling);
        let abort = self.tasks.spawn(async move {
            let verdict = judge(&*handler, received, limit).await;
            let settlement = ladder.settlement(verdict, attempt, &settling.topology);
            ticket.settle(settlement.clone());
            settlement
        });
        self.running.insert(abort.id(), Running { token, attempt, message, abort });
    }

    /// Ends the handlers of what is ours no more; what they settle is stale.
    fn cancel(&self, which: impl Fn(&Token) -> bool) {
        for running in self.running.values().filter(|running| which(&running.token)) {
            running.abort.abort();
        }
    }

    /// Leaves the group at once, so that nothing more is fetched for us: what runs can be settled all
    /// the same.
    async fn finish(self) {
        let Self { intake, settling, rules, observe, progress, mut tasks, mut running, .. } = self;
        drop(intake);
        let grace_ends = Instant::now() + rules.grace;
        let all =
            async { while reap(&mut tasks, &mut running, &observe, &progress).await.is_some() {} };
        if timeout_at(grace_ends, all).await.is_ok() {
            return;
        }
        // What is cut off now was never given a fair chance, so it counts as no attempt.
        settling.release_dropped.store(true, Ordering::Release);
        tasks.abort_all();
        while reap(&mut tasks, &mut running, &observe, &progress).await.is_some() {}
    }
}

/// Waits for the next handler that ends and records it; `None` where none runs.
async fn reap(
    tasks: &mut JoinSet<Settlement>,
    running: &mut HashMap<Id, Running>,
    observe: &Option<Arc<Observe>>,
    progress: &Progress,
) -> Option<()> {
    let (id, settlement) = match tasks.join_next_with_id().await? {
        Ok(ended) => ended,
        // Cancelled: its ticket went back when the task was dropped.
        Err(cancelled) => (cancelled.id(), Settlement::Release),
    };
    if let Some(Running { attempt, message, .. }) = running.remove(&id) {
        record(observe, progress, message, attempt, settlement);
    }
    Some(())
}

fn record(
    observe: &Option<Arc<Observe>>,
    progress: &Progress,
    message: Option<Arc<Message>>,
    attempt: u32,
    settlement: Settlement,
) {
    progress.count(&settlement);
    if let (Some(observe), Some(message)) = (observe, message) {
        observe(&Outcome::new(message, attempt, settlement));
    }
}

/// Runs a handler; a panic and a timeout are failures like others.
async fn judge<T, H, F>(handler: &H, received: Received<T>, limit: Option<Duration>) -> Verdict
where
    T: Send,
    H: Fn(Received<T>) -> F + Sync,
    F: Future<Output: IntoVerdict> + Send,
{
    let guarded = AssertUnwindSafe(async { handler(received).await.into_verdict() }).catch_unwind();
    let ended = match limit {
        None => guarded.await,
        Some(limit) => match timeout(limit, guarded).await {
            Ok(ended) => ended,
            Err(_) => {
                return Verdict::fail(format!(
                    "the handler took longer than {}",
                    format_duration(limit)
                ));
            }
        },
    };
    ended.unwrap_or_else(|panic| {
        Verdict::fail(format!("the handler panicked: {}", text_of(&*panic)))
    })
}

fn text_of(panic: &(dyn Any + Send)) -> &dyn Display {
    if let Some(text) = panic.downcast_ref::<&'static str>() {
        text
    } else if let Some(text) = panic.downcast_ref::<String>() {
        text
    } else {
        &"no text"
    }
}
