//! Who was refused and why, counted; each is told once.

use std::collections::BTreeMap;
use std::fmt;

use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};

use super::codec::PROTOCOL;
use super::key::Fingerprint;

/// How many refused peers and addresses are told apart. Beyond, only their number is counted: who
/// connects from many addresses must not fill the memory or the log.
const MAX_KINDS: usize = 1024;
/// How much of what somebody says is kept and told, in characters: a sentence.
const MAX_DETAIL: usize = 300;

/// Why a connection or a message was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// The first bytes made no sense under our key, whose fingerprint this is.
    KeyMismatch(Fingerprint),
    /// Its peer id is not on our allow list.
    NotAllowed,
    /// Its peer id is on our block list.
    Blocked,
    /// We have as many connections as we take.
    Full,
    /// Another peer answered at its address.
    OtherPeer,
    /// It has our key, and does not speak our protocol.
    OtherProtocol,
    /// It closed the connection before a word was said.
    ByPeer,
    /// A message was no frame, no message, too long, or says what nobody can mean.
    Malformed,
    /// A message of another version of the program.
    OtherVersion,
    /// A message had a record that nobody can have written, or without what belongs to it.
    BadRecord,
    /// It asked more than we can answer at a time, or has more than we can hold.
    Overloaded,
    /// It took our messages too slowly, and some were left out.
    TooSlow,
    /// It refused a message of ours.
    RefusedOurs,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::KeyMismatch(ours) => write!(
                f,
                "possible swarm key mismatch: the handshake failed under our key, whose \
                 fingerprint is {ours}. Compare it with the other side's; a port scanner or a \
                 cut connection looks the same"
            ),
            Why::NotAllowed => f.write_str("not on our allow list. Trust the peer to let it in"),
            Why::Blocked => f.write_str("on our block list"),
            Why::Full => f.write_str("we have as many connections as we take"),
            Why::OtherPeer => f.write_str(
                "another peer answers at that address. Ask for a new invitation if it moved",
            ),
            Why::OtherProtocol => write!(
                f,
                "it has our swarm key and does not speak {PROTOCOL}. Run the same version on both"
            ),
            Why::ByPeer => f.write_str(
                "it closed the connection at once: it blocks us, does not have us on its allow \
                 list, or has as many connections as it takes",
            ),
            Why::Malformed => f.write_str("a message was malformed or too long"),
            Why::OtherVersion => f.write_str(
                "a message was of another version. Run the same version on both machines",
            ),
            Why::BadRecord => f.write_str("a message had a record that is refused"),
            Why::Overloaded => f.write_str("it asks or tells more than we can take"),
            Why::TooSlow => {
                f.write_str("it takes our messages too slowly: some were left out, and come later")
            }
            Why::RefusedOurs => f.write_str("it refused a message of ours"),
        }
    }
}

/// One peer or machine, refused for one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Who, where it is known. The handshake comes before it is.
    pub peer: Option<PeerId>,
    /// Where from or where to, at the first time.
    pub address: Option<Multiaddr>,
    /// Why.
    pub why: Why,
    /// What more there is to say of it, of the first time.
    pub detail: Option<String>,
    /// How often so far.
    pub times: u64,
}

impl Refusal {
    /// Why, in full.
    #[must_use]
    pub fn reason(&self) -> String {
        match &self.detail {
            Some(detail) => format!("{}: {detail}", self.why),
            None => self.why.to_string(),
        }
    }
}

/// All refusals so far.
#[derive(Default)]
pub(super) struct Refusals {
    seen: BTreeMap<(String, Why), Refusal>,
}

impl Refusals {
    /// Counts one. Returns it if it is the first of its kind, to be told.
    pub(super) fn count(
        &mut self,
        peer: Option<PeerId>,
        address: Option<Multiaddr>,
        why: Why,
        detail: Option<&str>,
    ) -> Option<Refusal> {
        let kind = (who(peer, address.as_ref()), why);
        if let Some(refusal) = self.seen.get_mut(&kind) {
            refusal.times += 1;
            return None;
        }
        if self.seen.len() >= MAX_KINDS {
            let others = Refusal { peer: None, address: None, why, detail: None, times: 0 };
            self.seen.entry((String::new(), why)).or_insert(others).times += 1;
            return None;
        }
        let detail = detail.filter(|detail| !detail.is_empty()).map(told);
        let refusal = Refusal { peer, address, why, detail, times: 1 };
        self.seen.insert(kind, refusal.clone());
        Some(refusal)
    }

    pub(super) fn all(&self) -> Vec<Refusal> {
        self.seen.values().cloned().collect()
    }
}

/// What somebody said, as it may be told: others may have written it.
fn told(detail: &str) -> String {
    let harmless = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
    detail.chars().take(MAX_DETAIL).map(harmless).collect()
}

/// The peer id, or the machine without the port, which changes with each try.
fn who(peer: Option<PeerId>, address: Option<&Multiaddr>) -> String {
    if let Some(peer) = peer {
        return peer.to_base58();
    }
    match address.and_then(|address| address.iter().next()) {
        Some(Protocol::Ip4(ip)) => ip.to_string(),
        Some(Protocol::Ip6(ip)) => ip.to_string(),
        _ => "unknown".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_peer_or_machine_is_told_once_for_each_reason_and_counted_always() {
        let mut refusals = Refusals::default();
        let peer = Some(PeerId::random());
        let from = |port: u16| Some(format!("/ip4/10.0.0.1/tcp/{port}").parse().unwrap());
        let mut count = |peer, address, why| refusals.count(peer, address, why, None);
        assert!(count(None, from(1), Why::Malformed).is_some());
        assert!(count(None, from(2), Why::Malformed).is_none());
        assert!(count(None, from(2), Why::Full).is_some());
        assert!(count(peer, from(2), Why::Full).is_some());
        assert!(count(peer, None, Why::Full).is_none());
        let mut times: Vec<u64> = refusals.all().iter().map(|refusal| refusal.times).collect();
        times.sort_unstable();
        assert_eq!(times, [1, 2, 2]);
    }

    #[test]
    fn refusals_from_countless_addresses_are_counted_in_bounded_memory_and_silence() {
        let mut refusals = Refusals::default();
        let mut told = 0;
        for number in 0..5000_u32 {
            let ip = std::net::Ipv4Addr::from(number);
            let address = format!("/ip4/{ip}/tcp/1").parse().unwrap();
            let refusal = refusals.count(None, Some(address), Why::Malformed, None);
            told += usize::from(refusal.is_some());
        }
        assert_eq!(told, MAX_KINDS);
        let all = refusals.all();
        assert_eq!(all.len(), MAX_KINDS + 1);
        assert_eq!(all.iter().map(|refusal| refusal.times).sum::<u64>(), 5000);
    }

    #[test]
    fn what_others_say_is_told_in_bounds_and_cannot_steer_a_terminal() {
        let mut refusals = Refusals::default();
        let said = format!("no \u{1b}]0;title\u{7}\n{}", "x".repeat(10_000));
        let refusal = refusals.count(None, None, Why::RefusedOurs, Some(&said)).unwrap();
        let reason = refusal.reason();
        assert!(reason.starts_with("it refused a message of ours: no "), "{reason}");
        assert!(!reason.contains(char::is_control) && reason.len() < 2 * MAX_DETAIL, "{reason}");
        assert_eq!(refusals.all(), [refusal], "told again as it was told first");
    }
}
