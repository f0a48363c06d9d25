//! The core: pure, synchronous, no clock, no I/O, no ambient randomness.

mod bit_slices;
mod clock;
mod heap;
mod ownership;
mod tags;

pub use clock::{ClockOrder, MerkleClock, vector_root};
pub use heap::{DecreaseKeyError, FibonacciHeap, Handle};
pub use ownership::{
    Candidates, Distance, HammingDistanceError, Hash256, ParseHashError,
    calculate_hamming_distance, combined_hash, task_hash, tie,
};
pub use tags::{ParseTagError, TagSet, WorkflowTag};
