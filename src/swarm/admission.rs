//! Who is let in, beside having the swarm's key.

use std::collections::BTreeSet;

use libp2p::PeerId;
use libp2p::allow_block_list::{AllowedPeers, Behaviour, BlockedPeers};

/// Who is let in, beside having the swarm's key. By default everybody who has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Admission {
    /// If there are any, only these are let in.
    pub trusted: BTreeSet<PeerId>,
    /// These are not, whether or not they are trusted.
    pub blocked: BTreeSet<PeerId>,
}

impl Admission {
    /// Whether a peer that has the key is let in.
    #[must_use]
    pub fn lets_in(&self, peer: &PeerId) -> bool {
        let is_trusted = self.trusted.is_empty() || self.trusted.contains(peer);
        is_trusted && !self.blocked.contains(peer)
    }

    /// What refuses those that are blocked.
    pub(super) fn blocking(&self) -> Behaviour<BlockedPeers> {
        let mut behaviour = Behaviour::default();
        for peer in &self.blocked {
            behaviour.block_peer(*peer);
        }
        behaviour
    }

    /// What refuses all but those that are trusted, if there are any.
    pub(super) fn trusting(&self) -> Option<Behaviour<AllowedPeers>> {
        let mut behaviour = Behaviour::default();
        for peer in &self.trusted {
            behaviour.allow_peer(*peer);
        }
        (!self.trusted.is_empty()).then_some(behaviour)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_is_let_in_until_somebody_is_trusted_and_a_blocked_peer_never() {
        let [friend, stranger] = [PeerId::random(), PeerId::random()];
        let mut admission = Admission::default();
        assert!(admission.lets_in(&friend) && admission.lets_in(&stranger));
        admission.trusted.insert(friend);
        assert!(admission.lets_in(&friend) && !admission.lets_in(&stranger));
        admission.blocked.insert(friend);
        assert!(!admission.lets_in(&friend) && !admission.lets_in(&stranger));
        admission.trusted.clear();
        assert!(!admission.lets_in(&friend) && admission.lets_in(&stranger));
    }
}
