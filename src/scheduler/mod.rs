//! The core: pure, synchronous, no clock, no I/O, no ambient randomness.
