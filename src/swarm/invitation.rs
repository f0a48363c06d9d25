//! An invitation: all that another machine needs to join, in one line.
//!
//! ```text
//! ipfs-accelerate-swarm-1+<key, 64 hex>+<peer id>+<address>+<address>…+<checksum, 16 hex>
//! ```
//!
//! Every character stands for itself in a shell. Chats and terminals break long lines and dress
//! them up, so what cannot be part of one (white space, quotes, invisible characters) is dropped
//! before reading; the checksum finds what is missing or changed.

use std::fmt;

use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};
use sha2::{Digest, Sha256};

use super::key::{KeyError, NetworkKey, hex};

const PREFIX: &str = "ipfs-accelerate-swarm-";
const VERSION: &str = "1";
/// More addresses make the line long, and one that works is enough.
const MAX_ADDRESSES: usize = 16;
/// An invitation is about 300 characters; far longer texts are not looked into.
const MAX_LENGTH: usize = 16 * 1024;

/// The key of a swarm, and a peer of it to begin with.
///
/// **It holds the secret key**: whoever reads the line can join. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Invitation {
    /// The swarm's key.
    pub key: NetworkKey,
    /// Who invites.
    pub peer: PeerId,
    /// Where that peer can be reached; none where mDNS shall find it. The first 16 are written.
    pub addresses: Vec<Multiaddr>,
}

/// Why a text is not an invitation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvitationError {
    /// It begins otherwise.
    #[error("this is no invitation: one begins with `{PREFIX}`. `swarm invite` prints one.")]
    NotOne,
    /// A newer program made it.
    #[error(
        "this invitation is of version {0}, and this program reads version {VERSION}. Update it."
    )]
    Version(String),
    /// A part is missing or changed.
    #[error("this invitation is cut or changed: its checksum does not fit. Copy the whole line.")]
    Checksum,
    /// The key is none.
    #[error("the key in this invitation cannot be read: {0}")]
    Key(#[from] KeyError),
    /// The peer id is none.
    #[error("the peer id in this invitation cannot be read: {0}. Ask for a new invitation.")]
    Peer(String),
    /// An address is none.
    #[error("the address {0} in this invitation cannot be read. Ask for a new invitation.")]
    Address(String),
}

impl Invitation {
    /// Reads the line, however it was broken and quoted.
    ///
    /// # Errors
    /// See [`InvitationError`].
    pub fn parse(text: &str) -> Result<Self, InvitationError> {
        let line: String = text.chars().take(MAX_LENGTH).filter(|c| !is_dressing(*c)).collect();
        let rest = line.strip_prefix(PREFIX).ok_or(InvitationError::NotOne)?;
        let (version, _) = rest.split_once('+').ok_or(InvitationError::Checksum)?;
        if version != VERSION {
            return Err(InvitationError::Version(version.chars().take(20).collect()));
        }
        let (body, sum) = line.rsplit_once('+').ok_or(InvitationError::Checksum)?;
        if sum != checksum(body) {
            return Err(InvitationError::Checksum);
        }
        let mut parts = body.split('+').skip(1);
        let key = NetworkKey::from_hex(parts.next().unwrap_or_default())?;
        let peer = parts.next().unwrap_or_default();
        let peer = peer.parse().map_err(|_| InvitationError::Peer(peer.to_owned()))?;
        let addresses = parts
            .map(|part| part.parse().map_err(|_| InvitationError::Address(part.to_owned())))
            .collect::<Result<_, _>>()?;
        Ok(Invitation { key, peer, addresses })
    }

    /// The line, without its end. A secret: show it only to whom it is for, and log it nowhere.
    #[must_use]
    pub fn to_secret_line(&self) -> String {
        let mut line = format!("{PREFIX}{VERSION}+{}+{}", self.key.to_secret_hex(), self.peer);
        for address in self.addresses.iter().take(MAX_ADDRESSES) {
            line += "+";
            line += &without_peer(address).to_string();
        }
        let sum = checksum(&line);
        line + "+" + &sum
    }
}

impl fmt::Debug for Invitation {
    /// Shows the key's fingerprint, never the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Invitation")
            .field("key", &self.key)
            .field("peer", &self.peer)
            .field("addresses", &self.addresses)
            .finish()
    }
}

/// An address without the peer id at its end.
pub(super) fn without_peer(address: &Multiaddr) -> Multiaddr {
    let mut address = address.clone();
    if matches!(address.iter().last(), Some(Protocol::P2p(_))) {
        address.pop();
    }
    address
}

/// What editors, chats and terminals put into a line that has none of it.
fn is_dressing(c: char) -> bool {
    c.is_whitespace()
        || c.is_control()
        || matches!(c, '\'' | '"' | '`' | '<' | '>' | '“' | '”' | '‘' | '’')
        || matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}')
}

fn checksum(body: &str) -> String {
    hex(&Sha256::digest(body.as_bytes())[..8])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn invitation() -> Invitation {
        let addresses = ["/ip4/192.168.1.5/tcp/4001", "/ip6/fe80::1/tcp/4001"];
        Invitation {
            key: NetworkKey::generate().unwrap(),
            peer: PeerId::random(),
            addresses: addresses.map(|address| address.parse().unwrap()).to_vec(),
        }
    }

    #[test]
    fn an_invitation_survives_every_way_of_copying_it() {
        let invitation = invitation();
        let line = invitation.to_secret_line();
        assert!(!line.contains(|c: char| " ;&|#*?$!(){}[]~=\\".contains(c)), "{line}");
        let broken: Vec<&str> = line.split_inclusive('e').collect();
        for dressed in [
            line.clone(),
            format!("  {line}\r\n"),
            format!("\"{line}\""),
            format!("> `{}`", broken.join("\n> ")),
            broken.join("\u{200b} \u{ad}"),
        ] {
            assert_eq!(Invitation::parse(&dressed), Ok(invitation.clone()), "{dressed}");
        }
        let bare = Invitation { addresses: Vec::new(), ..invitation };
        assert_eq!(Invitation::parse(&bare.to_secret_line()), Ok(bare));
    }

    #[test]
    fn an_invitation_with_any_one_character_missing_or_changed_is_refused() {
        let line = invitation().to_secret_line();
        for at in 0..line.len() {
            let mut cut = line.clone();
            cut.remove(at);
            assert!(Invitation::parse(&cut).is_err(), "{cut}");
            let mut changed = line.clone();
            changed.replace_range(at..=at, if &line[at..=at] == "7" { "8" } else { "7" });
            assert!(Invitation::parse(&changed).is_err(), "{changed}");
            assert!(Invitation::parse(&line[..at]).is_err());
        }
    }

    #[test]
    fn each_refusal_says_what_is_wrong() {
        let line = invitation().to_secret_line();
        let sealed = |body: String| {
            let sum = checksum(&body);
            Invitation::parse(&format!("{body}+{sum}")).unwrap_err()
        };
        let key = NetworkKey::generate().unwrap().to_secret_hex();
        let peer = PeerId::random();
        assert_eq!(Invitation::parse("hello"), Err(InvitationError::NotOne));
        assert_eq!(Invitation::parse(""), Err(InvitationError::NotOne));
        assert_eq!(
            Invitation::parse(&line.replace("swarm-1", "swarm-2")),
            Err(InvitationError::Version("2".into()))
        );
        assert_eq!(Invitation::parse(&line[..line.len() - 3]), Err(InvitationError::Checksum));
        let start = format!("{PREFIX}{VERSION}");
        assert_eq!(
            sealed(format!("{start}+abc+{peer}")),
            InvitationError::Key(KeyError::Length(3))
        );
        assert_eq!(sealed(format!("{start}+{key}+me")), InvitationError::Peer("me".into()));
        assert_eq!(sealed(format!("{start}+{key}")), InvitationError::Peer(String::new()));
        assert_eq!(
            sealed(format!("{start}+{key}+{peer}+/ip4/300.1.1.1")),
            InvitationError::Address("/ip4/300.1.1.1".into())
        );
    }

    #[test]
    fn debug_does_not_show_the_secret() {
        let invitation = invitation();
        let shown = format!("{invitation:?}");
        assert!(shown.contains(&invitation.key.fingerprint().to_string()), "{shown}");
        assert!(!shown.contains(&invitation.key.to_secret_hex()), "{shown}");
    }
}
