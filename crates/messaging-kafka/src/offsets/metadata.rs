//! The text that is stored beside a committed offset.
//!
//! `h1:` and base64url, without padding, of varints: base offset, hash of the group's patterns,
//! limit, then offset delta and attempt of each unsettled offset, and the cut. Numbers that are
//! relative to the base are stored as such. Behind it, after a space, are the patterns in full, where
//! there is room, for whoever has to say what a group without members receives. Kafka takes at most
//! 4,096 characters.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use messaging_core::Patterns;

use crate::varint::{Numbers, put_unsigned};

const PREFIX: &str = "h1:";
/// The most characters Kafka keeps.
pub(crate) const MAX_CHARS: usize = 4_096;
/// The most bytes that fit behind the prefix.
const MAX_BYTES: usize = (MAX_CHARS - PREFIX.len()) / 4 * 3;
/// The most unsettled offsets that can fit: two bytes each.
pub(crate) const MOST_OPEN: usize = MAX_BYTES / 2;
/// The most bytes of one number.
const NUMBER: usize = 10;

/// An offset that was not settled, and the attempt that its next hand-over is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Open {
    pub(crate) offset: i64,
    pub(crate) attempt: u32,
}

/// How far a group has come in one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Progress {
    /// The committed offset: nothing below it is unsettled.
    pub(crate) base: i64,
    /// The hash of the group's patterns.
    pub(crate) patterns: u64,
    /// Nothing at or above it has been handed out; `None` after a clean end: nothing is in hand.
    pub(crate) limit: Option<i64>,
    /// What is unsettled between base and cut, in order.
    pub(crate) open: Vec<Open>,
    /// Everything from here on counts as unsettled.
    pub(crate) cut: i64,
}

impl Progress {
    /// The metadata of a commit at [`Progress::base`]. What does not fit is cut, the highest first:
    /// it will be handed out again, never skipped.
    pub(crate) fn encode(&self) -> String {
        let (bytes, _) = self.encoded();
        let mut text = PREFIX.to_owned();
        URL_SAFE_NO_PAD.encode_string(bytes, &mut text);
        text
    }

    /// From where on everything counts as unsettled for whoever reads what [`Progress::encode`] wrote.
    pub(crate) fn stored_cut(&self) -> i64 {
        self.encoded().1
    }

    fn encoded(&self) -> (Vec<u8>, i64) {
        let mut head = Vec::with_capacity(64);
        put_unsigned(&mut head, self.base.cast_unsigned());
        put_unsigned(&mut head, self.patterns);
        put_unsigned(&mut head, self.limit.map_or(0, |limit| self.delta(limit) + 1));
        let mut body = Vec::with_capacity(4 * self.open.len());
        let mut cut = self.cut;
        let mut count = 0;
        let mut last = self.base;
        for open in &self.open {
            let before = body.len();
            put_unsigned(&mut body, open.offset.saturating_sub(last).cast_unsigned());
            put_unsigned(&mut body, u64::from(open.attempt));
            // The count and the cut follow.
            if head.len() + body.len() + 2 * NUMBER > MAX_BYTES {
                body.truncate(before);
                cut = open.offset;
                break;
            }
            last = open.offset;
            count += 1;
        }
        put_unsigned(&mut head, count);
        head.append(&mut body);
        put_unsigned(&mut head, self.delta(cut));
        (head, cut)
    }

    /// As [`Progress::encode`], and the patterns behind it where they fit.
    pub(crate) fn encode_with(&self, patterns: &Patterns) -> String {
        let mut text = self.encode();
        let full = patterns.to_string();
        if text.len() + 1 + full.len() <= MAX_CHARS {
            text.push(' ');
            text.push_str(&full);
        }
        text
    }

    /// Reads the metadata of a commit at `base`. `None` if it is not ours, or was written for
    /// another offset: then a tool or a mirror moved the group, and what it says is not about this.
    pub(crate) fn decode(text: &str, base: i64) -> Option<Self> {
        let text = text.strip_prefix(PREFIX).filter(|_| text.len() <= MAX_CHARS)?;
        let numbers = text.split_once(' ').map_or(text, |(numbers, _)| numbers);
        let bytes = URL_SAFE_NO_PAD.decode(numbers).ok()?;
        let mut numbers = Numbers(&bytes);
        let written = numbers.unsigned()?.cast_signed();
        if written != base || base < 0 {
            return None;
        }
        let patterns = numbers.unsigned()?;
        let limit = match numbers.unsigned()? {
            0 => None,
            limit => Some(after(base, limit - 1)?),
        };
        let count = numbers.count(2)?;
        let mut open: Vec<Open> = Vec::with_capacity(count);
        let mut last = base;
        for at in 0..count {
            let delta = numbers.unsigned()?;
            if at > 0 && delta == 0 {
                return None;
            }
            last = after(last, delta)?;
            let attempt = u32::try_from(numbers.unsigned()?).ok()?;
            open.push(Open { offset: last, attempt });
        }
        let cut = after(base, numbers.unsigned()?)?;
        let ordered = open.last().is_none_or(|open| open.offset < cut);
        (numbers.0.is_empty() && ordered).then_some(Self { base, patterns, limit, open, cut })
    }

    const fn delta(&self, offset: i64) -> u64 {
        let delta = offset.saturating_sub(self.base);
        if delta < 0 { 0 } else { delta.cast_unsigned() }
    }
}

fn after(base: i64, delta: u64) -> Option<i64> {
    base.checked_add(i64::try_from(delta).ok()?)
}

/// The patterns of the group that committed with this metadata, where they are in it.
pub(crate) fn patterns_in(text: &str) -> Option<Patterns> {
    let (_, full) = text.strip_prefix(PREFIX)?.split_once(' ')?;
    Patterns::new(full.split(' ')).ok()
}

/// What is said of a group's patterns that left this metadata: all of them, or their hash.
pub(crate) fn patterns_told(text: &str, hash: u64) -> String {
    patterns_in(text).map_or_else(|| format!("h1:{hash:016x}"), |patterns| patterns.to_string())
}

/// The hash by which a group's patterns are known where they are not stored in full: FNV-1a of 64
/// bits over the patterns in order, separated by a space.
pub(crate) fn hash_of(patterns: &Patterns) -> u64 {
    patterns.to_string().bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn progress(most: usize) -> impl Strategy<Value = Progress> {
        let gaps = prop::collection::vec((1..90_000_i64, 1..300_u32), 0..most);
        let limit = prop::option::of(0..9_000_000_i64);
        (0..i64::MAX / 2, any::<u64>(), limit, gaps, 0..1_000_i64).prop_map(
            |(base, patterns, limit, gaps, rest)| {
                let mut offset = base - 1;
                let open = gaps.into_iter().map(|(delta, attempt)| {
                    offset += delta;
                    Open { offset, attempt }
                });
                let open: Vec<Open> = open.collect();
                let end = open.last().map_or(base, |open| open.offset + 1);
                let limit = limit.map(|limit| base + limit);
                Progress { base, patterns, limit, open, cut: end + rest }
            },
        )
    }

    proptest! {
        #[test]
        fn what_fits_is_read_as_it_was_written(progress in progress(400)) {
            prop_assert_eq!(Progress::decode(&progress.encode(), progress.base), Some(progress));
        }

        #[test]
        fn the_patterns_are_behind_it_where_they_fit(progress in progress(2_500)) {
            let patterns = Patterns::new(["tasks.#", "events.*.done"]).unwrap();
            let text = progress.encode_with(&patterns);
            prop_assert!(text.len() <= MAX_CHARS);
            let read = Progress::decode(&text, progress.base);
            prop_assert_eq!(&read, &Progress::decode(&progress.encode(), progress.base));
            let fits = progress.encode().len() + 22 <= MAX_CHARS;
            prop_assert_eq!(patterns_in(&text), fits.then_some(patterns));
        }

        #[test]
        fn what_does_not_fit_counts_as_unsettled(progress in progress(3_000)) {
            let text = progress.encode();
            prop_assert!(text.len() <= MAX_CHARS);
            let read = Progress::decode(&text, progress.base).unwrap();
            prop_assert_eq!(read.limit, progress.limit);
            let kept = read.open.len();
            prop_assert_eq!(&read.open[..], &progress.open[..kept]);
            let expected = progress.open.get(kept).map_or(progress.cut, |open| open.offset);
            prop_assert_eq!(read.cut, expected);
            prop_assert_eq!(read.cut, progress.stored_cut());
            prop_assert!(kept >= progress.open.len().min(500), "{kept} gaps kept");
        }

        #[test]
        fn it_does_not_count_for_another_offset(progress in progress(5), other in 0..i64::MAX) {
            prop_assume!(other != progress.base);
            prop_assert_eq!(Progress::decode(&progress.encode(), other), None);
        }

        #[test]
        fn what_others_wrote_is_ignored(text in "(h1:)?[A-Za-z0-9_-]{0,60}", base in 0..100_i64) {
            if let Some(read) = Progress::decode(&text, base) {
                prop_assert_eq!(read.base, base);
            }
        }
    }

    #[test]
    fn a_thousand_gaps_fit() {
        let open =
            (0..1_000).map(|at| Open { offset: 5_000_000_000 + 2 * at, attempt: 1 }).collect();
        let progress = Progress {
            base: 5_000_000_000,
            patterns: u64::MAX,
            limit: None,
            open,
            cut: 5_000_002_000,
        };
        assert_eq!(Progress::decode(&progress.encode(), progress.base).unwrap().open.len(), 1_000);
    }

    #[test]
    fn the_hash_of_patterns_is_stored_and_does_not_change() {
        let hash = |patterns: &[&str]| hash_of(&Patterns::new(patterns).unwrap());
        assert_eq!(hash(&["tasks.#", "events.#"]), hash(&["events.#", "tasks.#"]));
        assert_ne!(hash(&["tasks.#"]), hash(&["tasks.*"]));
        // FNV-1a of "a".
        assert_eq!(hash(&["a"]), 0xaf63_dc4c_8601_ec8c);
    }
}
