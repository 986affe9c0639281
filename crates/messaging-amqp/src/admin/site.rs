//! Where something is done: a connection, the management API where there is one, and the names.

use std::time::Duration;

use messaging_core::Result;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::connection::{Channel, Session};
use crate::error::{Fault, Refusal};
use crate::management::{self, Api};
use crate::topology::{self, Declaration, Names};

pub(super) struct Site<'a> {
    pub(super) session: Session,
    pub(super) names: &'a Names,
    pub(super) api: Option<&'a Api>,
    /// How long the answer to each request may take.
    pub(super) patience: Duration,
    /// The last channel; the server closes it as it refuses something.
    channel: Mutex<Option<Channel>>,
}

/// What a queue has at this moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    pub(super) messages: u64,
    pub(super) consumers: u32,
}

impl<'a> Site<'a> {
    pub(super) fn new(
        session: Session,
        names: &'a Names,
        api: Option<&'a Api>,
        patience: Duration,
    ) -> Self {
        Self { session, names, api, patience, channel: Mutex::default() }
    }

    /// The management API, for something that needs it.
    pub(super) fn api(&self, what: &str) -> Result<&'a Api> {
        management::needed(self.api, what)
    }

    pub(super) fn deadline(&self) -> Instant {
        Instant::now() + self.patience
    }

    /// A channel that the server has not closed.
    pub(super) async fn channel(&self) -> Result<Channel> {
        let mut last = self.channel.lock().await;
        if let Some(channel) = last.as_ref().filter(|it| it.refusal().is_none()) {
            return Ok(channel.clone());
        }
        let opened = self.session.channel(self.deadline()).await;
        // Its events are the answers to requests, which come by themselves.
        let (channel, _) = opened.map_err(|fault| fault.at("opening a channel"))?;
        *last = Some(channel.clone());
        Ok(channel)
    }

    /// Declares all of it, in order.
    pub(super) async fn declare(&self, all: &[Declaration]) -> Result<()> {
        match self.try_declare(all).await? {
            Ok(()) => Ok(()),
            Err(fault) => Err(fault.at("declaring")),
        }
    }

    /// As [`Site::declare`], for who knows what to do with a refusal.
    pub(super) async fn try_declare(&self, all: &[Declaration]) -> Result<Result<(), Fault>> {
        let channel = self.channel().await?;
        Ok(topology::declare(&channel, self.names, all, self.deadline()).await)
    }

    /// What waits in a queue and how many consume it, at this moment; nothing if there is none.
    pub(super) async fn look_at(&self, queue: &str) -> Result<Option<Waiting>> {
        let channel = self.channel().await?;
        match channel.find_queue(queue, self.deadline()).await {
            Ok(found) => {
                let (messages, consumers) = (found.messages.into(), found.consumers);
                Ok(Some(Waiting { messages, consumers }))
            }
            Err(Fault::Refused(refusal)) if refusal.code == Refusal::NOT_FOUND => Ok(None),
            Err(fault) => Err(fault.at(&format!("queue {queue}"))),
        }
    }
}
