//! The built binary, run as a process, seen from outside: what it prints where, and how it exits.

mod harness;
mod hostile;
mod sessions;
mod takeover;
mod usage;
