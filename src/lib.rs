//! A peer-to-peer workflow scheduler: durable tasks that agents on several machines share without a
//! server.

pub mod scheduler;

pub use scheduler::{
    FibonacciHeap, MerkleClock, P2PTask, P2PWorkflowScheduler, WorkflowTag,
    calculate_hamming_distance,
};
