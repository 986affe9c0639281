//! A whole run: start, faults, end.

use std::sync::Arc;
use std::time::Duration;

use tests_integration::audit::{History, What};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use xtask::brokers::Options;

use crate::backend::{Backend, ReadBack, Wish};
use crate::child::Child;
use crate::clock;
use crate::crew::Crew;
use crate::faults::{Fault, Kind};
use crate::group::topology;
use crate::identity::Identity;
use crate::ledger::{Ledger, subscribed};
use crate::pacer::Pacer;
use crate::site::Site;
use crate::stalls::Stalls;
use crate::strike::strike;

/// What is to be done.
pub(crate) struct Plan {
    pub(crate) backend: &'static dyn Backend,
    /// Nodes and versions of the brokers.
    pub(crate) wanted: Options,
    pub(crate) wish: Wish,
    pub(crate) messages: u64,
    pub(crate) seed: u64,
    pub(crate) faults: Vec<Fault>,
    /// The most messages a second.
    pub(crate) rate: u64,
}

/// What there is to be judged.
pub(crate) struct Ended {
    pub(crate) history: History,
    pub(crate) settings: Vec<(String, String)>,
    pub(crate) secrets: Vec<String>,
    /// Nothing where nothing is kept.
    pub(crate) read_back: Option<ReadBack>,
    /// Faults that met something, by kind.
    pub(crate) struck: Vec<Kind>,
    /// Faults that met nothing.
    pub(crate) repeated: u64,
    pub(crate) troubles: Vec<String>,
}

/// How long everything that is on its way may take to arrive, and how long it then stays quiet.
const DRAIN: Duration = Duration::from_secs(180);
const QUIET: Duration = Duration::from_secs(10);

/// How long connecting and reading the dead letters may take beside that.
const LOOKING: Duration = Duration::from_secs(120);

/// The least time for what is around a fault.
const SHARE: Duration = Duration::from_millis(1_500);

/// How long a fault waits for its share of the messages at most.
const BEHIND: Duration = Duration::from_secs(30);

/// How often a fault that met nothing is repeated.
const REPEATS: u64 = 20;

/// Runs the plan. The broker ends with it.
pub(crate) async fn run(plan: Plan) -> Result<Ended, String> {
    let site = Site::start(plan.backend, &plan.wish, plan.wanted.clone(), &topology()).await?;
    let settings = site.settings().await?;
    let identity = Identity { run: clock::now(), seed: plan.seed };
    let ledger = Arc::new(Ledger::default());
    let stalls = Stalls::watch();
    let (groups, control) = (plan.backend.groups(), plan.wish.control);
    let mut crew = Crew::new(
        Arc::clone(&ledger),
        groups,
        identity,
        control,
        plan.backend.fences(),
        site.env()?,
    );
    crew.gather().await?;
    for group in groups {
        ledger.note(subscribed(*group));
    }
    let pacer = Pacer::start(crew.publishers().await?, plan.messages, Arc::clone(&ledger));
    let (struck, repeated) = strike_all(&plan, &pacer, &site, &mut crew).await?;
    let publishers = pacer.finish().await?;
    site.heal().await?;
    drain(publishers, &mut crew).await?;
    let read_back = site.read_back(identity).await?;
    let secrets = site.secrets();
    let mut troubles = crew.troubles;
    troubles.extend(stalls.trouble());
    Ok(Ended {
        history: ledger.history(),
        settings,
        secrets,
        read_back,
        struck,
        repeated,
        troubles,
    })
}

/// Makes every fault, and repeats those that met nothing, while publishing goes on.
async fn strike_all(
    plan: &Plan,
    pacer: &Pacer,
    site: &Site,
    crew: &mut Crew,
) -> Result<(Vec<Kind>, u64), String> {
    let count = plan.faults.len() as u64;
    let (mut struck, mut repeated) = (Vec::new(), 0);
    // Behind the last fault some messages are left.
    let reserve = plan.messages / (count + 1) / 2;
    let some = (reserve / (REPEATS + 1)).max(1);
    let least = plan.messages as f64 / (count + 1) as f64 / plan.rate as f64;
    let least = SHARE.max(Duration::from_secs_f64(least));
    let time = |fault: &Fault| least + fault.duration + plan.backend.takes(fault.kind);
    let all: Duration = plan.faults.iter().map(time).sum();
    let (mut spent, mut ahead) = (Duration::ZERO, all);
    for (number, fault) in (0..).zip(&plan.faults) {
        // A slow machine takes longer for each than is planned, and some are to be left at the end.
        let slowness = spent.div_duration_f64(all - ahead + SHARE).max(1.0);
        let per_second = pacer.left() as f64 / (ahead + least).as_secs_f64() / slowness;
        pacer.set((per_second as u64).clamp(1, plan.rate), reserve);
        ahead = ahead.saturating_sub(time(fault));
        let began = Instant::now();
        sleep_until(began + least * fault.offset / 100).await;
        let mut fault = fault.clone();
        for time in 0_u64.. {
            let name = format!("{} {}.{time}", fault.kind.name(), number + 1);
            if strike(&mut fault, &name, site, crew, || pacer.spare(some)).await? {
                break;
            }
            repeated += 1;
            if time == REPEATS {
                return Err(format!("{name}: nothing was on its way, {REPEATS} times"));
            }
            // Perhaps it is that no message was left for it.
            pacer.set(some.max(10), reserve.saturating_sub(some * (time + 1)));
        }
        struck.push(fault.kind);
        progress(crew, number + 1, count, fault.kind);
        sleep_until(began + least).await;
        spent += began.elapsed();
        // Where publishing is slower than planned, the next fault waits for its share of it.
        let share = plan.messages * (number + 1) / (count + 1);
        let is_published = crew.ledger.until(|seen| seen.returned >= share);
        drop(timeout(BEHIND, is_published).await);
    }
    pacer.set(plan.rate, 0);
    Ok((struck, repeated))
}

#[expect(clippy::print_stderr, reason = "whoever waits wants to know")]
fn progress(crew: &Crew, number: u64, count: u64, kind: Kind) {
    let returned = crew.ledger.seen().returned;
    eprintln!("{number}/{count} {}: {returned} publishes have returned", kind.name());
}

/// Lets everything arrive: at fresh consumers, or at the listeners that were there.
async fn drain(publishers: Vec<Child>, crew: &mut Crew) -> Result<(), String> {
    for (number, publisher) in (1..).zip(publishers) {
        crew.end(&format!("publisher-{number}"), publisher).await?;
    }
    if crew.groups.iter().all(|group| group.is_lossy()) {
        // Nothing waits anywhere, so there is nothing else to wait for.
        sleep(QUIET).await;
        return crew.dismiss().await;
    }
    crew.dismiss().await?;
    crew.ledger.note(What::Draining);
    crew.gather().await?;
    let inspector = crew.inspector(QUIET, DRAIN)?;
    // It knows its own limit; what it needs beside that, it needs for a broker that answers.
    let ended = timeout(DRAIN + LOOKING, inspector.ended()).await;
    let ended = ended.map_err(|_| "the inspector did not come to an end".to_owned())?;
    let (status, last) = ended.map_err(|error| format!("inspector: {error}"))?;
    if !status.success() {
        return Err(format!("inspector: {status}: {last}"));
    }
    if crew.ledger.seen().drained {
        crew.ledger.note(What::Drained);
    } else {
        let lag = crew.ledger.seen().lag;
        crew.troubles.push(format!("not empty after {} s: {lag:?} left", DRAIN.as_secs()));
    }
    crew.dismiss().await
}
