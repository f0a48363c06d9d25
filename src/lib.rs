//! A peer-to-peer workflow scheduler.

pub mod scheduler;
#[cfg(feature = "node")]
pub mod store;
