//! Hamming distances from one hash to thousands, 256 of them at a time.
//!
//! Without an instruction that counts bits, a distance costs 50 operations. Here the hashes
//! are stored transposed, in groups of 256: *slice* b of a group is bit b of each of its
//! hashes, one a column. A slice XORed with bit b of the point says which columns differ
//! there, and adding up 256 such slices is done for all columns at once, by carry-save
//! adders (Harley and Seal; Warren, "Hacker's Delight", 5-2): the sum is nine slices too,
//! from the ones to the 256s. That is 6 operations a slice, and so a column.

use std::array::from_fn;

use super::hash::Hash256;

/// Four words: enough to fill two vector registers, few enough to keep the sums in them.
const WORDS: usize = 4;

/// How many hashes a group holds.
const COLUMNS: usize = WORDS * 64;

/// One bit of each column of a group.
pub(super) type Slice = [u64; WORDS];

/// Hashes, transposed. Columns keep the order of pushing, but for `swap_remove`.
#[derive(Debug, Clone, Default)]
pub(super) struct BitSlices {
    groups: Vec<[Slice; 256]>,
    len: usize,
}

impl BitSlices {
    pub(super) fn push(&mut self, hash: &Hash256) {
        if self.len == self.groups.len() * COLUMNS {
            self.groups.push([[0; WORDS]; 256]);
        }
        self.len += 1;
        self.toggle(self.len - 1, hash);
    }

    /// Takes the hash of a column out; `last`, that of the last column, moves there.
    pub(super) fn swap_remove(&mut self, column: usize, hash: &Hash256, last: &Hash256) {
        self.toggle(column, hash);
        self.toggle(column, last);
        self.toggle(self.len - 1, last);
        self.len -= 1;
        self.groups.truncate(self.len.div_ceil(COLUMNS));
    }

    /// Writes a hash to an empty column, or empties the column of it.
    fn toggle(&mut self, column: usize, hash: &Hash256) {
        let (word, bit) = (column % COLUMNS / 64, column % 64);
        for (index, slice) in self.groups[column / COLUMNS].iter_mut().enumerate() {
            slice[word] ^= bit_of(hash, index) << bit;
        }
    }

    /// Gives the distances to `point`, group by group, each with its first column.
    pub(super) fn distances(&self, point: &Hash256) -> impl Iterator<Item = (usize, Distances)> {
        let point: [u64; 256] = from_fn(|index| bit_of(point, index).wrapping_neg());
        self.groups.iter().enumerate().map(move |(index, group)| {
            let first = index * COLUMNS;
            (
                first,
                Distances { sums: add_up(group, &point), used: columns_below(self.len - first) },
            )
        })
    }
}

/// The distances of a group's columns, as slices of nine-bit numbers.
pub(super) struct Distances {
    sums: [Slice; 9],
    used: Slice,
}

impl Distances {
    /// The smallest distance, and the columns that have it.
    pub(super) fn smallest(&self) -> (u32, Slice) {
        let (mut smallest, mut columns) = (0, self.used);
        for (bit, sum) in self.sums.iter().enumerate().rev() {
            let without = zip(columns, *sum, |columns, sum| columns & !sum);
            if without == [0; WORDS] {
                smallest |= 1 << bit;
            } else {
                columns = without;
            }
        }
        (smallest, columns)
    }

    /// The columns with a smaller distance than this, and those with the same.
    pub(super) fn split(&self, distance: u32) -> (Slice, Slice) {
        let (mut less, mut equal) = ([0; WORDS], self.used);
        for (bit, sum) in self.sums.iter().enumerate().rev() {
            if distance >> bit & 1 == 1 {
                less = or(less, zip(equal, *sum, |equal, sum| equal & !sum));
                equal = and(equal, *sum);
            } else {
                equal = zip(equal, *sum, |equal, sum| equal & !sum);
            }
        }
        (less, equal)
    }
}

/// The columns of a slice that are set, counted from 0.
pub(super) fn columns(slice: Slice) -> impl Iterator<Item = usize> {
    slice.into_iter().enumerate().flat_map(|(index, mut word)| {
        std::iter::from_fn(move || {
            let bit = word.trailing_zeros() as usize;
            word &= word.checked_sub(1)?;
            Some(index * 64 + bit)
        })
    })
}

fn columns_below(count: usize) -> Slice {
    from_fn(|index| match count.saturating_sub(index * 64) {
        64.. => u64::MAX,
        count => (1 << count) - 1,
    })
}

/// Bits count from the most significant of the first word; the order does not matter.
fn bit_of(hash: &Hash256, index: usize) -> u64 {
    hash.0[index / 64] >> (63 - index % 64) & 1
}

/// Adds up the slices in which the columns differ from the point, each of whose bits is
/// spread over a word. Sixteen at a time: only one slice in sixteen reaches the upper sums.
fn add_up(group: &[Slice; 256], point: &[u64; 256]) -> [Slice; 9] {
    let mut sums = [[0; WORDS]; 9];
    let [mut ones, mut twos, mut fours, mut eights] = [[0; WORDS]; 4];
    for (slices, point) in group.chunks_exact(16).zip(point.chunks_exact(16)) {
        let differ = |index: usize| slices[index].map(|word| word ^ point[index]);
        let a: [_; 8] = from_fn(|i| carry_save(&mut ones, differ(2 * i), differ(2 * i + 1)));
        let b: [_; 4] = from_fn(|i| carry_save(&mut twos, a[2 * i], a[2 * i + 1]));
        let c: [_; 2] = from_fn(|i| carry_save(&mut fours, b[2 * i], b[2 * i + 1]));
        let mut carry = carry_save(&mut eights, c[0], c[1]);
        for sum in &mut sums[4..] {
            (*sum, carry) = (xor(*sum, carry), and(*sum, carry));
        }
    }
    sums[..4].copy_from_slice(&[ones, twos, fours, eights]);
    sums
}

/// Adds two slices to a sum; gives what is carried.
#[inline(always)]
fn carry_save(sum: &mut Slice, a: Slice, b: Slice) -> Slice {
    let partial = xor(*sum, a);
    let carry = or(and(*sum, a), and(partial, b));
    *sum = xor(partial, b);
    carry
}

#[inline(always)]
fn zip(a: Slice, b: Slice, f: impl Fn(u64, u64) -> u64) -> Slice {
    from_fn(|index| f(a[index], b[index]))
}

#[inline(always)]
fn xor(a: Slice, b: Slice) -> Slice {
    zip(a, b, |a, b| a ^ b)
}

#[inline(always)]
fn and(a: Slice, b: Slice) -> Slice {
    zip(a, b, |a, b| a & b)
}

#[inline(always)]
fn or(a: Slice, b: Slice) -> Slice {
    zip(a, b, |a, b| a | b)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(number: usize) -> Hash256 {
        match number % 50 {
            0 => Hash256([0; 4]),
            1 => Hash256([u64::MAX; 4]),
            _ => Hash256::of(&number.to_le_bytes()),
        }
    }

    fn hamming(a: &Hash256, b: &Hash256) -> u32 {
        zip(a.0, b.0, |a, b| a ^ b).iter().map(|word| word.count_ones()).sum()
    }

    fn check(slices: &BitSlices, hashes: &[Hash256]) {
        for point in [hash(0), hash(1), hash(7)] {
            let groups: Vec<_> = slices.distances(&point).collect();
            assert_eq!(groups.len(), hashes.len().div_ceil(COLUMNS));
            for ((first, distances), hashes) in groups.iter().zip(hashes.chunks(COLUMNS)) {
                let expected: Vec<u32> = hashes.iter().map(|hash| hamming(hash, &point)).collect();
                let all = |test: &dyn Fn(u32) -> bool| -> Vec<usize> {
                    (0..expected.len()).filter(|&column| test(expected[column])).collect()
                };
                let (smallest, nearest) = distances.smallest();
                assert_eq!(Some(&smallest), expected.iter().min());
                assert_eq!(columns(nearest).collect::<Vec<_>>(), all(&|d| d == smallest));
                for split in [0, 1, 100, 128, 255, 256] {
                    let (less, equal) = distances.split(split);
                    assert_eq!(columns(less).collect::<Vec<_>>(), all(&|d| d < split));
                    assert_eq!(columns(equal).collect::<Vec<_>>(), all(&|d| d == split));
                }
                assert_eq!(first % COLUMNS, 0);
            }
        }
    }

    #[test]
    fn distances_are_those_counted_one_by_one() {
        let (mut slices, mut hashes) = (BitSlices::default(), Vec::new());
        check(&slices, &hashes);
        for number in 0..600 {
            slices.push(&hash(number));
            hashes.push(hash(number));
            if [1, 64, 65, 255, 256, 257, 600].contains(&hashes.len()) {
                check(&slices, &hashes);
            }
        }
        while let Some(&last) = hashes.last() {
            let column = hashes.len() * 7 / 10;
            slices.swap_remove(column, &hashes[column], &last);
            hashes.swap_remove(column);
            if hashes.len() % 100 == 1 {
                check(&slices, &hashes);
            }
        }
        check(&slices, &hashes);
    }
}
