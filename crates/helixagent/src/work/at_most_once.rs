//! `work --at-most-once`: runs the command for what is heard, once or not at all.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use messaging::{Bytes, Capabilities, Feature, Heard, Listener, Received, SubscribeSpec};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::command::Runner;
use super::roll::{ON_THEIR_WAY, Roll};
use super::{Done, Input, Job};
use crate::exit::Failure;

const MEANING: &str = "at most once: each message is heard once or not at all; a command that fails \
                       is not repeated, and nothing is dead-lettered";

/// How many messages the subscription keeps. More than are on their way, so that only those of
/// others can outrun it.
const KEPT: u32 = 4 * ON_THEIR_WAY as u32;

/// Refuses what a backend can only do at most once, unless that was asked for.
pub(super) fn check(backend: &str, offered: &Capabilities, asked: bool) -> Result<(), Failure> {
    if asked || offered.has(Feature::Settlement) {
        return Ok(());
    }
    Err(Failure::usage(format!(
        "{backend} does not settle messages, so what is lost or fails does not come again; accept \
         that with --at-most-once, or choose another broker with MESSAGING_BACKEND"
    )))
}

/// Works until every line is accounted for or a signal comes.
pub(super) async fn run(job: &mut Job<'_>, input: Option<Input>) -> Result<Done, Failure> {
    let spec = SubscribeSpec::broadcast(&job.args.patterns)?;
    let spec = spec.prefetch(NonZeroU32::new(KEPT).unwrap_or(NonZeroU32::MIN));
    let mut listener = job.broker.listen::<Bytes>(spec).await?;
    job.pieces.say(MEANING);
    let roll = Arc::new(Roll::new(job.pieces.clone()));
    let mut crew = Crew::new(job, &roll);
    let without_file = input.is_none();
    let mut feed = match input {
        Some(input) => Some(input.feed(&job.broker, Arc::clone(&roll) as _).await?),
        None => None,
    };
    let published = async {
        match &mut feed {
            Some(feed) => {
                tokio::join!(feed.publish_all(), roll.all_heard());
            }
            None => std::future::pending().await,
        }
    };
    let trouble = tokio::select! {
        () = published => None,
        failure = crew.work(&mut listener) => Some(failure),
        asked = messaging::stop_signal() => asked.err().map(Failure::from),
        Some(failure) = job.broken.recv() => Some(failure),
    };
    crew.stop(job.args.grace).await;
    let (tally, unfinished) = roll.close(without_file);
    Ok(Done { feed, tally, unfinished, trouble, ended: Ok(()) })
}

/// Commands that run, and messages that wait for one to end.
struct Crew {
    runner: Arc<Runner>,
    roll: Arc<Roll>,
    concurrency: usize,
    running: JoinSet<()>,
    waiting: VecDeque<(Option<u64>, Received<Bytes>)>,
}

impl Crew {
    fn new(job: &Job<'_>, roll: &Arc<Roll>) -> Self {
        Self {
            runner: Arc::clone(&job.runner),
            roll: Arc::clone(roll),
            concurrency: job.concurrency() as usize,
            running: JoinSet::new(),
            waiting: VecDeque::new(),
        }
    }

    /// Runs the command for everything that is heard; ends when nothing can be heard any more.
    async fn work(&mut self, listener: &mut Listener<Bytes>) -> Failure {
        loop {
            // Both lose nothing when the other one is ready.
            tokio::select! {
                Some(_) = self.running.join_next() => {}
                heard = listener.next(), if self.waiting.len() < ON_THEIR_WAY => match heard {
                    Some(Ok(Heard::Message(message))) => {
                        let line = self.roll.heard(message.message());
                        self.waiting.push_back((line, message));
                    }
                    Some(Ok(Heard::Gap(gap))) => self.roll.missed(&gap),
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return error.into(),
                    None => return Failure::unfinished("the subscription has ended"),
                },
            }
            self.start();
        }
    }

    fn start(&mut self) {
        while self.running.len() < self.concurrency
            && let Some((line, message)) = self.waiting.pop_front()
        {
            let (runner, roll) = (Arc::clone(&self.runner), Arc::clone(&self.roll));
            self.running.spawn(async move {
                let id = message.message().id.clone();
                let verdict = runner.run(message).await;
                roll.ended(line, &id, &verdict);
            });
        }
    }

    /// Lets running commands end within `grace`. What waits will not come again: it is lost.
    async fn stop(mut self, grace: Duration) {
        let all = async { while self.running.join_next().await.is_some() {} };
        // What does not end in time is killed with its process group.
        timeout(grace, all).await.ok();
        self.running.shutdown().await;
    }
}

#[cfg(test)]
mod tests {
    use messaging::Support;

    use super::*;

    #[test]
    fn a_backend_that_settles_nothing_needs_the_word() {
        let listens = Capabilities::none().with(Feature::Listen, Support::Native, "");
        let failure = check("redis", &listens, false).unwrap_err();
        assert!(failure.to_string().contains("--at-most-once"), "{failure}");
        assert!(check("redis", &listens, true).is_ok());
        let settles = listens.with(Feature::Settlement, Support::Native, "");
        assert!(check("redis-streams", &settles, false).is_ok());
    }
}
