//! The role of the inspector: waits until nothing is on its way, then reads the dead letters.

use std::time::Duration;

use futures::StreamExt;
use messaging::driver::ReadSpec;
use messaging::{Broker, DeadLetter, StreamName};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep, timeout_at};

use crate::group::{Group, STREAM};
use crate::identity::Identity;
use crate::wire::{Reporter, Saying};

/// An inspector.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Inspector {
    pub(crate) identity: Identity,
    /// How long it has to stay empty.
    pub(crate) quiet: Duration,
    /// How long all of it may take.
    pub(crate) limit: Duration,
}

/// Says what waits, whether it came to an end, and every dead letter.
pub(crate) async fn run(
    broker: &Broker,
    inspector: Inspector,
    reporter: &Reporter,
) -> messaging::Result<()> {
    let limit = Instant::now() + inspector.limit;
    if timeout_at(limit, drain(broker, inspector.quiet, reporter)).await.is_ok() {
        reporter.say([Saying::Drained]);
    }
    let dead = ReadSpec::new(StreamName::dead_letters(STREAM)?);
    let mut records = broker.reader()?.read(dead);
    while let Some(batch) = records.next().await {
        for record in batch? {
            let (id, _) = inspector.identity.read(&record.message);
            if let Some(group) = Group::named(DeadLetter::of(&record.message).group) {
                reporter.say([Saying::Parked { group, id }]);
            }
        }
    }
    Ok(())
}

async fn drain(broker: &Broker, quiet: Duration, reporter: &Reporter) {
    let mut since = Instant::now();
    loop {
        let waiting = match broker.lag(None).await {
            Ok(lag) => lag.iter().map(|row| row.waiting + row.in_hand).sum(),
            Err(_) => u64::MAX,
        };
        reporter.say([Saying::Lag(waiting)]);
        if waiting > 0 {
            since = Instant::now();
        } else if since.elapsed() >= quiet {
            return;
        }
        sleep(Duration::from_millis(250)).await;
    }
}
