//! Reading what others wrote, against a broker of the tests' own: records and members that are not
//! ours, topics that change underneath, and names that come back.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "tests fail by panicking and say why they are ignored"
)]
#![allow(dead_code, reason = "other tests use more of what they share")]

#[path = "reading/members.rs"]
mod members;
#[path = "reading/raw.rs"]
mod raw;
#[path = "reading/records.rs"]
mod records;
#[path = "support/relay.rs"]
mod relay;
#[path = "support/stand.rs"]
mod stand;

use std::num::NonZeroU32;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use libtest_mimic::{Arguments, Trial};
use messaging_core::observe::{Notice, Observer};
use messaging_core::topology::{StreamConfig, StreamKind};
use messaging_core::{Broker, Bytes, Consumer, Delivery, SubscribeSpec, Topology};
use messaging_kafka::{Kafka, KafkaConfig};
use tokio::time::timeout;

use self::stand::Stand;

type Case = for<'a> fn(&'a Stand) -> BoxFuture<'a, ()>;

macro_rules! cases {
    ($($module:ident :: $name:ident),* $(,)?) => {
        [$((concat!("kafka::", stringify!($name)), (|stand| $module::$name(stand).boxed()) as Case)),*]
    };
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let cases = cases![
        records::a_null_header_and_a_bomb_do_not_keep_their_neighbours,
        records::what_is_larger_than_any_answer_is_put_aside_and_its_neighbours_arrive,
        records::aborted_transactions_of_a_java_producer_are_not_seen,
        records::a_topic_created_anew_is_read_from_its_beginning,
        records::a_place_that_is_kept_no_longer_is_a_gap_or_the_end,
        records::kcat_reads_what_we_write_and_writes_what_we_read,
        members::a_topic_that_is_not_for_us_is_denied,
        members::eager_members_of_the_same_group_are_told,
        members::a_name_that_comes_back_gets_its_partitions_at_once_and_a_second_one_is_loud,
        members::what_is_in_hand_for_too_long_comes_again_as_a_further_attempt,
    ];
    let stand = if arguments.list { Err("listed".to_owned()) } else { Stand::start() };
    let kcat = if arguments.list { Err("listed".to_owned()) } else { records::kcat() };
    let may_ignore = std::env::var_os("CI").is_none();
    for reason in [stand.as_ref().err(), kcat.as_ref().err()].into_iter().flatten() {
        println!("ignored: {reason}");
    }
    let (no_stand, no_kcat) = (stand.is_err(), kcat.is_err());
    let stand = Arc::new(stand);
    let trials = cases.map(|(name, case)| {
        let stand = Arc::clone(&stand);
        let run = move || {
            let stand = stand.as_ref().as_ref().map_err(Clone::clone)?;
            let limited = async { timeout(Duration::from_secs(120), case(stand)).await };
            Ok(stand.runtime.block_on(limited).map_err(|_| "it does not end")?)
        };
        let is_missing = no_stand || no_kcat && name.contains("kcat");
        Trial::test(name, run).with_ignored_flag(is_missing && may_ignore)
    });
    libtest_mimic::run(&arguments, trials.into()).exit_code()
}

/// How long something that must come may take.
const SOON: Duration = Duration::from_secs(30);

/// What was noticed, as text.
#[derive(Debug, Default)]
struct Seen(Mutex<Vec<String>>);

impl Observer for Seen {
    fn notice(&self, notice: &Notice) {
        self.0.lock().unwrap().push(notice.to_string());
    }
}

impl Seen {
    fn has(&self, text: &str) -> bool {
        self.0.lock().unwrap().iter().any(|notice| notice.contains(text))
    }
}

/// A stream of so many partitions.
fn tasks(partitions: u32) -> Topology {
    let stream = StreamConfig::new("tasks".parse().unwrap(), StreamKind::Work);
    Topology::new([stream.partitions(NonZeroU32::new(partitions).unwrap())])
        .tiers([Duration::from_secs(1)])
}

async fn open(config: &KafkaConfig, partitions: u32) -> (Broker, Arc<Seen>) {
    let seen = Arc::new(Seen::default());
    let kafka = Kafka::connect(config.clone()).await.unwrap();
    let builder =
        Broker::builder(kafka).topology(tasks(partitions)).observer(Arc::clone(&seen) as _);
    (builder.open().await.unwrap(), seen)
}

fn group() -> SubscribeSpec {
    SubscribeSpec::group("g", ["tasks.#"]).unwrap()
}

async fn next(consumer: &mut Consumer<Bytes>) -> Delivery<Bytes> {
    timeout(SOON, consumer.next()).await.expect("nothing comes").unwrap().unwrap()
}

/// The next so many bodies, acked.
async fn bodies(consumer: &mut Consumer<Bytes>, count: usize) -> Vec<String> {
    let mut all = Vec::new();
    for _ in 0..count {
        let delivery = next(consumer).await;
        all.push(String::from_utf8(delivery.message().body.to_vec()).unwrap());
        delivery.ack();
    }
    all
}
