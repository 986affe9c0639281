//! `work`: runs a command for each message.

mod at_most_once;
mod command;
mod document;
mod feed;
mod ledger;
mod pieces;
mod rest;
mod roll;
mod run;
mod summary;
mod track;

use std::process::ExitCode;
use std::sync::Arc;

use messaging::driver::Scope;
use messaging::{Broker, Bytes, Patterns, Received, RetryPolicy, Worker};
use tokio::sync::mpsc;
use tokio::time::Instant;

use self::command::Runner;
use self::feed::Feed;
use self::ledger::Ledger;
use self::pieces::Pieces;
use self::rest::Rest;
use self::summary::{Summary, Tally};
use self::track::{Track, Unfinished};
use crate::cli::WorkArgs;
use crate::exit::{Failure, UNFINISHED};
use crate::lines::{Line, Source};

/// What there is to work with.
struct Job<'a> {
    args: &'a WorkArgs,
    broker: Broker,
    runner: Arc<Runner>,
    pieces: Pieces,
    /// Says when standard output can no longer be written.
    broken: mpsc::Receiver<Failure>,
}

/// The lines to publish.
struct Input {
    name: String,
    lines: mpsc::Receiver<Line>,
    patterns: Patterns,
}

/// What was done, and what was not.
struct Done {
    feed: Option<Feed>,
    tally: Tally,
    unfinished: Vec<Unfinished>,
    trouble: Option<Failure>,
    /// Whether the worker could end in order.
    ended: messaging::Result<()>,
}

/// Works until everything is done or a signal comes, and says what was done.
pub(crate) async fn run(args: WorkArgs) -> Result<ExitCode, Failure> {
    let (program, arguments) = command::find(&args.command)?;
    let source = args.from.clone().map(Source::new);
    let lines = source.as_ref().map(Source::read).transpose()?;
    let rest = Rest::create(args.rest.as_deref())?;
    let broker = messaging::connect().await?;
    if source.is_none() && broker.backend() == "memory" {
        return Err(Failure::usage(
            "the memory backend lives in one process, so nobody could publish to this worker; \
             give it work with --from FILE, or choose a broker with MESSAGING_BACKEND",
        ));
    }
    at_most_once::check(broker.backend(), &broker.capabilities(Scope::Broker), args.at_most_once)?;
    let patterns = Patterns::new(&args.patterns)?;
    let (pieces, broken) = Pieces::new(lines.is_some());
    let runner = Arc::new(Runner::new(program, arguments, args.timeout, pieces.clone()));
    let mut job = Job { args: &args, broker, runner, pieces: pieces.clone(), broken };
    let input = source.as_ref().zip(lines).map(|(source, lines)| {
        let name = source.name();
        Input { name, lines, patterns }
    });
    let began = Instant::now();
    let done = if args.at_most_once {
        at_most_once::run(&mut job, input).await?
    } else {
        at_least_once(&mut job, input).await?
    };
    let seconds = began.elapsed().as_secs_f64();
    let Done { feed, tally, unfinished, trouble, ended } = done;
    let unread = match feed {
        Some(feed) => feed.unread(source.as_ref().is_some_and(Source::is_stdin)).await,
        None => Vec::new(),
    };
    pieces.finish();
    rest.write(&source, unfinished, unread)?;
    let Job { broker, .. } = job;
    let summary = Summary::new(broker.backend(), broker.address(), tally, seconds);
    pieces.say(&summary.to_string());
    broker.close().await?;
    if args.json && trouble.is_none() {
        pieces.conclude(&summary.to_json())?;
    }
    ended?;
    match trouble {
        Some(failure) => Err(failure),
        None if summary.is_clean() => Ok(ExitCode::SUCCESS),
        None => Ok(UNFINISHED.into()),
    }
}

/// Works as a member of a group, which settles what it is given.
async fn at_least_once(job: &mut Job<'_>, input: Option<Input>) -> Result<Done, Failure> {
    let ledger = Arc::new(Ledger::new(job.pieces.clone()));
    let worker = start(job, Arc::clone(&ledger)).await?;
    let without_file = input.is_none();
    let mut feed = match input {
        Some(input) => Some(input.feed(&job.broker, Arc::clone(&ledger) as _).await?),
        None => None,
    };
    let trouble = tokio::select! {
        done = run::everything(&mut feed, &ledger, &job.broker, &job.args.group) => done.err(),
        asked = messaging::stop_signal() => asked.err().map(Failure::from),
        () = worker.ended() => None,
        Some(failure) = job.broken.recv() => Some(failure),
    };
    let report = worker.stop().await;
    let (tally, unfinished) = ledger.close(&report, without_file);
    Ok(Done { feed, tally, unfinished, trouble, ended: report.map(drop) })
}

async fn start(job: &Job<'_>, ledger: Arc<Ledger>) -> Result<Worker, Failure> {
    let taken = Arc::clone(&ledger);
    let runner = Arc::clone(&job.runner);
    let worker = job
        .broker
        .worker(job.args.group.as_str(), &job.args.patterns)
        .concurrency(job.concurrency())
        .attempts(job.args.attempts)
        .grace(job.args.grace)
        .retry(RetryPolicy::default())
        .observe(move |outcome| ledger.settled(outcome))
        .spawn(move |message: Received<Bytes>| {
            let runner = Arc::clone(&runner);
            taken.started(message.message());
            async move { runner.run(message).await }
        });
    Ok(worker.await?)
}

impl Job<'_> {
    /// How many commands run at once.
    fn concurrency(&self) -> u32 {
        let processors = || std::thread::available_parallelism().map_or(1, |n| n.get() as u32);
        self.args.concurrency.unwrap_or_else(processors)
    }
}

impl Input {
    async fn feed(self, broker: &Broker, books: Arc<dyn Track>) -> Result<Feed, Failure> {
        Feed::new(broker, self.name, self.lines, self.patterns, books).await
    }
}
