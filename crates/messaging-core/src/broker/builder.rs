use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, RwLock};

use super::{Broker, Shared};
use crate::driver::Driver;
use crate::error::Result;
use crate::observe::Observer;
use crate::topology::Topology;
use crate::window::{Room, Window};

/// Opens a [`Broker`].
#[derive(Debug)]
#[must_use = "a builder does nothing until it is opened"]
pub struct BrokerBuilder {
    driver: Arc<dyn Driver>,
    topology: Topology,
    window: Room,
    max_body: usize,
    observer: Option<Arc<dyn Observer>>,
    as_found: bool,
}

impl BrokerBuilder {
    pub(super) fn new(driver: Arc<dyn Driver>) -> Self {
        Self {
            driver,
            topology: Topology::default(),
            window: Room { messages: 8_192, bytes: 64 * 1024 * 1024 },
            max_body: 1024 * 1024,
            observer: None,
            as_found: false,
        }
    }

    /// Sets the streams and groups; the default topology unless set.
    pub fn topology(mut self, topology: Topology) -> Self {
        self.topology = topology;
        self
    }

    /// Sets how many messages and bytes may be handed over and not confirmed; 8,192 messages and
    /// 64 MiB unless set. A message larger than that passes alone.
    pub const fn window(mut self, messages: usize, bytes: usize) -> Self {
        self.window = Room { messages, bytes };
        self
    }

    /// Sets the largest body that is published, in bytes; 1 MiB unless set.
    pub const fn max_body(mut self, bytes: usize) -> Self {
        self.max_body = bytes;
        self
    }

    /// Sets who is told about what happens beside the data path.
    pub fn observer(mut self, observer: Arc<dyn Observer>) -> Self {
        self.observer = Some(observer);
        self
    }

    /// Leaves the broker as it is found: nothing is created. For whoever looks before changing.
    pub const fn as_found(mut self) -> Self {
        self.as_found = true;
        self
    }

    /// Opens the broker and creates the topology's streams where the backend has any.
    ///
    /// Groups are created by [`Broker::provision`] or by their first member: one that exists keeps
    /// its patterns whoever connects.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`](crate::ErrorKind::InvalidConfig) for a topology that
    /// contradicts itself, or what the broker refuses.
    pub async fn open(self) -> Result<Broker> {
        self.topology.validate()?;
        if let Some(admin) = self.driver.facets().admin
            && !self.as_found
        {
            let streams = Topology { groups: Vec::new(), ..self.topology.clone() };
            admin.apply(&streams).await?;
        }
        Ok(Broker {
            shared: Arc::new(Shared {
                driver: self.driver,
                topology: RwLock::new(Arc::new(self.topology)),
                window: Arc::new(Window::new(self.window)),
                max_body: self.max_body,
                observer: self.observer,
                closed: AtomicBool::new(false),
                lanes: RwLock::new(HashMap::new()),
            }),
        })
    }
}
