//! The membership task: it carries out what the state machine of the member wants.

mod requests;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use messaging_core::driver::Backoff;
use messaging_core::{Error, ErrorKind, Result, Start};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until};

use self::requests::Requests;
use super::member::Member;
use super::places;
use crate::group::member::{Action, Answer, Call, Event, Fault, Member as Machine, Settings};
use crate::group::{Partition, Partitions};
use crate::offsets::metadata::{Progress, hash_of, patterns_told};
use crate::offsets::resume::Resume;

/// How often new partitions are looked for.
const DISCOVERY: Duration = Duration::from_secs(10);

/// How long who leaves keeps what is free: most leave at once, and one rebalance is enough for that.
const PATIENCE: Duration = Duration::from_millis(250);

/// How long a coordinator is asked again that has no place of a partition of which we have committed
/// one. While it loads its groups it can say so, and reading from the start would repeat or skip much.
const DOUBT: Duration = Duration::from_secs(10);

/// What the task waits for beside the clock.
enum Done {
    Answered(Call, Result<Answer, Fault>),
    Discovered(Result<Partitions>),
    Opened(Result<Vec<(Partition, u32, Resume)>>),
}

type Work = Pin<Box<dyn Future<Output = Done> + Send>>;

struct Keeper {
    member: Arc<Member>,
    machine: Machine,
    requests: Requests,
    /// What there was when we came and is new to the group: what is found later, by us or by it, is read
    /// from its beginning.
    first: Arc<Partitions>,
    work: FuturesUnordered<Work>,
    /// Told once the first assignment is open, or what kept us out.
    ready: Option<oneshot::Sender<Result<()>>>,
    opening: usize,
    /// Partitions that were asked back before anything of them was handed out.
    unused: Vec<Partition>,
    /// What is ours and was not there at the last look.
    missing: Partitions,
    leaving: bool,
    /// When others get what is free, though something is still in hand.
    retire: Option<Instant>,
    closing: bool,
    ended: bool,
}

/// Keeps us in the group until nothing of the subscription is left.
pub(super) async fn run(
    member: Arc<Member>,
    settings: Settings,
    (known, first): (Partitions, Partitions),
    mut notices: mpsc::Receiver<Event>,
    ready: oneshot::Sender<Result<()>>,
) {
    let requests = Requests::new(Arc::clone(&member.shared.cluster), settings.clone());
    let mut keeper = Keeper {
        machine: Machine::new(settings, Instant::now()),
        member: Arc::clone(&member),
        requests,
        first: Arc::new(first),
        work: FuturesUnordered::new(),
        ready: Some(ready),
        opening: 0,
        unused: Vec::new(),
        missing: Partitions::new(),
        leaving: false,
        retire: None,
        closing: false,
        ended: false,
    };
    keeper.on(Event::Discovered(known));
    let mut look = Instant::now() + DISCOVERY;
    let limit = member.shared.config.max_in_hand;
    let rhythm = (limit / 8).clamp(Duration::from_millis(100), DISCOVERY);
    let mut check = Instant::now() + rhythm;
    let far = Duration::from_secs(3_600);
    while !keeper.ended {
        let now = Instant::now();
        let tick = keeper.machine.deadline().unwrap_or(now + far);
        let retire = keeper.retire.unwrap_or(now + far);
        tokio::select! {
            biased;
            () = member.shared.dead.cancelled() => break,
            Some(done) = keeper.work.next(), if !keeper.work.is_empty() => keeper.done(done),
            Some(event) = notices.recv() => keeper.on(event),
            () = member.desk.keeper.notified() => {}
            () = member.left.cancelled(), if !keeper.leaving => keeper.begin_leaving(),
            () = member.shared.closing.cancelled(), if !keeper.closing => {
                keeper.closing = true;
                member.desk.let_go();
                keeper.begin_leaving();
            }
            () = sleep_until(look) => {
                look = Instant::now() + DISCOVERY;
                let member = Arc::clone(&member);
                keeper.work.push(Box::pin(async move { Done::Discovered(member.discover().await) }));
            }
            () = sleep_until(check) => {
                check = Instant::now() + rhythm;
                keeper.give_up_what_is_stuck(limit);
            }
            () = sleep_until(retire) => {
                keeper.retire = None;
                keeper.on(Event::Retire);
            }
            () = sleep_until(tick) => keeper.on(Event::Tick),
        }
        keeper.give_up_what_is_free();
    }
    keeper.end();
}

impl Keeper {
    fn on(&mut self, event: Event) {
        let actions = self.machine.on(Instant::now(), event);
        for action in actions {
            self.act(action);
        }
        let member = &self.member;
        member.set_identity(self.machine.identity());
        member.desk.set_until(self.machine.fenced_at());
        if self.machine.is_stable() && self.opening == 0 {
            self.tell_ready(Ok(()));
        }
    }

    fn act(&mut self, action: Action) {
        let desk = &self.member.desk;
        match action {
            Action::Request { call, within, request } => {
                let answer = self.requests.make(request, Instant::now() + within);
                self.work.push(Box::pin(async move { Done::Answered(call, answer.await) }));
            }
            Action::Reconnect => self.requests.reconnect(),
            Action::Assigned(partitions) => self.assigned(partitions),
            Action::Revoked(partitions) => {
                // The machine is told in its own turn.
                self.unused.extend(desk.revoke(&partitions));
            }
            Action::Lost(partitions) => desk.lose(&partitions),
            Action::Failed(error) => {
                tracing::warn!(%error, "a member of a group can't go on");
                match self.ready.take() {
                    // Whoever is subscribing is told; if nobody is there any more, nobody cares.
                    Some(ready) => drop(ready.send(Err(error))),
                    None => desk.fail(error),
                }
            }
            Action::Ended => self.ended = true,
        }
    }

    fn assigned(&mut self, partitions: Partitions) {
        let member = &self.member;
        let places = partitions.into_iter().filter_map(|partition| member.place(partition));
        let generation =
            self.machine.identity().map_or(0, |(generation, _)| generation.unsigned_abs());
        let new = member.desk.assign(places.collect(), generation);
        if !new.is_empty() && !self.leaving {
            self.opening += 1;
            let (member, first) = (Arc::clone(member), Arc::clone(&self.first));
            let opening = async move { Done::Opened(open(&member, &first, new).await) };
            self.work.push(Box::pin(opening));
        }
    }

    fn done(&mut self, done: Done) {
        match done {
            Done::Answered(call, answer) => self.on(Event::Answered { call, answer }),
            Done::Discovered(Ok(mut known)) => {
                // Brokers learn of changes one after the other: what is ours is gone only if it is
                // missing twice.
                let held: Partitions = self.member.desk.held().into_iter().collect();
                let missing = &held - &known;
                known.extend(missing.difference(&self.missing).cloned());
                self.missing = missing;
                self.on(Event::Discovered(known));
            }
            // The next look may find out.
            Done::Discovered(Err(_)) => {}
            Done::Opened(Ok(opened)) => {
                self.opening -= 1;
                self.member.desk.open(opened);
                self.on(Event::Tick);
            }
            Done::Opened(Err(error)) => {
                self.opening -= 1;
                self.act(Action::Failed(error));
                self.begin_leaving();
            }
        }
    }

    fn tell_ready(&mut self, outcome: Result<()>) {
        if let Some(ready) = self.ready.take() {
            // Nobody waits if subscribing was given up; then the subscription is dropped too.
            drop(ready.send(outcome));
        }
    }

    fn begin_leaving(&mut self) {
        self.leaving = true;
        self.retire = Some(Instant::now() + PATIENCE);
        self.member.leave();
    }

    /// Gives partitions up that were asked back and of which nothing is left, and at the end leaves.
    fn give_up_what_is_free(&mut self) {
        let mut free = std::mem::take(&mut self.unused);
        free.extend(self.member.desk.released());
        for partition in free {
            self.on(Event::Released(partition));
        }
        if self.leaving && self.member.desk.is_given_up() {
            self.on(Event::Leave);
        }
    }

    /// Gives partitions up whose handlers make no progress, so that others may try.
    fn give_up_what_is_stuck(&mut self, limit: Duration) {
        let stuck = self.member.desk.overdue(limit);
        for (partition, offset) in &stuck {
            let secs = limit.as_secs_f32();
            tracing::warn!(%partition, offset, "in hand for more than {secs} s: given up");
        }
        if !stuck.is_empty() {
            self.on(Event::Stuck(stuck.into_iter().map(|(partition, _)| partition).collect()));
        }
    }

    fn end(&mut self) {
        let held = self.member.desk.held();
        self.member.desk.lose(&held);
        self.member.desk.close();
        self.member.ended.cancel();
        let text = "the connection was closed while the group was joined";
        self.tell_ready(Err(Error::new(ErrorKind::Closed, text)));
    }
}

/// Looks up where partitions that became ours go on, until the brokers say so.
async fn open(
    member: &Member,
    first: &Partitions,
    new: Vec<(Partition, u32)>,
) -> Result<Vec<(Partition, u32, Resume)>> {
    let mut backoff = Backoff::default();
    let until = Instant::now() + DOUBT;
    loop {
        match look_up(member, first, &new, Instant::now() < until).await {
            Err(error) if is_passing(&error) => {
                tokio::select! {
                    () = sleep(backoff.next()) => {}
                    () = member.ended.cancelled() => return Ok(Vec::new()),
                    () = member.shared.dead.cancelled() => return Ok(Vec::new()),
                }
                // A newer view may know where to ask.
                drop(member.shared.cluster.refresh().await);
            }
            outcome => return outcome,
        }
    }
}

fn is_passing(error: &Error) -> bool {
    let missing = *error.kind() == ErrorKind::NotFound;
    missing || error.is_retryable() || *error.kind() == ErrorKind::Other
}

async fn look_up(
    member: &Member,
    first: &Partitions,
    new: &[(Partition, u32)],
    doubts: bool,
) -> Result<Vec<(Partition, u32, Resume)>> {
    let cluster = &member.shared.cluster;
    let source = &member.source;
    let partitions: Vec<Partition> = new.iter().map(|(partition, _)| partition.clone()).collect();
    let mut committed = match &source.group {
        Some(group) => places::committed(cluster, group, &partitions).await?,
        None => std::collections::BTreeMap::new(),
    };
    let ours = hash_of(&source.patterns);
    let mut opened = Vec::with_capacity(new.len());
    for (partition, epoch) in new {
        let resume = match committed.remove(partition) {
            Some(place) => match Progress::decode(&place.metadata, place.offset) {
                Some(progress) if progress.patterns != ours => {
                    let theirs = patterns_told(&place.metadata, progress.patterns);
                    return Err(conflict(member, theirs));
                }
                Some(progress) => {
                    let resume = Resume::after(progress);
                    match resume.limit() {
                        None => resume,
                        Some(_) => resume.stored_before(
                            places::offset_at(cluster, partition, places::LATEST).await?,
                        ),
                    }
                }
                None => Resume::at(place.offset),
            },
            None if doubts && member.desk.has_placed(partition) => {
                let text = format!("{partition}: its committed place is not there now");
                return Err(Error::new(ErrorKind::Unavailable, text));
            }
            None => {
                // A start says nothing of what came later, nor of retries (G8).
                let says = first.contains(partition) && !member.is_of_retries(partition);
                let start = if says { source.start } else { Start::Earliest };
                Resume::at(places::start_of(cluster, partition, start).await?)
            }
        };
        opened.push((partition.clone(), *epoch, resume));
    }
    Ok(opened)
}

/// The group was left with other patterns: what only they want would be lost.
fn conflict(member: &Member, theirs: String) -> Error {
    let group = member.source.name.as_ref().map(ToString::to_string).unwrap_or_default();
    let ours = member.source.patterns.to_string();
    let text = format!(
        "group {group} was left with other patterns than {ours}; `provision` changes them while it \
         has no members"
    );
    Error::new(ErrorKind::GroupConflict { group, theirs: Some(theirs), ours }, text)
}
