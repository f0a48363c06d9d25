//! The core: pure, synchronous, no clock, no I/O, no ambient randomness, ordered iteration.

mod calls;
mod changes;
mod clock;
mod heap;
mod limits;
mod ownership;
mod record;
mod tags;
