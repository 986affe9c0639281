//! `work`: runs a command for each message.

mod command;
mod document;
mod feed;
mod ledger;
mod pieces;
mod rest;
mod run;
mod summary;

use std::process::ExitCode;
use std::sync::Arc;

use messaging::{Bytes, Patterns, Received, RetryPolicy, Worker};
use tokio::time::Instant;

use self::command::Runner;
use self::feed::Feed;
use self::ledger::Ledger;
use self::pieces::Pieces;
use self::rest::Rest;
use self::summary::Summary;
use crate::cli::WorkArgs;
use crate::exit::{Failure, UNFINISHED};
use crate::lines::Source;

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
    let patterns = Patterns::new(&args.patterns)?;
    let (pieces, mut broken) = Pieces::new(lines.is_some());
    let ledger = Arc::new(Ledger::new(pieces.clone()));
    let runner = Arc::new(Runner::new(program, arguments, args.timeout, pieces.clone()));
    let began = Instant::now();
    let worker = start(&broker, &args, runner, Arc::clone(&ledger)).await?;

    let mut feed = match (&source, lines) {
        (Some(source), Some(lines)) => {
            Some(Feed::new(&broker, source.name(), lines, patterns, Arc::clone(&ledger)).await?)
        }
        _ => None,
    };
    let trouble = tokio::select! {
        done = run::everything(&mut feed, &ledger, &broker, &args.group) => done.err(),
        asked = messaging::stop_signal() => asked.err().map(Failure::from),
        () = worker.ended() => None,
        Some(failure) = broken.recv() => Some(failure),
    };
    let report = worker.stop().await;
    let seconds = began.elapsed().as_secs_f64();
    let unread = match feed {
        Some(feed) => feed.unread(source.as_ref().is_some_and(Source::is_stdin)).await,
        None => Vec::new(),
    };
    pieces.finish();
    let (tally, open) = ledger.close(&report, source.is_none());
    rest.write(&source, open, unread)?;
    let summary = Summary::new(broker.backend(), broker.address(), tally, seconds);
    pieces.say(&summary.to_string());
    broker.close().await?;
    if args.json && trouble.is_none() {
        pieces.conclude(&summary.to_json())?;
    }
    report?;
    match trouble {
        Some(failure) => Err(failure),
        None if summary.is_clean() => Ok(ExitCode::SUCCESS),
        None => Ok(UNFINISHED.into()),
    }
}

async fn start(
    broker: &messaging::Broker,
    args: &WorkArgs,
    runner: Arc<Runner>,
    ledger: Arc<Ledger>,
) -> Result<Worker, Failure> {
    let processors = std::thread::available_parallelism().map_or(1, |count| count.get() as u32);
    let taken = Arc::clone(&ledger);
    let worker = broker
        .worker(args.group.as_str(), &args.patterns)
        .concurrency(args.concurrency.unwrap_or(processors))
        .attempts(args.attempts)
        .grace(args.grace)
        .retry(RetryPolicy::default())
        .observe(move |outcome| ledger.settled(outcome))
        .spawn(move |message: Received<Bytes>| {
            let runner = Arc::clone(&runner);
            taken.started(message.message());
            async move { runner.run(message).await }
        });
    Ok(worker.await?)
}
