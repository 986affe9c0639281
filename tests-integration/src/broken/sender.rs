use std::sync::{Arc, Mutex, PoisonError};

use messaging::driver::{Outgoing, Sender};

use super::Fault;

#[derive(Debug)]
pub(super) struct BrokenSender {
    fault: Fault,
    inner: Arc<dyn Sender>,
    leaked: Mutex<Vec<Outgoing>>,
}

impl BrokenSender {
    pub(super) const fn new(fault: Fault, inner: Arc<dyn Sender>) -> Self {
        Self { fault, inner, leaked: Mutex::new(Vec::new()) }
    }
}

impl Sender for BrokenSender {
    fn send(&self, one: Outgoing) {
        let mut leaked = self.leaked.lock().unwrap_or_else(PoisonError::into_inner);
        if self.fault == Fault::LeaksAConfirm && leaked.len() < 4 {
            return leaked.push(one);
        }
        self.inner.send(one);
    }

    fn send_all(&self, many: &mut Vec<Outgoing>) {
        many.drain(..).for_each(|one| self.send(one));
    }
}
