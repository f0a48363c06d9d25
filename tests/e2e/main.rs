//! The built binary, run as a process, seen from outside: what it prints where, and how it exits.

mod errors;
mod harness;
mod hostile;
mod one_node;
mod sessions;
mod takeover;
mod usage;
