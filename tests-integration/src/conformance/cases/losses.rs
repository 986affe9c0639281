#![expect(clippy::unwrap_used, clippy::panic, reason = "a case fails by panicking")]

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use messaging::{Broker, Bytes, ErrorKind, Feature, Heard, Listener, SendSpec};
use tokio::time::{Instant, sleep, timeout_at};

use super::cases;
use crate::conformance::server::Control;
use crate::conformance::stage::{Stage, listen, message, next_item, publish, text};

cases! {
    a_listener_outlives_a_kill_of_the_server_and_loses_nothing_in_silence ["C14", "C15"] [Listen] Own;
    a_listener_outlives_a_restart_of_the_server_and_loses_nothing_in_silence ["C14", "C15"] [Listen] Own;
    a_server_that_hangs_is_noticed_within_ten_seconds_and_loses_nothing_in_silence ["C14", "C15"] [Listen] Own;
    a_listener_whose_connection_is_cut_again_and_again_loses_nothing_in_silence ["C15"] [Listen] Own;
}

/// How long a publish may take, whatever happens.
const DEADLINE: Duration = Duration::from_millis(600);

/// How much later than its deadline a call may end.
const TOLERANCE: Duration = Duration::from_millis(250);

/// How soon a listener hears again once the server is there again.
const HEARS_AGAIN: Duration = Duration::from_secs(10);

/// For how long the server is not there.
const OUTAGE: Duration = Duration::from_millis(500);

/// After how much silence of the server it must have been noticed.
const NOTICED: Duration = Duration::from_secs(10);

async fn a_listener_outlives_a_kill_of_the_server_and_loses_nothing_in_silence(stage: Stage) {
    survives(&stage, Outage::Kill, 2).await;
}

async fn a_listener_outlives_a_restart_of_the_server_and_loses_nothing_in_silence(stage: Stage) {
    survives(&stage, Outage::Restart, 2).await;
}

async fn a_server_that_hangs_is_noticed_within_ten_seconds_and_loses_nothing_in_silence(
    stage: Stage,
) {
    survives(&stage, Outage::Hang, 1).await;
}

async fn a_listener_whose_connection_is_cut_again_and_again_loses_nothing_in_silence(stage: Stage) {
    survives(&stage, Outage::Cut, 6).await;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outage {
    Kill,
    Restart,
    Hang,
    Cut,
}

impl Outage {
    /// Lets it happen, and end.
    async fn pass(self, server: &Control) {
        match self {
            Self::Kill => server.run(|server| server.kill()).await,
            Self::Restart => server.run(|server| server.stop()).await,
            Self::Hang => server.run(|server| server.pause()).await,
            Self::Cut => return server.run(|server| server.cut()).await,
        }
        sleep(if self == Self::Hang { NOTICED } else { OUTAGE }).await;
        match self {
            Self::Hang => server.run(|server| server.resume()).await,
            _ => server.run(|server| server.start()).await,
        }
    }
}

/// Publishes all the time and lets outages pass. The listener hears again after each; what was
/// confirmed and not heard lies in a gap, and what was definitely not sent is not heard.
async fn survives(stage: &Stage, outage: Outage, times: usize) {
    let (here, there) = (stage.broker().await, stage.broker().await);
    let mut ears = Ears { listener: listen(&here, &["debates.#"]).await, heard: Vec::new() };
    let sent = Sent::default();
    let listening = async {
        ears.hear_from(0).await;
        for _ in 0..times {
            outage.pass(stage.server()).await;
            ears.hear_from(sent.next.load(Ordering::SeqCst)).await;
        }
        sent.enough.store(true, Ordering::SeqCst);
    };
    futures::join!(listening, sent.publish(&there));
    publish(&there, "debates.n", "last").await;
    ears.hear_the_rest().await;
    sent.fates.lock().unwrap().check(&ears.heard);
    if stage.lacks().contains(&Feature::ReadRange) {
        // Where nothing is kept, nobody can know that nothing was missed.
        let gaps = ears.heard.iter().filter(|item| matches!(item, Item::Gap(_))).count();
        assert!(gaps >= times, "{gaps} gaps after {times} times {outage:?}");
    }
}

/// What a listener heard: a number, or that it missed so many.
#[derive(Clone, Copy, Debug)]
enum Item {
    Number(usize),
    Gap(Option<u64>),
}

struct Ears {
    listener: Listener<Bytes>,
    heard: Vec<Item>,
}

impl Ears {
    /// Hears until a number at least as high comes, which must be soon.
    async fn hear_from(&mut self, number: usize) {
        let until = Instant::now() + HEARS_AGAIN;
        let hearing = async {
            loop {
                match self.next().await {
                    Some(Item::Number(heard)) if heard >= number => return,
                    Some(_) => {}
                    None => panic!("it ended before {number}"),
                }
            }
        };
        let heard = timeout_at(until, hearing).await;
        assert!(heard.is_ok(), "nothing from {number} on was heard within {HEARS_AGAIN:?}");
    }

    async fn hear_the_rest(&mut self) {
        while self.next().await.is_some() {}
    }

    /// The next item; `None` for the last message.
    async fn next(&mut self) -> Option<Item> {
        let item = match next_item(&mut self.listener).await {
            Heard::Message(message) if text(&message) == "last" => return None,
            Heard::Message(message) => Item::Number(text(&message).parse().unwrap()),
            Heard::Gap(gap) => Item::Gap(gap.missed),
            other => panic!("{other:?}"),
        };
        self.heard.push(item);
        Some(item)
    }
}

/// What was published: numbers, one after the other.
#[derive(Default)]
struct Sent {
    next: AtomicUsize,
    enough: AtomicBool,
    fates: Mutex<Fates>,
}

/// What became of each whose fate is known.
#[derive(Default)]
struct Fates {
    confirmed: BTreeSet<usize>,
    not_sent: BTreeSet<usize>,
}

impl Sent {
    async fn publish(&self, broker: &Broker) {
        let spec = SendSpec::to("debates").unwrap().timeout(DEADLINE);
        let publisher = broker.publisher::<Bytes>(spec).await.unwrap();
        while !self.enough.load(Ordering::SeqCst) {
            let number = self.next.fetch_add(1, Ordering::SeqCst);
            let begun = Instant::now();
            let outcome = publisher.publish_message(message("debates.n", number.to_string())).await;
            let took = begun.elapsed();
            assert!(took <= DEADLINE + TOLERANCE, "a publish ended after {took:?}");
            self.remember(number, outcome.map_err(|error| error.kind().clone()));
            sleep(Duration::from_millis(20)).await;
        }
    }

    fn remember<T>(&self, number: usize, outcome: Result<T, ErrorKind>) {
        let mut fates = self.fates.lock().unwrap();
        match outcome {
            Ok(_) => fates.confirmed.insert(number),
            Err(ErrorKind::OutcomeUnknown) => true,
            // The server is not there, or answers and does not serve yet.
            Err(ErrorKind::NotSent | ErrorKind::Unavailable) => fates.not_sent.insert(number),
            Err(other) => panic!("a publish ended with {other:?}"),
        };
    }
}

impl Fates {
    fn check(&self, heard: &[Item]) {
        let Self { confirmed, not_sent } = self;
        // From here on a number is owed; so many may be missing before the next.
        let (mut owed, mut excused) = (None, 0_usize);
        for item in heard {
            match item {
                Item::Gap(missed) => {
                    let missed = missed.map_or(usize::MAX, |missed| missed as usize);
                    excused = excused.saturating_add(missed);
                }
                Item::Number(number) if not_sent.contains(number) => {
                    panic!("{number} was reported as not sent, and heard")
                }
                Item::Number(number) if confirmed.contains(number) => {
                    let owed_from = owed.unwrap_or(*number);
                    assert!(owed_from <= *number, "{number} came again or late: {heard:?}");
                    let lost: Vec<_> = confirmed.range(owed_from..*number).collect();
                    assert!(lost.len() <= excused, "lost in silence: {lost:?}: {heard:?}");
                    (owed, excused) = (Some(number + 1), 0);
                }
                // Whether and where it comes was said to be unknown.
                Item::Number(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(heard: &[Item]) -> bool {
        let fates = Fates { confirmed: (0..4).collect(), not_sent: [9].into() };
        std::panic::catch_unwind(|| fates.check(heard)).is_ok()
    }

    #[test]
    fn only_a_gap_excuses_what_was_confirmed_and_not_heard() {
        use Item::{Gap, Number};
        assert!(check(&[Number(0), Number(1), Number(7), Number(2)]));
        assert!(check(&[Number(0), Gap(None), Number(3)]));
        assert!(check(&[Number(0), Gap(Some(1)), Gap(Some(1)), Number(3)]));
        assert!(!check(&[Number(0), Number(3)]), "two are lost");
        assert!(!check(&[Number(0), Gap(Some(1)), Number(3)]), "one is lost");
        assert!(!check(&[Gap(None), Number(0), Number(2)]), "the gap was before");
        assert!(!check(&[Number(0), Number(0)]), "it came twice");
        assert!(!check(&[Number(1), Number(0)]), "it came late");
        assert!(!check(&[Number(0), Number(9)]), "it was not sent");
    }
}
