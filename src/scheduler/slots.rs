//! Values by keys that rise, mostly without gaps, and go one day: a vector in chunks. A chunk whose
//! last value goes gives its memory back, so that what a node remembers of tasks long gone is a few
//! bytes for 64 of them.

use std::collections::VecDeque;

/// Keys that share a chunk.
const CHUNK: u64 = 64;

#[derive(Debug)]
struct Chunk<T> {
    values: Box<[Option<T>]>,
    /// How many are there.
    len: u32,
}

/// See the module's page.
#[derive(Debug)]
pub(crate) struct Slots<T> {
    /// By key / [`CHUNK`], less `first`. The first one is there, if any is.
    chunks: VecDeque<Option<Chunk<T>>>,
    first: u64,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Slots { chunks: VecDeque::new(), first: 0 }
    }
}

impl<T> Slots<T> {
    pub(crate) fn get(&self, key: u64) -> Option<&T> {
        self.chunk(key)?.values[place(key)].as_ref()
    }

    pub(crate) fn get_mut(&mut self, key: u64) -> Option<&mut T> {
        let index = self.index(key)?;
        self.chunks.get_mut(index)?.as_mut()?.values[place(key)].as_mut()
    }

    /// Puts a value in, and returns the one that was there. A key below all others, once all of its
    /// chunk went, is refused by a panic: keys rise.
    pub(crate) fn insert(&mut self, key: u64, value: T) -> Option<T> {
        if self.chunks.is_empty() {
            self.first = key / CHUNK;
        }
        let index = self.index(key).expect("keys rise");
        if index >= self.chunks.len() {
            self.chunks.resize_with(index + 1, || None);
        }
        let chunk = self.chunks[index]
            .get_or_insert_with(|| Chunk { values: (0..CHUNK).map(|_| None).collect(), len: 0 });
        let before = chunk.values[place(key)].replace(value);
        chunk.len += u32::from(before.is_none());
        before
    }

    /// Takes a value out.
    pub(crate) fn remove(&mut self, key: u64) -> Option<T> {
        let index = self.index(key)?;
        let chunk = self.chunks.get_mut(index)?.as_mut()?;
        let value = chunk.values[place(key)].take()?;
        chunk.len -= 1;
        if chunk.len == 0 {
            self.chunks[index] = None;
            while self.chunks.front().is_some_and(Option::is_none) {
                self.chunks.pop_front();
                self.first += 1;
            }
        }
        Some(value)
    }

    /// The keys from `key` on that have a value, as they rise.
    pub(crate) fn keys_from(&self, key: u64) -> impl Iterator<Item = u64> {
        let skipped = usize::try_from((key / CHUNK).saturating_sub(self.first));
        let from = skipped.unwrap_or(usize::MAX).min(self.chunks.len());
        let chunks = (self.first + from as u64..).zip(self.chunks.range(from..));
        let there = chunks.filter_map(|(number, chunk)| Some((number, chunk.as_ref()?)));
        let keys = there.flat_map(|(number, chunk)| {
            let values = (number * CHUNK..).zip(&chunk.values);
            values.filter(|(_, value)| value.is_some()).map(|(key, _)| key)
        });
        keys.skip_while(move |other| *other < key)
    }

    fn chunk(&self, key: u64) -> Option<&Chunk<T>> {
        self.chunks.get(self.index(key)?)?.as_ref()
    }

    fn index(&self, key: u64) -> Option<usize> {
        usize::try_from((key / CHUNK).checked_sub(self.first)?).ok()
    }
}

fn place(key: u64) -> usize {
    (key % CHUNK) as usize
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_holds_what_a_map_holds_while_keys_rise(
            steps in proptest::collection::vec((0..3u8, 0..300u64), 0..300),
            first in 0..100_000u64,
        ) {
            let (mut slots, mut model) = (Slots::default(), BTreeMap::new());
            let mut next = first;
            for (what, number) in steps {
                match what {
                    0 => {
                        next += number;
                        prop_assert_eq!(slots.insert(next, number), model.insert(next, number));
                        next += 1;
                    }
                    1 => {
                        let key = next.saturating_sub(number);
                        prop_assert_eq!(slots.remove(key), model.remove(&key));
                    }
                    _ => {
                        let key = next.saturating_sub(number);
                        prop_assert_eq!(slots.get(key), model.get(&key));
                        prop_assert_eq!(slots.get_mut(key), model.get_mut(&key));
                        let there: Vec<u64> = model.range(key..).map(|(key, _)| *key).collect();
                        prop_assert_eq!(slots.keys_from(key).collect::<Vec<_>>(), there);
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_gone_costs_next_to_nothing() {
        let mut slots = Slots::default();
        slots.insert(7, 7);
        for key in 8..100_000 {
            slots.insert(key, key);
            slots.remove(key);
        }
        assert_eq!(slots.chunks.iter().flatten().count(), 1, "that of the task which is there");
        slots.remove(7);
        assert_eq!(slots.chunks.len(), 0);
        assert_eq!(slots.keys_from(0).count(), 0);
    }
}
