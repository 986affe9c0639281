//! One subscription, as its task and its handles share it.

use std::sync::Arc;
use std::time::Duration;

use messaging_core::{Error, ErrorKind, Patterns, Result, Subject, SubscribeSpec};
use tokio::time::Instant;

use super::desk::{Desk, Limits, MAIN, Returning, SUSPECTS};
use super::line::Line;
use super::source::Source;
use crate::connection::{Link, Session};
use crate::driver::Shared;
use crate::error::{Fault, Refusal};
use crate::topology::{self, Names, current_value};

/// How long declaring and consuming everything may take.
const OPENING: Duration = Duration::from_secs(30);

/// How many more than the prefetch are fetched where some may be kept back.
const KEPT_BACK: u32 = 1_024;

/// How many times the prefetch, and how many at least, an ordered group fetches. What its member has
/// acked the server may not have on its disk yet, and another member handles it again after a kill:
/// that is as much as is fetched, so it is little.
const OF_ORDERED: (u32, u32) = (4, 64);

/// What a message is taken to weigh before it has come. The server limits a consumer by messages
/// alone, so this is what a limit of bytes is turned into.
const WEIGHT: usize = 64 << 10;

#[derive(Debug)]
pub(crate) struct Member {
    pub(super) shared: Arc<Shared>,
    pub(super) source: Source,
    /// What is delivered; what does not match is settled unseen.
    patterns: Patterns,
    /// The exchanges through which only copies of ours come.
    pub(super) ours: Vec<Arc<str>>,
    pub(crate) desk: Desk,
    /// How many attempts a message gets; one more is only counted, to be refused.
    pub(super) max_attempts: u32,
    /// How many the server leaves unsettled.
    fetched: u16,
}

/// Why nothing is consumed.
#[derive(Debug)]
pub(super) struct Unopened {
    pub(super) error: Error,
    /// Whether the connection died as consuming began, and nobody has ended it.
    pub(super) is_cut: bool,
}

impl From<Error> for Unopened {
    fn from(error: Error) -> Self {
        Self { error, is_cut: false }
    }
}

impl Member {
    pub(crate) fn new(shared: &Arc<Shared>, spec: &SubscribeSpec) -> Result<Self> {
        let source = Source::of(spec, &shared.topology())?;
        let most = shared.config.prefetch.map_or(u16::MAX, std::num::NonZeroU16::get);
        let prefetch =
            spec.prefetch.min(std::num::NonZeroU32::new(most.into()).unwrap_or(spec.prefetch));
        let fetched = fetched(&source, prefetch.get(), spec.prefetch_bytes, most);
        let limits = Limits { prefetch, bytes: spec.prefetch_bytes, fetched };
        let desk = Desk::new(2, limits, source.returning());
        Ok(Self {
            shared: Arc::clone(shared),
            ours: source.ours(&shared.names),
            patterns: spec.source.patterns()?,
            source,
            desk,
            max_attempts: spec.max_attempts.get(),
            fetched,
        })
    }

    /// Whether messages of a subject are for this subscription.
    pub(super) fn wants(&self, subject: &Subject) -> bool {
        matches!(self.source, Source::DeadLetters { .. }) || self.patterns.matches(subject)
    }

    /// Declares everything and consumes it.
    pub(super) async fn open(&self, link: &Link) -> Result<Vec<Line>, Unopened> {
        let patience = Instant::now() + self.shared.config.timeout;
        let session = link.session(patience).await?;
        let deadline = Instant::now() + OPENING;
        let places = self.source.places(&self.shared.names, &self.shared.topology());
        let declared = declare(&session, &self.shared.names, &places.declarations, deadline).await;
        declared.map_err(|fault| self.refused(fault))?;
        let mut lines = Vec::with_capacity(places.queues.len());
        for (lane, queue) in (MAIN..).zip(places.queues) {
            let at = (lane, self.desk.epoch(lane));
            let opened = Line::open(&session, queue, at, self.server_prefetch(lane), deadline);
            lines.push(opened.await.map_err(|fault| Unopened {
                is_cut: matches!(fault, Fault::Lost(_)) && !session.is_ended(),
                error: fault.at("consuming"),
            })?);
        }
        Ok(lines)
    }

    /// Declares everything once more, as something of it is missing.
    pub(crate) async fn declare(&self) -> Result<()> {
        let deadline = Instant::now() + OPENING;
        let session = self.shared.consuming.session(deadline).await?;
        let places = self.source.places(&self.shared.names, &self.shared.topology());
        let declared = declare(&session, &self.shared.names, &places.declarations, deadline).await;
        declared.map_err(|fault| self.refused(fault))
    }

    /// One suspect is out at a time.
    const fn server_prefetch(&self, lane: u32) -> u16 {
        if lane == SUSPECTS { 1 } else { self.fetched }
    }

    /// The server's refusal to declare. What members agree on is in the marker's arguments.
    fn refused(&self, fault: Fault) -> Error {
        let Source::Group(group) = &self.source else { return fault.at("declaring") };
        let marker = format!("'{}'", self.shared.names.marker(&group.name));
        let theirs = match &fault {
            Fault::Refused(refusal)
                if refusal.code == Refusal::PRECONDITION_FAILED
                    && refusal.text.contains("arg 'x-dead-letter-routing-key'")
                    && refusal.text.contains(&marker) =>
            {
                current_value(&refusal.text)
            }
            _ => return fault.at(&format!("group {}", group.name)),
        };
        let (group, ours) = (group.name.to_string(), group.shape());
        let theirs = theirs.map(str::to_owned);
        let text = format!(
            "group {group} receives something else ({}); this member wants {ours}; change it by \
             provisioning",
            theirs.as_deref().unwrap_or("unknown")
        );
        Error::new(ErrorKind::GroupConflict { group, theirs, ours }, text)
    }
}

/// How many deliveries the server leaves unsettled at most. What is fetched beyond the prefetch has to
/// fit into the limit of bytes.
fn fetched(source: &Source, prefetch: u32, bytes: Option<usize>, most: u16) -> u16 {
    let more = match source.returning() {
        Returning::AsCopy { .. } => 0,
        Returning::InPlace { .. } if source.is_ordered() => {
            let (times, least) = OF_ORDERED;
            prefetch.saturating_mul(times).max(least) - prefetch
        }
        Returning::InPlace { .. } => KEPT_BACK,
    };
    let fit = bytes.map_or(more, |bytes| u32::try_from(bytes / WEIGHT).unwrap_or(u32::MAX).max(1));
    u16::try_from(prefetch.saturating_add(more.min(fit))).unwrap_or(u16::MAX).min(most)
}

/// Declares over a channel of its own, as a refusal closes it.
pub(crate) async fn declare(
    session: &Session,
    names: &Names,
    all: &[topology::Declaration],
    deadline: Instant,
) -> Result<(), Fault> {
    let (channel, _events) = session.channel(deadline).await?;
    topology::declare(&channel, names, all, deadline).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::GroupShape;

    #[test]
    fn what_is_fetched_beyond_the_prefetch_fits_into_the_limits() {
        let patterns = Patterns::new(["tasks.#"]).unwrap();
        let own = Source::Own { patterns: patterns.clone() };
        let stream = "tasks".parse().unwrap();
        let dead = Source::DeadLetters { stream, retention: Duration::from_secs(60) };
        let group = |ordered| {
            let (name, patterns) = ("g".parse().unwrap(), patterns.clone());
            Source::Group(GroupShape { name, patterns, ordered, priority: false })
        };
        let all = [own, dead, group(true), group(false)];
        let within = |most, prefetch, bytes| {
            let fetched = all.iter().map(|source| fetched(source, prefetch, bytes, most));
            fetched.collect::<Vec<_>>()
        };
        let of = |prefetch, bytes| within(u16::MAX, prefetch, bytes);
        assert_eq!(of(1, None), [1_025, 1_025, 64, 1]);
        assert_eq!(of(1, Some(1 << 20)), [17, 17, 17, 1]);
        assert_eq!(of(10, Some(100)), [11, 11, 11, 10]);
        assert_eq!(of(256, Some(usize::MAX)), [1_280, 1_280, 1_024, 256]);
        assert_eq!(of(u32::MAX, None), [u16::MAX; 4]);
        assert_eq!(within(10, 5, None), [10, 10, 10, 5]);
    }
}
