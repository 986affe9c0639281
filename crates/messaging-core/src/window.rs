//! The publishing window: how many messages and bytes may be unconfirmed at once.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};

use tokio::sync::{Mutex, Notify};

/// Bounds the messages and bytes that are handed over and not yet resolved.
///
/// One atomic word holds both counts, so taking and giving back room is one operation each. A
/// message larger than the whole window passes alone.
#[derive(Debug)]
pub(crate) struct Window {
    /// Bit 63: somebody waits. Bits 40–62: messages. Bits 0–39: bytes.
    used: AtomicU64,
    limit: Room,
    /// Waiters take turns here, first come first served; the one inside sleeps on `freed`.
    turn: Mutex<()>,
    freed: Notify,
}

/// Messages and bytes, taken or free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    pub(crate) messages: usize,
    pub(crate) bytes: usize,
}

const WAITING: u64 = 1 << 63;
const BYTE_BITS: u32 = 40;
const BYTE_MASK: u64 = (1 << BYTE_BITS) - 1;
const MESSAGE_MASK: u64 = (1 << (63 - BYTE_BITS)) - 1;

impl Room {
    const fn pack(self) -> u64 {
        ((self.messages as u64) << BYTE_BITS) | self.bytes as u64
    }

    const fn unpack(word: u64) -> Self {
        Self {
            messages: ((word >> BYTE_BITS) & MESSAGE_MASK) as usize,
            bytes: (word & BYTE_MASK) as usize,
        }
    }
}

impl Window {
    /// A window of at least one message. Limits are capped at what the word can count.
    pub(crate) fn new(limit: Room) -> Self {
        let limit = Room {
            messages: limit.messages.clamp(1, (MESSAGE_MASK / 2) as usize),
            bytes: limit.bytes.clamp(1, (BYTE_MASK / 2) as usize),
        };
        Self { used: AtomicU64::new(0), limit, turn: Mutex::new(()), freed: Notify::new() }
    }

    pub(crate) const fn limit(&self) -> Room {
        self.limit
    }

    /// What is handed over and not resolved.
    pub(crate) fn used(&self) -> Room {
        Room::unpack(self.used.load(Acquire))
    }

    /// Takes room if there is some and nobody waits for it.
    pub(crate) fn try_acquire(&self, room: Room) -> bool {
        self.take(room, false)
    }

    /// Takes room, waiting for it behind those who waited before.
    ///
    /// # Cancellation
    /// Dropping the future takes nothing.
    pub(crate) async fn acquire(&self, room: Room) {
        if self.try_acquire(room) {
            return;
        }
        let _turn = self.turn.lock().await;
        loop {
            let freed = self.freed.notified();
            // The flag is set before the last look, so a release in between is not missed.
            self.used.fetch_or(WAITING, AcqRel);
            if self.take(room, true) {
                // Those behind us set the flag again when their turn comes.
                self.used.fetch_and(!WAITING, AcqRel);
                return;
            }
            freed.await;
        }
    }

    /// Gives room back.
    pub(crate) fn release(&self, room: Room) {
        if self.used.fetch_sub(room.pack(), AcqRel) & WAITING != 0 {
            self.freed.notify_one();
        }
    }

    fn take(&self, room: Room, in_turn: bool) -> bool {
        let mut word = self.used.load(Relaxed);
        loop {
            let used = Room::unpack(word);
            let fits = used.messages + room.messages <= self.limit.messages
                && used.bytes + room.bytes <= self.limit.bytes;
            if (word & WAITING != 0 && !in_turn) || !(fits || used.messages == 0) {
                return false;
            }
            match self.used.compare_exchange_weak(word, word + room.pack(), AcqRel, Relaxed) {
                Ok(_) => return true,
                Err(now) => word = now,
            }
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test looks at futures that must not be ready")]
mod tests {
    use std::sync::Arc;

    use futures::FutureExt;
    use proptest::prelude::*;

    use super::*;

    fn room(messages: usize, bytes: usize) -> Room {
        Room { messages, bytes }
    }

    #[test]
    fn a_full_window_makes_the_next_wait_until_room_is_released() {
        let window = Window::new(room(2, 100));
        assert!(window.try_acquire(room(1, 10)) && window.try_acquire(room(1, 10)));
        let mut third = Box::pin(window.acquire(room(1, 10)));
        assert!(third.as_mut().now_or_never().is_none());
        window.release(room(1, 10));
        assert!(third.as_mut().now_or_never().is_some());
        assert_eq!(window.used(), room(2, 20));
    }

    #[test]
    fn bytes_are_bounded_too_and_a_giant_passes_alone() {
        let window = Window::new(room(10, 100));
        assert!(window.try_acquire(room(1, 60)));
        assert!(!window.try_acquire(room(1, 60)));
        window.release(room(1, 60));
        assert!(window.try_acquire(room(1, 5_000)));
        assert!(!window.try_acquire(room(1, 1)));
    }

    #[test]
    fn a_newcomer_does_not_overtake_one_who_waits() {
        let window = Window::new(room(4, 100));
        assert!(window.try_acquire(room(3, 90)));
        let mut large = Box::pin(window.acquire(room(2, 20)));
        assert!(large.as_mut().now_or_never().is_none());
        assert!(!window.try_acquire(room(1, 1)));
    }

    #[test]
    fn a_cancelled_wait_takes_nothing_and_blocks_nobody() {
        let window = Window::new(room(1, 100));
        assert!(window.try_acquire(room(1, 1)));
        drop({
            let mut waiting = Box::pin(window.acquire(room(1, 1)));
            assert!(waiting.as_mut().now_or_never().is_none());
            waiting
        });
        window.release(room(1, 1));
        assert!(window.acquire(room(1, 1)).now_or_never().is_some());
        assert_eq!(window.used(), room(1, 1));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn no_wake_up_is_lost_under_contention() {
        let window = Arc::new(Window::new(room(3, 64)));
        let mut tasks = tokio::task::JoinSet::new();
        for size in 1..=8 {
            let window = Arc::clone(&window);
            tasks.spawn(async move {
                for _ in 0..2_000 {
                    window.acquire(room(1, size * 4)).await;
                    tokio::task::yield_now().await;
                    window.release(room(1, size * 4));
                }
            });
        }
        while let Some(ended) = tasks.join_next().await {
            ended.unwrap();
        }
        assert_eq!(window.used(), room(0, 0));
    }

    proptest! {
        #[test]
        fn room_survives_packing(messages in 0..1_000_000_usize, bytes in 0..1_usize << 39) {
            prop_assert_eq!(Room::unpack(room(messages, bytes).pack()), room(messages, bytes));
        }

        #[test]
        fn the_window_is_never_exceeded(steps in prop::collection::vec((any::<bool>(), 1..50_usize), 0..200)) {
            let window = Window::new(room(5, 100));
            let mut held: Vec<usize> = Vec::new();
            for (take, bytes) in steps {
                if take {
                    if window.try_acquire(room(1, bytes)) { held.push(bytes); }
                } else if let Some(bytes) = held.pop() {
                    window.release(room(1, bytes));
                }
                prop_assert!(held.len() <= 5 && held.iter().sum::<usize>() <= 100);
                prop_assert_eq!(window.used(), room(held.len(), held.iter().sum()));
            }
        }
    }
}
