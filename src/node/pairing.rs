//! What a machine keeps of its swarm, in the data folder: the key, the port that others reach it
//! at, the peers that it knows, and whom it trusts or blocks.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use crate::swarm::{
    Admission, Fingerprint, Invitation, InvitationError, KeyError, Multiaddr, NetworkKey, PeerId,
};

use super::local;

/// The swarm's key, in the format of IPFS. A secret.
const KEY_FILE: &str = "swarm.key";
/// The port that the others know.
const PORT_FILE: &str = "swarm.port";
/// A peer and its addresses a line.
const PEERS_FILE: &str = "swarm.peers";
/// A peer a line: if there are any, the only ones that are let in.
const TRUSTED_FILE: &str = "swarm.trusted";
/// A peer a line: those that are not let in.
const BLOCKED_FILE: &str = "swarm.blocked";

/// Why a pairing cannot be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum PairingError {
    /// There is a key already.
    #[error("this machine is in swarm {0} already. `swarm leave` takes it out.")]
    Joined(Fingerprint),
    /// There is no key.
    #[error("this machine is in no swarm. `swarm init` makes one, `swarm join LINE` joins one.")]
    NotJoined,
    /// The key's file holds something else.
    #[error("{}: {error}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        error: KeyError,
    },
    /// A line in a list of peers is none. Nobody is let in by half a list.
    #[error("{}: {text:?} is no peer id. Mend the line, or remove the file.", path.display())]
    List {
        /// The file.
        path: PathBuf,
        /// The line.
        text: String,
    },
    /// A text is no peer id.
    #[error(
        "{0:?} is no peer id of 52 characters, nor the short form of a known one's. `swarm peers` shows them."
    )]
    NotAPeer(String),
    /// A short form fits several peers.
    #[error("{0:?} fits several peers. Give the whole id; `swarm peers --json` shows it.")]
    SeveralPeers(String),
    /// The peer is this one.
    #[error("{0} is this machine itself, which is always let in.")]
    Oneself(PeerId),
    /// Without the peers that are to be trusted no longer, anybody would be let in.
    #[error(
        "nobody would be trusted any more, and so everybody with the key let in. \
         `swarm trust --anyone` says that on purpose."
    )]
    LastTrusted,
    /// The line is no invitation.
    #[error(transparent)]
    Invitation(#[from] InvitationError),
    /// The file system refused.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The operating system has no randomness.
    #[error("no key can be made: {0}")]
    Random(getrandom::Error),
}

/// What is kept.
#[derive(Debug)]
pub(super) struct Pairing {
    pub(super) key: NetworkKey,
    pub(super) port: u16,
    pub(super) known: Vec<(PeerId, Vec<Multiaddr>)>,
    pub(super) admission: Admission,
}

/// A change of who is let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admit {
    /// Adds trusted peers.
    Trust(Vec<PeerId>),
    /// Takes peers off the trusted ones, of which some have to stay.
    Distrust(Vec<PeerId>),
    /// Trusts nobody in particular, and so lets everybody in.
    Anyone,
    /// Adds blocked peers.
    Block(Vec<PeerId>),
    /// Takes peers off the blocked ones.
    Unblock(Vec<PeerId>),
}

impl Admit {
    /// Changes `admission`.
    fn apply(&self, admission: &mut Admission) -> Result<(), PairingError> {
        let Admission { trusted, blocked } = admission;
        match self {
            Admit::Trust(peers) => trusted.extend(peers),
            Admit::Distrust(peers) => {
                let were = trusted.len();
                trusted.retain(|peer| !peers.contains(peer));
                if were > 0 && trusted.is_empty() {
                    return Err(PairingError::LastTrusted);
                }
            }
            Admit::Anyone => trusted.clear(),
            Admit::Block(peers) => blocked.extend(peers),
            Admit::Unblock(peers) => blocked.retain(|peer| !peers.contains(peer)),
        }
        Ok(())
    }
}

impl Pairing {
    /// Reads what is kept; `None` if this machine is in no swarm.
    pub(super) fn read(folder: &Path) -> Result<Option<Self>, PairingError> {
        let path = folder.join(KEY_FILE);
        let key = match local::read_private(&path) {
            Ok(text) => {
                NetworkKey::parse(&text).map_err(|error| PairingError::Key { path, error })?
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(PairingError::Io { path, error }),
        };
        // Either can be made anew: a port is another one then, and peers are found again.
        let port = fs::read_to_string(folder.join(PORT_FILE)).ok();
        let port = port.and_then(|text| text.trim().parse().ok()).unwrap_or_default();
        let known = fs::read_to_string(folder.join(PEERS_FILE)).unwrap_or_default();
        let known = known.lines().filter_map(peer_of).collect();
        let admission = Admission {
            trusted: read_list(&folder.join(TRUSTED_FILE))?,
            blocked: read_list(&folder.join(BLOCKED_FILE))?,
        };
        Ok(Some(Pairing { key, port, known, admission }))
    }

    /// Makes a swarm of this machine alone.
    pub(super) fn init(folder: &Path) -> Result<Fingerprint, PairingError> {
        let key = NetworkKey::generate().map_err(PairingError::Random)?;
        enter(folder, &key, &[])?;
        Ok(key.fingerprint())
    }

    /// Takes what an invitation says.
    pub(super) fn join(folder: &Path, line: &str) -> Result<Invitation, PairingError> {
        let invitation = Invitation::parse(line)?;
        let known = [(invitation.peer, invitation.addresses.clone())];
        enter(folder, &invitation.key, &known)?;
        Ok(invitation)
    }

    /// Forgets the swarm.
    pub(super) fn leave(folder: &Path) -> Result<(), PairingError> {
        // Also where a list is damaged.
        if !folder.join(KEY_FILE).exists() {
            return Err(PairingError::NotJoined);
        }
        // The key last: without it nothing of the others is read.
        for file in [PEERS_FILE, TRUSTED_FILE, BLOCKED_FILE, PORT_FILE, KEY_FILE] {
            let path = folder.join(file);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(PairingError::Io { path, error });
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Changes who is let in, and returns that.
    pub(super) fn admit(folder: &Path, change: &Admit) -> Result<Admission, PairingError> {
        let mut admission = Self::read(folder)?.ok_or(PairingError::NotJoined)?.admission;
        change.apply(&mut admission)?;
        keep_list(folder, TRUSTED_FILE, &admission.trusted)?;
        keep_list(folder, BLOCKED_FILE, &admission.blocked)?;
        Ok(admission)
    }

    /// Keeps where a peer can be reached.
    pub(super) fn remember(
        folder: &Path,
        peer: PeerId,
        addresses: Vec<Multiaddr>,
    ) -> Result<(), PairingError> {
        let Some(mut pairing) = Self::read(folder)? else { return Ok(()) };
        pairing.known.retain(|(other, _)| *other != peer);
        pairing.known.push((peer, addresses));
        keep_peers(folder, &pairing.known)
    }
}

fn enter(
    folder: &Path,
    key: &NetworkKey,
    known: &[(PeerId, Vec<Multiaddr>)],
) -> Result<(), PairingError> {
    if let Some(pairing) = Pairing::read(folder)? {
        return Err(PairingError::Joined(pairing.key.fingerprint()));
    }
    // The one that is free now is known to the others from now on.
    let free = TcpListener::bind(("0.0.0.0", 0)).and_then(|listener| listener.local_addr());
    let port = free.map_or(0, |address| address.port());
    write(folder, PORT_FILE, &format!("{port}\n"))?;
    keep_peers(folder, known)?;
    write(folder, KEY_FILE, &key.to_secret_file())
}

fn keep_peers(folder: &Path, known: &[(PeerId, Vec<Multiaddr>)]) -> Result<(), PairingError> {
    let lines = known.iter().map(|(peer, addresses)| {
        let addresses = addresses.iter().map(|address| format!(" {address}"));
        format!("{peer}{}\n", addresses.collect::<String>())
    });
    write(folder, PEERS_FILE, &lines.collect::<String>())
}

fn keep_list(folder: &Path, file: &str, peers: &BTreeSet<PeerId>) -> Result<(), PairingError> {
    let lines = peers.iter().map(|peer| format!("{peer}\n"));
    write(folder, file, &lines.collect::<String>())
}

/// A list that decides who is let in is read strictly: all of it, or not at all.
fn read_list(path: &Path) -> Result<BTreeSet<PeerId>, PairingError> {
    let text = match local::read_private(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
        Err(error) => return Err(PairingError::Io { path: path.to_owned(), error }),
    };
    let peer = |line: &str| {
        let wrong = |_| PairingError::List { path: path.to_owned(), text: line.to_owned() };
        line.trim().parse().map_err(wrong)
    };
    text.lines().filter(|line| !line.trim().is_empty()).map(peer).collect()
}

fn peer_of(line: &str) -> Option<(PeerId, Vec<Multiaddr>)> {
    let mut words = line.split_whitespace();
    let peer = words.next()?.parse().ok()?;
    Some((peer, words.filter_map(|address| address.parse().ok()).collect()))
}

fn write(folder: &Path, file: &str, text: &str) -> Result<(), PairingError> {
    let path = folder.join(file);
    local::write_private(&path, text.as_bytes()).map_err(|error| PairingError::Io { path, error })
}
