//! Where one connection's pushes arrive.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use messaging_core::driver::{Incoming, Token};
use redis::aio::{AsyncPushSender, SendError};
use redis::{PushInfo, PushKind, Value};
use tokio_util::sync::CancellationToken;

use super::buffer::{Buffer, Item};
use super::envelope;
use super::routes::{Found, Routes};

/// How many channels are remembered.
const CHANNELS: usize = 1_024;

/// Reads what the client library's task of one connection receives, within that task: nothing
/// piles up on the way to the bounded buffer.
pub(super) struct Inbox {
    routes: Arc<Routes>,
    buffer: Arc<Buffer>,
    state: Mutex<State>,
    lost: CancellationToken,
}

struct State {
    /// Why the connection before this one was lost, until the listener is told.
    before: Option<String>,
    /// What the latest channels are, so that each is read once.
    known: HashMap<Vec<u8>, Option<Found>>,
    /// The latest of all, and what it is: most messages follow one of their channel.
    latest: (Vec<u8>, Option<Found>),
    /// Unset when the connection is given up: it may still be in the middle of something.
    live: bool,
}

impl Inbox {
    pub(super) fn new(routes: Arc<Routes>, buffer: Arc<Buffer>, before: Option<String>) -> Self {
        let latest = (Vec::new(), None);
        let state = Mutex::new(State { before, known: HashMap::new(), latest, live: true });
        Self { routes, buffer, state, lost: CancellationToken::new() }
    }

    /// Tells that the connection is back, unless a message came first and did.
    pub(super) fn announce(&self) {
        self.lock().announce(&self.buffer);
    }

    /// Takes nothing more.
    pub(super) fn close(&self) {
        self.lock().live = false;
    }

    /// Waits until the connection is lost.
    pub(super) async fn lost(&self) {
        self.lost.cancelled().await;
    }

    fn take(&self, channel: Vec<u8>, glob: Option<&[u8]>, payload: Vec<u8>) {
        let mut state = self.lock();
        if !state.live {
            return;
        }
        let Some(found) = state.find(channel, &self.routes).filter(|found| found.counts(glob))
        else {
            return;
        };
        let subject = found.subject.clone();
        state.announce(&self.buffer);
        // The lock is held until the message is in the buffer, so after a close nothing comes.
        let bytes = payload.len();
        let item = match envelope::read(subject, Bytes::from(payload)) {
            Ok(message) => {
                let token = Token { lane: 0, epoch: 0, id: 0 };
                Item::Message(Incoming::new(message, token), bytes)
            }
            Err(reason) => Item::Unreadable(reason),
        };
        self.buffer.push([item]);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn announce(&mut self, buffer: &Buffer) {
        if let Some(reason) = self.before.take() {
            buffer.push([Item::Reconnected(reason)]);
        }
    }

    fn find(&mut self, channel: Vec<u8>, routes: &Routes) -> Option<&Found> {
        if self.latest.0 != channel {
            if self.known.len() >= CHANNELS && !self.known.contains_key(&channel) {
                self.known.clear();
            }
            let found = self.known.entry(channel.clone());
            let found = found.or_insert_with_key(|channel| routes.find(channel)).clone();
            self.latest = (channel, found);
        }
        self.latest.1.as_ref()
    }
}

impl AsyncPushSender for Inbox {
    fn send(&self, push: PushInfo) -> Result<(), SendError> {
        let PushInfo { kind, data } = push;
        let mut data = data.into_iter().map(|value| match value {
            Value::BulkString(bytes) => bytes,
            _ => Vec::new(),
        });
        let mut next = || data.next().unwrap_or_default();
        match kind {
            PushKind::Message => {
                let channel = next();
                self.take(channel, None, next());
            }
            PushKind::PMessage => {
                let (glob, channel) = (next(), next());
                self.take(channel, Some(&glob), next());
            }
            PushKind::Disconnection => self.lost.cancel(),
            // The others answer what was asked.
            _ => {}
        }
        Ok(())
    }
}
