//! Carries out one fault.

use std::time::Duration;

use rustix::process::Signal;
use tests_integration::audit::What;
use tests_integration::proxy::{Cut, Mode, Way};
use tokio::time::{sleep, timeout};

use crate::clock;
use crate::crew::Crew;
use crate::faults::{Fault, Kind};
use crate::site::{Server, Site};

/// How long traffic may take to come, before or after a fault.
const LIMIT: Duration = Duration::from_secs(20);

/// How long it is waited for something to meet.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long what was said before a fault may take to arrive here.
const PIPES: Duration = Duration::from_millis(50);

/// Makes a fault and ends it. Tells whether it met anything: a publish without an answer or a
/// delivery without an end; for a consumer, one of its own; for a listener, a publish while it lasted.
/// `spare` lets messages go where there are none to show that they go through again.
pub(crate) async fn strike(
    fault: &mut Fault,
    name: &str,
    site: &Site,
    crew: &mut Crew,
    spare: impl FnOnce(),
) -> Result<bool, String> {
    if fault.kind.is_of_consumer() {
        return strike_consumer(fault, name, crew).await;
    }
    let busy = async {
        let ledger = &crew.ledger;
        while !ledger.was_unconfirmed(clock::now()) && !ledger.was_unsettled(clock::now(), None) {
            sleep(Duration::from_millis(1)).await;
        }
    };
    drop(timeout(PATIENCE, busy).await);
    let server = site.target(fault).await?;
    aim(fault, crew).await;
    let began = begin(name, crew);
    let ledger = &crew.ledger;
    // What is open is known for a short time only.
    let met = async {
        sleep(PIPES).await;
        Ok(ledger.was_unconfirmed(began) || ledger.was_unsettled(began, None))
    };
    let (ended, met) = tokio::try_join!(strike_site(fault, site, &server), met)?;
    end(name, ended, crew);
    // Who listens can miss everything that is published while it is not connected.
    let met = if crew.groups.iter().all(|group| group.is_lossy()) {
        sleep(PIPES).await;
        ledger.were_publishes(began, clock::now())
    } else {
        met
    };
    spare();
    // Whether that took too long is the auditor's to say.
    drop(timeout(LIMIT, recovered(ended, crew)).await);
    Ok(met)
}

/// Makes a fault of the server or the network, and tells when it was over.
async fn strike_site(fault: &mut Fault, site: &Site, server: &Server) -> Result<u64, String> {
    match fault.kind {
        Kind::Reset => {
            cut_all(site).await;
            Ok(clock::now())
        }
        Kind::HalfOpen => {
            let ways = [Way::Requests, Way::Answers, Way::Both];
            let way = ways.get(fault.dice.below(3) as usize).copied().unwrap_or(Way::Both);
            set_all(site, Mode::Swallow(way)).await;
            sleep(fault.duration).await;
            set_all(site, Mode::Pass).await;
            Ok(clock::now())
        }
        Kind::Cut => {
            set_all(site, Mode::Half(fault.dice.below(64))).await;
            sleep(PIPES + fault.duration).await;
            cut_all(site).await;
            set_all(site, Mode::Pass).await;
            Ok(clock::now())
        }
        Kind::ServerPause => {
            site.signal(server, Signal::STOP)?;
            sleep(fault.duration).await;
            site.signal(server, Signal::CONT)?;
            site.answers(server).await
        }
        Kind::ServerRestart => {
            site.stop(server).await?;
            sleep(fault.duration).await;
            site.start_again(server).await
        }
        Kind::ServerKill => {
            site.kill(server).await?;
            sleep(fault.duration).await;
            site.start_again(server).await
        }
        _ => site.strike(fault, server).await,
    }
}

async fn set_all(site: &Site, mode: Mode) {
    for proxy in &site.proxies {
        proxy.set(mode).await;
    }
}

async fn cut_all(site: &Site) {
    for proxy in &site.proxies {
        proxy.cut(Cut::Reset).await;
    }
}

async fn strike_consumer(fault: &mut Fault, name: &str, crew: &mut Crew) -> Result<bool, String> {
    // If nobody is busy in time, this one will meet nothing.
    let place = match timeout(PATIENCE, busy(fault, crew)).await {
        Ok(place) => place,
        Err(_) => fault.dice.below(crew.places.len() as u64) as usize,
    };
    let Some(member) = crew.places.get(place).map(|place| place.child.member) else {
        return Ok(false);
    };
    aim(fault, crew).await;
    let began = begin(name, crew);
    if fault.kind == Kind::ConsumerPause {
        signal(crew, place, Signal::STOP)?;
        sleep(PIPES).await;
        let met = crew.ledger.was_unsettled(began, Some(member));
        sleep(fault.duration).await;
        signal(crew, place, Signal::CONT)?;
        end(name, clock::now(), crew);
        return Ok(met);
    }
    if fault.kind == Kind::ConsumerChurn {
        let met = crew.ledger.was_unsettled(began, Some(member));
        let joined = match crew.may_join_or_leave(place) {
            (true, true) => fault.dice.below(2) == 0,
            (may_join, _) => may_join,
        };
        if joined {
            crew.join(place)?;
        } else {
            crew.leave(place).await?;
        }
        end(name, clock::now(), crew);
        return Ok(joined || met);
    }
    if fault.kind == Kind::ConsumerRestart {
        let met = crew.ledger.was_unsettled(began, Some(member));
        crew.restart(place, fault.duration).await?;
        end(name, clock::now(), crew);
        return Ok(met);
    }
    signal(crew, place, Signal::KILL)?;
    sleep(PIPES).await;
    let met = crew.ledger.was_unsettled(began, Some(member));
    sleep(fault.duration).await;
    crew.replace(place).await?;
    crew.ledger.forget(member, began);
    end(name, clock::now(), crew);
    Ok(met)
}

/// Waits until consumers have something in hand, and chooses one of them.
async fn busy(fault: &mut Fault, crew: &Crew) -> usize {
    loop {
        let now = clock::now();
        let members = (0..).zip(&crew.places).map(|(place, it)| (place, it.child.member));
        let busy = members.filter(|(_, member)| crew.ledger.was_unsettled(now, Some(*member)));
        let busy: Vec<usize> = busy.map(|(place, _)| place).collect();
        if !busy.is_empty() {
            let chosen = fault.dice.below(busy.len() as u64) as usize;
            return busy.get(chosen).copied().unwrap_or_default();
        }
        sleep(Duration::from_millis(1)).await;
    }
}

fn signal(crew: &Crew, place: usize, signal: Signal) -> Result<(), String> {
    let Some(place) = crew.places.get(place) else { return Ok(()) };
    place.child.signal(signal).map_err(|error| format!("{}: {error}", place.name()))
}

/// Waits for a confirmation and a moment more, where the fault is aimed at one.
async fn aim(fault: &Fault, crew: &Crew) {
    let Some(after) = fault.after_confirm else { return };
    let now = clock::now();
    let confirmed = crew.ledger.until(|seen| seen.confirmed > now);
    if timeout(LIMIT, confirmed).await.is_ok() {
        sleep(after).await;
    }
}

fn begin(name: &str, crew: &Crew) -> u64 {
    crew.ledger.note(What::FaultBegan { fault: name.to_owned() })
}

fn end(name: &str, at: u64, crew: &Crew) {
    crew.ledger.note_at(at, What::FaultEnded { fault: name.to_owned() });
}

/// Waits until a publish was confirmed and every group got something after `since`.
async fn recovered(since: u64, crew: &Crew) {
    let came =
        |seen: &crate::ledger::Seen| seen.confirmed >= since && seen.all_got(crew.groups, since);
    crew.ledger.until(came).await;
}
