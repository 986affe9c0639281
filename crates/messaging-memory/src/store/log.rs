//! What a stream keeps: messages by sequence number, with holes where they were removed.

use std::collections::VecDeque;
use std::sync::Arc;

use messaging_core::Message;
use tokio::time::Instant;

/// Messages in chunks, so that one old message does not hold the room of all that came after it.
#[derive(Debug, Default)]
pub(super) struct Log {
    chunks: VecDeque<Option<Chunk>>,
    /// The number of the first chunk.
    first: u64,
    next: u64,
    len: usize,
    /// The room of a chunk that was taken away, for the next one.
    spare: Vec<Option<Entry>>,
}

#[derive(Debug)]
struct Chunk {
    entries: Vec<Option<Entry>>,
    live: usize,
}

/// A message and who still needs it.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) message: Arc<Message>,
    /// The size of the message, so that nobody need look at it again.
    pub(super) bytes: usize,
    pub(super) stored: Instant,
    /// How many groups have not settled it.
    pub(super) open: u32,
    /// Whether it stands in its stream's queue of messages that nobody needs.
    pub(super) idle: bool,
}

const CHUNK: u64 = 64;

impl Log {
    /// The number that the next message gets.
    pub(super) const fn next(&self) -> u64 {
        self.next
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }

    pub(super) fn append(&mut self, entry: Entry) -> u64 {
        let seq = self.next;
        self.next += 1;
        self.len += 1;
        if seq.is_multiple_of(CHUNK) {
            let mut entries = std::mem::take(&mut self.spare);
            entries.reserve(CHUNK as usize);
            self.chunks.push_back(Some(Chunk { entries, live: 0 }));
        }
        // A chunk that is still being filled is never taken away.
        if let Some(Some(chunk)) = self.chunks.back_mut() {
            chunk.entries.push(Some(entry));
            chunk.live += 1;
        }
        seq
    }

    pub(super) fn get(&self, seq: u64) -> Option<&Entry> {
        let index = (seq / CHUNK).checked_sub(self.first)?;
        let chunk = self.chunks.get(index as usize)?.as_ref()?;
        chunk.entries.get((seq % CHUNK) as usize)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, seq: u64) -> Option<&mut Entry> {
        let index = (seq / CHUNK).checked_sub(self.first)?;
        let chunk = self.chunks.get_mut(index as usize)?.as_mut()?;
        chunk.entries.get_mut((seq % CHUNK) as usize)?.as_mut()
    }

    pub(super) fn remove(&mut self, seq: u64) -> Option<Entry> {
        let index = (seq / CHUNK).checked_sub(self.first)?;
        let place = self.chunks.get_mut(index as usize)?;
        let chunk = place.as_mut()?;
        let entry = chunk.entries.get_mut((seq % CHUNK) as usize)?.take()?;
        chunk.live -= 1;
        self.len -= 1;
        if chunk.live == 0 && chunk.entries.len() as u64 == CHUNK {
            if let Some(mut chunk) = place.take() {
                chunk.entries.clear();
                self.spare = chunk.entries;
            }
            while let Some(None) = self.chunks.front() {
                self.chunks.pop_front();
                self.first += 1;
            }
        }
        Some(entry)
    }

    /// The messages from `seq` on, in order.
    pub(super) fn from(&self, seq: u64) -> impl Iterator<Item = (u64, &Entry)> {
        let skip = (seq / CHUNK).saturating_sub(self.first);
        let chunks = self.chunks.iter().zip(self.first..).skip(skip as usize);
        chunks
            .filter_map(|(chunk, number)| chunk.as_ref().map(|chunk| (chunk, number)))
            .flat_map(|(chunk, number)| chunk.entries.iter().zip(number * CHUNK..))
            .filter_map(|(entry, seq)| entry.as_ref().map(|entry| (seq, entry)))
            .skip_while(move |(at, _)| *at < seq)
    }
}

#[cfg(test)]
mod tests {
    use messaging_core::Subject;

    use super::*;

    fn entry() -> Entry {
        let message = Arc::new(Message::new(Subject::from_static("tasks"), "x"));
        Entry { message, bytes: 1, stored: Instant::now(), open: 0, idle: false }
    }

    fn kept(log: &Log, from: u64) -> Vec<u64> {
        log.from(from).map(|(seq, _)| seq).collect()
    }

    #[test]
    fn an_old_message_does_not_hold_the_room_of_those_after_it() {
        let mut log = Log::default();
        for _ in 0..10 * CHUNK {
            log.append(entry());
        }
        for seq in 1..10 * CHUNK {
            assert!(log.remove(seq).is_some());
        }
        assert_eq!(log.chunks.iter().flatten().count(), 1);
        assert!(log.get(0).is_some());
        assert!(log.remove(0).is_some());
        assert!(log.chunks.is_empty());
        assert_eq!((log.append(entry()), log.len()), (10 * CHUNK, 1));
    }

    #[test]
    fn a_range_starts_anywhere_and_skips_holes() {
        let mut log = Log::default();
        for _ in 0..200 {
            log.append(entry());
        }
        for seq in (0..150).chain(151..198) {
            log.remove(seq);
        }
        assert_eq!(kept(&log, 0), [150, 198, 199]);
        assert_eq!(kept(&log, 151), [198, 199]);
        assert_eq!(kept(&log, 500), [] as [u64; 0]);
        assert!(log.get(7).is_none() && log.remove(7).is_none());
    }
}
