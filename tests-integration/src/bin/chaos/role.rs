//! What the processes of a run are told to be.

use std::io::{BufRead, stdin};
use std::time::Duration;

use clap::ValueEnum;
use messaging::Broker;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::consumer::{self, Consumer};
use crate::inspector::{self, Inspector};
use crate::listener::{self, Listener};
use crate::publisher::{self, Publisher};
use crate::wire::Reporter;

/// What a process is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Role {
    Publisher(Publisher),
    Consumer(Consumer),
    Listener(Listener),
    Inspector(Inspector),
}

/// A mistake that the auditor has to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Control {
    /// Consumers ack before they handle
    AckEarly,
    /// Publishers take a hand-over for a confirmation
    NoConfirm,
    /// The broker keeps nothing on disk
    Volatile,
    /// Listeners keep to themselves that they missed something
    Silent,
    /// Consumers commit the highest offset that they have handled, whatever is open below it
    CommitHighest,
    /// Publishers take the leader's word for a confirmation, whoever else has the message
    #[value(name = "acks-1")]
    #[serde(rename = "acks-1")]
    Acks1,
    /// Consumers go on with what they have queued, whoever owns its lane by now
    NoFencing,
}

impl Control {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::AckEarly => "ack-early",
            Self::NoConfirm => "no-confirm",
            Self::Volatile => "volatile",
            Self::Silent => "silent",
            Self::CommitHighest => "commit-highest",
            Self::Acks1 => "acks-1",
            Self::NoFencing => "no-fencing",
        }
    }

    /// The rule that has to find it.
    pub(crate) const fn rule(self) -> &'static str {
        match self {
            Self::AckEarly => "V2",
            Self::NoConfirm | Self::Volatile | Self::CommitHighest | Self::Acks1 => "V1",
            Self::NoFencing => "V8",
            Self::Silent => "V9",
        }
    }
}

/// What a process is told while it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Publish so many more.
    Publish(u32),
    /// End in order.
    End,
}

impl Order {
    pub(crate) fn line(self) -> String {
        match self {
            Self::Publish(count) => format!("publish {count}\n"),
            Self::End => "end\n".to_owned(),
        }
    }

    fn read(line: &str) -> Option<Self> {
        match line.split_once(' ') {
            Some(("publish", count)) => count.parse().ok().map(Self::Publish),
            _ => (line == "end").then_some(Self::End),
        }
    }
}

impl Role {
    /// Does what the role is, until it is told to end.
    pub(crate) async fn play(self) -> messaging::Result<()> {
        let reporter = Reporter::of_process().map_err(failed)?;
        let orders = orders();
        let broker = connect().await;
        match self {
            Self::Publisher(publisher) => {
                publisher::run(&broker, publisher, orders, reporter).await?;
            }
            Self::Consumer(consumer) => consumer::run(&broker, consumer, orders, reporter).await?,
            Self::Listener(listener) => listener::run(&broker, listener, orders, reporter).await?,
            Self::Inspector(inspector) => inspector::run(&broker, inspector, &reporter).await?,
        }
        broker.close().await
    }
}

/// Connects to what the environment names, as often as it takes: the server may be down just now.
async fn connect() -> Broker {
    loop {
        match messaging::connect().await {
            Ok(broker) => return broker,
            Err(_) => sleep(Duration::from_millis(200)).await,
        }
    }
}

/// The lines of standard input. Where it ends without an order to end, so does the process: nobody
/// records it any more.
fn orders() -> mpsc::Receiver<Order> {
    let (tell, orders) = mpsc::channel(64);
    std::thread::spawn(move || {
        for line in stdin().lock().lines().map_while(Result::ok) {
            let Some(order) = Order::read(&line) else { break };
            if tell.blocking_send(order).is_err() || order == Order::End {
                return;
            }
        }
        std::process::exit(1);
    });
    orders
}

fn failed(error: std::io::Error) -> messaging::Error {
    messaging::Error::new(messaging::ErrorKind::Other, "standard output").with_source(error)
}
