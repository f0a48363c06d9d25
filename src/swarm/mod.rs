//! The network between peers: who this peer is, who may come in, and messages that arrive.
//!
//! The only folder that names libp2p. It knows neither tasks nor the store: a message is bytes.
//!
//! ```text
//!   Swarm (handle) ── commands ──▶ driver ──▶ libp2p: TCP, network key, noise, yamux
//!   events ◀────────────────────── driver ◀── identify, ping, mDNS, request-response, limits
//!                                    │
//!                      book            whom to dial, and when again
//!                      links           which of several connections to a peer stays
//!                      refusals        who was refused, counted
//! ```
//!
//! A machine joins with an [`Invitation`]: the [`NetworkKey`], which is a secret, a peer and its
//! addresses. From then on addresses are learned from the peers themselves, and mDNS finds those
//! on the LAN.
//!
//! # What libp2p does not do by itself
//!
//! * A wrong key looks like a handshake that never ends. So the first bytes are looked at: noise
//!   ends the connection at once, as does what fails after somebody answered our dial, and is told
//!   as a possible mismatch ([`Why::KeyMismatch`]).
//! * A pulled cable shows nowhere. Heartbeats are the node's; on suspicion it calls
//!   [`Swarm::disconnect`], and then the peer is dialled again.
//! * A peer that refuses us completes the handshake first. [`Event::Connected`] waits for its first
//!   word.
//! * Where both sides dial at once, one connection stays. A request on the other one fails with
//!   [`RequestError::Disconnected`] and may be repeated.

mod admission;
mod behaviour;
mod book;
mod codec;
mod driver;
mod greeting;
mod handle;
mod invitation;
mod key;
mod links;
mod refusals;

#[cfg(test)]
mod tests;

pub use admission::Admission;
pub use codec::MAX_MESSAGE;
pub use handle::{
    Answer, DialError, Event, Options, PeerInfo, RequestError, StartError, Swarm, TooLong,
};
pub use invitation::{Invitation, InvitationError};
pub use key::{Fingerprint, KeyError, NetworkKey};
pub use libp2p::{Multiaddr, PeerId};
pub use refusals::{Refusal, Why};

use libp2p::identity::{DecodingError, Keypair};

/// An ed25519 key, and the peer id that follows from it, as everywhere in the IPFS world.
#[derive(Clone)]
pub struct Identity(Keypair);

impl Identity {
    /// A new key, from the operating system's randomness.
    #[must_use]
    pub fn generate() -> Self {
        Identity(Keypair::generate_ed25519())
    }

    /// Reads a key in libp2p's protobuf encoding.
    ///
    /// # Errors
    /// The bytes are something else, or a key of another kind.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodingError> {
        Keypair::from_protobuf_encoding(bytes).map(Identity)
    }

    /// The key in libp2p's protobuf encoding. A secret.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.to_protobuf_encoding().expect("an ed25519 key can always be encoded")
    }

    /// The peer id, as people write it: `12D3Koo…`.
    #[must_use]
    pub fn peer_id(&self) -> String {
        self.0.public().to_peer_id().to_base58()
    }
}

impl std::fmt::Debug for Identity {
    /// Shows whose key it is, never the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Identity").field(&self.peer_id()).finish()
    }
}
