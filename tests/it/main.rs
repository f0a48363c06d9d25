//! Tests of behaviour seen from outside the library.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is how a test fails")]

mod dependencies;
mod histories;
mod leases;
mod node;
mod order;
mod original_defects;
mod original_vectors;
mod overview;
mod pruning;
mod replication;
mod second_runs;
mod shown;
#[expect(dead_code, reason = "the example `simulate` uses the rest of it")]
#[path = "../sim/mod.rs"]
mod sim;
mod simulation;
mod support;
mod transcripts;
mod turns;
