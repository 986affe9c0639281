//! Opening subscriptions, and what each receives.

mod committer;
mod copier;
mod desk;
mod fetcher;
mod keeper;
mod lane;
mod member;
mod place;
pub(crate) mod places;
mod reading;
mod unread;

use std::hash::{BuildHasher, Hasher, RandomState};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::{Stream, StreamExt};
use messaging_core::driver::{Event, Incoming, Settle, Settlement, Subscription};
use messaging_core::spec::{Membership, Mode, Source as Wanted, SubscribeSpec};
use messaging_core::topology::GroupConfig;
use messaging_core::{Error, ErrorKind, Result, Start};
use tokio::sync::oneshot;
use tokio::time::{sleep_until, timeout};

use self::desk::Desk;
pub(crate) use self::member::Member;
use self::member::Source;
pub(crate) use self::reading::{read_message, stream_of_retry};
use crate::NAME;
use crate::admin::create_places;
use crate::driver::Shared;
use crate::group::Partitions;
use crate::group::member::Settings;
use crate::offsets::resume::Resume;
use crate::settle::KafkaSettler;

/// Joins a group, or starts to read everything.
pub(crate) async fn open(shared: &Arc<Shared>, spec: SubscribeSpec) -> Result<Subscription> {
    let topology = shared.topology();
    let patterns = spec.source.patterns()?;
    let dead_letters = match &spec.source {
        Wanted::Subjects(_) => None,
        Wanted::DeadLetters(stream) => Some(stream.clone()),
    };
    let name = match &spec.membership {
        Membership::Group(name) => Some(name.clone()),
        Membership::Broadcast => None,
    };
    let one_stream = dead_letters.is_some() || topology.streams_for(&patterns)?.len() == 1;
    check_start(spec.start, one_stream)?;
    if let (Some(name), None) = (&name, &dead_letters) {
        let group = GroupConfig::new(name.clone(), patterns.clone());
        create_places(shared, &topology, &group).await?;
    }
    let start = match (&spec.membership, spec.start) {
        (_, Some(start)) => start,
        (Membership::Group(_), None) => Start::Earliest,
        (Membership::Broadcast, None) => Start::Latest,
    };
    let retries = name.is_some() && dead_letters.is_none() && !spec.ordered;
    let group = name.as_ref().map(|name| shared.group_id(name, dead_letters.as_ref()));
    let max_attempts = spec.max_attempts.get();
    let source = Source { group, name, patterns, dead_letters, start, retries, max_attempts };
    let prefetch = spec.prefetch.get() as usize;
    let commits = source.group.is_some() && spec.mode == Mode::Consume;
    let wanted = source.dead_letters.is_none().then(|| source.patterns.clone());
    let desk = Desk::new(prefetch, spec.prefetch_bytes, spec.ordered, !retries, commits, wanted);
    let (member, notices) = Member::new(Arc::clone(shared), source, desk);
    shared.add_member(&member);
    let joined = async {
        let known = member.discover().await?;
        // From here on dropping it leaves.
        let events = Events(Arc::clone(&member));
        match member.source.group.clone() {
            Some(group) if commits => join(&member, group, known, notices).await?,
            _ => read_all(&member, known).await?,
        }
        Ok(events)
    };
    let events = match timeout(spec.timeout, joined).await {
        Ok(outcome) => outcome?,
        Err(_) => {
            let text = "the group was not joined in time: the coordinator does not answer, or other \
                        members keep it from coming to rest";
            return Err(Error::new(ErrorKind::Timeout, text));
        }
    };
    shared.subscriptions.spawn(tick(Arc::clone(&member)));
    if spec.mode == Mode::Listen {
        return Ok(Subscription::at_most_once(listen(events).boxed()));
    }
    let settler = Arc::new(KafkaSettler(member));
    Ok(Subscription::settled(events.boxed(), settler))
}

/// A position means something in one stream only, and only in a stream of ours.
fn check_start(start: Option<Start>, one_stream: bool) -> Result<()> {
    let Some(Start::Position(position)) = start else { return Ok(()) };
    if one_stream && position.backend() == NAME {
        return Ok(());
    }
    let reason = "it is no start for this subscription";
    let accepted = "a position of this backend, and patterns of one stream";
    let value = position.to_string();
    Err(Error::invalid(ErrorKind::InvalidConfig, "position", &value, reason, accepted))
}

async fn join(
    member: &Arc<Member>,
    group: String,
    known: Partitions,
    notices: tokio::sync::mpsc::Receiver<crate::group::member::Event>,
) -> Result<()> {
    let first = match member.source.start {
        Start::Earliest => Partitions::new(),
        _ => places::new_to(&member.shared.cluster, &group, &known).await?,
    };
    let config = &member.shared.config;
    let patterns = member.source.patterns.iter().map(ToString::to_string).collect();
    let settings = Settings {
        name: member.source.name.as_ref().map_or_else(|| group.clone(), ToString::to_string),
        group: group.clone(),
        instance: config.instance.clone(),
        patterns,
        session: config.session_timeout,
        rebalance: config.session_timeout * 2,
        heartbeat: config.heartbeat,
        seed: RandomState::new().build_hasher().finish(),
    };
    let instance = settings.instance.clone();
    let (ready, joined) = oneshot::channel();
    let tasks = &member.shared.subscriptions;
    tasks.spawn(keeper::run(Arc::clone(member), settings, (known, first), notices, ready));
    tasks.spawn(committer::run(Arc::clone(member), group, instance));
    tasks.spawn(fetcher::run(Arc::clone(member)));
    tasks.spawn(copier::run(Arc::clone(member)));
    joined.await.unwrap_or_else(|_| Err(crate::error::closed("subscribe")))
}

/// Reads every partition, sharing with nobody.
async fn read_all(member: &Arc<Member>, known: Partitions) -> Result<()> {
    add(member, known, member.source.start).await?;
    let tasks = &member.shared.subscriptions;
    tasks.spawn(alone(Arc::clone(member)));
    tasks.spawn(fetcher::run(Arc::clone(member)));
    tasks.spawn(copier::run(Arc::clone(member)));
    Ok(())
}

async fn add(member: &Member, partitions: Partitions, start: Start) -> Result<()> {
    let mut opened = Vec::new();
    for partition in &partitions {
        let at = places::start_of(&member.shared.cluster, partition, start).await?;
        opened.push((partition, Resume::at(at)));
    }
    let places = partitions.iter().filter_map(|partition| member.place(partition.clone()));
    let new = member.desk.assign(places.collect(), 0);
    let epoch = |partition| new.iter().find(|(known, _)| known == partition).map(|new| new.1);
    let opened = opened
        .into_iter()
        .filter_map(|(partition, resume)| Some((partition.clone(), epoch(partition)?, resume)));
    member.desk.open(opened.collect());
    Ok(())
}

/// Keeps a subscription without a group: new partitions are read from their beginning, and at the
/// end it waits for what is in hand.
async fn alone(member: Arc<Member>) {
    let mut known: Partitions = member.desk.held().into_iter().collect();
    loop {
        tokio::select! {
            () = tokio::time::sleep(std::time::Duration::from_secs(10)) => {}
            () = member.desk.keeper.notified() => {}
            () = member.shared.closing.cancelled(), if !member.left.is_cancelled() => {
                member.desk.let_go();
                member.leave();
            }
            () = member.shared.dead.cancelled() => break,
        }
        if member.shared.closing.is_cancelled() {
            member.desk.let_go();
        }
        if member.left.is_cancelled() {
            if member.desk.is_settled() {
                break;
            }
            continue;
        }
        let Ok(found) = member.discover().await else { continue };
        let new = &found - &known;
        if !new.is_empty() && add(&member, new, Start::Earliest).await.is_ok() {
            known = found;
        }
    }
    member.desk.close();
    member.ended.cancel();
}

/// Wakes the subscription when something is due.
async fn tick(member: Arc<Member>) {
    loop {
        let due = member.desk.due();
        let wait = async {
            match due {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = wait => member.desk.wake(),
            () = member.desk.timer.notified() => {}
            () = member.ended.cancelled() => return,
            () = member.shared.dead.cancelled() => return,
        }
    }
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

/// What a listener receives: everything counts as settled once it is delivered.
fn listen(events: Events) -> impl Stream<Item = Result<Event>> {
    let member = Arc::clone(&events.0);
    events.inspect(move |event| {
        if let Ok(Event::Messages(messages)) = event {
            let ack = |one: &Incoming| Settle::new(one.token, Settlement::Ack);
            member.desk.settle_all(messages.iter().map(ack));
        }
    })
}
