//! Tests of behaviour seen from outside the library.

mod original_vectors;
