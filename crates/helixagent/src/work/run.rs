//! Until when `work --from` works.

use std::time::Duration;

use messaging::{Broker, ErrorKind, GroupName};
use tokio::time::{Instant, interval};

use super::feed::Feed;
use super::ledger::Ledger;
use crate::exit::Failure;

/// How long a group must have had nothing before open lines count as taken by another member.
const QUIET: Duration = Duration::from_secs(2);

/// Publishes everything and waits until it is settled; without a feed, for ever.
pub(super) async fn everything(
    feed: &mut Option<Feed>,
    ledger: &Ledger,
    broker: &Broker,
    group: &GroupName,
) -> Result<(), Failure> {
    let Some(feed) = feed else { return std::future::pending().await };
    let settled = async {
        tokio::join!(feed.publish_all(), ledger.all_settled());
        Ok(())
    };
    tokio::select! {
        biased;
        settled = settled => settled,
        watched = watch_for_others(ledger, broker, group) => watched,
    }
}

/// Ends when the group has had nothing waiting and nothing in hand for a while: what is still open
/// then was taken by another member.
async fn watch_for_others(
    ledger: &Ledger,
    broker: &Broker,
    group: &GroupName,
) -> Result<(), Failure> {
    let mut look = interval(Duration::from_millis(250));
    let mut quiet_since = None;
    loop {
        look.tick().await;
        if !ledger.has_input_ended() {
            continue;
        }
        let lag = match broker.lag(Some(group)).await {
            Ok(lag) => lag,
            Err(error) if matches!(error.kind(), ErrorKind::Unsupported(_)) => {
                return std::future::pending().await;
            }
            // Where the broker is away for a moment, nobody knows that nothing waits.
            Err(error) if error.is_retryable() => {
                quiet_since = None;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        if lag.iter().any(|row| row.waiting + row.in_hand > 0) {
            quiet_since = None;
        } else if quiet_since.get_or_insert_with(Instant::now).elapsed() >= QUIET {
            ledger.all_elsewhere();
            return Ok(());
        }
    }
}
