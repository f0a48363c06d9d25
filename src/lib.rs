//! A peer-to-peer workflow scheduler.

pub mod scheduler;
