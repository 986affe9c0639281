//! Confirmation: the driver's half ([`Confirm`]) and the caller's ([`Pending`], [`PendingAll`]).
//!
//! A publish has three outcomes, and nothing turns one into another: confirmed, definitely failed,
//! unknown. One allocation serves a publish, and one a whole batch.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use smallvec::SmallVec;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::error::{Error, ErrorKind, Result};
use crate::window::{Room, Window};

/// The driver's promise to say what became of one message or settlement.
///
/// # Guarantees
/// It holds the room that its message takes in the publishing window and frees it exactly when it
/// is resolved or dropped. Dropping it reads as [`ErrorKind::OutcomeUnknown`] on the other side.
pub struct Confirm<T> {
    slots: Arc<Slots<T>>,
    index: u32,
    bytes: usize,
    resolved: bool,
}

impl<T> Confirm<T> {
    /// Says what became of it. The caller's deadline may have passed; then nobody listens.
    pub fn resolve(mut self, outcome: Result<T>) {
        self.finish(outcome);
    }

    /// Marks it as on the wire, unless it was reported as [`ErrorKind::NotSent`] before or `now` is
    /// not before `deadline`, which reports it so.
    pub(crate) fn begin(&mut self, now: Instant, deadline: Instant) -> bool {
        let mut state = self.slots.lock();
        let Some(entry) = state.entries.get_mut(self.index as usize) else { return false };
        match entry {
            Entry::Queued(_) if now < deadline => {
                *entry = Entry::Begun;
                true
            }
            Entry::Begun => true,
            Entry::Done(_) | Entry::Reported => false,
            Entry::Queued(refused) => {
                let outcome = Err(not_sent(refused.take()));
                let waker = state.finish(self.index, outcome);
                drop(state);
                if let Some(waker) = waker {
                    waker.wake();
                }
                false
            }
        }
    }

    /// Takes [`Confirm::begin`] back.
    pub(crate) fn withdraw(&mut self, refused: Error) {
        if let Some(entry @ Entry::Begun) = self.slots.lock().entries.get_mut(self.index as usize) {
            *entry = Entry::Queued(Some(refused));
        }
    }

    fn finish(&mut self, outcome: Result<T>) {
        self.resolved = true;
        let waker = self.slots.lock().finish(self.index, outcome);
        self.slots.release(self.bytes);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T> Drop for Confirm<T> {
    fn drop(&mut self) {
        if !self.resolved {
            self.finish(Err(Error::new(
                ErrorKind::OutcomeUnknown,
                "the connection ended before the broker answered",
            )));
        }
    }
}

impl<T> fmt::Debug for Confirm<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Confirm").field("index", &self.index).finish_non_exhaustive()
    }
}

/// What became of one message or settlement, once the broker has answered.
///
/// # Cancellation
/// Dropping it loses the answer only: what was handed over still goes out.
///
/// # Errors
/// At the deadline, [`ErrorKind::NotSent`] for what was not on the wire, which is then never sent;
/// [`ErrorKind::OutcomeUnknown`] for what was. Before it, what the broker said.
#[must_use = "the outcome is only known when this is awaited"]
pub struct Pending<T>(Waiter<T>);

/// What became of each message of a batch, in the order they were given.
///
/// It ends when all are known, at the deadline at the latest; else as [`Pending`].
#[must_use = "the outcomes are only known when this is awaited"]
pub struct PendingAll<T>(Waiter<T>);

impl<T> Future for Pending<T> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T>> {
        self.0.poll(cx).map(|mut outcomes| match outcomes.pop() {
            Some(outcome) => outcome,
            None => Err(Error::new(ErrorKind::Closed, "the outcome was taken before")),
        })
    }
}

impl<T> Future for PendingAll<T> {
    type Output = Vec<Result<T>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Vec<Result<T>>> {
        self.0.poll(cx).map(SmallVec::into_vec)
    }
}

impl<T> fmt::Debug for Pending<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pending").finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for PendingAll<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingAll").finish_non_exhaustive()
    }
}

/// Makes the two halves for one message whose room in `window` is already taken.
pub(crate) fn publish_one<T>(
    window: &Arc<Window>,
    bytes: usize,
    deadline: Instant,
) -> (Confirm<T>, Pending<T>) {
    let slots = Slots::new(Some(Arc::clone(window)), SmallVec::from_buf([Entry::Queued(None)]));
    let confirm = Confirm { slots: Arc::clone(&slots), index: 0, bytes, resolved: false };
    (confirm, Pending(Waiter::new(slots, deadline)))
}

/// Makes the two halves for a batch; room for every message is already taken. The first half is a
/// maker that is called once for each message, in order, with its size.
pub(crate) fn publish_many<T>(
    window: &Arc<Window>,
    count: usize,
    deadline: Instant,
) -> (impl FnMut(usize) -> Confirm<T>, PendingAll<T>) {
    let entries = (0..count).map(|_| Entry::Queued(None)).collect();
    let slots = Slots::new(Some(Arc::clone(window)), entries);
    let waiter = Waiter::new(Arc::clone(&slots), deadline);
    let mut next = 0..;
    let make = move |bytes| {
        let index = next.next().unwrap_or_default();
        Confirm { slots: Arc::clone(&slots), index, bytes, resolved: false }
    };
    (make, PendingAll(waiter))
}

/// Makes the two halves for a settlement, which takes no room and is on its way at once.
pub(crate) fn settle_one<T>(deadline: Instant) -> (Confirm<T>, Pending<T>) {
    let slots = Slots::new(None, SmallVec::from_buf([Entry::Begun]));
    let confirm = Confirm { slots: Arc::clone(&slots), index: 0, bytes: 0, resolved: false };
    (confirm, Pending(Waiter::new(slots, deadline)))
}

struct Slots<T> {
    window: Option<Arc<Window>>,
    state: Mutex<State<T>>,
}

struct State<T> {
    entries: SmallVec<[Entry<T>; 1]>,
    /// How many entries are neither done nor reported.
    open: usize,
    waker: Option<Waker>,
}

enum Entry<T> {
    /// Handed over and not written, perhaps because the broker refused it for now.
    Queued(Option<Error>),
    /// On the wire.
    Begun,
    Done(Result<T>),
    /// The caller has its answer; what the driver says now comes too late.
    Reported,
}

impl<T> Slots<T> {
    fn new(window: Option<Arc<Window>>, entries: SmallVec<[Entry<T>; 1]>) -> Arc<Self> {
        let open = entries.len();
        Arc::new(Self { window, state: Mutex::new(State { entries, open, waker: None }) })
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn release(&self, bytes: usize) {
        if let Some(window) = &self.window {
            window.release(Room { messages: 1, bytes });
        }
    }
}

impl<T> State<T> {
    /// Records an outcome; returns whom to wake if it was the last one missing.
    fn finish(&mut self, index: u32, outcome: Result<T>) -> Option<Waker> {
        let entry = self.entries.get_mut(index as usize)?;
        if !matches!(entry, Entry::Queued(_) | Entry::Begun) {
            return None;
        }
        *entry = Entry::Done(outcome);
        self.open -= 1;
        if self.open == 0 { self.waker.take() } else { None }
    }

    /// Takes every outcome; what is not known by now is reported as the deadline has it.
    fn take(&mut self) -> SmallVec<[Result<T>; 1]> {
        self.open = 0;
        let report = |entry: &mut Entry<T>| match std::mem::replace(entry, Entry::Reported) {
            Entry::Done(outcome) => Some(outcome),
            Entry::Queued(refused) => Some(Err(not_sent(refused))),
            Entry::Begun => Some(Err(Error::new(
                ErrorKind::OutcomeUnknown,
                "the broker did not answer by the deadline",
            ))),
            Entry::Reported => None,
        };
        let mut outcomes = SmallVec::with_capacity(self.entries.len());
        outcomes.extend(self.entries.iter_mut().filter_map(report));
        outcomes
    }
}

fn not_sent(refused: Option<Error>) -> Error {
    let passed =
        |what| Error::new(ErrorKind::NotSent, format!("the deadline passed before {what}"));
    match refused {
        None => passed("the message was on the wire"),
        Some(refused) => passed("the broker took the message").with_source(refused),
    }
}

struct Waiter<T> {
    slots: Arc<Slots<T>>,
    deadline: Instant,
    /// Made only when the first look finds no answer: an answer in memory costs no timer.
    sleep: Option<Pin<Box<Sleep>>>,
}

impl<T> Waiter<T> {
    const fn new(slots: Arc<Slots<T>>, deadline: Instant) -> Self {
        Self { slots, deadline, sleep: None }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<SmallVec<[Result<T>; 1]>> {
        let mut state = self.slots.lock();
        if state.open == 0 {
            return Poll::Ready(state.take());
        }
        if !state.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            state.waker = Some(cx.waker().clone());
        }
        drop(state);
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(self.deadline)));
        match sleep.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(self.slots.lock().take()),
            Poll::Pending => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn window() -> Arc<Window> {
        let window = Window::new(Room { messages: 10, bytes: 1_000 });
        assert!(window.try_acquire(Room { messages: 1, bytes: 7 }));
        Arc::new(window)
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(1)
    }

    #[tokio::test(start_paused = true)]
    async fn a_dropped_confirm_reads_as_outcome_unknown_and_frees_its_room() {
        let window = window();
        let (confirm, pending) = publish_one::<()>(&window, 7, soon());
        drop(confirm);
        assert_eq!(window.used(), Room { messages: 0, bytes: 0 });
        assert!(pending.await.unwrap_err().is_outcome_unknown());
    }

    #[tokio::test(start_paused = true)]
    async fn what_expires_before_the_wire_is_not_sent_and_can_never_begin() {
        let window = window();
        let deadline = soon();
        let (mut confirm, pending) = publish_one::<()>(&window, 7, deadline);
        assert_eq!(*pending.await.unwrap_err().kind(), ErrorKind::NotSent);
        assert!(!confirm.begin(Instant::now(), deadline));
        assert_eq!(window.used().messages, 1, "the driver still holds the message");
    }

    #[tokio::test(start_paused = true)]
    async fn what_expires_on_the_wire_is_unknown_whatever_comes_later() {
        let window = window();
        let deadline = soon();
        let (mut confirm, pending) = publish_one(&window, 7, deadline);
        assert!(confirm.begin(Instant::now(), deadline));
        assert!(pending.await.unwrap_err().is_outcome_unknown());
        confirm.resolve(Ok(()));
        assert_eq!(window.used().messages, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_driver_that_looks_after_the_deadline_does_not_send() {
        let window = window();
        let deadline = soon();
        let (mut confirm, pending) = publish_one::<()>(&window, 7, deadline);
        assert!(!confirm.begin(deadline, deadline));
        drop(confirm);
        assert_eq!(*pending.await.unwrap_err().kind(), ErrorKind::NotSent);
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_broker_refused_for_now_may_begin_again_until_the_deadline() {
        let window = window();
        let deadline = soon();
        let (mut confirm, pending) = publish_one::<()>(&window, 7, deadline);
        for _ in 0..2 {
            assert!(confirm.begin(Instant::now(), deadline));
            confirm.withdraw(Error::new(ErrorKind::Unavailable, "LOADING"));
        }
        let error = pending.await.unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::NotSent);
        assert!(error.to_string().contains("LOADING"), "{error}");
        assert!(!confirm.begin(Instant::now(), deadline));
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_reported_as_unknown_is_not_sent_again() {
        let window = window();
        let deadline = soon();
        let (mut confirm, pending) = publish_one::<()>(&window, 7, deadline);
        assert!(confirm.begin(Instant::now(), deadline));
        assert!(pending.await.unwrap_err().is_outcome_unknown());
        confirm.withdraw(Error::new(ErrorKind::Unavailable, "LOADING"));
        assert!(!confirm.begin(Instant::now(), deadline));
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_reports_each_message_in_order() {
        let window = Arc::new(Window::new(Room { messages: 10, bytes: 1_000 }));
        assert!(window.try_acquire(Room { messages: 3, bytes: 6 }));
        let (confirm, pending) = publish_many(&window, 3, soon());
        let mut confirms: Vec<Confirm<u32>> = [1, 2, 3].into_iter().map(confirm).collect();
        confirms.remove(1).resolve(Err(Error::new(ErrorKind::Unroutable, "nobody")));
        confirms.remove(0).resolve(Ok(1));
        let answers = pending.await;
        assert!(matches!(answers[0], Ok(1)));
        assert_eq!(*answers[1].as_ref().unwrap_err().kind(), ErrorKind::Unroutable);
        assert_eq!(*answers[2].as_ref().unwrap_err().kind(), ErrorKind::NotSent);
        assert_eq!(window.used(), Room { messages: 1, bytes: 3 });
    }
}
