//! Who owns a task: rendezvous hashing by Hamming distance.
//!
//! Every peer computes the same answer from the same list of candidates, so nobody has
//! to be asked. With `head` the clock head that the task was stamped with:
//!
//! ```text
//! task_hash = sha256(task_id ":" workflow_id)
//! combined  = sha256(hex(head) ":" hex(task_hash))
//! distance  = (number of bits in which combined and sha256(peer_id) differ,
//!              combined XOR sha256(peer_id) as a number)
//! ```
//!
//! The candidates rank by distance, smallest first. The XOR (the metric of Kademlia)
//! makes the order total: no two peers tie, and none is favoured. Each new epoch of a
//! task starts one place further down, so a retry goes to another peer.

use std::collections::BTreeMap;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::bit_slices::{BitSlices, Distances, columns};
use super::hash::{Hash256, hex_value};

/// Why two hashes have no Hamming distance.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HammingDistanceError {
    /// The hashes differ in length, given in hexadecimal digits.
    #[error("the hashes have different lengths: {0} and {1} digits")]
    LengthsDiffer(usize, usize),
    /// A hash holds something other than hexadecimal digits.
    #[error("not a hexadecimal hash: {0:?}")]
    NotHex(String),
}

/// Counts the bits in which two hexadecimal hashes of equal length differ.
///
/// Either case is read, and any length, an odd one too: a digit is four bits.
pub fn calculate_hamming_distance(a: &str, b: &str) -> Result<u32, HammingDistanceError> {
    if let Some(bad) = [a, b].into_iter().find(|text| !text.bytes().all(|c| c.is_ascii_hexdigit()))
    {
        return Err(HammingDistanceError::NotHex(bad.to_owned()));
    }
    if a.len() != b.len() {
        return Err(HammingDistanceError::LengthsDiffer(a.len(), b.len()));
    }
    let digits = |text: &str| text.bytes().filter_map(hex_value).collect::<Vec<u8>>();
    Ok(digits(a).iter().zip(digits(b)).map(|(a, b)| (a ^ b).count_ones()).sum())
}

/// The hash that names a task within its workflow.
pub fn task_hash(task_id: &str, workflow_id: &str) -> Hash256 {
    let hasher = Sha256::new_with_prefix(task_id);
    hasher.chain_update(":").chain_update(workflow_id).into()
}

/// The point that peers are measured against: `head` is the clock head that the task was
/// stamped with at submission.
pub fn combined_hash(head: &Hash256, task_hash: &Hash256) -> Hash256 {
    let hasher = Sha256::new_with_prefix(head.hex_digits());
    hasher.chain_update(":").chain_update(task_hash.hex_digits()).into()
}

/// How far a peer is from a task. Ordered by the Hamming distance, then by the XOR.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Distance {
    /// The number of bits that differ: 0 to 256.
    pub hamming: u32,
    /// Which bits differ, as a big-endian number.
    pub xor: [u64; 4],
}

impl Distance {
    /// The distance between two hashes.
    pub fn between(a: &Hash256, b: &Hash256) -> Self {
        let xor = std::array::from_fn(|word| a.0[word] ^ b.0[word]);
        Self { hamming: xor.iter().map(|word| word.count_ones()).sum(), xor }
    }
}

/// A number for the holder of a task by which two records of one epoch are told apart:
/// larger for the closer holder, never 0, below 2^20.
///
/// `holder` is the hash of the holder's peer id. The number keeps 11 bits of the XOR; holders
/// that share these too are told apart by the rest of the record.
pub fn tie(combined: &Hash256, holder: &Hash256) -> u32 {
    let Distance { hamming, xor } = Distance::between(combined, holder);
    let top_bits = (!xor[0] >> 53) as u32;
    1 + ((256 - hamming) << 11 | top_bits)
}

/// The peers that a task may go to, each with the hash of its id.
///
/// Places count from 0, the closest. All searches are linear in the number of candidates;
/// only [`at_place`](Self::at_place) beyond the first place allocates.
#[derive(Debug, Clone, Default)]
pub struct Candidates {
    /// Where each peer stands in the lists below, which have an order of their own.
    columns: BTreeMap<Arc<str>, usize>,
    peers: Vec<Arc<str>>,
    hashes: Vec<Hash256>,
    slices: BitSlices,
}

impl Candidates {
    /// Adds a peer; true if it was not there yet.
    pub fn insert(&mut self, peer: Arc<str>) -> bool {
        if self.contains(&peer) {
            return false;
        }
        let hash = Hash256::of(peer.as_bytes());
        self.columns.insert(peer.clone(), self.peers.len());
        self.peers.push(peer);
        self.hashes.push(hash);
        self.slices.push(&hash);
        true
    }

    /// Takes a peer out; true if it was there.
    pub fn remove(&mut self, peer: &str) -> bool {
        let Some(column) = self.columns.remove(peer) else { return false };
        let last = self.hashes[self.hashes.len() - 1];
        self.slices.swap_remove(column, &self.hashes[column], &last);
        self.hashes.swap_remove(column);
        self.peers.swap_remove(column);
        if let Some(moved) = self.peers.get(column) {
            self.columns.insert(moved.clone(), column);
        }
        true
    }

    /// Whether the peer is a candidate.
    pub fn contains(&self, peer: &str) -> bool {
        self.columns.contains_key(peer)
    }

    /// The number of candidates.
    pub fn len(&self) -> usize {
        self.peers.len()
    }

    /// Whether there is no candidate.
    pub fn is_empty(&self) -> bool {
        self.peers.is_empty()
    }

    /// The candidates by peer id, each with its hash.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Hash256)> {
        self.columns.iter().map(|(peer, &column)| (peer, &self.hashes[column]))
    }

    /// The closest candidate.
    pub fn nearest(&self, combined: &Hash256) -> Option<(&Arc<str>, Distance)> {
        if let ([peer], [hash]) = (&*self.peers, &*self.hashes) {
            return Some((peer, Distance::between(hash, combined))); // alone, as most nodes are
        }
        let mut nearest: Option<(Distance, usize)> = None;
        for (first, distances) in self.slices.distances(combined) {
            let (hamming, closest) = distances.smallest();
            if nearest.is_some_and(|(distance, _)| distance.hamming < hamming) {
                continue;
            }
            for column in columns(closest).map(|column| first + column) {
                let distance = Distance::between(&self.hashes[column], combined);
                if nearest.is_none_or(|(known, _)| distance < known) {
                    nearest = Some((distance, column));
                }
            }
        }
        nearest.map(|(distance, column)| (&self.peers[column], distance))
    }

    /// How many candidates are closer than `peer`; none if it is no candidate itself.
    pub fn place_of(&self, peer: &str, combined: &Hash256) -> Option<usize> {
        let column = *self.columns.get(peer)?;
        if self.len() == 1 {
            return Some(0);
        }
        let own = Distance::between(&self.hashes[column], combined);
        let closer_in = |(first, distances): (usize, Distances)| {
            let (closer, as_close) = distances.split(own.hamming);
            let ties = columns(as_close)
                .filter(|column| Distance::between(&self.hashes[first + column], combined) < own);
            ties.count() + closer.iter().map(|word| word.count_ones() as usize).sum::<usize>()
        };
        Some(self.slices.distances(combined).map(closer_in).sum())
    }

    /// The candidate that has exactly `place` closer ones.
    pub fn at_place(&self, combined: &Hash256, place: usize) -> Option<(&Arc<str>, Distance)> {
        if place == 0 {
            return self.nearest(combined);
        }
        if place >= self.len() {
            return None;
        }
        let distances = self.hashes.iter().map(|hash| Distance::between(hash, combined));
        let mut ranked: Vec<_> = distances.zip(&self.peers).collect();
        let (_, &mut (distance, peer), _) =
            ranked.select_nth_unstable_by_key(place, |&(distance, _)| distance);
        Some((peer, distance))
    }

    /// The owner of a task in an epoch: the ranking starts at place `epoch - 1`, and goes
    /// round. Epochs count from 1.
    pub fn owner(&self, combined: &Hash256, epoch: u64) -> Option<(&Arc<str>, Distance)> {
        self.at_place(combined, self.first_place(epoch)?)
    }

    /// How many candidates come before `peer` in an epoch: 0 is the owner; none if `peer`
    /// is no candidate.
    pub fn rank_of(&self, peer: &str, combined: &Hash256, epoch: u64) -> Option<usize> {
        let place = self.place_of(peer, combined)?;
        let first = self.first_place(epoch)?;
        Some((place + self.len() - first) % self.len())
    }

    /// The candidates in the order of their turns in an epoch, the owner first.
    pub fn turns(
        &self,
        combined: &Hash256,
        epoch: u64,
    ) -> impl Iterator<Item = (&Arc<str>, Distance)> {
        let first = self.first_place(epoch).unwrap_or_default();
        let places = (0..self.len()).map(move |turn| (first + turn) % self.len());
        places.filter_map(|place| self.at_place(combined, place))
    }

    fn first_place(&self, epoch: u64) -> Option<usize> {
        let place = epoch.saturating_sub(1).checked_rem(self.len() as u64)?;
        Some(place as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(text: &str) -> Hash256 {
        Hash256::of(text.as_bytes())
    }

    fn candidates(count: usize) -> Candidates {
        let mut candidates = Candidates::default();
        for index in 0..count {
            assert!(candidates.insert(format!("peer-{index}").into()));
        }
        candidates
    }

    /// The ranking by its definition: everybody, sorted.
    fn ranking(candidates: &Candidates, combined: &Hash256) -> Vec<Arc<str>> {
        let mut ranked: Vec<_> = candidates
            .iter()
            .map(|(peer, hash)| (Distance::between(hash, combined), peer.clone()))
            .collect();
        ranked.sort();
        ranked.into_iter().map(|(_, peer)| peer).collect()
    }

    #[test]
    fn a_distance_needs_two_hexadecimal_texts_of_one_length() {
        assert_eq!(calculate_hamming_distance("", ""), Ok(0));
        assert_eq!(calculate_hamming_distance("fFf", "FfE"), Ok(1));
        assert_eq!(
            calculate_hamming_distance("00", "000"),
            Err(HammingDistanceError::LengthsDiffer(2, 3))
        );
        for wrong in ["0x", "é", " 1", "+1"] {
            assert_eq!(
                calculate_hamming_distance("00", wrong),
                Err(HammingDistanceError::NotHex(wrong.to_owned()))
            );
        }
    }

    #[test]
    fn places_and_ranks_are_those_of_the_sorted_list() {
        for count in [1, 2, 3, 10, 257] {
            let candidates = candidates(count);
            for task in 0..20 {
                let combined = hash(&format!("task-{task}"));
                let ranking = ranking(&candidates, &combined);
                for (place, peer) in ranking.iter().enumerate() {
                    assert_eq!(candidates.place_of(peer, &combined), Some(place));
                    assert_eq!(candidates.at_place(&combined, place).unwrap().0, peer);
                }
                assert_eq!(candidates.at_place(&combined, count), None);
                assert_eq!(candidates.nearest(&combined).unwrap().0, &ranking[0]);
            }
        }
    }

    #[test]
    fn each_epoch_starts_one_place_further_and_goes_round() {
        let candidates = candidates(7);
        let combined = hash("task");
        let ranking = ranking(&candidates, &combined);
        for epoch in 1..=20_u64 {
            let first = (epoch as usize - 1) % 7;
            assert_eq!(candidates.owner(&combined, epoch).unwrap().0, &ranking[first]);
            for (place, peer) in ranking.iter().enumerate() {
                let rank = candidates.rank_of(peer, &combined, epoch);
                assert_eq!(rank, Some((place + 7 - first) % 7));
            }
            let turns: Vec<_> = candidates.turns(&combined, epoch).map(|(peer, _)| peer).collect();
            let mut rotated: Vec<_> = ranking.iter().collect();
            rotated.rotate_left(first);
            assert_eq!(turns, rotated);
        }
        assert_eq!(candidates.owner(&combined, 0), candidates.owner(&combined, 1));
    }

    #[test]
    fn nobody_owns_a_task_without_candidates() {
        assert_eq!(Candidates::default().turns(&hash("task"), 1).count(), 0);
        let mut candidates = candidates(2);
        assert!(!candidates.insert("peer-0".into()));
        assert!(candidates.remove("peer-0") && candidates.remove("peer-1"));
        assert!(!candidates.remove("peer-0") && !candidates.contains("peer-0"));
        assert!(candidates.is_empty());
        assert_eq!(candidates.owner(&hash("task"), 1), None);
        assert_eq!(candidates.rank_of("peer-0", &hash("task"), 1), None);
    }

    #[test]
    fn the_closer_holder_has_the_larger_tie() {
        let combined = hash("task");
        let candidates = candidates(300);
        let ranking = ranking(&candidates, &combined);
        let ties: Vec<u32> = ranking.iter().map(|peer| tie(&combined, &hash(peer))).collect();
        assert!(ties.is_sorted_by(|closer, farther| closer >= farther));
        let opposite = Hash256(combined.0.map(|word| !word));
        assert_eq!(tie(&combined, &opposite), 1);
        assert!(tie(&combined, &combined) < 1 << 20);
    }
}
