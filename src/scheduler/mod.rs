//! The core: pure, synchronous, no clock, no I/O, no ambient randomness, ordered iteration.

mod calls;
mod changes;
mod clock;
mod heap;
pub mod limits;
mod ownership;
mod record;
mod tags;

pub use calls::*;
pub use changes::{Changes, Conflict, Duplicate, KeptTask, TaskChange};
pub use clock::{ClockOrder, MerkleClock, vector_root};
pub use heap::{DecreaseKeyError, FibonacciHeap, Handle};
pub use ownership::{
    Candidates, Distance, HammingDistanceError, Hash256, ParseHashError,
    calculate_hamming_distance, combined_hash, task_hash, tie,
};
pub use record::{Body, Class, Dot, Lease, Outcome, Phase, Record, Spec};
pub use tags::{ParseTagError, TagSet, WorkflowTag};
