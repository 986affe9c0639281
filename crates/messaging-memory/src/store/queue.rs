//! Which message an unordered group hands out next.

use std::collections::VecDeque;

use messaging_core::Message;

/// Where a message is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Place {
    pub(super) stream: u32,
    pub(super) seq: u64,
}

/// First come, first served; with levels, the more urgent first.
#[derive(Debug)]
pub(super) struct Queue(Vec<VecDeque<Place>>);

impl Queue {
    pub(super) fn new(priority: bool) -> Self {
        let levels = if priority { Message::MAX_PRIORITY as usize + 1 } else { 1 };
        Self(vec![VecDeque::new(); levels])
    }

    pub(super) fn push_back(&mut self, place: Place, priority: u8) {
        if let Some(level) = self.level(priority) {
            level.push_back(place);
        }
    }

    pub(super) fn push_front(&mut self, place: Place, priority: u8) {
        if let Some(level) = self.level(priority) {
            level.push_front(place);
        }
    }

    pub(super) fn pop(&mut self) -> Option<Place> {
        self.0.iter_mut().rev().find_map(VecDeque::pop_front)
    }

    pub(super) fn len(&self) -> usize {
        self.0.iter().map(VecDeque::len).sum()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Place> {
        self.0.iter().rev().flatten().copied()
    }

    pub(super) fn retain(&mut self, mut keep: impl FnMut(Place) -> bool) {
        for level in &mut self.0 {
            level.retain(|place| keep(*place));
        }
    }

    fn level(&mut self, priority: u8) -> Option<&mut VecDeque<Place>> {
        let highest = self.0.len() - 1;
        self.0.get_mut((priority as usize).min(highest))
    }
}
