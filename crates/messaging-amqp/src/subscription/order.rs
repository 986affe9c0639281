//! Retries in place: which deliveries of a channel are kept back, and until when.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ops::Bound;

use bytes::Bytes;
use tokio::time::Instant;

/// Which deliveries wait behind others of their key, or for their time, by their tags.
#[derive(Debug, Default)]
pub(super) struct Order {
    /// The keys of which a message is out, with those that wait behind it.
    held: HashMap<Bytes, VecDeque<u64>>,
    /// Those that are next of their key, or were given back.
    next: BTreeSet<u64>,
    /// Those that come again at a time.
    delayed: BTreeMap<(Instant, u64), ()>,
}

impl Order {
    /// Lets a message through if no other of its key is out; else it waits behind that.
    pub(super) fn admit(&mut self, tag: u64, key: Option<&Bytes>) -> bool {
        let Some(key) = key else { return true };
        if let Some(behind) = self.held.get_mut(key) {
            behind.push_back(tag);
            return false;
        }
        self.held.insert(key.clone(), VecDeque::new());
        true
    }

    /// A message is settled for good: the next of its key may go.
    pub(super) fn finish(&mut self, key: Option<&Bytes>) {
        let Some(key) = key else { return };
        match self.held.get_mut(key).map(VecDeque::pop_front) {
            Some(Some(following)) => self.again(following),
            Some(None) => drop(self.held.remove(key)),
            None => {}
        }
    }

    /// A message goes out before those that never did.
    pub(super) fn again(&mut self, tag: u64) {
        self.next.insert(tag);
    }

    /// A message comes again at a time; its key waits.
    pub(super) fn delay(&mut self, tag: u64, at: Instant) {
        self.delayed.insert((at, tag), ());
    }

    /// A message that goes out now, ahead of those that never did.
    pub(super) fn due(&mut self, now: Instant) -> Option<u64> {
        if let Some(tag) = self.next.pop_first() {
            return Some(tag);
        }
        let entry = self.delayed.first_entry()?;
        let (at, tag) = *entry.key();
        (at <= now).then(|| {
            entry.remove();
            tag
        })
    }

    /// The first time after `from` at which one comes again.
    pub(super) fn next_due(&self, from: Instant) -> Option<Instant> {
        let later = self.delayed.range((Bound::Excluded((from, u64::MAX)), Bound::Unbounded));
        later.map(|((at, _), ())| *at).next()
    }

    /// When a delayed message comes again.
    pub(super) fn delayed(&self) -> impl Iterator<Item = (u64, Instant)> + '_ {
        self.delayed.keys().map(|(at, tag)| (*tag, *at))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_key_has_one_message_out_and_keeps_its_order_over_a_delay() {
        let (mut order, now) = (Order::default(), Instant::now());
        let (a, b) = (Bytes::from_static(b"a"), Bytes::from_static(b"b"));
        assert!(order.admit(1, Some(&a)));
        assert!(!order.admit(2, Some(&a)));
        assert!(order.admit(3, Some(&b)));
        assert!(order.admit(4, None), "what has no key waits for nobody");
        let later = now + Duration::from_secs(1);
        order.delay(1, later);
        assert_eq!((order.due(now), order.next_due(now)), (None, Some(later)));
        assert_eq!(order.due(later), Some(1));
        order.finish(Some(&a));
        assert_eq!(order.due(now), Some(2));
        order.finish(Some(&a));
        assert!(order.admit(5, Some(&a)));
    }
}
