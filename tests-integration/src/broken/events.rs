use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures::stream::BoxStream;
use futures::task::ArcWake;
use futures::{Stream, StreamExt};
use messaging::driver::{Arrivals, Event, Incoming, Settle, Settlement};
use messaging::{Headers, Result};
use tokio::time::{Instant, Sleep, sleep_until};

use super::Fault;
use super::driver::Hands;
use super::settler::BrokenSettler;

pub(super) struct BrokenEvents {
    fault: Fault,
    inner: BoxStream<'static, Result<Event>>,
    settler: Option<Arc<BrokenSettler>>,
    hands: Hands,
    watch: Arc<Watch>,
    /// Whether the last look found nothing.
    waiting: bool,
    /// Whether a wait was given up since the last message.
    given_up: bool,
    impatience: Pin<Box<Sleep>>,
}

/// Tells whether a subscription was woken, or is looked at again because a wait was given up.
#[derive(Default)]
struct Watch {
    woken: AtomicBool,
    waker: std::sync::Mutex<Option<Waker>>,
}

impl ArcWake for Watch {
    fn wake_by_ref(this: &Arc<Self>) {
        this.woken.store(true, Ordering::SeqCst);
        if let Some(waker) = this.waker.lock().ok().and_then(|mut waker| waker.take()) {
            waker.wake();
        }
    }
}

impl BrokenEvents {
    pub(super) fn new(
        fault: Fault,
        inner: BoxStream<'static, Result<Event>>,
        settler: Option<Arc<BrokenSettler>>,
        hands: Hands,
    ) -> Self {
        let impatience = Box::pin(sleep_until(Instant::now() + Duration::from_secs(10)));
        let watch = Arc::default();
        Self { fault, inner, settler, hands, watch, waiting: false, given_up: false, impatience }
    }

    fn distort(&self, messages: &mut Arrivals) {
        let settle = |incoming: &Incoming| {
            if let Some(settler) = &self.settler {
                settler.settle_truly(Settle::new(incoming.token, Settlement::Ack));
            }
        };
        match self.fault {
            Fault::LosesOnCancel if self.given_up => settle(&messages.remove(0)),
            Fault::ReordersAKey => messages.reverse(),
            Fault::AcksEarly => messages.iter().for_each(settle),
            Fault::DropsHeaders => {
                for incoming in messages {
                    Arc::make_mut(&mut incoming.message).headers = Headers::default();
                }
            }
            Fault::Duplicates => messages.extend(messages.first().cloned()),
            Fault::BelievesASendersAttempt => {
                for incoming in messages {
                    let header = incoming.message.headers.text("retry-count");
                    incoming.attempt =
                        header.and_then(|n| n.parse().ok()).unwrap_or(incoming.attempt);
                }
            }
            _ => {}
        }
    }
}

impl Stream for BrokenEvents {
    type Item = Result<Event>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        this.given_up |= this.waiting && !this.watch.woken.swap(false, Ordering::SeqCst);
        if let Ok(mut waker) = this.watch.waker.lock() {
            *waker = Some(cx.waker().clone());
        }
        if let Some(settler) = &this.settler {
            settler.catch_up();
        }
        let waker = futures::task::waker(Arc::clone(&this.watch));
        let mut watched = Context::from_waker(&waker);
        loop {
            match this.inner.poll_next_unpin(&mut watched) {
                Poll::Ready(Some(Ok(Event::Messages(mut messages)))) => {
                    this.waiting = false;
                    this.distort(&mut messages);
                    this.given_up = false;
                    this.hands.lock().0.extend(messages.iter().cloned());
                    return Poll::Ready(Some(Ok(Event::Messages(messages))));
                }
                Poll::Ready(Some(Ok(Event::Gap(_)))) if this.fault == Fault::HidesGaps => {}
                Poll::Ready(None) if this.fault == Fault::OutlivesClose => return Poll::Pending,
                Poll::Ready(other) => return Poll::Ready(other),
                Poll::Pending => break,
            }
        }
        this.waiting = true;
        if this.fault == Fault::RedeliversWhileHandled
            && this.impatience.as_mut().poll(cx).is_ready()
            && let Some(held) = this.hands.lock().0.pop()
        {
            return Poll::Ready(Some(Ok(Event::Messages(Arrivals::from_iter([held])))));
        }
        Poll::Pending
    }
}
