//! What the server answers to publishes, brought to their callers.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use messaging_core::{Error, ErrorKind};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::tracker::{Entry, Tracker};
use super::{Outcome, Publication};
use crate::connection::{ChannelEvent, Listen};
use crate::error::Refusal;

/// What the task that hands over and the tasks that read the socket share, for one channel.
pub(super) struct Books<P> {
    tracker: Mutex<Tracker<P>>,
    /// Whether somebody waits for answers.
    is_awaited: AtomicBool,
    answered: Notify,
    /// Cancelled when nothing more will be answered.
    pub(super) ended: CancellationToken,
    /// Publishes that the server has not taken: those after the one that it closed the channel for.
    unread: Mutex<Vec<P>>,
}

impl<P> Books<P> {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            tracker: Mutex::default(),
            is_awaited: AtomicBool::new(false),
            answered: Notify::new(),
            ended: CancellationToken::new(),
            unread: Mutex::default(),
        })
    }

    pub(super) fn tracker(&self) -> MutexGuard<'_, Tracker<P>> {
        self.tracker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what is known not to have been read, in order.
    pub(super) fn unread(&self) -> Vec<P> {
        std::mem::take(&mut self.unread.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits for an answer after `is_enough` was false, until it is true or the channel has ended.
    pub(super) async fn wait(&self, is_enough: impl Fn(&Tracker<P>) -> bool) {
        loop {
            self.is_awaited.store(true, Ordering::SeqCst);
            if is_enough(&self.tracker()) {
                break;
            }
            tokio::select! {
                () = self.answered.notified() => {}
                () = self.ended.cancelled() => break,
            }
        }
        self.is_awaited.store(false, Ordering::SeqCst);
    }

    fn tell(&self) {
        if self.is_awaited.load(Ordering::SeqCst) {
            self.answered.notify_one();
        }
    }
}

/// Hears the channel. Its drop leaves everything unconfirmed unknown.
pub(super) struct Hearing<P: Publication> {
    books: Arc<Books<P>>,
    settled: Vec<Entry<P>>,
    refusal: Option<Refusal>,
}

impl<P: Publication> Hearing<P> {
    pub(super) fn new(books: Arc<Books<P>>) -> Self {
        Self { books, settled: Vec::new(), refusal: None }
    }

    fn settle(&mut self, tag: u64, multiple: bool, is_taken: bool) {
        // Callers are told after the lock is free.
        self.books.tracker().settle(tag, multiple, &mut self.settled);
        for Entry { publication, returned, .. } in self.settled.drain(..) {
            publication.finish(match returned {
                _ if !is_taken => Outcome::Nacked,
                Some(refusal) => Outcome::Returned(*refusal),
                None => Outcome::Confirmed,
            });
        }
        self.books.tell();
    }

    /// A body over the server's limit closes the channel: it is named by its size and taken out of
    /// what is `left`, and what was published after it has not been read.
    fn find_too_large(
        &self,
        left: &mut Vec<Entry<P>>,
        (size, limit): (usize, usize),
    ) -> Option<(P, Error)> {
        let at = left.iter().position(|entry| entry.body == size)?;
        let mut after = left.split_off(at).into_iter();
        let Entry { publication, .. } = after.next()?;
        self.send_again(after);
        let text = format!("body: {size} bytes, the server's limit is {limit}");
        Some((publication, Error::new(ErrorKind::TooLarge { size, limit }, text)))
    }

    /// What the server does not let us do closes the channel. Where one publish alone can be meant, it
    /// is taken out of what is `left`. Of several it may be any, as permissions change: those before
    /// the last may have been taken. The last has not been, nor what was published after it.
    fn find_denied(&self, left: &mut Vec<Entry<P>>, refusal: &Refusal) -> Option<(P, Error)> {
        let (exchange, routing_key) = refusal.denied()?;
        let is_meant = |entry: &Entry<P>| {
            let (to, key) = entry.publication.route();
            entry.returned.is_none()
                && exchange.is_none_or(|exchange| exchange == to)
                && routing_key.is_none_or(|routing_key| routing_key == key)
        };
        let last = left.iter().rposition(is_meant)?;
        let is_only = left.iter().position(is_meant) == Some(last);
        let mut after = left.split_off(last).into_iter();
        let denied = if is_only { after.next() } else { None };
        self.send_again(after);
        Some((denied?.publication, refusal.at("publish")))
    }

    fn send_again(&self, entries: impl Iterator<Item = Entry<P>>) {
        let mut unread = self.books.unread.lock().unwrap_or_else(PoisonError::into_inner);
        unread.extend(entries.map(|entry| entry.publication));
    }
}

impl<P: Publication> Listen for Hearing<P> {
    fn hear(&mut self, event: ChannelEvent) {
        match event {
            ChannelEvent::Acked { tag, multiple } => self.settle(tag, multiple, true),
            ChannelEvent::Nacked { tag, multiple } => self.settle(tag, multiple, false),
            ChannelEvent::Returned { refusal, routing_key, id } => {
                self.books.tracker().note_return(refusal, id.as_deref(), &routing_key);
            }
            ChannelEvent::Closed(refusal) => self.refusal = Some(refusal),
            // There are no consumers on it.
            ChannelEvent::Cancelled(_) => {}
        }
    }
}

impl<P: Publication> Drop for Hearing<P> {
    fn drop(&mut self) {
        let mut left = self.books.tracker().drain();
        let refused = self.refusal.as_ref().and_then(|refusal| match refusal.too_large() {
            Some(sizes) => self.find_too_large(&mut left, sizes),
            None => self.find_denied(&mut left, refusal),
        });
        // Whoever is told may publish at once: nothing of that may go over this channel.
        self.books.ended.cancel();
        if let Some((publication, error)) = refused {
            publication.finish(Outcome::Failed(error));
        }
        let why = match &self.refusal {
            Some(refusal) => format!("the server closed the channel: {refusal}"),
            None => "the connection ended before the server answered".to_owned(),
        };
        for entry in left {
            entry.publication.finish(Outcome::Unknown(why.clone()));
        }
    }
}
