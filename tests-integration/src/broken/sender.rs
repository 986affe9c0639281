use std::sync::{Arc, Mutex, PoisonError};

use messaging::driver::{Assurance, Outgoing, Receipt, Sender};

use super::Fault;
use super::server::BrokenServer;

#[derive(Debug)]
pub(super) struct BrokenSender {
    fault: Fault,
    inner: Arc<dyn Sender>,
    server: BrokenServer,
    leaked: Mutex<Vec<Outgoing>>,
}

impl BrokenSender {
    pub(super) const fn new(fault: Fault, inner: Arc<dyn Sender>, server: BrokenServer) -> Self {
        Self { fault, inner, server, leaked: Mutex::new(Vec::new()) }
    }
}

impl Sender for BrokenSender {
    fn send(&self, one: Outgoing) {
        let mut leaked = self.leaked.lock().unwrap_or_else(PoisonError::into_inner);
        if self.fault == Fault::LeaksAConfirm && leaked.len() < 4 {
            return leaked.push(one);
        }
        if self.fault == Fault::LosesInSilence && self.server.is_gone() {
            return one.resolve(Ok(Receipt::new(Assurance::Accepted, None)));
        }
        self.inner.send(one);
    }

    fn send_all(&self, many: &mut Vec<Outgoing>) {
        many.drain(..).for_each(|one| self.send(one));
    }
}
