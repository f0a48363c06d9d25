//! A Fibonacci heap whose nodes hold sorted runs of elements.
//!
//! The trees are those of Fredman and Tarjan ("Fibonacci heaps and their uses in improved
//! network optimization algorithms", 1987): linked lazily by degree, cut on decrease with
//! one mark a node. What differs is what a node stands for. Inserted elements wait in an
//! *inbox*, a plain list. When the smallest element is wanted and lies there, the inbox is
//! cut into *runs* of at most [`RUN`] elements, each run is sorted, and becomes one node
//! whose key is that of its first element:
//!
//! ```text
//!   inbox: 7 → 2 → 9              newest last, unsorted; its minimum is known
//!
//!   roots:  [1 → 4 → 8]     [3 → 3 → 5]
//!             │                 │
//!           [2 → 6]           [4 → 4 → 9] — [7]
//! ```
//!
//! So a million elements make a few thousand nodes, which stay in the cache, and equal
//! keys, which stand side by side in a run, leave it without any work on the trees. Since
//! `RUN` is a constant, sorting costs an element O(1), and the bounds are those of the
//! plain heap, amortised: O(1) for `insert` and `decrease_key`, O(log n) for `extract_min`
//! and `delete`.
//!
//! Elements and nodes live in two arenas and name each other by `u32` indices; nothing
//! recurses, not even the drop.
//!
//! Invariants:
//! - A node's first element is not greater than the first elements of its children, and a
//!   run is sorted.
//! - Among equal keys the one that came first leaves first. Runs hold elements of disjoint
//!   spans of time, earlier ones have the smaller `seq`, all of them came before the inbox,
//!   and the sort is stable.

use std::cmp::Ordering;

/// The longest run. Longer runs make fewer nodes, but sorting leaves the first cache.
const RUN: usize = 128;

/// No slot, no node.
const NIL: u32 = u32::MAX;

/// In `before`: the rest is the node that this slot is the first of.
const NODE: u32 = 1 << 31;

/// More than log φ (2^31), the degree that a node of that many nodes can have at most.
const DEGREES: usize = 48;

/// Names one element for as long as it is in the heap that gave the handle out.
///
/// The generation tells a slot's later tenants apart, so a handle that outlived its element
/// is refused and never means another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Handle {
    index: u32,
    generation: u32,
}

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

/// A place for an element. A live one is in exactly one list: the inbox or a run.
#[derive(Debug, Clone)]
enum Slot<K, V> {
    Free { generation: u32, next: u32 },
    Live { generation: u32, before: u32, after: u32, key: K, value: V },
}

/// A tree node: one run, never empty. A free node has no first element, and is chained by
/// `right`.
#[derive(Debug, Clone)]
struct Node {
    first: u32,
    parent: u32,
    child: u32,
    left: u32,
    right: u32,
    degree: u8,
    /// Whether it has lost a child since it got its parent.
    marked: bool,
    /// When the run's elements came, as against those of other runs.
    seq: u64,
}

/// Elements that no node holds yet, in the order they came.
#[derive(Debug, Clone)]
struct Inbox {
    first: u32,
    last: u32,
    min: u32,
}

impl Inbox {
    const EMPTY: Self = Self { first: NIL, last: NIL, min: NIL };
}

/// A priority queue, smallest key first, first come first served among equal keys.
///
/// It holds up to 2^31 - 1 elements. An element takes 20 bytes beside its key and value,
/// and a 128th to, at worst, one part of a node of 32 bytes.
#[derive(Debug, Clone)]
pub struct FibonacciHeap<K, V> {
    slots: Vec<Slot<K, V>>,
    free_slot: u32,
    size: usize,
    inbox: Inbox,
    nodes: Vec<Node>,
    free_node: u32,
    roots: Vec<u32>,
    /// The root with the smallest first element; NIL if there is no node.
    min: u32,
    next_seq: u64,
    /// The run being made; kept for its memory.
    run: Vec<u32>,
}

impl<K, V> Default for FibonacciHeap<K, V> {
    fn default() -> Self {
        Self {
            slots: Vec::new(),
            free_slot: NIL,
            size: 0,
            inbox: Inbox::EMPTY,
            nodes: Vec::new(),
            free_node: NIL,
            roots: Vec::new(),
            min: NIL,
            next_seq: 0,
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
        self.size
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.size == 0
    }

    /// Adds an element. O(1) amortised.
    ///
    /// # Panics
    /// If the heap holds 2^31 - 1 elements.
    pub fn insert(&mut self, key: K, value: V) -> Handle {
        let handle = self.allocate(key, value);
        self.append_to_inbox(handle.index);
        self.size += 1;
        handle
    }

    /// The smallest element, left in place. O(1).
    pub fn get_min(&self) -> Option<(&K, &V)> {
        let slot = if self.min_is_in_inbox() {
            self.inbox.min
        } else if self.min != NIL {
            self.nodes[self.min as usize].first
        } else {
            return None;
        };
        self.entry(slot)
    }

    /// Takes the smallest element out. O(log n) amortised.
    pub fn extract_min(&mut self) -> Option<(K, V)> {
        if self.min_is_in_inbox() {
            self.seal_inbox();
        }
        if self.min == NIL {
            return None;
        }
        Some(self.take_first(self.min))
    }

    /// The element that the handle names; none if it has left.
    pub fn get(&self, handle: Handle) -> Option<(&K, &V)> {
        self.entry(self.resolve(handle)?)
    }

    /// Gives an element a smaller key. O(1) amortised.
    ///
    /// Among equal keys the element then counts as come now. Its present key changes
    /// nothing, not even its place.
    pub fn decrease_key(&mut self, handle: Handle, key: K) -> Result<(), DecreaseKeyError> {
        let slot = self.resolve(handle).ok_or(DecreaseKeyError::StaleHandle)?;
        match key.cmp(self.key(slot)) {
            Ordering::Greater => return Err(DecreaseKeyError::KeyIsGreater),
            Ordering::Equal => return Ok(()),
            Ordering::Less => {}
        }
        if let Some(node) = self.node_led_by(slot) {
            // What waits in the inbox came before the decrease, so it must be in the trees
            // first: the inbox counts as later than all of them.
            self.seal_inbox();
            self.leave_alone_in(node);
            self.set_key(slot, key);
            self.nodes[node as usize].seq = self.stamp();
            let parent = self.nodes[node as usize].parent;
            if parent != NIL && self.is_before(node, parent) {
                self.cut(node);
            }
            self.consider_as_min(node);
        } else {
            self.unlink(slot);
            self.set_key(slot, key);
            self.append_to_inbox(slot);
        }
        Ok(())
    }

    /// Takes an element out, wherever it stands; none if it has left. O(log n) amortised.
    pub fn delete(&mut self, handle: Handle) -> Option<(K, V)> {
        let slot = self.resolve(handle)?;
        if slot == self.inbox.min {
            self.seal_inbox();
        }
        let Some(node) = self.node_led_by(slot) else {
            self.unlink(slot);
            return Some(self.free(slot));
        };
        if self.nodes[node as usize].parent != NIL {
            self.cut(node);
        }
        Some(self.take_first(node))
    }
}

/// The trees.
impl<K: Ord, V> FibonacciHeap<K, V> {
    /// Takes the first element of a root.
    fn take_first(&mut self, root: u32) -> (K, V) {
        let first = self.nodes[root as usize].first;
        let next = self.after(first);
        let next_is_equal = next != NIL && self.key(next) == self.key(first);
        if next != NIL {
            *self.before_mut(next) = NODE | root;
        }
        self.nodes[root as usize].first = next;
        let entry = self.free(first);
        // An equal key of the same run changes nothing for the trees.
        if !next_is_equal {
            self.release_children(root);
            self.consolidate();
            if next == NIL {
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

    /// Links roots of equal degree until all degrees differ, drops a root whose run is
    /// empty, and finds the smallest.
    fn consolidate(&mut self) {
        let mut by_degree = [NIL; DEGREES];
        let mut roots = std::mem::take(&mut self.roots);
        for mut root in roots.drain(..) {
            if self.nodes[root as usize].first == NIL {
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
        self.key(a.first).cmp(self.key(b.first)).then(a.seq.cmp(&b.seq)).is_lt()
    }

    fn consider_as_min(&mut self, root: u32) {
        if self.min == NIL || self.is_before(root, self.min) {
            self.min = root;
        }
    }

    fn stamp(&mut self) -> u64 {
        self.next_seq += 1;
        self.next_seq
    }

    /// Adds a root whose run starts with the slot.
    fn add_root(&mut self, first: u32, seq: u64) -> u32 {
        let node = Node {
            first,
            parent: NIL,
            child: NIL,
            left: NIL,
            right: NIL,
            degree: 0,
            marked: false,
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
        *self.before_mut(first) = NODE | index;
        self.roots.push(index);
        index
    }

    /// Moves all of a node's run but the first element to a new root.
    fn leave_alone_in(&mut self, node: u32) {
        let Node { first, seq, .. } = self.nodes[node as usize];
        let rest = std::mem::replace(self.after_mut(first), NIL);
        if rest != NIL {
            self.add_root(rest, seq);
        }
    }

    /// Turns the inbox into runs, and each run into a root.
    fn seal_inbox(&mut self) {
        let mut slot = std::mem::replace(&mut self.inbox, Inbox::EMPTY).first;
        let mut run = std::mem::take(&mut self.run);
        while slot != NIL {
            run.clear();
            while slot != NIL && run.len() < RUN {
                run.push(slot);
                slot = self.after(slot);
            }
            run.sort_by(|&a, &b| self.key(a).cmp(self.key(b)));
            for pair in run.windows(2) {
                *self.after_mut(pair[0]) = pair[1];
                *self.before_mut(pair[1]) = pair[0];
            }
            *self.after_mut(run[run.len() - 1]) = NIL;
            let seq = self.stamp();
            let root = self.add_root(run[0], seq);
            self.consider_as_min(root);
        }
        self.run = run;
    }
}

/// The slots and the lists that they form.
impl<K: Ord, V> FibonacciHeap<K, V> {
    /// Whether the smallest element is in the inbox; among equal keys the trees' comes first.
    fn min_is_in_inbox(&self) -> bool {
        self.inbox.min != NIL
            && (self.min == NIL
                || self.key(self.inbox.min) < self.key(self.nodes[self.min as usize].first))
    }

    fn append_to_inbox(&mut self, slot: u32) {
        let last = std::mem::replace(&mut self.inbox.last, slot);
        if last == NIL {
            self.inbox.first = slot;
            self.inbox.min = slot;
        } else {
            *self.after_mut(last) = slot;
            if self.key(slot) < self.key(self.inbox.min) {
                self.inbox.min = slot;
            }
        }
        *self.before_mut(slot) = last;
        *self.after_mut(slot) = NIL;
    }

    /// Takes a slot that leads no node out of its list.
    fn unlink(&mut self, slot: u32) {
        let (before, after) = (*self.before_mut(slot), self.after(slot));
        if before != NIL {
            *self.after_mut(before) = after;
        } else {
            self.inbox.first = after;
        }
        if after != NIL {
            *self.before_mut(after) = before;
        } else if self.inbox.last == slot {
            self.inbox.last = before;
        }
    }

    fn node_led_by(&self, slot: u32) -> Option<u32> {
        match &self.slots[slot as usize] {
            Slot::Live { before, .. } if *before != NIL && before & NODE != 0 => {
                Some(before & !NODE)
            }
            _ => None,
        }
    }

    fn allocate(&mut self, key: K, value: V) -> Handle {
        let live = |generation| Slot::Live { generation, before: NIL, after: NIL, key, value };
        if self.free_slot == NIL {
            let index = self.slots.len() as u32;
            assert!(index < NODE - 1, "the heap holds 2^31 - 1 elements");
            self.slots.push(live(0));
            return Handle { index, generation: 0 };
        }
        let index = self.free_slot;
        let slot = &mut self.slots[index as usize];
        let Slot::Free { generation, next } = *slot else {
            unreachable!("the free list holds free slots only")
        };
        self.free_slot = next;
        *slot = live(generation);
        Handle { index, generation }
    }

    /// Empties a slot that is in no list any more. A slot whose generations are used up
    /// retires.
    fn free(&mut self, slot: u32) -> (K, V) {
        let place = &mut self.slots[slot as usize];
        let (Slot::Live { generation, .. } | Slot::Free { generation, .. }) = *place;
        let free = Slot::Free { generation: generation.wrapping_add(1), next: self.free_slot };
        let Slot::Live { key, value, .. } = std::mem::replace(place, free) else {
            unreachable!("only live slots are freed")
        };
        if generation != u32::MAX {
            self.free_slot = slot;
        }
        self.size -= 1;
        (key, value)
    }

    fn resolve(&self, handle: Handle) -> Option<u32> {
        match self.slots.get(handle.index as usize)? {
            Slot::Live { generation, .. } if *generation == handle.generation => Some(handle.index),
            _ => None,
        }
    }

    fn entry(&self, slot: u32) -> Option<(&K, &V)> {
        match &self.slots[slot as usize] {
            Slot::Live { key, value, .. } => Some((key, value)),
            Slot::Free { .. } => None,
        }
    }

    fn key(&self, slot: u32) -> &K {
        match &self.slots[slot as usize] {
            Slot::Live { key, .. } => key,
            Slot::Free { .. } => unreachable!("lists hold live slots only"),
        }
    }

    fn set_key(&mut self, slot: u32, new: K) {
        match &mut self.slots[slot as usize] {
            Slot::Live { key, .. } => *key = new,
            Slot::Free { .. } => unreachable!("lists hold live slots only"),
        }
    }

    fn after(&self, slot: u32) -> u32 {
        match &self.slots[slot as usize] {
            Slot::Live { after, .. } => *after,
            Slot::Free { .. } => unreachable!("lists hold live slots only"),
        }
    }

    fn after_mut(&mut self, slot: u32) -> &mut u32 {
        match &mut self.slots[slot as usize] {
            Slot::Live { after, .. } => after,
            Slot::Free { .. } => unreachable!("lists hold live slots only"),
        }
    }

    fn before_mut(&mut self, slot: u32) -> &mut u32 {
        match &mut self.slots[slot as usize] {
            Slot::Live { before, .. } => before,
            Slot::Free { .. } => unreachable!("lists hold live slots only"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// What the heap must do, told by a sorted map: the key, then the order of arrival.
    #[derive(Default)]
    struct Model {
        sorted: BTreeMap<(u16, u64), u32>,
        /// By value: the handle, and where the element stands while it is in the heap.
        given: Vec<(Handle, Option<(u16, u64)>)>,
        arrivals: u64,
    }

    #[derive(Debug, Clone)]
    enum Op {
        Insert(u16),
        ExtractMin,
        Decrease(usize, u16),
        Delete(usize),
        Drain(usize),
    }

    impl Model {
        fn arrive(&mut self, value: usize, key: u16) {
            self.arrivals += 1;
            self.sorted.insert((key, self.arrivals), value as u32);
            self.given[value].1 = Some((key, self.arrivals));
        }

        fn leave(&mut self, value: u32) -> Option<(u16, u32)> {
            let place = self.given[value as usize].1.take()?;
            self.sorted.remove(&place);
            Some((place.0, value))
        }

        fn extract_min(&mut self) -> Option<(u16, u32)> {
            let (_, &value) = self.sorted.first_key_value()?;
            self.leave(value)
        }

        fn check(&mut self, heap: &mut FibonacciHeap<u16, u32>, op: Op) {
            match op {
                Op::Insert(key) => {
                    let value = self.given.len();
                    self.given.push((heap.insert(key, value as u32), None));
                    self.arrive(value, key);
                }
                Op::ExtractMin => assert_eq!(heap.extract_min(), self.extract_min()),
                Op::Decrease(..) | Op::Delete(_) if self.given.is_empty() => {}
                Op::Decrease(pick, key) => {
                    let value = pick % self.given.len();
                    let (handle, place) = self.given[value];
                    let expected = match place {
                        None => Err(DecreaseKeyError::StaleHandle),
                        Some((present, _)) if key > present => Err(DecreaseKeyError::KeyIsGreater),
                        Some(_) => Ok(()),
                    };
                    assert_eq!(heap.decrease_key(handle, key), expected);
                    if place.is_some_and(|(present, _)| key < present) {
                        self.leave(value as u32);
                        self.arrive(value, key);
                    }
                }
                Op::Delete(pick) => {
                    let value = pick % self.given.len();
                    assert_eq!(heap.delete(self.given[value].0), self.leave(value as u32));
                }
                Op::Drain(count) => {
                    for _ in 0..count {
                        assert_eq!(heap.extract_min(), self.extract_min());
                    }
                }
            }
            let min = self.sorted.first_key_value();
            assert_eq!(heap.get_min(), min.map(|((key, _), value)| (key, value)));
            assert_eq!((heap.size(), heap.is_empty()), (self.sorted.len(), self.sorted.is_empty()));
        }
    }

    fn op(keys: u16) -> impl Strategy<Value = Op> {
        prop_oneof![
            40 => (0..keys).prop_map(Op::Insert),
            20 => Just(Op::ExtractMin),
            25 => (any::<usize>(), 0..keys).prop_map(|(pick, key)| Op::Decrease(pick, key)),
            10 => any::<usize>().prop_map(Op::Delete),
            1 => (0..100_usize).prop_map(Op::Drain),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]

        #[test]
        fn the_heap_does_what_a_sorted_map_does(
            ops in prop_oneof![Just(3), Just(100), Just(u16::MAX)]
                .prop_flat_map(|keys| prop::collection::vec(op(keys), 0..2_000))
        ) {
            let (mut heap, mut model) = (FibonacciHeap::new(), Model::default());
            for op in ops {
                model.check(&mut heap, op);
            }
            for (value, &(handle, place)) in model.given.iter().enumerate() {
                let entry = heap.get(handle).map(|(&key, &value)| (key, value as usize));
                prop_assert_eq!(entry, place.map(|(key, _)| (key, value)));
            }
            model.check(&mut heap, Op::Drain(2_000));
        }
    }

    /// SplitMix64: enough for tests and the same everywhere.
    struct Seeded(u64);

    impl Seeded {
        fn below(&mut self, limit: u64) -> u64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            (z ^ z >> 31) % limit
        }
    }

    /// Long histories reach what the short ones cannot: deep trees, worn runs, cascades.
    #[test]
    fn the_heap_does_what_a_sorted_map_does_over_a_million_operations() {
        for (seed, keys, bias) in
            [(1, 10, 45), (2, u16::MAX, 45), (3, 1_000, 35), (4, u16::MAX, 30)]
        {
            let mut random = Seeded(seed);
            let (mut heap, mut model) = (FibonacciHeap::new(), Model::default());
            for _ in 0..250_000 {
                let key = random.below(u64::from(keys)) as u16;
                let pick = random.below(1 << 32) as usize;
                let op = match random.below(100) {
                    roll if roll < bias => Op::Insert(key),
                    roll if roll < bias + 20 => Op::ExtractMin,
                    roll if roll < 97 => Op::Decrease(pick, key),
                    _ => Op::Delete(pick),
                };
                model.check(&mut heap, op);
            }
            model.check(&mut heap, Op::Drain(250_000));
        }
    }

    #[test]
    fn equal_keys_leave_in_the_order_they_came() {
        let mut heap = FibonacciHeap::new();
        for value in 0..10_000 {
            heap.insert(value % 10, value);
            if value == 5_000 {
                assert_eq!(heap.extract_min(), Some((0, 0)));
            }
        }
        let left: Vec<_> = std::iter::from_fn(|| heap.extract_min()).collect();
        assert_eq!(left.len(), 9_999);
        assert!(left.is_sorted());
    }

    #[test]
    fn a_decreased_element_counts_as_come_now() {
        let mut heap = FibonacciHeap::new();
        let late = heap.insert(9, "decreased");
        heap.insert(1, "min");
        heap.insert(5, "before");
        assert_eq!(heap.extract_min(), Some((1, "min")));
        heap.insert(5, "waiting");
        heap.decrease_key(late, 5).unwrap();
        heap.insert(5, "after");
        let order: Vec<_> =
            std::iter::from_fn(|| heap.extract_min()).map(|(_, value)| value).collect();
        assert_eq!(order, ["before", "waiting", "decreased", "after"]);
    }

    #[test]
    fn a_key_decreased_to_itself_keeps_its_place() {
        let mut heap = FibonacciHeap::new();
        let first = heap.insert(1, "first");
        heap.insert(1, "second");
        heap.decrease_key(first, 1).unwrap();
        assert_eq!(heap.extract_min(), Some((1, "first")));
    }

    #[test]
    fn a_refused_decrease_leaves_the_heap_as_it_was() {
        let mut heap = FibonacciHeap::new();
        let handle = heap.insert(5, ());
        assert_eq!(heap.decrease_key(handle, 6), Err(DecreaseKeyError::KeyIsGreater));
        assert_eq!(heap.get(handle), Some((&5, &())));
        assert_eq!(heap.delete(handle), Some((5, ())));
        assert_eq!(heap.decrease_key(handle, 1), Err(DecreaseKeyError::StaleHandle));
        assert_eq!(heap.delete(handle), None);
        assert_eq!((heap.get(handle), heap.get_min()), (None, None));
    }

    #[test]
    fn a_handle_never_means_a_later_element() {
        let mut heap = FibonacciHeap::new();
        let stale = heap.insert(1, "gone");
        heap.extract_min();
        let fresh = heap.insert(1, "here");
        assert_eq!(stale.index, fresh.index);
        assert_eq!(heap.get(stale), None);
        assert_eq!(heap.delete(stale), None);
        assert_eq!(heap.get(fresh), Some((&1, &"here")));
    }

    #[test]
    fn a_slot_retires_when_its_generations_are_used_up() {
        let mut heap = FibonacciHeap::new();
        heap.insert(1, ());
        heap.extract_min();
        heap.slots[0] = Slot::Free { generation: u32::MAX, next: NIL };
        let last = heap.insert(1, ());
        assert_eq!((last.index, last.generation), (0, u32::MAX));
        heap.delete(last);
        assert_eq!(heap.insert(1, ()).index, 1);
    }

    /// Decreasing the keys of a chain's nodes in turn builds trees of one long branch, which
    /// would overflow the stack of any recursion.
    #[test]
    fn a_branch_of_a_million_nodes_can_be_dropped() {
        const DEPTH: u32 = 1_000_000;
        let mut heap = FibonacciHeap::new();
        for _ in 0..DEPTH {
            heap.insert(0_u32, ());
        }
        heap.seal_inbox();
        heap.nodes.clear();
        for depth in 0..DEPTH {
            let (parent, child) =
                (depth.wrapping_sub(1), if depth + 1 < DEPTH { depth + 1 } else { NIL });
            heap.nodes.push(Node {
                first: depth,
                parent,
                child,
                left: NIL,
                right: NIL,
                degree: u8::from(child != NIL),
                marked: depth != 0,
                seq: u64::from(depth),
            });
            *heap.before_mut(depth) = NODE | depth;
            *heap.after_mut(depth) = NIL;
        }
        (heap.roots, heap.min) = (vec![0], 0);
        let copy = heap.clone();
        heap.cut(DEPTH - 1);
        assert_eq!(heap.roots.len(), DEPTH as usize);
        drop((heap, copy));
    }

    #[test]
    fn an_element_takes_at_most_28_bytes_and_a_node_32() {
        assert!(size_of::<Slot<u8, (u32, u32)>>() <= 28);
        assert_eq!(size_of::<Node>(), 32);
    }
}
