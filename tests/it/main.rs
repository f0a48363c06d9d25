//! Tests of behaviour seen from outside the library.

mod leases;
mod node;
mod order;
mod original_vectors;
mod support;
mod transcripts;
