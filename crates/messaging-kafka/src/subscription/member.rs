//! One subscription, as its tasks share it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use messaging_core::duration::format_duration;
use messaging_core::{Error, GroupName, Patterns, Result, Start, StreamName, Topology};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::desk::Desk;
use super::place::{Content, Place};
use crate::admin::retry_topic;
use crate::driver::Shared;
use crate::error::denied;
use crate::group::member::Event;
use crate::group::{Partition, Partitions};

/// What a subscription reads, and as whom.
#[derive(Debug)]
pub(crate) struct Source {
    /// The group's name at the broker; `None` shares with nobody.
    pub(crate) group: Option<String>,
    /// The group's name in copies.
    pub(crate) name: Option<GroupName>,
    pub(crate) patterns: Patterns,
    /// The dead letters that are read in place of subjects.
    pub(crate) dead_letters: Option<StreamName>,
    pub(crate) start: Start,
    /// Whether retries go by way of topics.
    pub(crate) retries: bool,
    /// How many attempts a message gets; one more is only counted, to be refused.
    pub(crate) max_attempts: u32,
}

impl Source {
    /// The topics that are read, with what is in them.
    pub(super) fn topics(
        &self,
        shared: &Shared,
        topology: &Topology,
    ) -> Result<BTreeMap<String, Content>> {
        let stream =
            |name: &StreamName| (shared.topic(name), Content::Stream(Arc::new(name.clone())));
        if let Some(dead_letters) = &self.dead_letters {
            topology.require(dead_letters.name())?;
            return Ok([stream(dead_letters)].into());
        }
        let streams = topology.streams_for(&self.patterns)?;
        let mut topics: BTreeMap<_, _> = streams.iter().map(|known| stream(&known.name)).collect();
        if let Some(group) = self.name.as_ref().filter(|_| self.retries) {
            for tier in &topology.tiers {
                let topic = retry_topic(shared, group, &format_duration(*tier));
                topics.insert(topic, Content::Retry);
            }
        }
        Ok(topics)
    }
}

/// One subscription, as its tasks share it.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) shared: Arc<Shared>,
    pub(crate) source: Source,
    pub(crate) desk: Desk,
    /// The generation and our name in it, with which commits are made.
    identity: Mutex<Option<(i32, String)>>,
    /// Cancelled when nobody takes messages any more.
    pub(crate) left: CancellationToken,
    /// Cancelled when nothing of the subscription is ours any more.
    pub(crate) ended: CancellationToken,
    pub(super) notices: mpsc::Sender<Event>,
    topics: Mutex<BTreeMap<String, Content>>,
}

impl Member {
    pub(super) fn new(
        shared: Arc<Shared>,
        source: Source,
        desk: Desk,
    ) -> (Arc<Self>, mpsc::Receiver<Event>) {
        let (notices, queue) = mpsc::channel(64);
        let member = Self {
            shared,
            source,
            desk,
            identity: Mutex::new(None),
            left: CancellationToken::new(),
            ended: CancellationToken::new(),
            notices,
            topics: Mutex::default(),
        };
        (Arc::new(member), queue)
    }

    /// The subscription can't go on.
    pub(super) fn refuse(&self, error: Error) {
        self.desk.fail(error);
        self.leave();
    }

    /// Nobody takes messages any more.
    pub(crate) fn leave(&self) {
        self.desk.leave();
        self.left.cancel();
        self.desk.commit.notify_one();
    }

    pub(super) fn set_identity(&self, identity: Option<(i32, &str)>) {
        let mut known = self.identity.lock().unwrap_or_else(PoisonError::into_inner);
        if known.as_ref().map(|(generation, id)| (*generation, id.as_str())) == identity {
            return;
        }
        *known = identity.map(|(generation, id)| (generation, id.to_owned()));
        drop(known);
        self.desk.commit.notify_one();
    }

    pub(super) fn identity(&self) -> Option<(i32, String)> {
        self.identity.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn place(&self, partition: Partition) -> Option<Place> {
        let topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        let content = topics.get(&*partition.topic)?.clone();
        Some(Place { partition, content })
    }

    /// Whether messages wait there for their retries.
    pub(super) fn is_of_retries(&self, partition: &Partition) -> bool {
        self.place(partition.clone()).is_some_and(|place| place.content == Content::Retry)
    }

    /// Every partition of what is read now. A topic that is not there now has none.
    ///
    /// # Errors
    /// Those of the brokers; [`Denied`](messaging_core::ErrorKind::Denied) for a topic that is not for
    /// us; of the topology, if it no longer has a stream that is named.
    pub(super) async fn discover(&self) -> Result<Partitions> {
        let topics = self.source.topics(&self.shared, &self.shared.topology())?;
        let names: Vec<&str> = topics.keys().map(String::as_str).collect();
        let found = self.shared.cluster.metadata(Some(&names)).await?;
        if let Some(error) = found.iter().find_map(|topic| denied(topic.error, &topic.name)) {
            return Err(error);
        }
        self.desk.doubt(&found.iter().map(|topic| (topic.name.as_str(), topic.id)).collect());
        let mut partitions = Partitions::new();
        for topic in &found {
            let name: Arc<str> = topic.name.as_str().into();
            let each = topic.partitions.iter();
            partitions.extend(each.map(|found| Partition::new(Arc::clone(&name), found.number)));
        }
        *self.topics.lock().unwrap_or_else(PoisonError::into_inner) = topics;
        Ok(partitions)
    }
}
