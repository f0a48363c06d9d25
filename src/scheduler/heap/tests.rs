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
fn the_heap_does_what_a_sorted_map_does_over_two_million_operations() {
    for (seed, keys, bias) in [(1, 10, 45), (2, u16::MAX, 45), (3, 1_000, 35), (4, u16::MAX, 30)] {
        let mut random = Seeded(seed);
        let (mut heap, mut model) = (FibonacciHeap::new(), Model::default());
        for _ in 0..500_000 {
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
        model.check(&mut heap, Op::Drain(500_000));
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
    let order: Vec<_> = std::iter::from_fn(|| heap.extract_min()).map(|(_, value)| value).collect();
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
fn decreasing_one_element_forever_takes_no_memory() {
    let mut heap = FibonacciHeap::new();
    heap.insert(0, ());
    let handle = heap.insert(100_000, ());
    for key in (1..100_000).rev() {
        heap.decrease_key(handle, key).unwrap();
    }
    assert!(heap.elements.cell_count() < 20);
    assert_eq!((heap.extract_min(), heap.extract_min()), (Some((0, ())), Some((1, ()))));
}

/// Decreases can make a tree of one long branch, which would overflow the stack of any
/// recursion.
#[test]
fn a_branch_of_a_million_nodes_can_be_dropped() {
    const DEPTH: u32 = 1_000_000;
    let mut heap = FibonacciHeap::new();
    for depth in 0..DEPTH {
        heap.insert(depth, ());
        heap.seal_inbox();
    }
    for depth in 1..DEPTH {
        let (parent, child) = (&mut heap.nodes[depth as usize - 1], depth);
        (parent.child, parent.degree) = (child, 1);
        let child = &mut heap.nodes[child as usize];
        (child.parent, child.marked) = (depth - 1, true);
    }
    (heap.roots, heap.min) = (vec![0], 0);
    let copy = heap.clone();
    heap.cut(DEPTH - 1);
    assert_eq!(heap.roots.len(), DEPTH as usize);
    drop((heap, copy));
}
