//! Opening subscriptions, and what each receives.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::{Stream, StreamExt};
use messaging_core::driver::{Event, Subscription};
use messaging_core::spec::{Mode, SubscribeSpec};
use messaging_core::{MessageId, Result};

use super::desk::Desk;
use super::driver::Shared;
use super::groups::{Group, shape_of};
use super::member::Member;
use super::settle::{self, StreamsSettler};
use super::{keeper, listener, reader};

/// Joins a group, or starts to listen.
pub(super) async fn open(shared: &Arc<Shared>, spec: SubscribeSpec) -> Result<Subscription> {
    if spec.mode == Mode::Listen {
        return listener::open(shared, &spec).await;
    }
    let consumer = MessageId::generate().to_string();
    let topology = shared.topology();
    let group = Group::of(&spec, &shared.config.prefix, &topology, &consumer)?;
    let patterns = spec.source.patterns()?;
    let mut link = shared.connect().await?;
    group.open(&mut link, &shared.config.prefix, &shape_of(&patterns, spec.ordered)).await?;
    let prefetch = spec.prefetch.get() as usize;
    let desk = Desk::new(group.lanes.len(), prefetch, spec.prefetch_bytes, spec.ordered);
    let attempts = spec.max_attempts.get();
    let (member, queue) =
        Member::new(Arc::clone(shared), group, consumer, patterns, desk, attempts);
    shared.admit(&member)?;
    if shared.connector.is_cluster() {
        // The lanes are on different nodes, and one read can't wait at several.
        for lane in (0..).take(member.group.lanes.len()) {
            shared.tasks.spawn(reader::run(Arc::clone(&member), Some(lane)));
        }
    } else {
        shared.tasks.spawn(reader::run(Arc::clone(&member), None));
    }
    shared.tasks.spawn(keeper::run(Arc::clone(&member)));
    shared.tasks.spawn(settle::run(Arc::clone(&member), queue));
    let settler = Arc::new(StreamsSettler(Arc::clone(&member)));
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
        self.0.leave();
    }
}
