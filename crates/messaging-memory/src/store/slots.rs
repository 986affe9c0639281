//! Storage whose keys are never used twice, so a late key finds nothing.

/// Names one value of a [`Slots`], for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    index: u32,
    generation: u64,
}

impl Key {
    /// The key as a number, for tokens.
    pub(crate) const fn to_bits(self) -> u128 {
        ((self.generation as u128) << 32) | self.index as u128
    }

    pub(crate) const fn from_bits(bits: u128) -> Self {
        Self { index: bits as u32, generation: (bits >> 32) as u64 }
    }
}

#[derive(Debug)]
pub(crate) struct Slots<T> {
    all: Vec<(u64, Option<T>)>,
    free: Vec<u32>,
    generation: u64,
}

impl<T> Slots<T> {
    pub(crate) fn insert(&mut self, value: T) -> Key {
        self.generation += 1;
        let generation = self.generation;
        if let Some(index) = self.free.pop()
            && let Some(slot) = self.all.get_mut(index as usize)
        {
            *slot = (generation, Some(value));
            return Key { index, generation };
        }
        self.all.push((generation, Some(value)));
        Key { index: (self.all.len() - 1) as u32, generation }
    }

    pub(crate) fn remove(&mut self, key: Key) -> Option<T> {
        let (generation, value) = self.all.get_mut(key.index as usize)?;
        if *generation != key.generation {
            return None;
        }
        let value = value.take()?;
        self.free.push(key.index);
        Some(value)
    }

    pub(crate) fn get(&self, key: Key) -> Option<&T> {
        let (generation, value) = self.all.get(key.index as usize)?;
        value.as_ref().filter(|_| *generation == key.generation)
    }

    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let (generation, value) = self.all.get_mut(key.index as usize)?;
        value.as_mut().filter(|_| *generation == key.generation)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Key, &T)> {
        self.all.iter().zip(0..).filter_map(|((generation, value), index)| {
            value.as_ref().map(|value| (Key { index, generation: *generation }, value))
        })
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (Key, &mut T)> {
        self.all.iter_mut().zip(0..).filter_map(|((generation, value), index)| {
            value.as_mut().map(|value| (Key { index, generation: *generation }, value))
        })
    }
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self { all: Vec::new(), free: Vec::new(), generation: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_key_finds_nothing_though_its_slot_is_used_again() {
        let mut slots = Slots::default();
        let first = slots.insert("a");
        assert_eq!(slots.remove(first), Some("a"));
        let second = slots.insert("b");
        assert_eq!(slots.get(first), None);
        assert_eq!(slots.remove(first), None);
        assert_eq!(slots.get(Key::from_bits(second.to_bits())), Some(&"b"));
    }
}
