//! The cluster: which brokers there are, who leads which partition, and connections to them.

mod metadata;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kafka_protocol::messages::FindCoordinatorRequest;
use kafka_protocol::protocol::StrBytes;
use messaging_core::{Error, ErrorKind, Result};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub(crate) use self::metadata::Topic;
use crate::config::{Address, KafkaConfig};
use crate::connection::{Connection, Connector, Request};
use crate::error::from_code;

/// The number of a broker.
pub(crate) type BrokerId = i32;

/// What is known of the cluster, and the connections to it.
///
/// Nothing here repeats a request: whoever gets an error that a newer view may cure calls
/// [`Cluster::refresh`] and asks again. A view is asked of brokers that are known, and of the
/// configured ones, whose names are resolved again, when none of those answers.
#[derive(Debug)]
pub(crate) struct Cluster {
    connector: Connector,
    bootstrap: Vec<Address>,
    view: Mutex<View>,
    /// Held while the view is renewed, so that one renewal serves all who wait for one.
    renewing: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct View {
    brokers: HashMap<BrokerId, Address>,
    controller: Option<BrokerId>,
    topics: HashMap<String, Topic>,
    connections: HashMap<BrokerId, Connection>,
    /// A connection to a configured broker, whose number is not known.
    first: Option<Connection>,
    /// When the last renewal that succeeded began.
    renewed: Option<Instant>,
}

impl Cluster {
    /// Connects to the first configured broker that answers and learns the others.
    ///
    /// # Errors
    /// Those of the last broker tried; see [`Connector::connect`].
    pub(crate) async fn connect(
        config: &KafkaConfig,
        tasks: TaskTracker,
        dead: CancellationToken,
    ) -> Result<Arc<Self>> {
        config.check()?;
        let connector = Connector::new(config, tasks, dead)?;
        let cluster = Self {
            connector,
            bootstrap: config.servers.clone(),
            view: Mutex::default(),
            renewing: tokio::sync::Mutex::default(),
        };
        cluster.refresh().await?;
        Ok(Arc::new(cluster))
    }

    /// When a request that is sent now has to be answered.
    pub(crate) fn deadline(&self) -> Instant {
        Instant::now() + self.connector.timeout()
    }

    /// TLS, where it is on.
    pub(crate) const fn tls(&self) -> Option<&Arc<rustls::ClientConfig>> {
        self.connector.tls()
    }

    /// The shared connection to a broker, for requests that are answered at once.
    ///
    /// # Errors
    /// Those of [`Connector::connect`]; [`ErrorKind::Unavailable`] for a broker that is not known,
    /// which a refresh may cure.
    pub(crate) async fn broker(&self, id: BrokerId) -> Result<Connection> {
        if let Some(connection) = self.open_connection(id) {
            return Ok(connection);
        }
        let opened = self.connector.connect(&self.address_of(id)?).await?;
        let mut view = self.lock();
        // Another may have been as fast; one is enough.
        if let Some(known) = view.connections.get(&id).filter(|known| !known.is_ended()) {
            return Ok(known.clone());
        }
        view.connections.insert(id, opened.clone());
        Ok(opened)
    }

    /// A connection of one's own to a broker, for requests that it holds back.
    ///
    /// # Errors
    /// As [`Cluster::broker`].
    pub(crate) async fn dedicated(&self, id: BrokerId) -> Result<Connection> {
        self.connector.connect(&self.address_of(id)?).await
    }

    /// A connection to any broker: of those that are known, else of the configured ones.
    ///
    /// # Errors
    /// Those of the last broker tried.
    pub(crate) async fn any(&self) -> Result<Connection> {
        let (open, mut known) = {
            let view = self.lock();
            let open = view.connections.values().chain(&view.first).find(|c| !c.is_ended());
            let known = view.brokers.iter().map(|(id, address)| (Some(*id), address.clone()));
            (open.cloned(), known.collect::<Vec<_>>())
        };
        if let Some(open) = open {
            return Ok(open);
        }
        known.sort_unstable_by_key(|(id, _)| *id);
        for address in &self.bootstrap {
            if known.iter().all(|(_, known)| known != address) {
                known.push((None, address.clone()));
            }
        }
        let (id, opened) = self.connector.first_of(known).await?;
        let mut view = self.lock();
        match id {
            Some(id) => drop(view.connections.insert(id, opened.clone())),
            None => view.first = Some(opened.clone()),
        }
        Ok(opened)
    }

    /// Asks any broker something that changes nothing, so that it may be asked again: a connection
    /// may have broken without anybody having noticed.
    ///
    /// # Errors
    /// Those of the last broker asked.
    pub(crate) async fn ask<R: Request>(&self, request: &R) -> Result<R::Response> {
        let mut tries = 1;
        loop {
            let outcome = self.any().await?.call(request, self.deadline()).await;
            let is_passing = outcome.as_ref().err().is_some_and(|error| {
                matches!(error.kind(), ErrorKind::NotSent | ErrorKind::Unavailable)
            });
            if !is_passing || tries == 3 {
                return outcome;
            }
            tries += 1;
        }
    }

    /// The broker that leads the changes of topics.
    ///
    /// # Errors
    /// As [`Cluster::broker`].
    pub(crate) async fn controller(&self) -> Result<Connection> {
        let known = self.lock().controller;
        match known {
            Some(id) => self.broker(id).await,
            None => self.any().await,
        }
    }

    /// The numbers of all brokers.
    pub(crate) fn brokers(&self) -> Vec<BrokerId> {
        let mut all: Vec<_> = self.lock().brokers.keys().copied().collect();
        all.sort_unstable();
        all
    }

    /// Where the brokers of the last view are.
    pub(crate) fn addresses(&self) -> Vec<Address> {
        self.lock().brokers.values().cloned().collect()
    }

    /// How many partitions a topic has in the last view.
    pub(crate) fn partitions(&self, topic: &str) -> usize {
        self.lock().topics.get(topic).map_or(0, |topic| topic.partitions.len())
    }

    /// What tells a topic from others of its name, in the last view; 0 where that is not known.
    pub(crate) fn topic_id(&self, topic: &str) -> u128 {
        self.lock().topics.get(topic).map_or(0, |topic| topic.id)
    }

    /// Who leads a partition, as the last view has it. A topic that is not in the view is asked for.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`]: there is no such topic or partition. [`ErrorKind::Unavailable`]: it
    /// has no leader now.
    pub(crate) async fn leader(&self, topic: &str, partition: i32) -> Result<BrokerId> {
        let leader = |found: &Topic| found.partition(partition).and_then(|p| p.leader);
        if let Some(id) = self.lock().topics.get(topic).and_then(leader) {
            return Ok(id);
        }
        let found = self.topic(topic).await?;
        let what = || format!("partition {partition} of topic {topic}");
        match found.partition(partition) {
            None => Err(Error::new(ErrorKind::NotFound, format!("{} does not exist", what()))),
            Some(partition) => partition.leader.ok_or_else(|| {
                Error::new(ErrorKind::Unavailable, format!("{} has no leader", what()))
            }),
        }
    }

    /// A topic as the broker has it now.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`]; [`ErrorKind::Denied`]; those of the connection.
    pub(crate) async fn topic(&self, name: &str) -> Result<Topic> {
        let mut found = self.metadata(Some(&[name])).await?;
        let topic = found.pop().filter(|topic| topic.name == name);
        let topic = topic.ok_or_else(|| {
            Error::new(ErrorKind::Other, format!("topic {name}: no answer about it"))
        })?;
        match topic.error {
            // A partition without a leader, not the topic.
            0 | 5 => Ok(topic),
            code => Err(from_code(code, &format!("topic {name}"))),
        }
    }

    /// Renews the view: brokers, and every topic that was asked for. A renewal that began after this
    /// was called serves it too.
    ///
    /// # Errors
    /// Those of the last broker tried.
    pub(crate) async fn refresh(&self) -> Result<()> {
        let asked = Instant::now();
        let _turn = self.renewing.lock().await;
        let topics: Vec<String> = {
            let view = self.lock();
            if view.renewed.is_some_and(|began| began > asked) {
                return Ok(());
            }
            view.topics.keys().cloned().collect()
        };
        let names: Vec<&str> = topics.iter().map(String::as_str).collect();
        let began = Instant::now();
        self.metadata(Some(&names)).await?;
        self.lock().renewed = Some(began);
        Ok(())
    }

    /// The broker that coordinates a group.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] while there is none; [`ErrorKind::Denied`]; those of the
    /// connection.
    pub(crate) async fn coordinator(&self, group: &str) -> Result<BrokerId> {
        let connection = self.any().await?;
        let version = connection.version::<FindCoordinatorRequest>()?;
        let key = StrBytes::from_string(group.to_owned());
        let request = match version {
            0..4 => FindCoordinatorRequest::default().with_key(key),
            _ => FindCoordinatorRequest::default().with_coordinator_keys(vec![key]),
        };
        let answer = connection.call(&request, self.deadline()).await?;
        let (code, id, host, port) = match answer.coordinators.into_iter().next() {
            Some(found) => (found.error_code, found.node_id, found.host, found.port),
            None => (answer.error_code, answer.node_id, answer.host, answer.port),
        };
        if code != 0 {
            return Err(from_code(code, &format!("group {group}")));
        }
        // It may be a broker that joined after the last view.
        let port = u16::try_from(port).unwrap_or_default();
        self.lock().brokers.insert(id.0, Address::new(host.to_string(), port));
        Ok(id.0)
    }

    fn open_connection(&self, id: BrokerId) -> Option<Connection> {
        self.lock().connections.get(&id).filter(|open| !open.is_ended()).cloned()
    }

    fn address_of(&self, id: BrokerId) -> Result<Address> {
        self.lock().brokers.get(&id).cloned().ok_or_else(|| {
            Error::new(ErrorKind::Unavailable, format!("broker {id} is not in the cluster now"))
        })
    }

    fn lock(&self) -> MutexGuard<'_, View> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
