//! A Fibonacci heap whose nodes hold sorted runs of elements.
//!
//! The trees are those of Fredman and Tarjan ("Fibonacci heaps and their uses in improved
//! network optimization algorithms", 1987): linked lazily by degree, cut on decrease with
//! one mark a node. What differs is what a node stands for. Inserted elements wait in an
//! *inbox*, an unsorted list whose minimum is known. When that minimum is wanted, the inbox
//! becomes a node, led by it. When it has left, the others are cut into *runs* of at most
//! [`RUN`] elements, each run is sorted, and becomes a node led by its first element:
//!
//! ```text
//!   inbox:  7 → 2 → 9
//!
//!   roots:  [1] 4 → 8      [3] 3 → 5
//!             │              │
//!           [2] 6          [4] 4 → 9 ── [7]
//! ```
//!
//! So a million elements make two thousand nodes, which stay in the cache, and equal keys,
//! which stand side by side in a run, leave it without any work on the trees. As `RUN` is a
//! constant, sorting costs an element O(1), and the bounds are those of the plain heap,
//! amortised: O(1) for `insert` and `decrease_key`, O(log n) for `extract_min` and `delete`.
//!
//! Elements stay in their *slot*; the lists are made of *cells* that name a slot. Whatever
//! takes an element out of the middle of a list leaves its cell there, dead, to be dropped
//! when the list is walked: so a decrease touches one slot and the end of the inbox. Slots,
//! cells and nodes live in arenas and name each other by `u32` indices; nothing recurses,
//! not even the drop.
//!
//! Invariants:
//! - A live element leads a node, or exactly one cell is its own: the one it names back.
//! - A leader is not greater than the leaders of the node's children, nor than anything
//!   behind it in its own node.
//! - Among equal keys the one that came first leaves first. Nodes hold elements of disjoint
//!   spans of time, an earlier span has the smaller `seq`, all of them came before the
//!   inbox, and the sort is stable.

mod elements;

use std::cmp::Ordering;

pub use elements::Handle;
use elements::{Elements, NIL};

/// The longest run. Shorter runs make more nodes, longer ones are sorted outside the first
/// cache.
const RUN: usize = 512;

/// More than log φ (2^28), which bounds the degree of a node.
const DEGREES: usize = 48;

/// Why a key was not decreased; the heap is unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecreaseKeyError {
    /// The element has left the heap.
    #[error("the element is no longer in the heap")]
    StaleHandle,
    /// The new key is greater than the present one.
    #[error("the new key is greater than the present one")]
    KeyIsGreater,
}

/// A tree node. A free one has no leader, and is chained by `right`.
#[derive(Debug, Clone)]
struct Node {
    /// The slot of the smallest element.
    leader: u32,
    /// The cells of the others.
    rest: u32,
    parent: u32,
    child: u32,
    left: u32,
    right: u32,
    degree: u8,
    /// Whether it has lost a child since it got its parent.
    marked: bool,
    /// Whether the rest is in order; otherwise it is an inbox's, of any length.
    sorted: bool,
    /// Where the node's elements stand in the order of arrival, as against other nodes'.
    seq: u64,
}

/// Elements that no node holds yet, in the order they came. `last` and the rest mean
/// something only where `first` is a cell.
#[derive(Debug, Clone)]
struct Inbox {
    first: u32,
    last: u32,
    /// The slot of the smallest element.
    min: u32,
    /// The number of its first arrival.
    seq: u64,
}

impl Inbox {
    const EMPTY: Self = Self { first: NIL, last: NIL, min: NIL, seq: 0 };
}

/// A priority queue, smallest key first, first come first served among equal keys.
///
/// It holds up to 2^28 elements. Beside its key and value an element takes 20 bytes,
/// and its share of a node: a twelfth of a byte where runs
/// are full, 40 bytes where every one is worn down to a single element.
#[derive(Debug, Clone)]
pub struct FibonacciHeap<K, V> {
    elements: Elements<K, V>,
    inbox: Inbox,
    /// Counts inserts and decreases.
    arrivals: u64,
    nodes: Vec<Node>,
    free_node: u32,
    roots: Vec<u32>,
    /// The root with the smallest leader; NIL if there is no node.
    min: u32,
    /// The run being made; kept for its memory.
    run: Vec<u32>,
}

impl<K, V> Default for FibonacciHeap<K, V> {
    fn default() -> Self {
        Self {
            elements: Elements::default(),
            inbox: Inbox::EMPTY,
            arrivals: 0,
            nodes: Vec::new(),
            free_node: NIL,
            roots: Vec::new(),
            min: NIL,
            run: Vec::new(),
        }
    }
}

impl<K: Ord, V> FibonacciHeap<K, V> {
    /// An empty heap.
    pub fn new() -> Self {
        Self::default()
    }

    /// The number of elements.
    pub fn size(&self) -> usize {
        self.elements.len()
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.elements.len() == 0
    }

    /// Adds an element. O(1) amortised.
    ///
    /// # Panics
    /// If the heap holds 2^28 elements.
    pub fn insert(&mut self, key: K, value: V) -> Handle {
        let handle = self.elements.reserve();
        let cell = self.append_to_inbox(handle.index, &key);
        self.elements.fill(handle, cell, key, value);
        handle
    }

    /// The smallest element, left in place. O(1).
    pub fn get_min(&self) -> Option<(&K, &V)> {
        let slot = if self.min_is_in_inbox() {
            self.inbox.min
        } else if self.min != NIL {
            self.nodes[self.min as usize].leader
        } else {
            return None;
        };
        self.elements.entry(slot)
    }

    /// Takes the smallest element out. O(log n) amortised.
    pub fn extract_min(&mut self) -> Option<(K, V)> {
        if self.min_is_in_inbox() {
            self.seal_inbox();
        }
        if self.min == NIL {
            return None;
        }
        Some(self.take_leader(self.min))
    }

    /// The element that the handle names; none if it has left. O(1).
    pub fn get(&self, handle: Handle) -> Option<(&K, &V)> {
        self.elements.entry(self.elements.resolve(handle)?)
    }

    /// Gives an element a smaller key. O(1) amortised.
    ///
    /// Among equal keys the element then counts as come now. Its present key changes
    /// nothing, not even its place.
    pub fn decrease_key(&mut self, handle: Handle, key: K) -> Result<(), DecreaseKeyError> {
        let slot = self.elements.resolve(handle).ok_or(DecreaseKeyError::StaleHandle)?;
        match key.cmp(self.elements.key(slot)) {
            Ordering::Greater => return Err(DecreaseKeyError::KeyIsGreater),
            Ordering::Equal => return Ok(()),
            Ordering::Less => {}
        }
        if let Some(node) = self.elements.led_by(slot) {
            self.decrease_leader(node, key);
        } else {
            let cell = self.append_to_inbox(slot, &key);
            self.elements.set_key_and_cell(slot, key, cell);
        }
        Ok(())
    }

    /// Takes an element out, wherever it stands; none if it has left. O(log n) amortised.
    pub fn delete(&mut self, handle: Handle) -> Option<(K, V)> {
        let slot = self.elements.resolve(handle)?;
        if self.inbox.first != NIL && slot == self.inbox.min {
            self.seal_inbox();
        }
        let Some(node) = self.elements.led_by(slot) else {
            return Some(self.elements.vacate(slot));
        };
        if self.nodes[node as usize].parent != NIL {
            self.cut(node);
        }
        Some(self.take_leader(node))
    }
}

/// The trees.
impl<K: Ord, V> FibonacciHeap<K, V> {
    #[cold]
    fn decrease_leader(&mut self, node: u32, key: K) {
        // What waits in the inbox came before the decrease, so it goes to the trees first:
        // the inbox counts as later than all of them.
        self.seal_inbox();
        self.leave_leader_alone(node);
        self.arrivals += 1;
        let Node { leader, parent, .. } = self.nodes[node as usize];
        self.nodes[node as usize].seq = self.arrivals;
        self.elements.set_key(leader, key);
        if parent != NIL && self.is_before(node, parent) {
            self.cut(node);
        }
        self.consider_as_min(node);
    }

    /// Takes the smallest element of a root.
    fn take_leader(&mut self, root: u32) -> (K, V) {
        let leader = self.nodes[root as usize].leader;
        if !self.nodes[root as usize].sorted {
            self.leave_leader_alone(root);
        }
        let (next, rest) = self.elements.first_live(self.nodes[root as usize].rest);
        let next_is_equal =
            next.is_some_and(|next| self.elements.key(next) == self.elements.key(leader));
        if let Some(next) = next {
            self.elements.set_leads(next, root);
        }
        self.nodes[root as usize].leader = next.unwrap_or(NIL);
        self.nodes[root as usize].rest = rest;
        let entry = self.elements.vacate(leader);
        // An equal leader of the same node changes nothing for the trees.
        if !next_is_equal {
            self.release_children(root);
            self.consolidate();
            if next.is_none() {
                self.nodes[root as usize].right = self.free_node;
                self.free_node = root;
            }
        }
        entry
    }

    fn release_children(&mut self, root: u32) {
        let node = &mut self.nodes[root as usize];
        node.degree = 0;
        let mut child = std::mem::replace(&mut node.child, NIL);
        while child != NIL {
            let node = &mut self.nodes[child as usize];
            node.parent = NIL;
            node.marked = false;
            self.roots.push(child);
            child = node.right;
        }
    }

    /// Links roots of equal degree until all degrees differ, drops a root without
    /// a leader, and finds the smallest.
    fn consolidate(&mut self) {
        let mut by_degree = [NIL; DEGREES];
        let mut roots = std::mem::take(&mut self.roots);
        for mut root in roots.drain(..) {
            if self.nodes[root as usize].leader == NIL {
                continue;
            }
            loop {
                let same_degree = &mut by_degree[usize::from(self.nodes[root as usize].degree)];
                if *same_degree == NIL {
                    *same_degree = root;
                    break;
                }
                let other = std::mem::replace(same_degree, NIL);
                root = self.link(root, other);
            }
        }
        self.roots = roots;
        self.min = NIL;
        for root in by_degree.into_iter().filter(|&root| root != NIL) {
            self.roots.push(root);
            self.consider_as_min(root);
        }
    }

    /// Makes the root that comes later a child of the other, which is returned.
    fn link(&mut self, a: u32, b: u32) -> u32 {
        let (parent, child) = if self.is_before(a, b) { (a, b) } else { (b, a) };
        let node = &mut self.nodes[parent as usize];
        node.degree += 1;
        let sibling = std::mem::replace(&mut node.child, child);
        if sibling != NIL {
            self.nodes[sibling as usize].left = child;
        }
        let node = &mut self.nodes[child as usize];
        node.parent = parent;
        node.left = NIL;
        node.right = sibling;
        node.marked = false;
        parent
    }

    /// Makes a child a root, and every ancestor that thereby loses its second child too.
    fn cut(&mut self, mut child: u32) {
        loop {
            let node = &mut self.nodes[child as usize];
            let (parent, left, right) = (node.parent, node.left, node.right);
            node.parent = NIL;
            node.marked = false;
            self.roots.push(child);
            if right != NIL {
                self.nodes[right as usize].left = left;
            }
            if left != NIL {
                self.nodes[left as usize].right = right;
            } else {
                self.nodes[parent as usize].child = right;
            }
            let node = &mut self.nodes[parent as usize];
            node.degree -= 1;
            if node.parent == NIL {
                return;
            }
            if !node.marked {
                node.marked = true;
                return;
            }
            child = parent;
        }
    }

    fn is_before(&self, a: u32, b: u32) -> bool {
        let (a, b) = (&self.nodes[a as usize], &self.nodes[b as usize]);
        self.elements.key(a.leader).cmp(self.elements.key(b.leader)).then(a.seq.cmp(&b.seq)).is_lt()
    }

    fn consider_as_min(&mut self, root: u32) {
        if self.min == NIL || self.is_before(root, self.min) {
            self.min = root;
        }
    }

    /// Adds a root, not sorted where its rest comes from the inbox.
    fn add_root(&mut self, leader: u32, rest: u32, sorted: bool, seq: u64) -> u32 {
        let node = Node {
            leader,
            rest,
            parent: NIL,
            child: NIL,
            left: NIL,
            right: NIL,
            degree: 0,
            marked: false,
            sorted,
            seq,
        };
        let index = if self.free_node == NIL {
            self.nodes.push(node);
            (self.nodes.len() - 1) as u32
        } else {
            let index = self.free_node;
            self.free_node = self.nodes[index as usize].right;
            self.nodes[index as usize] = node;
            index
        };
        self.elements.set_leads(leader, index);
        self.roots.push(index);
        index
    }

    /// Turns the inbox into a root, led by its minimum, not sorted yet.
    fn seal_inbox(&mut self) {
        if self.inbox.first == NIL {
            return;
        }
        let Inbox { first, min, seq, .. } = std::mem::replace(&mut self.inbox, Inbox::EMPTY);
        let root = self.add_root(min, first, false, seq);
        self.consider_as_min(root);
    }

    /// Moves what is behind a node's leader to roots of its own, sorted.
    fn leave_leader_alone(&mut self, node: u32) {
        let Node { rest, sorted, seq, .. } = self.nodes[node as usize];
        if !sorted {
            self.add_sorted_runs(rest, seq);
        } else if let (Some(leader), rest) = self.elements.first_live(rest) {
            self.add_root(leader, rest, true, seq);
        }
        let node = &mut self.nodes[node as usize];
        node.rest = NIL;
        node.sorted = true;
    }

    /// Cuts a list into runs, sorts each, and makes it a root.
    fn add_sorted_runs(&mut self, mut list: u32, mut seq: u64) {
        let mut run = std::mem::take(&mut self.run);
        loop {
            while run.len() < RUN && list != NIL {
                let (slot, rest) = self.elements.first_live(list);
                run.extend(slot);
                list = rest;
            }
            run.sort_by(|&a, &b| self.elements.key(a).cmp(self.elements.key(b)));
            let Some((&leader, others)) = run.split_first() else { break };
            let rest = self.elements.list(others);
            self.add_root(leader, rest, true, seq);
            seq += 1;
            run.clear();
        }
        self.run = run;
    }
}

/// The inbox.
impl<K: Ord, V> FibonacciHeap<K, V> {
    /// Whether the smallest element is in the inbox; among equal keys the trees' comes first.
    fn min_is_in_inbox(&self) -> bool {
        self.inbox.first != NIL
            && (self.min == NIL
                || self.elements.key(self.inbox.min)
                    < self.elements.key(self.nodes[self.min as usize].leader))
    }

    /// Adds a cell for a slot that is about to have this key, and returns it.
    #[inline]
    fn append_to_inbox(&mut self, slot: u32, key: &K) -> u32 {
        let is_first = self.inbox.first == NIL;
        let is_min = is_first || key < self.elements.key(self.inbox.min);
        if self.elements.cells_are_full() && self.elements.most_cells_are_dead() {
            self.drop_dead_cells();
        }
        self.arrivals += 1;
        let cell = self.elements.add_cell(slot, NIL);
        if is_first {
            self.inbox.first = cell;
            self.inbox.seq = self.arrivals;
        } else {
            self.elements.append(self.inbox.last, cell);
        }
        self.inbox.last = cell;
        if is_min {
            self.inbox.min = slot;
        }
        cell
    }

    /// Sweeps all lists. The dead are more than all else, so this costs the decreases and
    /// deletes that made them O(1) each.
    #[cold]
    fn drop_dead_cells(&mut self) {
        (self.inbox.first, self.inbox.last) = self.elements.without_dead(self.inbox.first);
        for node in self.nodes.iter_mut().filter(|node| node.leader != NIL) {
            (node.rest, _) = self.elements.without_dead(node.rest);
        }
    }
}

#[cfg(test)]
mod tests;
