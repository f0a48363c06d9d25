//! What only the swarm's engine, libp2p, knows: for now, who this peer is.
//!
//! The only folder that names libp2p.

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
