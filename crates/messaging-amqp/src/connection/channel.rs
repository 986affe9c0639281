//! A channel, with requests that are never abandoned.
//!
//! The client library panics when the future of a request is dropped, or when two run at once on a
//! channel. So each request is a task that nobody aborts, one at a time; what is waited for with a
//! deadline is the task's answer.
#![expect(clippy::disallowed_methods, reason = "each is a task that nobody aborts")]

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use amqprs::channel::{
    BasicAckArguments, BasicCancelArguments, BasicConsumeArguments, BasicPublishArguments,
    BasicQosArguments, BasicRejectArguments, ConfirmSelectArguments, ConsumerMessage,
};
use amqprs::error::Error as Theirs;
use amqprs::{BasicProperties, FieldTable};
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::events::{ChannelEvent, Ears, Listen};
use super::held::Held;
use super::session::Session;
use crate::error::{Fault, Refusal, check_short};

/// The events of a channel; it ends with the channel.
pub(crate) type Events = mpsc::UnboundedReceiver<ChannelEvent>;
/// What a consumer is sent; it ends with the consumer, its channel or its connection.
pub(crate) type Deliveries = mpsc::UnboundedReceiver<ConsumerMessage>;

/// A channel. Cloning is cheap; the last one closes it.
#[derive(Clone)]
pub(crate) struct Channel(Arc<Inner>);

struct Inner {
    channel: Held<amqprs::channel::Channel>,
    /// Held by the request that is under way.
    turn: Arc<Mutex<()>>,
    refusal: Arc<OnceLock<Refusal>>,
    /// Cancelled when the client library has nothing of it any more.
    gone: CancellationToken,
    session: Session,
}

impl Drop for Inner {
    /// The client library closes a channel as its handle is dropped, and if the channel ends at the
    /// same moment, its task may wait for ever. Where the connection is over, the end comes first.
    fn drop(&mut self) {
        if self.session.is_over() {
            self.channel.drop_after(self.gone.clone().cancelled_owned(), self.session.tasks());
        }
    }
}

/// Opens a channel.
pub(super) async fn open_channel<L: Listen>(
    session: &Session,
    listener: L,
    deadline: Instant,
) -> Result<Channel, Fault> {
    let Some(connection) = session.connection().filter(|_| !session.is_over()) else {
        return Err(Fault::Lost(session.why()));
    };
    let refusal = Arc::new(OnceLock::new());
    let gone = CancellationToken::new();
    let ears = Ears {
        listener,
        refusal: Arc::clone(&refusal),
        session: session.clone(),
        _gone: gone.clone().drop_guard(),
    };
    let (answer, answered) = oneshot::channel();
    session.tasks().spawn(async move {
        let opened = async {
            let channel = connection.open_channel(None).await?;
            channel.register_callback(ears).await?;
            Ok(Held::new(channel))
        };
        // Nobody waits any more: the channel is closed as it is dropped.
        answer.send(opened.await).ok();
    });
    let channel = outcome(session, &refusal, deadline, "opening a channel", answered).await?;
    let turn = Arc::default();
    Ok(Channel(Arc::new(Inner { channel, turn, refusal, gone, session: session.clone() })))
}

/// Waits for the answer to a request.
async fn outcome<T>(
    session: &Session,
    refusal: &OnceLock<Refusal>,
    deadline: Instant,
    what: &str,
    answered: oneshot::Receiver<Result<T, Theirs>>,
) -> Result<T, Fault> {
    let lost = |detail: String| match refusal.get() {
        Some(refusal) => Fault::Refused(refusal.clone()),
        None if session.is_over() => Fault::Lost(session.why()),
        None => Fault::Lost(format!("the channel ended: {detail}")),
    };
    match timeout_at(deadline, answered).await {
        Ok(Ok(Ok(answer))) => Ok(answer),
        Ok(Ok(Err(error))) => Err(lost(error.to_string())),
        // The task panicked, inside of the client library.
        Ok(Err(_)) => Err(lost("the client library failed".to_owned())),
        Err(_) => {
            session.expired(what);
            Err(Fault::Late)
        }
    }
}

impl Channel {
    /// The connection it is on.
    pub(crate) fn session(&self) -> &Session {
        &self.0.session
    }

    /// Why the server closed it, if it did.
    pub(crate) fn refusal(&self) -> Option<&Refusal> {
        self.0.refusal.get()
    }

    /// Runs one request, as all others.
    pub(super) async fn request<T, F>(
        &self,
        deadline: Instant,
        what: &str,
        request: impl FnOnce(amqprs::channel::Channel) -> F + Send + 'static,
    ) -> Result<T, Fault>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Theirs>> + Send,
    {
        let Inner { channel, turn, refusal, session, .. } = &*self.0;
        outcome(session, refusal, deadline, what, self.begin(channel, turn, request)).await
    }

    fn begin<T, F>(
        &self,
        channel: &Held<amqprs::channel::Channel>,
        turn: &Arc<Mutex<()>>,
        request: impl FnOnce(amqprs::channel::Channel) -> F + Send + 'static,
    ) -> oneshot::Receiver<Result<T, Theirs>>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Theirs>> + Send,
    {
        let (answer, answered) = oneshot::channel();
        let channel = channel.get().cloned();
        let turn = Arc::clone(turn);
        self.0.session.tasks().spawn(async move {
            let _turn = turn.lock().await;
            // One that was given up while it waited for its turn is not begun.
            if let Some(channel) = channel.filter(|_| !answer.is_closed()) {
                answer.send(request(channel).await).ok();
            }
        });
        answered
    }

    /// Sets how many deliveries may be unsettled at once, for consumers that follow.
    pub(crate) async fn set_prefetch(&self, count: u16, deadline: Instant) -> Result<(), Fault> {
        let arguments = BasicQosArguments::new(0, count, false);
        self.request(deadline, "setting the prefetch", |channel| async move {
            channel.basic_qos(arguments).await
        })
        .await
    }

    /// Starts a consumer; the prefetch has to be set before. An empty tag lets the server choose.
    pub(crate) async fn consume(
        &self,
        queue: &str,
        tag: &str,
        is_exclusive: bool,
        arguments: FieldTable,
        deadline: Instant,
    ) -> Result<(String, Deliveries), Fault> {
        check_all(&[("queue", queue), ("consumer tag", tag)])?;
        let arguments = BasicConsumeArguments::new(queue, tag)
            .exclusive(is_exclusive)
            .arguments(arguments)
            .finish();
        self.request(deadline, "consuming", |channel| async move {
            channel.basic_consume_rx(arguments).await
        })
        .await
    }

    /// Ends a consumer. What was sent to it before stays unsettled.
    pub(crate) async fn cancel(&self, tag: &str, deadline: Instant) -> Result<(), Fault> {
        check_short("consumer tag", tag).map_err(Fault::Invalid)?;
        let arguments = BasicCancelArguments::new(tag);
        let answer = self.request(deadline, "ending a consumer", |channel| async move {
            channel.basic_cancel(arguments).await
        });
        answer.await.map(drop)
    }

    /// Takes one message from a queue, to be settled by its delivery tag.
    #[cfg(test)]
    pub(crate) async fn get(
        &self,
        queue: &str,
        deadline: Instant,
    ) -> Result<Option<amqprs::channel::GetMessage>, Fault> {
        let arguments = amqprs::channel::BasicGetArguments::new(queue);
        self.request(deadline, "getting a message", |channel| async move {
            channel.basic_get(arguments).await
        })
        .await
    }

    /// Asks for confirms; publishes count from 1 on.
    pub(crate) async fn select_confirms(&self, deadline: Instant) -> Result<(), Fault> {
        self.request(deadline, "selecting confirms", |channel| async move {
            channel.confirm_select(ConfirmSelectArguments::default()).await
        })
        .await
    }

    /// Asks for a sign of life. If it is late and `is_patient`, the connection counts as blocked
    /// until it comes.
    pub(super) async fn sign_of_life(
        &self,
        patience: Duration,
        is_patient: bool,
    ) -> Result<(), Fault> {
        let Inner { channel, turn, refusal, session, .. } = &*self.0;
        let mut answered = self.begin(channel, turn, |channel| async move {
            channel.basic_qos(BasicQosArguments::new(0, 1, false)).await
        });
        let deadline = Instant::now() + patience;
        if !is_patient {
            return outcome(session, refusal, deadline, "a sign of life", answered).await;
        }
        let answer = match timeout_at(deadline, &mut answered).await {
            Ok(answer) => answer,
            Err(_) => {
                session.set_blocked(true);
                let answer = answered.await;
                session.set_blocked(false);
                answer
            }
        };
        match answer {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(self.lost()),
        }
    }

    /// Hands a publish over; the names have to be checked. It waits while the connection's queue
    /// is full, and may be dropped: then nothing was handed over.
    pub(crate) async fn publish(
        &self,
        properties: BasicProperties,
        body: Vec<u8>,
        route: BasicPublishArguments,
    ) -> Result<(), Fault> {
        let Some(channel) = self.0.channel.get() else { return Err(self.lost()) };
        channel.basic_publish(properties, body, route).await.map_err(|_| self.lost())
    }

    /// Acknowledges a delivery, and all before it if `multiple`. It waits only while the
    /// connection's queue is full, and not beyond its end.
    pub(crate) async fn ack(&self, tag: u64, multiple: bool) -> Result<(), Fault> {
        let Some(channel) = self.0.channel.get() else { return Err(self.lost()) };
        let acked = channel.basic_ack(BasicAckArguments::new(tag, multiple));
        self.hand_over(acked).await
    }

    /// Gives a delivery up: the server moves it to the dead letters of its queue. It waits as
    /// [`Channel::ack`] does.
    pub(crate) async fn reject(&self, tag: u64) -> Result<(), Fault> {
        let Some(channel) = self.0.channel.get() else { return Err(self.lost()) };
        self.hand_over(channel.basic_reject(BasicRejectArguments::new(tag, false))).await
    }

    async fn hand_over(&self, sent: impl Future<Output = Result<(), Theirs>>) -> Result<(), Fault> {
        tokio::select! {
            biased;
            sent = sent => sent.map_err(|_| self.lost()),
            () = self.0.session.ended() => Err(self.lost()),
        }
    }

    fn lost(&self) -> Fault {
        match self.0.refusal.get() {
            Some(refusal) => Fault::Refused(refusal.clone()),
            None => Fault::Lost(self.0.session.why()),
        }
    }
}

pub(super) fn check_all(names: &[(&str, &str)]) -> Result<(), Fault> {
    names.iter().try_for_each(|(what, name)| check_short(what, name)).map_err(Fault::Invalid)
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel").field("session", &self.0.session).finish_non_exhaustive()
    }
}
