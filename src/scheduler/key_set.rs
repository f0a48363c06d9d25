//! An ordered set of task keys, as bits: keys rise without large gaps, so that 64 of them share
//! one entry of a map. A set of a million keys takes 0.5 MB, where a `BTreeSet` takes 17.

use std::collections::BTreeMap;

/// See the module's page.
#[derive(Debug, Default)]
pub(crate) struct KeySet {
    /// By key / 64: one bit for each key. No entry is 0.
    blocks: BTreeMap<u64, u64>,
    len: usize,
}

impl KeySet {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Adds a key that is not there.
    pub(crate) fn insert(&mut self, key: u64) {
        *self.blocks.entry(key / 64).or_default() |= 1 << (key % 64);
        self.len += 1;
    }

    /// Takes out a key that is there.
    pub(crate) fn remove(&mut self, key: u64) {
        if let Some(bits) = self.blocks.get_mut(&(key / 64)) {
            *bits &= !(1 << (key % 64));
            if *bits == 0 {
                self.blocks.remove(&(key / 64));
            }
        }
        self.len -= 1;
    }

    /// The keys from `first` on, as they rise.
    pub(crate) fn from(&self, first: u64) -> impl Iterator<Item = u64> {
        let blocks = self.blocks.range(first / 64..);
        blocks
            .flat_map(|(block, bits)| ones(*bits).map(move |bit| block * 64 + bit))
            .skip_while(move |key| *key < first)
    }

    /// All keys, as they fall.
    pub(crate) fn newest(&self) -> impl Iterator<Item = u64> {
        let blocks = self.blocks.iter().rev();
        blocks.flat_map(|(block, bits)| {
            let there = move |bit: &u64| bits & (1 << bit) != 0;
            (0..64).rev().filter(there).map(move |bit| block * 64 + bit)
        })
    }
}

/// The places of the bits that are 1.
fn ones(mut bits: u64) -> impl Iterator<Item = u64> {
    std::iter::from_fn(move || {
        let bit = bits.trailing_zeros();
        bits &= bits.wrapping_sub(1);
        (bit < 64).then_some(u64::from(bit))
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_holds_what_an_ordered_set_holds(
            steps in proptest::collection::vec((any::<bool>(), 0..400u64), 0..200),
            first in 0..400u64,
        ) {
            let (mut keys, mut model) = (KeySet::default(), BTreeSet::new());
            for (add, key) in steps {
                if add && model.insert(key) {
                    keys.insert(key);
                } else if !add && model.remove(&key) {
                    keys.remove(key);
                }
            }
            prop_assert_eq!(keys.len(), model.len());
            let expected: Vec<u64> = model.range(first..).copied().collect();
            prop_assert_eq!(keys.from(first).collect::<Vec<_>>(), expected);
            let falling: Vec<u64> = model.iter().rev().copied().collect();
            prop_assert_eq!(keys.newest().collect::<Vec<_>>(), falling);
        }
    }
}
