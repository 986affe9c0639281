//! Opening subscriptions, and what each receives.

mod content;
mod copying;
mod desk;
mod line;
mod listening;
mod member;
mod order;
mod past;
mod ring;
mod run;
mod source;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::{Stream, StreamExt};
use messaging_core::Result;
use messaging_core::driver::{Event, Subscription};
use messaging_core::spec::{Mode, SubscribeSpec};

pub(crate) use self::member::{Member, declare};
use crate::driver::Shared;
use crate::settle::RabbitSettler;

/// Joins a group, or starts to listen. Each subscription has a connection of its own, so that what
/// ends the one of another does not end this.
pub(crate) async fn open(shared: &Arc<Shared>, spec: SubscribeSpec) -> Result<Subscription> {
    if spec.mode == Mode::Listen {
        return listening::open(shared, &spec).await;
    }
    let member = Arc::new(Member::new(shared, &spec)?);
    let task = run::start(&member).await?;
    shared.admit(&member)?;
    shared.tasks.spawn(task);
    let settler = Arc::new(RabbitSettler(Arc::clone(&member)));
    Ok(Subscription::settled(Events(member).boxed(), settler))
}

/// What one subscription receives. Dropping it leaves the group.
#[derive(Debug)]
struct Events(Arc<Member>);

impl Stream for Events {
    type Item = Result<Event>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.desk.poll(cx)
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.0.desk.leave();
    }
}
