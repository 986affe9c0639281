//! The role of the inspector: waits until nothing is on its way, then reads the dead letters.

use std::num::NonZeroU32;
use std::time::Duration;

use futures::StreamExt;
use messaging::driver::{ReadSpec, Reader};
use messaging::{Broker, Bytes, DeadLetter, ErrorKind, Message, StreamName, SubscribeSpec};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep, timeout, timeout_at};

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

/// After what silence there are no more dead letters to take.
const SILENCE: Duration = Duration::from_secs(5);

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
    match broker.reader() {
        Ok(reader) => read(reader, inspector.identity, reporter).await,
        Err(error) if matches!(error.kind(), ErrorKind::Unsupported(_)) => {
            take(broker, inspector.identity, reporter).await
        }
        Err(error) => Err(error),
    }
}

/// Reads the dead letters where they stay.
async fn read(
    reader: &dyn Reader,
    identity: Identity,
    reporter: &Reporter,
) -> messaging::Result<()> {
    let mut records = reader.read(ReadSpec::new(StreamName::dead_letters(STREAM)?));
    while let Some(batch) = records.next().await {
        for record in batch? {
            say(&record.message, identity, reporter);
        }
    }
    Ok(())
}

/// Takes all dead letters where they can't be read otherwise, and ends with all of them in hand, so
/// that the broker has them back for its own tool to count.
async fn take(broker: &Broker, identity: Identity, reporter: &Reporter) -> messaging::Result<()> {
    let spec = SubscribeSpec::dead_letters("inspector", STREAM)?;
    let spec = spec.prefetch(NonZeroU32::new(60_000).unwrap_or(NonZeroU32::MIN));
    let mut dead = broker.subscribe::<Bytes>(spec).await?;
    let mut in_hand = Vec::new();
    while let Ok(Some(delivery)) = timeout(SILENCE, dead.next()).await {
        let delivery = delivery?;
        say(delivery.message(), identity, reporter);
        in_hand.push(delivery);
    }
    std::process::exit(0)
}

fn say(message: &Message, identity: Identity, reporter: &Reporter) {
    let (id, _) = identity.read(message);
    if let Some(group) = Group::named(DeadLetter::of(message).group) {
        reporter.say([Saying::Parked { group, id }]);
    }
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
