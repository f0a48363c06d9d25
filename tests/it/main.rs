//! Tests of behaviour seen from outside the library.

mod dependencies;
mod histories;
mod leases;
mod node;
mod order;
mod original_defects;
mod original_vectors;
mod support;
mod transcripts;
mod turns;
