//! The core's speed as ratios: ours against the heaps of another crate and of the standard
//! library, on the same keys, run in turns so that a noisy machine disturbs all alike.
//!
//! `cargo bench --bench core` prints the medians of the rounds, their ratio, and the bound
//! that is asked for. Ours gives out a handle and keeps a value beside each key, first in,
//! first out among equal keys. `fibonacci_heap` holds bare keys. The standard heap holds
//! bare keys where they are mixed; where they are ten priorities it is given what the same
//! answers take, an order of arrival and the value.
//!
//! At the end it looks whether peers with equal views agree on who owns a million tasks.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::hint::black_box;

use fibonacci_heap::GenericFibonacciHeap;
use p2p_workflow_scheduler::scheduler::{Candidates, FibonacciHeap, Hash256};
use rustix::time::{ClockId, clock_gettime};

const ELEMENTS: usize = 1_000_000;
const ROUNDS: usize = 7;
const PEERS: usize = 10_000;
const OWNED_TASKS: usize = 5_000;
const OWNER_BOUND_NANOS: f64 = 30_000.0;
const MEMBERS: usize = 50;
const VIEWS: usize = 5;

fn main() {
    let keys = random_numbers(1, ELEMENTS);
    let decreases = random_decreases(&keys);
    let priorities: Vec<u8> = keys.iter().map(|key| (key % 10) as u8).collect();
    let candidates = candidates();
    let mut table = Table::default();

    for _ in 0..ROUNDS {
        // The other crate goes last: after it the allocator has a million pieces to join.
        let (ours, std) = (our_heap(&priorities), standard_fifo(&priorities));
        table.add("push, ten priorities, to BinaryHeap", ours.push, std.push, Some(1.0));
        table.add("pop, ten priorities, to BinaryHeap", ours.pop, std.pop, Some(1.0));

        let (ours, std) = (our_heap(&keys), standard_heap(&keys));
        table.add("push, mixed keys, to BinaryHeap", ours.push, std.push, None);
        table.add("pop, mixed keys, to BinaryHeap", ours.pop, std.pop, Some(3.0));

        let owner = owner(&candidates);
        table.add("owner among 10,000 peers, to 30 µs", owner, OWNER_BOUND_NANOS, Some(1.0));

        let other = fibonacci_crate(&keys);
        table.add("push, mixed keys, to fibonacci_heap", ours.push, other.push, None);
        table.add("pop, mixed keys, to fibonacci_heap", ours.pop, other.pop, Some(0.5));

        let ours = our_decreases(&keys, &decreases);
        let other = fibonacci_crate_decreases(&keys, &decreases);
        table.add("decrease-key, to fibonacci_heap", ours.push, other.push, Some(0.5));
        table.add("pop of decreased keys, to fibonacci_heap", ours.pop, other.pop, Some(0.5));
    }
    table.print();
    print_disagreements();
}

/// The same members as several peers came to know them, each in another order and with some that
/// went and came back: counts the tasks that not all of them rank alike.
#[expect(clippy::print_stdout, reason = "a benchmark's output is its table")]
fn print_disagreements() {
    let views: Vec<Candidates> = (0..VIEWS).map(|view| view_of_members(view as u64)).collect();
    let disagree = (0..ELEMENTS).filter(|task| {
        let combined = Hash256::of(&task.to_le_bytes());
        let epoch = 1 + (*task % 3) as u64;
        let mut owners = views.iter().map(|view| view.owner(&combined, epoch));
        let first = owners.next().flatten();
        owners.any(|other| other != first)
    });
    let disagreements = disagree.count();
    println!(
        "owners that {VIEWS} peers with the same {MEMBERS} members disagree on: {disagreements} of {ELEMENTS}, bound 0 {}",
        if disagreements == 0 { "held" } else { "MISSED" }
    );
}

fn view_of_members(view: u64) -> Candidates {
    let name = |member: usize| format!("peer-{member}").into();
    let mut order: Vec<usize> = (0..MEMBERS).collect();
    let draws = random_numbers(100 + view, MEMBERS);
    order.sort_by_key(|&member| draws[member]);
    let mut candidates = Candidates::default();
    for &member in &order {
        candidates.insert(name(member));
    }
    for &member in &order[..MEMBERS / 2] {
        candidates.remove(&format!("peer-{member}"));
    }
    for &member in order[..MEMBERS / 2].iter().rev() {
        candidates.insert(name(member));
    }
    candidates
}

/// Nanoseconds an operation. `push` is what comes first: pushes, or decreases.
struct Times {
    push: f64,
    pop: f64,
}

/// Nanoseconds an operation, of this thread's processor time: what else runs on the machine
/// still disturbs the caches, but does not count.
fn time(operations: usize, run: impl FnOnce()) -> f64 {
    let start = processor_nanos();
    run();
    (processor_nanos() - start) as f64 / operations as f64
}

fn processor_nanos() -> i64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

fn our_heap<K: Ord + Copy>(keys: &[K]) -> Times {
    let mut heap = FibonacciHeap::new();
    let push = time(keys.len(), || {
        for (value, &key) in (0_u32..).zip(keys) {
            black_box(heap.insert(key, value));
        }
    });
    let pop = time(keys.len(), || while black_box(heap.extract_min()).is_some() {});
    Times { push, pop }
}

fn fibonacci_crate(keys: &[u64]) -> Times {
    let mut heap = GenericFibonacciHeap::new();
    let push = time(keys.len(), || {
        for &key in keys {
            black_box(heap.insert(key)).expect("inserting never fails");
        }
    });
    let pop = time(keys.len(), || while black_box(heap.extract_min()).is_some() {});
    Times { push, pop }
}

fn standard_heap(keys: &[u64]) -> Times {
    let mut heap = BinaryHeap::new();
    let push = time(keys.len(), || {
        for &key in keys {
            heap.push(Reverse(key));
        }
    });
    let pop = time(keys.len(), || while black_box(heap.pop()).is_some() {});
    Times { push, pop }
}

fn standard_fifo(keys: &[u8]) -> Times {
    let mut heap = BinaryHeap::new();
    let push = time(keys.len(), || {
        for (arrival, &key) in (0_u32..).zip(keys) {
            heap.push(Reverse((key, arrival, arrival)));
        }
    });
    let pop = time(keys.len(), || while black_box(heap.pop()).is_some() {});
    Times { push, pop }
}

/// Decreases every element once, in a heap that has popped once, so that its trees are built.
/// The handles are looked up before.
fn our_decreases(keys: &[u64], decreases: &[(usize, u64)]) -> Times {
    let mut heap = FibonacciHeap::new();
    let handles: Vec<_> =
        (0_u32..).zip(keys).map(|(value, &key)| heap.insert(key, value)).collect();
    heap.insert(0, 0);
    heap.extract_min();
    let decreases: Vec<_> =
        decreases.iter().map(|&(element, key)| (handles[element], key)).collect();
    let push = time(decreases.len(), || {
        for &(handle, key) in &decreases {
            heap.decrease_key(handle, key).expect("the key is not greater");
        }
    });
    let pop = time(keys.len(), || while black_box(heap.extract_min()).is_some() {});
    Times { push, pop }
}

fn fibonacci_crate_decreases(keys: &[u64], decreases: &[(usize, u64)]) -> Times {
    let mut heap = GenericFibonacciHeap::new();
    let nodes: Vec<_> =
        keys.iter().map(|&key| heap.insert(key).expect("inserting never fails")).collect();
    heap.insert(0).expect("inserting never fails");
    heap.extract_min();
    let decreases: Vec<_> =
        decreases.iter().map(|&(element, key)| (nodes[element].clone(), key)).collect();
    let push = time(decreases.len(), || {
        for (node, key) in &decreases {
            heap.decrease_key(node, *key).expect("the key is not greater");
        }
    });
    let pop = time(keys.len(), || while black_box(heap.extract_min()).is_some() {});
    Times { push, pop }
}

fn owner(candidates: &Candidates) -> f64 {
    let tasks: Vec<Hash256> =
        (0..OWNED_TASKS).map(|task| Hash256::of(&task.to_le_bytes())).collect();
    time(OWNED_TASKS, || {
        for task in &tasks {
            black_box(candidates.owner(black_box(task), 1));
        }
    })
}

fn candidates() -> Candidates {
    let mut candidates = Candidates::default();
    for peer in 0..PEERS {
        candidates.insert(format!("peer-{peer}").into());
    }
    candidates
}

/// SplitMix64, the same numbers in every run.
fn random_numbers(seed: u64, count: usize) -> Vec<u64> {
    let number = |index: u64| {
        let mut z = index.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    };
    (seed << 32..).take(count).map(number).collect()
}

/// Every element once, in random order, with a random key below its own.
fn random_decreases(keys: &[u64]) -> Vec<(usize, u64)> {
    let draws = random_numbers(2, keys.len());
    let mut decreases: Vec<_> =
        (0..keys.len()).map(|element| (element, draws[element] % keys[element].max(1))).collect();
    decreases.sort_by_key(|&(element, _)| draws[element]);
    decreases
}

/// The rows in the order of their first round.
#[derive(Default)]
struct Table(Vec<Row>);

struct Row {
    name: &'static str,
    ours: Vec<f64>,
    theirs: Vec<f64>,
    bound: Option<f64>,
}

impl Table {
    fn add(&mut self, name: &'static str, ours: f64, theirs: f64, bound: Option<f64>) {
        let at = self.0.iter().position(|row| row.name == name).unwrap_or_else(|| {
            self.0.push(Row { name, ours: Vec::new(), theirs: Vec::new(), bound });
            self.0.len() - 1
        });
        self.0[at].ours.push(ours);
        self.0[at].theirs.push(theirs);
    }

    #[expect(clippy::print_stdout, reason = "a benchmark's output is its table")]
    fn print(self) {
        println!(
            "{:<42} {:>10} {:>10} {:>7}  bound",
            format!("medians of {ROUNDS} rounds, ns"),
            "ours",
            "theirs",
            "ratio"
        );
        for Row { name, ours, theirs, bound } in self.0 {
            let (ours, theirs) = (median(ours), median(theirs));
            let ratio = ours / theirs;
            let verdict = match bound {
                None => String::from("none"),
                Some(bound) if ratio <= bound => format!("{bound:.1} held"),
                Some(bound) => format!("{bound:.1} MISSED"),
            };
            println!("{name:<42} {ours:>10.1} {theirs:>10.1} {ratio:>7.2}  {verdict}");
        }
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
