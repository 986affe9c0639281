//! Publishing: encode, take room in the window, hand over, wait for the outcome.

mod batch;

use std::borrow::Borrow;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::time::{Instant, timeout_at};

use crate::broker::Shared;
use crate::confirm::{Pending, publish_one};
use crate::driver::{Outgoing, Receipt, Sender};
use crate::error::{Error, ErrorKind, Result};
use crate::headers::Headers;
use crate::id::MessageId;
use crate::message::Message;
use crate::payload::Payload;
use crate::spec::{Codec, SendSpec};
use crate::subject::Subject;
use crate::window::Room;

/// Publishes payloads of one type to one stream.
///
/// # Guarantees
/// A publish has one of three outcomes: confirmed ([`Receipt`]), definitely failed, or unknown
/// ([`ErrorKind::OutcomeUnknown`]). Messages of one task with the same key are handed over in call
/// order. What is handed over and not confirmed is bounded by the broker's window.
pub struct Publisher<T> {
    lane: Arc<SendLane>,
    payload: PhantomData<fn(&T)>,
}

/// The way to one stream, whatever the payload type.
#[derive(Debug)]
pub(crate) struct SendLane {
    broker: Arc<Shared>,
    sender: Arc<dyn Sender>,
    spec: SendSpec,
    /// The subject of a payload without a type.
    plain: Subject,
}

impl<T: Payload> Publisher<T> {
    pub(crate) const fn new(lane: Arc<SendLane>) -> Self {
        Self { lane, payload: PhantomData }
    }

    /// Encodes a value into the message that [`Publisher::publish`] would send, to be dressed with
    /// a key or headers and sent by [`Publisher::publish_message`].
    ///
    /// # Errors
    /// [`ErrorKind::InvalidMessage`], [`ErrorKind::InvalidSubject`] or [`ErrorKind::TooLarge`].
    pub fn message(&self, value: &T) -> Result<Message> {
        self.lane.encode(value, MessageId::generate).map(Arc::unwrap_or_clone)
    }

    /// Publishes a value and waits for the outcome.
    ///
    /// The value is encoded before this returns its future, so it need not be shared.
    ///
    /// # Cancellation
    /// Dropped before the hand-over, nothing was sent; later, only the answer is lost.
    ///
    /// # Errors
    /// Definite ones as [`Publisher::message`], [`ErrorKind::NotSent`] where there was no room by
    /// the deadline, and what the broker refuses; else [`ErrorKind::OutcomeUnknown`].
    pub fn publish<'a>(
        &'a self,
        value: &T,
    ) -> impl Future<Output = Result<Receipt>> + Send + use<'a, T> {
        let message = self.lane.encode(value, MessageId::generate);
        async move { self.lane.hand_over(message?).await?.await }
    }

    /// Hands a value over, waiting for room in the window, and gives the outcome to await later.
    ///
    /// # Cancellation
    /// Dropped while pending, it has sent nothing.
    ///
    /// # Errors
    /// As [`Publisher::publish`], as far as they are known before the hand-over.
    pub fn enqueue<'a>(
        &'a self,
        value: &T,
    ) -> impl Future<Output = Result<Pending<Receipt>>> + Send + use<'a, T> {
        let message = self.lane.encode(value, MessageId::generate);
        async move { self.lane.hand_over(message?).await }
    }

    /// Publishes many values and tells each outcome, in input order. They share one deadline.
    ///
    /// # Cancellation
    /// What was handed over by then still goes out.
    ///
    /// # Errors
    /// As [`Publisher::publish`], each value on its own.
    pub fn publish_all<'a, I>(
        &'a self,
        values: I,
    ) -> impl Future<Output = Vec<Result<Receipt>>> + Send + use<'a, T, I>
    where
        I: IntoIterator<Item: Borrow<T>>,
    {
        let now = SystemTime::now();
        let id = || MessageId::generate_at(now);
        let encode = |value: I::Item| self.lane.encode(value.borrow(), id);
        let messages: batch::Encoded = values.into_iter().map(encode).collect();
        async move { batch::publish_all(&self.lane, messages).await }
    }

    /// Publishes a message as it is and waits for the outcome.
    ///
    /// # Cancellation
    /// As [`Publisher::publish`].
    ///
    /// # Errors
    /// As [`Publisher::publish`]; a subject of another stream is [`ErrorKind::InvalidSubject`].
    pub async fn publish_message(&self, message: Message) -> Result<Receipt> {
        self.enqueue_message(message).await?.await
    }

    /// Hands a message over as it is, as [`Publisher::enqueue`] does a value.
    ///
    /// # Cancellation
    /// Dropped while pending, it has sent nothing.
    ///
    /// # Errors
    /// As [`Publisher::publish_message`].
    pub async fn enqueue_message(&self, mut message: Message) -> Result<Pending<Receipt>> {
        self.lane.check_stream(&message.subject)?;
        message.headers.strip_ours();
        message.check(self.lane.broker.max_body)?;
        self.lane.hand_over(Arc::new(message)).await
    }
}

impl<T> Clone for Publisher<T> {
    fn clone(&self) -> Self {
        Self { lane: Arc::clone(&self.lane), payload: PhantomData }
    }
}

impl<T> fmt::Debug for Publisher<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher").field("spec", &self.lane.spec).finish_non_exhaustive()
    }
}

impl SendLane {
    pub(crate) fn new(
        broker: Arc<Shared>,
        sender: Arc<dyn Sender>,
        spec: SendSpec,
    ) -> Result<Self> {
        let plain = match &spec.subject {
            Some(subject) => subject.clone(),
            None => spec.stream.name().parse()?,
        };
        let lane = Self { broker, sender, spec, plain };
        lane.check_stream(&lane.plain)?;
        Ok(lane)
    }

    fn encode<T: Payload>(
        &self,
        value: &T,
        id: impl FnOnce() -> MessageId,
    ) -> Result<Arc<Message>> {
        let message = encode(value, self.spec.codec, id, |kind| match kind {
            Some(kind) if self.spec.subject.is_none() => Subject::of(&self.spec.stream, kind),
            Some(_) | None => Ok(self.plain.clone()),
        })?;
        message.check(self.broker.max_body)?;
        Ok(Arc::new(message))
    }

    fn check_stream(&self, subject: &Subject) -> Result<()> {
        if subject.stream() == self.spec.stream.name() {
            return Ok(());
        }
        Err(Error::invalid(
            ErrorKind::InvalidSubject,
            "subject",
            subject,
            "it is of another stream than its publisher",
            &format!("{}.…", self.spec.stream),
        ))
    }

    pub(crate) async fn hand_over(&self, message: Arc<Message>) -> Result<Pending<Receipt>> {
        let bytes = message.bytes();
        let deadline = Instant::now() + self.spec.timeout;
        self.take_room(Room { messages: 1, bytes }, deadline).await?;
        let (confirm, pending) = publish_one(&self.broker.window, bytes, deadline);
        self.sender.send(Outgoing::new(message, deadline, confirm));
        Ok(pending)
    }

    async fn take_room(&self, room: Room, deadline: Instant) -> Result<()> {
        self.broker.check_open("publish")?;
        if self.broker.window.try_acquire(room) {
            return Ok(());
        }
        let acquired = timeout_at(deadline, self.broker.window.acquire(room)).await;
        acquired.map_err(|_| {
            let used = self.broker.window.used();
            let text = format!(
                "no room in the window by the deadline: {} messages and {} bytes are unconfirmed",
                used.messages, used.bytes
            );
            Error::new(ErrorKind::NotSent, text).at(self.broker.name(), "publish")
        })
    }
}

/// Writes a payload into a message to the subject that its type leads to, with an id of `id`'s
/// where it brings none.
pub(crate) fn encode<T: Payload>(
    value: &T,
    codec: Codec,
    id: impl FnOnce() -> MessageId,
    subject: impl FnOnce(Option<&str>) -> Result<Subject>,
) -> Result<Message> {
    let encoded = value.encode(codec)?;
    Ok(Message {
        subject: subject(encoded.kind.as_deref())?,
        id: encoded.id.unwrap_or_else(id),
        content_type: encoded.content_type,
        key: None,
        priority: encoded.priority,
        headers: Headers::default(),
        body: encoded.body,
    })
}
