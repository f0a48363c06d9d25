//! The Merkle clock: a vector clock with one hash that stands for all of it.
//!
//! The vector counts what each peer has done. Two clocks are ordered by their vectors
//! (one happened before the other, or neither did: they are concurrent), and the
//! `merkle_root` tells in one comparison whether they are equal.
//!
//! The root is SHA-256 over the JSON list of sorted `[peer, counter]` pairs, written
//! exactly as Python's `json.dumps` writes it, because the peers that speak this
//! protocol hash that text: `", "` between items, everything outside printable ASCII
//! escaped as UTF-16 code units. It is fed to the hash piece by piece; the text never
//! exists in memory.
//!
//! Invariant: a counter never goes down.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::sync::OnceLock;

use sha2::{Digest, Sha256};

use super::hash::Hash256;

/// How one clock stands to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClockOrder {
    /// The other clock knows everything this one knows, and more.
    Before,
    /// This clock knows everything the other one knows, and more.
    After,
    /// Both know the same.
    Equal,
    /// Each knows something that the other does not.
    Concurrent,
}

/// A vector of counters, one a peer, owned by the peer `node_id`.
#[derive(Debug, Clone)]
pub struct MerkleClock {
    node_id: String,
    vector: BTreeMap<String, u64>,
    /// The vector's hash, once somebody asked for it: each heartbeat of each peer is compared with it.
    head: OnceLock<Hash256>,
}

impl PartialEq for MerkleClock {
    fn eq(&self, other: &Self) -> bool {
        (&self.node_id, &self.vector) == (&other.node_id, &other.vector)
    }
}

impl Eq for MerkleClock {}

impl MerkleClock {
    /// A clock that has seen nothing: its vector holds the node itself, at 0.
    pub fn new(node_id: impl Into<String>) -> Self {
        let node_id = node_id.into();
        let vector = BTreeMap::from([(node_id.clone(), 0)]);
        Self { node_id, vector, head: OnceLock::new() }
    }

    /// The peer whose counter [`tick`](Self::tick) raises.
    pub fn node_id(&self) -> &str {
        &self.node_id
    }

    /// All counters, by peer.
    pub fn vector(&self) -> &BTreeMap<String, u64> {
        &self.vector
    }

    /// The counter of one peer; 0 for a peer never heard of.
    pub fn get(&self, peer: &str) -> u64 {
        self.vector.get(peer).copied().unwrap_or(0)
    }

    /// Counts one event of this node. At `u64::MAX` the counter stays: it never wraps.
    pub fn tick(&mut self) {
        self.head = OnceLock::new();
        match self.vector.get_mut(&self.node_id) {
            Some(counter) => *counter = counter.saturating_add(1),
            None => unreachable!("`new` enters the node and nothing removes it"),
        }
    }

    /// Takes the pointwise maximum and never ticks, so that clocks that were merged with
    /// each other are equal. True if any counter rose.
    ///
    /// A peer that is reported at 0 is entered as well, as it is part of the root; that
    /// alone is no rise.
    pub fn merge(&mut self, other: &BTreeMap<String, u64>) -> bool {
        let mut rose = false;
        self.head = OnceLock::new();
        for (peer, &counter) in other {
            match self.vector.get_mut(peer) {
                Some(own) => {
                    rose |= counter > *own;
                    *own = counter.max(*own);
                }
                None => {
                    rose |= counter > 0;
                    self.vector.insert(peer.clone(), counter);
                }
            }
        }
        rose
    }

    /// Receives a message that carries `other`: merge, then tick.
    pub fn update(&mut self, other: &BTreeMap<String, u64>) {
        self.merge(other);
        self.tick();
    }

    /// The hash of the vector, as 64 hexadecimal digits.
    pub fn merkle_root(&self) -> String {
        self.head().to_hex()
    }

    /// The hash of the vector: what a task is stamped with at submission.
    pub fn head(&self) -> Hash256 {
        *self.head.get_or_init(|| vector_root(&self.vector))
    }

    /// How this clock stands to `other`; a missing entry counts as 0.
    pub fn compare(&self, other: &Self) -> ClockOrder {
        let ahead =
            |a: &Self, b: &Self| a.vector.iter().any(|(peer, &counter)| counter > b.get(peer));
        match (ahead(self, other), ahead(other, self)) {
            (false, false) => ClockOrder::Equal,
            (false, true) => ClockOrder::Before,
            (true, false) => ClockOrder::After,
            (true, true) => ClockOrder::Concurrent,
        }
    }
}

/// The hash of any vector of counters; the module's documentation gives the format.
pub fn vector_root<K: AsRef<str>>(vector: &BTreeMap<K, u64>) -> Hash256 {
    let mut hash = HashWriter(Sha256::new());
    write_vector(&mut hash, vector).expect("the writer is a hash, which takes everything");
    Hash256::from(hash.0)
}

/// Formats straight into a hash.
struct HashWriter(Sha256);

impl Write for HashWriter {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.update(text);
        Ok(())
    }
}

/// Writes `[["a", 1], ["b", 2]]`. The map's order by UTF-8 bytes is Python's order by
/// code points.
fn write_vector<K: AsRef<str>>(out: &mut impl Write, vector: &BTreeMap<K, u64>) -> fmt::Result {
    out.write_char('[')?;
    for (index, (peer, counter)) in vector.iter().enumerate() {
        out.write_str(if index == 0 { "[" } else { ", [" })?;
        write_json_string(out, peer.as_ref())?;
        write!(out, ", {counter}]")?;
    }
    out.write_char(']')
}

/// Writes a JSON string as Python does with `ensure_ascii`: all but the characters from
/// space to tilde is escaped, DEL too, and beyond U+FFFF as a surrogate pair.
fn write_json_string(out: &mut impl Write, text: &str) -> fmt::Result {
    out.write_char('"')?;
    let mut rest = text;
    while let Some(at) = rest.find(|c| !matches!(c, ' '..='~') || matches!(c, '"' | '\\')) {
        let (plain, tail) = rest.split_at(at);
        out.write_str(plain)?;
        let mut chars = tail.chars();
        let escaped = chars.next().expect("`find` stops at a character");
        rest = chars.as_str();
        match escaped {
            '"' => out.write_str("\\\"")?,
            '\\' => out.write_str("\\\\")?,
            '\n' => out.write_str("\\n")?,
            '\r' => out.write_str("\\r")?,
            '\t' => out.write_str("\\t")?,
            '\u{8}' => out.write_str("\\b")?,
            '\u{c}' => out.write_str("\\f")?,
            other => {
                for unit in other.encode_utf16(&mut [0; 2]) {
                    write!(out, "\\u{unit:04x}")?;
                }
            }
        }
    }
    out.write_str(rest)?;
    out.write_char('"')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vector<const N: usize>(entries: [(&str, u64); N]) -> BTreeMap<String, u64> {
        entries.map(|(peer, counter)| (peer.to_owned(), counter)).into()
    }

    fn clock<const N: usize>(entries: [(&str, u64); N]) -> MerkleClock {
        let mut clock = MerkleClock::new("me");
        clock.merge(&vector(entries));
        clock
    }

    #[test]
    fn the_hashed_text_is_that_of_pythons_json_dumps() {
        let mut text = String::new();
        let peers = vector([("a\"\\\u{7f}\u{8}\u{c}\n\r\t\u{1}", 1), ("é🦀~ ", 1 << 53), ("", 0)]);
        write_vector(&mut text, &peers).unwrap();
        assert_eq!(
            text,
            r#"[["", 0], ["a\"\\\u007f\b\f\n\r\t\u0001", 1], ["\u00e9\ud83e\udd80~ ", 9007199254740992]]"#
        );
        text.clear();
        write_vector::<String>(&mut text, &BTreeMap::new()).unwrap();
        assert_eq!(text, "[]");
    }

    #[test]
    fn the_root_is_the_sha256_of_the_text() {
        assert_eq!(
            clock([("me", 1)]).merkle_root(),
            Hash256::of(r#"[["me", 1]]"#.as_bytes()).to_hex()
        );
    }

    #[test]
    fn the_root_is_that_of_the_vector_after_each_change() {
        let mut clock = MerkleClock::new("me");
        let heads = |clock: &MerkleClock| (clock.head(), vector_root(clock.vector()));
        let before = heads(&clock);
        clock.tick();
        let ticked = heads(&clock);
        clock.merge(&vector([("other", 0)]));
        let merged = heads(&clock);
        for (kept, computed) in [before, ticked, merged] {
            assert_eq!(kept, computed);
        }
        assert!(before != ticked && ticked != merged);
        let asked = clock.clone();
        clock.merge(&vector([]));
        assert_eq!(clock, asked, "whether or not anybody asked for its root");
    }

    #[test]
    fn merging_both_ways_makes_equal_roots_and_does_not_tick() {
        let mut a = MerkleClock::new("a");
        let mut b = MerkleClock::new("b");
        a.tick();
        b.tick();
        b.tick();
        assert!(a.merge(b.vector()));
        assert!(b.merge(a.vector()));
        assert!(!a.merge(b.vector()));
        assert_eq!(a.merkle_root(), b.merkle_root());
        assert_eq!((a.get("a"), a.get("b"), a.get("c")), (1, 2, 0));
    }

    #[test]
    fn an_update_is_a_merge_and_a_tick() {
        let mut clock = MerkleClock::new("me");
        clock.update(&vector([("other", 3), ("me", 7)]));
        assert_eq!(clock.vector(), &vector([("me", 8), ("other", 3)]));
        assert_eq!(clock.node_id(), "me");
    }

    #[test]
    fn a_peer_reported_at_zero_is_entered_but_nothing_rose() {
        let mut clock = MerkleClock::new("me");
        assert!(!clock.merge(&vector([("other", 0)])));
        assert_eq!(clock.vector(), &vector([("me", 0), ("other", 0)]));
    }

    #[test]
    fn a_counter_at_its_limit_stays_there() {
        let mut clock = clock([("me", u64::MAX)]);
        clock.tick();
        assert_eq!(clock.get("me"), u64::MAX);
    }

    #[test]
    fn the_order_is_that_of_this_clock_against_the_other() {
        let order = |a, b| clock::<2>(a).compare(&clock::<2>(b));
        assert_eq!(order([("a", 1), ("b", 1)], [("a", 1), ("b", 2)]), ClockOrder::Before);
        assert_eq!(order([("a", 1), ("b", 2)], [("a", 1), ("b", 1)]), ClockOrder::After);
        assert_eq!(order([("a", 1), ("b", 2)], [("a", 2), ("b", 1)]), ClockOrder::Concurrent);
        assert_eq!(order([("a", 1), ("b", 0)], [("a", 1), ("c", 0)]), ClockOrder::Equal);
    }
}
