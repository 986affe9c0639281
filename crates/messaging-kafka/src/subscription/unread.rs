//! What was fetched of a partition and is not read yet.
//!
//! Records become messages when somebody takes them, some at a time: a message is made, used and dropped
//! by the same processor, and what waits takes no more room than its bytes.

use std::collections::VecDeque;

use messaging_core::driver::{Event, Parked};
use messaging_core::{Patterns, Subject};

use super::lane::Fetched;
use super::place::Place;
use super::reading;
use crate::read::record::{RecordRef, Records};

/// How many messages are made at once.
const SOME: usize = 256;

/// The batches that were fetched of one partition, in order.
#[derive(Debug, Default)]
pub(super) struct Unread {
    batches: VecDeque<Records>,
    bytes: usize,
    /// The offset behind all of them.
    end: i64,
}

impl Unread {
    pub(super) fn push(&mut self, batches: Vec<Records>, end: i64) {
        self.bytes += batches.iter().map(Records::bytes).sum::<usize>();
        self.batches.extend(batches);
        self.end = end;
    }

    /// How many bytes wait to be read.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// The offset behind what waits to be read.
    pub(super) fn end(&self) -> Option<i64> {
        (!self.batches.is_empty()).then_some(self.end)
    }

    pub(super) fn clear(&mut self) {
        self.batches.clear();
        self.bytes = 0;
    }

    /// Reads the next messages from an offset on; gives the offset behind what was read for them.
    pub(super) fn read(
        &mut self,
        place: &Place,
        from: i64,
        reader: &mut Reader,
        mut add: impl FnMut(Fetched),
    ) -> Option<i64> {
        if self.batches.is_empty() || reader.is_tired() {
            return None;
        }
        let (mut next, mut room) = (from, SOME);
        while let Some(batch) = self.batches.front_mut() {
            while let Some(record) = batch.next_ref() {
                reader.left -= 1;
                match record {
                    // A batch begins before what is wanted of it.
                    Ok(record) if record.offset < next => {}
                    Ok(record) => {
                        next = record.offset.saturating_add(1);
                        if let Some(fetched) = reader.message(record, place) {
                            add(fetched);
                            room -= 1;
                        }
                    }
                    Err(bad) => reader.park(place, bad.reason),
                }
                if room == 0 || reader.is_tired() {
                    return Some(next);
                }
            }
            self.bytes -= batch.bytes();
            self.batches.pop_front();
        }
        Some(self.end)
    }
}

/// Makes messages of records.
#[derive(Debug)]
pub(super) struct Reader {
    /// What is for us; everything where there are none.
    patterns: Option<Patterns>,
    /// The subject that was read last, and whether it is for us.
    recent: Option<(Subject, bool)>,
    turn: usize,
    /// How many more records may be read in this turn.
    left: usize,
    parked: Vec<Parked>,
}

impl Reader {
    /// Reads at most `turn` records before others get their turn.
    pub(super) const fn new(patterns: Option<Patterns>, turn: usize) -> Self {
        Self { patterns, recent: None, turn, left: turn, parked: Vec::new() }
    }

    /// Others had their turn.
    pub(super) const fn rest(&mut self) {
        self.left = self.turn;
    }

    /// Whether it is the turn of others.
    pub(super) const fn is_tired(&self) -> bool {
        self.left == 0
    }

    /// What could not be read.
    pub(super) fn take_parked(&mut self) -> impl Iterator<Item = Event> {
        self.parked.drain(..).map(Event::Parked)
    }

    /// `None` for what is not for us.
    fn message(&mut self, record: RecordRef<'_>, place: &Place) -> Option<Fetched> {
        let recent = self.recent.as_ref();
        let fetched = reading::message(record, place, recent.map(|(subject, _)| subject))?;
        let subject = &fetched.message.subject;
        let is_ours = match recent.filter(|(recent, _)| recent == subject) {
            Some((_, is_ours)) => *is_ours,
            None => {
                let is_ours = self.patterns.as_ref().is_none_or(|all| all.matches(subject));
                self.recent = Some((subject.clone(), is_ours));
                is_ours
            }
        };
        is_ours.then_some(fetched)
    }

    fn park(&mut self, place: &Place, reason: &str) {
        self.parked.push(Parked::new(format!("{}: {reason}", place.partition)));
    }
}
