use std::collections::{BTreeMap, HashSet};
use std::fmt;

use serde::Serialize;

use super::history::{Event, History, Id};
use super::index::Index;
use super::rules::{duplicates, fencing, gaps, liveness, lost, order, unknown};

/// What an audit found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Whether everything held.
    pub verdict: Verdict,
    /// How often each rule was broken.
    pub counts: BTreeMap<&'static str, u64>,
    /// Publishes with an unknown outcome that were delivered.
    pub recovered: u64,
    /// Publishes with an unknown outcome that never were.
    pub vanished: u64,
    /// Messages that were handled again without having been given back.
    pub duplicates: u64,
    /// How many messages were lost to subscriptions (V1), by the first fault that was not over when
    /// they were confirmed.
    pub lost_by: BTreeMap<String, u64>,
    /// How many messages at-most-once subscriptions missed, which is allowed if they were told.
    pub missed: u64,
    /// How often they were told.
    pub gaps: u64,
    /// Messages of ordered subscriptions that had one before them.
    pub order_checked: u64,
    /// The longest time after a lane had a new owner at which the old one still worked on it, in
    /// nanoseconds.
    pub overlap: u64,
    /// Every time a lane went from one owner to another.
    pub hand_overs: Vec<HandOver>,
    /// What came first after each fault.
    pub recoveries: Vec<Recovery>,
    /// The first of each rule, each with what happened to its message.
    pub findings: Vec<Finding>,
}

/// What came first after a fault, in nanoseconds of the history's clock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Recovery {
    /// The fault's name.
    pub fault: String,
    /// When it began.
    pub began: u64,
    /// When it had ended.
    pub ended: Option<u64>,
    /// The first confirmed publish since then.
    pub confirmed: Option<u64>,
    /// When every at-least-once subscription had got something since then.
    pub delivered: Option<u64>,
}

/// A lane went from one owner to another, in nanoseconds of the history's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct HandOver {
    /// When the old owner's last handler began or ended.
    pub from: u64,
    /// When the new owner's first handler began.
    pub to: u64,
    /// Since when there was something for that handler, as far as is known: what had been handed out
    /// before may have waited for its time.
    pub ready: Option<u64>,
}

impl HandOver {
    /// How long nobody worked on the lane though there was something to do.
    #[must_use]
    pub fn time(&self) -> Option<u64> {
        Some(self.to - self.ready?.max(self.from))
    }
}

impl Recovery {
    /// How long it took until both had come.
    #[must_use]
    pub fn time(&self) -> Option<u64> {
        Some(self.confirmed?.max(self.delivered?) - self.ended?)
    }
}

/// Whether a run held what it promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Everything held.
    Valid,
    /// Something did not.
    Invalid,
    /// Nothing was found, but the run was not brought to its end.
    Unknown,
}

/// A rule that did not hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The rule.
    pub rule: &'static str,
    /// What was wrong.
    pub text: String,
    /// Everything about the message.
    pub timeline: Vec<Event>,
}

/// The most findings of a rule that are shown.
const SHOWN: u64 = 50;

/// Findings as they are made.
#[derive(Debug)]
pub(super) struct Findings<'a> {
    history: &'a History,
    counts: BTreeMap<&'static str, u64>,
    found: Vec<(&'static str, Option<Id>, String)>,
}

impl<'a> Findings<'a> {
    pub(super) fn new(history: &'a History) -> Self {
        Self { history, counts: BTreeMap::new(), found: Vec::new() }
    }

    pub(super) fn add(
        &mut self,
        rule: &'static str,
        id: Option<Id>,
        text: impl FnOnce() -> String,
    ) {
        let count = self.counts.entry(rule).or_default();
        *count += 1;
        if *count <= SHOWN {
            self.found.push((rule, id, text()));
        }
    }

    pub(super) fn into_report(self, index: &Index) -> Report {
        let wanted: HashSet<Id> = self.found.iter().filter_map(|(_, id, _)| *id).collect();
        let mut timelines: BTreeMap<Id, Vec<Event>> = BTreeMap::new();
        for event in &self.history.0 {
            if let Some(id) = event.what.id().filter(|id| wanted.contains(id)) {
                timelines.entry(id).or_default().push(event.clone());
            }
        }
        let timeline =
            |id: Option<Id>| id.and_then(|id| timelines.get(&id).cloned()).unwrap_or_default();
        let findings = self.found.into_iter();
        let findings =
            findings.map(|(rule, id, text)| Finding { rule, text, timeline: timeline(id) });
        let verdict = match (self.counts.is_empty(), index.is_complete()) {
            (false, _) => Verdict::Invalid,
            (true, true) => Verdict::Valid,
            (true, false) => Verdict::Unknown,
        };
        let (recovered, vanished) = unknown::count(index);
        Report {
            verdict,
            counts: self.counts,
            recovered,
            vanished,
            duplicates: duplicates::count(index),
            lost_by: lost::by_fault(index),
            missed: gaps::count(index),
            gaps: index.subscriptions.values().map(|s| s.gaps.len() as u64).sum(),
            order_checked: order::count(index),
            overlap: fencing::overlap(index),
            hand_overs: fencing::hand_overs(index),
            recoveries: liveness::recoveries(index),
            findings: findings.collect(),
        }
    }
}

impl Report {
    /// How often a rule was broken.
    #[must_use]
    pub fn count(&self, rule: &str) -> u64 {
        self.counts.get(rule).copied().unwrap_or_default()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { verdict, recovered, vanished, .. } = self;
        writeln!(f, "{verdict:?}; unknown publishes: {recovered} recovered, {vanished} vanished")?;
        for (rule, count) in &self.counts {
            writeln!(f, "{rule}: {count}")?;
        }
        for Finding { rule, text, timeline } in &self.findings {
            writeln!(f, "\n{rule}: {text}")?;
            for event in timeline {
                writeln!(f, "  {:>12} {:?}", event.at, event.what)?;
            }
        }
        Ok(())
    }
}
