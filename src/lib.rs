//! A peer-to-peer workflow scheduler: durable tasks that agents on several machines share without a
//! server.

#[cfg(feature = "node")]
pub mod node;
pub mod scheduler;
#[cfg(feature = "node")]
pub mod store;
#[cfg(feature = "node")]
pub mod swarm;

pub use scheduler::{
    FibonacciHeap, MerkleClock, P2PTask, P2PWorkflowScheduler, WorkflowTag,
    calculate_hamming_distance,
};
