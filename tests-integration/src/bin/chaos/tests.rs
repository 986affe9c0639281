//! Recorder and auditor together, on the memory backend within one process.

use std::sync::Arc;
use std::time::Duration;

use messaging::config::parse_topology;
use messaging::memory::Memory;
use messaging::{Broker, Result};
use tests_integration::audit::{Promise, Report, Verdict, What, audit};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::consumer::{self, Consumer};
use crate::group::{Group, topology};
use crate::identity::Identity;
use crate::inspector::{self, Inspector};
use crate::ledger::{Ledger, subscribed};
use crate::publisher::{self, Publisher};
use crate::role::{Control, Order};
use crate::wire::Reporter;

const MESSAGES: u32 = 2_000;

/// Publishers, consumers and the inspector as tasks; a consumer leaves and another one comes.
async fn run(control: Option<Control>) -> Report {
    let memory = Memory::new();
    let open = async || -> Result<Broker> {
        let topology = parse_topology(&topology())?;
        Broker::builder(memory.clone()).topology(topology).open().await
    };
    let ledger = Arc::new(Ledger::default());
    let identity = Identity { run: 1, seed: 7 };
    let reporter = |member| {
        let ledger = Arc::clone(&ledger);
        Reporter::to(move |records| ledger.take(member, records))
    };
    let mut consumers = JoinSet::new();
    let mut orders = Vec::new();
    for (member, group) in (0..).zip([Group::Pool, Group::Pool, Group::Keyed, Group::Keyed]) {
        let (tell, ordered) = mpsc::channel(1);
        let (broker, reporter) = (open().await.unwrap(), reporter(member));
        let number = 1;
        let consumer = Consumer { identity, group, number, control, fenced: false };
        consumers.spawn(async move { consumer::run(&broker, consumer, ordered, reporter).await });
        orders.push(tell);
    }
    ledger.until(|seen| seen.ready == 4).await;
    for group in Group::AT_LEAST_ONCE {
        ledger.note(subscribed(*group));
    }
    let broker = open().await.unwrap();
    let (tell, ordered) = mpsc::channel(2);
    tell.send(Order::Publish(MESSAGES)).await.unwrap();
    tell.send(Order::End).await.unwrap();
    let publisher = Publisher { identity, first: 0, control };
    publisher::run(&broker, publisher, ordered, reporter(9)).await.unwrap();
    ledger.note(What::Draining);
    let second = Duration::from_secs(1);
    let inspector = Inspector { identity, quiet: second, limit: 60 * second };
    inspector::run(&broker, inspector, &reporter(10)).await.unwrap();
    assert!(ledger.seen().drained);
    ledger.note(What::Drained);
    for tell in orders {
        tell.send(Order::End).await.unwrap();
    }
    while let Some(ended) = consumers.join_next().await {
        ended.unwrap().unwrap();
    }
    audit(&ledger.history(), &Promise::default())
}

#[tokio::test(start_paused = true)]
async fn a_run_in_which_nothing_is_wrong_is_valid() {
    let report = run(None).await;
    assert_eq!(report.verdict, Verdict::Valid, "{report}");
    assert!(report.order_checked > 0);
    assert_eq!(report.duplicates, 0);
}

#[tokio::test(start_paused = true)]
async fn acking_early_is_found() {
    let report = run(Some(Control::AckEarly)).await;
    assert_eq!(report.verdict, Verdict::Invalid);
    assert!(report.count("V2") > 0 && report.count("V1") > 0, "{report}");
}
