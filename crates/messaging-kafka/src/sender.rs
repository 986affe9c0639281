//! Publishing to one stream: which partition a message goes to.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use messaging_core::driver::{Outgoing, Sender};
use messaging_core::lane::lane_of;

use crate::cluster::Cluster;
use crate::error::closed;
use crate::write::{Lane, Writer};

/// The way to one stream.
#[derive(Debug)]
pub(crate) struct KafkaSender {
    writer: Arc<Writer>,
    topic: String,
    /// A lane for each partition. They become more when the topic does.
    lanes: RwLock<Arc<[Lane]>>,
    stint: Mutex<Stint>,
}

/// Where messages without a key go: to one partition until its next batch begins, so that they are
/// few large batches, then to the next.
#[derive(Debug, Default)]
struct Stint {
    lane: usize,
    /// The batches of the lane when the stint began.
    batches: u64,
    messages: usize,
}

/// The longest stint: one partition has one batch on its way at a time.
const STINT: usize = 1_024;

impl KafkaSender {
    pub(crate) fn new(writer: Arc<Writer>, topic: String, partitions: usize) -> Arc<Self> {
        let lanes = lanes(&writer, &topic, partitions);
        // Anywhere, so that many senders do not begin at the same partition.
        let random = RandomState::new().build_hasher().finish() as usize;
        let stint = Mutex::new(Stint { lane: random % partitions.max(1), ..Stint::default() });
        Arc::new(Self { writer, topic, lanes: RwLock::new(lanes), stint })
    }

    /// Takes partitions that came since into use.
    pub(crate) fn follow(&self, cluster: &Cluster) {
        let count = cluster.partitions(&self.topic);
        if count > self.lanes().len() {
            let lanes = lanes(&self.writer, &self.topic, count);
            *self.lanes.write().unwrap_or_else(PoisonError::into_inner) = lanes;
        }
    }

    fn lanes(&self) -> Arc<[Lane]> {
        Arc::clone(&self.lanes.read().unwrap_or_else(PoisonError::into_inner))
    }
}

fn lanes(writer: &Writer, topic: &str, partitions: usize) -> Arc<[Lane]> {
    let count = i32::try_from(partitions).unwrap_or(i32::MAX);
    (0..count).map(|partition| writer.lane(topic, partition)).collect()
}

impl Stint {
    fn lane<'a>(&mut self, lanes: &'a [Lane]) -> Option<&'a Lane> {
        let current = lanes.get(self.lane).or_else(|| lanes.first())?;
        let is_over = self.messages >= STINT || current.batches() != self.batches;
        if is_over || current.is_stuck() {
            let after = (1..=lanes.len()).map(|step| (self.lane + step) % lanes.len());
            let free = |at: &usize| lanes.get(*at).is_some_and(|lane| !lane.is_stuck());
            let next = after.clone().find(free).or_else(|| after.into_iter().next())?;
            *self = Self { lane: next, batches: lanes.get(next)?.batches(), messages: 0 };
        }
        self.messages += 1;
        lanes.get(self.lane)
    }
}

impl Sender for KafkaSender {
    fn send(&self, one: Outgoing) {
        self.send_all(&mut vec![one]);
    }

    fn send_all(&self, many: &mut Vec<Outgoing>) {
        let lanes = self.lanes();
        let count = u32::try_from(lanes.len()).ok().and_then(NonZeroU32::new);
        let is_closed = self.writer.is_closed();
        let mut stint = None;
        for one in many.drain(..) {
            let lane = match (&one.message.key, count) {
                _ if is_closed => None,
                (Some(key), Some(count)) => lanes.get(lane_of(key, count) as usize),
                _ => stint
                    .get_or_insert_with(|| {
                        self.stint.lock().unwrap_or_else(PoisonError::into_inner)
                    })
                    .lane(&lanes),
            };
            match lane {
                Some(lane) => lane.send(one),
                None => one.resolve(Err(closed("publish"))),
            }
        }
    }
}
