//! Tests of behaviour seen from outside the library.

mod node;
mod original_vectors;
