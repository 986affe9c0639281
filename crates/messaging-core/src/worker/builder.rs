use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::Worker;
use super::dispatch::{Dispatch, Observe, Rules};
use super::ladder::Ladder;
use super::progress::progress;
use super::report::Outcome;
use super::retry::RetryPolicy;
use super::verdict::IntoVerdict;
use crate::broker::Broker;
use crate::capability::Feature;
use crate::delivery::Received;
use crate::error::{Error, ErrorKind, Result};
use crate::payload::Payload;
use crate::position::Start;
use crate::spec::{Mode, SubscribeSpec};

/// Builds a [`Worker`].
#[must_use = "a builder does nothing until it is spawned"]
pub struct WorkerBuilder {
    broker: Broker,
    spec: Result<SubscribeSpec>,
    concurrency: u32,
    prefetch: Option<u32>,
    attempts: Option<u32>,
    timeout: Option<Duration>,
    grace: Duration,
    policy: RetryPolicy,
    observe: Option<Arc<Observe>>,
}

impl WorkerBuilder {
    pub(crate) const fn new(broker: Broker, spec: Result<SubscribeSpec>) -> Self {
        Self {
            broker,
            spec,
            concurrency: 16,
            prefetch: None,
            attempts: None,
            timeout: None,
            grace: Duration::from_secs(30),
            policy: RetryPolicy::exponential(Duration::from_secs(1), Duration::from_secs(30)),
            observe: None,
        }
    }

    /// Sets how many handlers run at once, at least 1; 16 unless set.
    pub const fn concurrency(mut self, handlers: u32) -> Self {
        self.concurrency = handlers;
        self
    }

    /// Sets how many messages may be in hand, running ones among them; a quarter more than run at
    /// once unless set.
    pub const fn prefetch(mut self, messages: u32) -> Self {
        self.prefetch = Some(messages);
        self
    }

    /// Sets how many attempts a message gets, at least 1; 4 unless set.
    pub const fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = Some(attempts);
        self
    }

    /// Ends a handler after this time, which counts as a failure; unlimited unless set, but for what
    /// the broker allows.
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Sets how long running handlers get to end when it stops; 30 s unless set.
    pub const fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Sets when failed messages come again.
    pub const fn retry(mut self, policy: RetryPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// Keeps the order of each key: one handler at a time runs a key, and a retry is in place.
    pub fn ordered(self) -> Self {
        self.map_spec(SubscribeSpec::ordered)
    }

    /// Takes more urgent messages first.
    pub fn priority(self) -> Self {
        self.map_spec(SubscribeSpec::priority)
    }

    /// Starts here if the group has no place of its own yet.
    pub fn start(self, start: Start) -> Self {
        self.map_spec(|spec| spec.start(start))
    }

    /// Goes without a feature where the backend does not offer it.
    pub fn waive(self, feature: Feature) -> Self {
        self.map_spec(|spec| spec.waive(feature))
    }

    /// Is told what became of each message, from the dispatcher's task, so it must return quickly.
    pub fn observe(mut self, observe: impl Fn(&Outcome) + Send + Sync + 'static) -> Self {
        self.observe = Some(Arc::new(observe));
        self
    }

    /// Subscribes and starts to work. What is published after this returns is seen.
    ///
    /// The handler runs as a task of its own for each message. Its error, its panic and its timeout
    /// are failures: the message comes again as the retry policy says, and is a dead letter with the
    /// last reason once its attempts are used up.
    ///
    /// # Errors
    /// What was wrong with the group's name, the patterns or an option; else as
    /// [`Broker::subscribe`].
    pub async fn spawn<T, H, F>(self, handler: H) -> Result<Worker>
    where
        T: Payload,
        H: Fn(Received<T>) -> F + Send + Sync + 'static,
        F: Future<Output: IntoVerdict> + Send + 'static,
    {
        let concurrency = at_least_one("concurrency", self.concurrency)?;
        let default = concurrency.saturating_add(concurrency.get().div_ceil(4));
        let mut spec = self.spec?;
        spec.mode = Mode::Consume;
        spec.prefetch = match self.prefetch {
            Some(prefetch) => at_least_one("prefetch", prefetch)?,
            None => default,
        };
        if let Some(attempts) = self.attempts {
            spec.max_attempts = at_least_one("attempts", attempts)?;
        }
        self.broker.topology().tier_for(self.policy.longest())?;
        let ladder = Ladder { policy: self.policy, max_attempts: spec.max_attempts.get() };
        let intake = self.broker.intake(spec).await?;
        let (stop, stopped) = oneshot::channel();
        let (progress, watched) = progress();
        let rules = Rules {
            concurrency: concurrency.get() as usize,
            timeout: self.timeout,
            grace: self.grace,
            ladder,
        };
        let dispatch = Dispatch::new(intake, handler, rules, self.observe, progress)?;
        #[expect(clippy::disallowed_methods, reason = "the worker owns the handle and joins it")]
        let dispatcher = tokio::spawn(dispatch.run(stopped));
        Ok(Worker { stop, progress: watched, dispatcher })
    }

    fn map_spec(mut self, change: impl FnOnce(SubscribeSpec) -> SubscribeSpec) -> Self {
        self.spec = self.spec.map(change);
        self
    }
}

impl fmt::Debug for WorkerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerBuilder").field("spec", &self.spec).finish_non_exhaustive()
    }
}

fn at_least_one(option: &str, value: u32) -> Result<NonZeroU32> {
    NonZeroU32::new(value).ok_or_else(|| {
        let reason = "a worker without it would never work";
        Error::invalid(ErrorKind::InvalidConfig, option, "0", reason, "a number from 1")
    })
}
