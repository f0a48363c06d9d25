//! Tests of behaviour seen from outside the library.

mod dependencies;
mod histories;
mod leases;
mod order;
mod support;
mod transcripts;
