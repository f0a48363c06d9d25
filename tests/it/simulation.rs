//! A few simulations, and that the same seed makes the same history.

use crate::sim::{Scenario, simulate};

#[test]
fn peers_keep_their_promises_while_things_go_wrong() {
    for seed in 0..20 {
        if let Err(failure) = simulate(&Scenario::new(seed, 5)) {
            panic!("{failure}");
        }
    }
}

#[test]
fn the_same_seed_makes_the_same_history() {
    let hash = |seed| simulate(&Scenario::new(seed, 6)).expect("it keeps its promises").hash;
    assert_eq!(hash(1), hash(1));
    assert_ne!(hash(1), hash(2));
}
