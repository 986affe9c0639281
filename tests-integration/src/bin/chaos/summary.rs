//! The figures of a run.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use tests_integration::audit::{
    Fate, HandOver, History, Outcome, Promise, Recovery, Report, Verdict, What, audit,
};

use crate::backend::{Backend, ReadBack};
use crate::clock::{MILLISECOND, SECOND};
use crate::faults::Kind;
use crate::publisher::DEADLINE;
use crate::role::Control;
use crate::run::Ended;

/// What a run showed; the last line of `--json`.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Summary {
    pub(crate) backend: String,
    pub(crate) seed: u64,
    pub(crate) messages: u64,
    pub(crate) control: Option<Control>,
    pub(crate) server_kills: u64,
    pub(crate) consumer_kills: u64,
    /// Every fault that counts, by kind.
    pub(crate) faults: BTreeMap<&'static str, u64>,
    /// Faults that met nothing and were repeated.
    pub(crate) repeated: u64,
    /// Kills at most 5 ms after a confirmation.
    pub(crate) kills_after_confirm: u64,
    pub(crate) lost: u64,
    /// How many of them by the first fault after their confirmation.
    pub(crate) lost_by: BTreeMap<String, u64>,
    /// What listeners missed, all of it told unless V9 is broken, and how often they were told.
    pub(crate) missed: u64,
    pub(crate) gaps: u64,
    pub(crate) phantoms: u64,
    pub(crate) order_checked: u64,
    pub(crate) order_breaks: u64,
    pub(crate) duplicates: u64,
    pub(crate) duplicates_bound: u64,
    pub(crate) confirmed: u64,
    pub(crate) failed: u64,
    pub(crate) unknown: Unknown,
    pub(crate) dead_letters: u64,
    pub(crate) recovery: Times,
    /// From a consumer's death to the first handler of each of its lanes' next owners.
    pub(crate) takeover: Times,
    /// From the last sign of a lane's owner that lives to the first of the next.
    pub(crate) hand_over: Times,
    /// How often a lane changed hands.
    pub(crate) hand_overs: u64,
    /// The longest time at which an owner that was replaced still worked.
    pub(crate) overlap_ms: f64,
    /// Nothing where nothing is kept.
    pub(crate) read_back: Option<Check>,
    /// The rule that caught the control.
    pub(crate) caught_by: Option<&'static str>,
    /// How often each rule was broken.
    pub(crate) broken: BTreeMap<&'static str, u64>,
    pub(crate) troubles: Vec<String>,
    pub(crate) settings: BTreeMap<String, String>,
    pub(crate) verdict: Verdict,
}

/// What became of publishes whose outcome nobody knows.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Unknown {
    pub(crate) recovered: u64,
    pub(crate) vanished: u64,
}

/// From the server's own answer to the first confirmation and delivery; nothing where no server
/// was started again.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Times {
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
    max_ms: Option<f64>,
}

/// What the broker's own tool found beside what was recorded.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Check {
    /// How many messages were ever added, if the broker tells.
    added: Option<u64>,
    /// At least every confirmed publish, at most those of unknown outcome too.
    expected: (u64, u64),
    dead_letters: u64,
    pending: u64,
    agrees: bool,
}

/// What the run was promised.
pub(crate) fn promise(backend: &dyn Backend, secrets: Vec<String>) -> Promise {
    let deadline = u64::try_from(DEADLINE.as_nanos()).unwrap_or(u64::MAX);
    Promise {
        // What a dead member held is taken over after 30 s.
        settling: 60 * SECOND,
        duplicates_per_fault: most_in_hand(backend),
        fencing_grace: 0,
        gap_slack: 0,
        deadline: deadline + 250 * MILLISECOND,
        recovery: 10 * SECOND,
        silence: 45 * SECOND,
        resident_growth: 128 * 1024 * 1024,
        descriptor_growth: 16,
        lines_per_second: 1,
        secrets,
    }
}

/// What one fault may make a group handle again.
fn most_in_hand(backend: &dyn Backend) -> u64 {
    let groups = backend.groups().iter().filter(|group| !group.is_lossy());
    let members = groups.map(|group| group.members()).max().unwrap_or(0);
    u64::from(members) * backend.in_hand()
}

impl Summary {
    /// Judges what there is.
    pub(crate) fn of(
        backend: &dyn Backend,
        seed: u64,
        control: Option<Control>,
        ended: Ended,
    ) -> (Self, Report) {
        let Ended { history, settings, secrets, read_back, struck, repeated, troubles } = ended;
        let report = audit(&history, &backend.promise(promise(backend, secrets)));
        let counts = Counts::of(&history);
        let check = read_back.as_ref().map(|found| counts.check(found));
        let count = |is: fn(&&Kind) -> bool| struck.iter().filter(is).count() as u64;
        let mut faults = BTreeMap::new();
        struck.iter().for_each(|kind| *faults.entry(kind.name()).or_default() += 1);
        // Where nothing is wrong, but not everything was seen, nobody knows.
        let is_whole = troubles.is_empty() && check.is_none_or(|check| check.agrees);
        let verdict = match report.verdict {
            Verdict::Valid if !is_whole => Verdict::Unknown,
            verdict => verdict,
        };
        let summary = Self {
            backend: backend.name().to_owned(),
            seed,
            messages: counts.messages,
            control,
            server_kills: count(|kind| kind.is_server_kill()),
            consumer_kills: count(|kind| **kind == Kind::ConsumerKill),
            faults,
            repeated,
            kills_after_confirm: counts.kills_after_confirm,
            lost: report.count("V1"),
            lost_by: report.lost_by.clone(),
            missed: report.missed,
            gaps: report.gaps,
            phantoms: report.count("V3"),
            order_checked: report.order_checked,
            order_breaks: report.count("V6"),
            duplicates: report.duplicates,
            duplicates_bound: bound(backend, &struck) + counts.unknown,
            confirmed: counts.ok,
            failed: counts.failed,
            unknown: Unknown { recovered: report.recovered, vanished: report.vanished },
            dead_letters: counts.parked,
            recovery: Times::of(&report.recoveries),
            takeover: Times::over(takeovers(&report)),
            hand_over: Times::over(graceful(&report)),
            hand_overs: report.hand_overs.len() as u64,
            overlap_ms: report.overlap as f64 / MILLISECOND as f64,
            read_back: check,
            caught_by: control.map(Control::rule).filter(|rule| report.count(rule) > 0),
            broken: report.counts.clone(),
            troubles,
            settings: settings.into_iter().collect(),
            verdict,
        };
        (summary, report)
    }
}

/// How many duplicates all these faults explain.
fn bound(backend: &dyn Backend, struck: &[Kind]) -> u64 {
    let groups = backend.groups().iter().filter(|group| !group.is_lossy());
    let all = groups.map(|group| group.members()).sum::<u32>();
    let members = |kind: &Kind| if kind.is_of_consumer() { 1 } else { all };
    u64::from(struck.iter().map(members).sum::<u32>()) * backend.in_hand()
}

/// What is counted in a history beside the rules.
#[derive(Debug, Default)]
struct Counts {
    messages: u64,
    calls: u64,
    ok: u64,
    failed: u64,
    unknown: u64,
    parked: u64,
    kills_after_confirm: u64,
}

impl Counts {
    fn of(history: &History) -> Self {
        let mut counts = Self::default();
        let mut known = std::collections::HashSet::new();
        let mut confirmed = 0;
        for event in &history.0 {
            match &event.what {
                What::Publishing { id, .. } => {
                    counts.calls += 1;
                    counts.messages += u64::from(known.insert(*id));
                }
                What::Published { outcome: Outcome::Ok, .. } => {
                    counts.ok += 1;
                    confirmed = event.at;
                }
                What::Published { outcome: Outcome::Failed, .. } => counts.failed += 1,
                What::Published { outcome: Outcome::Unknown, .. } => counts.unknown += 1,
                What::Ended { fate: Fate::Parked, .. } => counts.parked += 1,
                What::FaultBegan { fault } => {
                    let is_close = event.at - confirmed <= 5 * MILLISECOND;
                    counts.kills_after_confirm += u64::from(is_close && fault.contains("-kill"));
                }
                _ => {}
            }
        }
        counts
    }

    fn check(&self, found: &ReadBack) -> Check {
        let never_returned = self.calls - self.ok - self.failed - self.unknown;
        let expected = (self.ok, self.ok + self.unknown + never_returned);
        let agrees = found.added.is_none_or(|added| (expected.0..=expected.1).contains(&added))
            && found.dead == self.parked
            && found.pending == 0;
        let (added, dead_letters, pending) = (found.added, found.dead, found.pending);
        Check { added, expected, dead_letters, pending, agrees }
    }
}

/// For each lane that somebody got from a consumer that had been killed, how long that took.
fn takeovers(report: &Report) -> Vec<u64> {
    let killed = |fault: &&Recovery| Kind::of(&fault.fault) == Some(Kind::ConsumerKill);
    let faults: Vec<&Recovery> = report.recoveries.iter().filter(killed).collect();
    let took = |change: &HandOver| {
        // What it said last may have been said while it was killed.
        let around = change.from.saturating_sub(100 * MILLISECOND)..change.to;
        let fault = faults.iter().find(|fault| around.contains(&fault.began))?;
        Some(change.to - fault.began)
    };
    report.hand_overs.iter().filter_map(took).collect()
}

/// For each lane that went from an owner to another with nothing wrong, how long nobody worked on it.
fn graceful(report: &Report) -> Vec<u64> {
    let is_wrong = |fault: &&Recovery| !Kind::of(&fault.fault).is_some_and(Kind::is_of_membership);
    let faults: Vec<&Recovery> = report.recoveries.iter().filter(is_wrong).collect();
    let is_disturbed = |change: &&HandOver| {
        // A fault has its effects for a while.
        let since = change.from.saturating_sub(15 * SECOND);
        faults
            .iter()
            .any(|fault| fault.began < change.to && fault.ended.is_none_or(|at| at > since))
    };
    let calm = report.hand_overs.iter().filter(|change| !is_disturbed(change));
    calm.filter_map(HandOver::time).collect()
}

impl Times {
    fn of(recoveries: &[Recovery]) -> Self {
        let of_server =
            recoveries.iter().filter(|it| Kind::of(&it.fault).is_some_and(Kind::is_of_server));
        Self::over(of_server.filter_map(Recovery::time).collect())
    }

    fn over(mut times: Vec<u64>) -> Self {
        times.sort_unstable();
        let at = |percent: usize| {
            let place = (times.len() * percent).div_ceil(100).saturating_sub(1);
            times.get(place).map(|time| *time as f64 / MILLISECOND as f64)
        };
        Self { p50_ms: at(50), p99_ms: at(99), max_ms: at(100) }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { backend, seed, messages, server_kills, consumer_kills, .. } = self;
        let Self { lost, phantoms, order_checked, order_breaks, duplicates, .. } = self;
        let Unknown { recovered, vanished } = self.unknown;
        let of = |time: Option<f64>| time.map_or("–".to_owned(), |ms| format!("{ms:.0} ms"));
        writeln!(f, "{backend}, seed {seed}: {messages} messages")?;
        writeln!(f, "faults: {server_kills} server kills, {consumer_kills} consumer kills")?;
        let others = self.faults.iter().filter(|(name, _)| !name.ends_with("-kill"));
        others.into_iter().try_for_each(|(name, count)| writeln!(f, "  {name}: {count}"))?;
        let (close, repeated) = (self.kills_after_confirm, self.repeated);
        writeln!(
            f,
            "  {close} kills 0–5 ms after a confirmation; {repeated} met nothing, repeated"
        )?;
        writeln!(f, "lost: {lost}, phantoms: {phantoms}")?;
        for (fault, count) in &self.lost_by {
            writeln!(f, "  {count} by {fault}")?;
        }
        if self.missed + self.gaps > 0 {
            writeln!(f, "missed at most once: {}, told of in {} gaps", self.missed, self.gaps)?;
        }
        writeln!(f, "order: {order_breaks} breaks in {order_checked} messages")?;
        writeln!(f, "duplicates: {duplicates}, bound {}", self.duplicates_bound)?;
        writeln!(f, "dead letters: {}", self.dead_letters)?;
        writeln!(f, "publishes: {} confirmed, {} failed", self.confirmed, self.failed)?;
        writeln!(f, "unknown: {recovered} recovered, {vanished} vanished")?;
        let Times { p50_ms, p99_ms, max_ms } = self.recovery;
        writeln!(f, "recovery: p50 {}, p99 {}, max {}", of(p50_ms), of(p99_ms), of(max_ms))?;
        if self.hand_overs > 0 {
            let (takeover, hand_over) = (&self.takeover, &self.hand_over);
            writeln!(
                f,
                "lanes changed hands {} times; after a kill p50 {}, max {}; in order p50 {}, max {}; \
                 longest overlap {:.1} ms",
                self.hand_overs,
                of(takeover.p50_ms),
                of(takeover.max_ms),
                of(hand_over.p50_ms),
                of(hand_over.max_ms),
                self.overlap_ms
            )?;
        }
        if let Some(check) = &self.read_back {
            writeln!(f, "{check}")?;
        }
        self.settings
            .iter()
            .try_for_each(|(name, value)| writeln!(f, "setting: {name} {value}"))?;
        self.troubles.iter().try_for_each(|trouble| writeln!(f, "trouble: {trouble}"))?;
        for (rule, count) in &self.broken {
            writeln!(f, "broken: {rule}, {count} times")?;
        }
        match (self.control.map(Control::name), self.caught_by) {
            (None, _) => {}
            (Some(control), Some(rule)) => writeln!(f, "control {control}: caught by {rule}")?,
            (Some(control), None) => writeln!(f, "control {control}: NOT CAUGHT")?,
        }
        write!(f, "verdict: {:?}", self.verdict)
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { added, expected: (least, most), dead_letters, pending, agrees } = self;
        let word = if *agrees { "agrees" } else { "DIFFERS" };
        let added = added.map_or("not told how many".to_owned(), |added| added.to_string());
        write!(
            f,
            "the broker's own tool {word}: {added} added (expected {least} to {most}), \
             {dead_letters} dead letters, {pending} pending"
        )
    }
}
