//! The swarm's key: whoever has it is in, nobody else gets past the first bytes of a connection.
//!
//! The file is the IPFS world's `swarm.key`, three lines, so that a private IPFS network and a
//! swarm of ours can share one. It is read strictly: a key that was cut or edited must not become
//! another key, because that looks like a network that does not answer.

use std::fmt::{self, Write};

use libp2p::pnet::PreSharedKey;

/// What the first line of the file says.
const KIND: &str = "/key/swarm/psk/1.0.0/";
/// What the second line says: the encoding.
const ENCODING: &str = "/base16/";
/// Bytes of a key.
const SIZE: usize = 32;

/// The secret that the peers of one swarm share: 32 random bytes.
///
/// `Debug` shows the fingerprint. There is no `Display`: writing the secret takes a call that says
/// so.
#[derive(Clone, PartialEq, Eq)]
pub struct NetworkKey([u8; SIZE]);

/// What tells two keys apart and may be shown to anybody; the same as go-libp2p and Kubo compute.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fingerprint([u8; 16]);

/// Why a text is not a swarm key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Too few or too many lines.
    #[error(
        "a swarm key has three lines, and this has {0}. Copy the whole file, and nothing else."
    )]
    Lines(usize),
    /// The first line is another.
    #[error("the first line of a swarm key is `{KIND}`. This file is something else.")]
    Kind,
    /// The second line is another.
    #[error("the second line of a swarm key must be `{ENCODING}`: convert the key to base 16.")]
    Encoding,
    /// The key is too long or too short.
    #[error("a swarm key has 64 hexadecimal digits, and this has {0} characters. Copy it again.")]
    Length(usize),
    /// Something that is no digit.
    #[error("a swarm key has hexadecimal digits only: character {0} is none. Copy it again.")]
    Digit(usize),
}

impl NetworkKey {
    /// A new key, from the operating system's randomness.
    ///
    /// # Errors
    /// The operating system has none.
    pub fn generate() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; SIZE];
        getrandom::fill(&mut bytes)?;
        Ok(NetworkKey(bytes))
    }

    /// Reads the text of a `swarm.key` file. Lines may end with CR LF, and the last one with
    /// nothing.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub fn parse(file: &str) -> Result<Self, KeyError> {
        let lines: Vec<&str> = file.trim_end().lines().collect();
        let [kind, encoding, digits] = lines[..] else {
            return Err(KeyError::Lines(lines.len()));
        };
        if kind != KIND {
            return Err(KeyError::Kind);
        }
        if encoding != ENCODING {
            return Err(KeyError::Encoding);
        }
        Self::from_hex(digits)
    }

    /// The text of a `swarm.key` file. A secret: for a file that only its owner may read.
    #[must_use]
    pub fn to_secret_file(&self) -> String {
        format!("{KIND}\n{ENCODING}\n{}\n", self.to_secret_hex())
    }

    /// What may be shown.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        let hex = self.pre_shared().fingerprint().to_string();
        let mut bytes = [0; 16];
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&hex[2 * at..2 * at + 2], 16)
                .expect("libp2p writes a fingerprint as 32 hexadecimal digits");
        }
        Fingerprint(bytes)
    }

    pub(super) fn from_hex(digits: &str) -> Result<Self, KeyError> {
        let length = digits.chars().count();
        if length != 2 * SIZE {
            return Err(KeyError::Length(length));
        }
        let mut bytes = [0; SIZE];
        for (at, digit) in digits.chars().enumerate() {
            let value = digit.to_digit(16).ok_or(KeyError::Digit(at + 1))?;
            bytes[at / 2] = bytes[at / 2] << 4 | value as u8;
        }
        Ok(NetworkKey(bytes))
    }

    pub(super) fn to_secret_hex(&self) -> String {
        hex(&self.0)
    }

    pub(super) fn pre_shared(&self) -> PreSharedKey {
        PreSharedKey::new(self.0)
    }
}

impl fmt::Debug for NetworkKey {
    /// Shows which key it is, never the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NetworkKey({})", self.fingerprint())
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        write!(text, "{byte:02x}").expect("writing to a string cannot fail");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGITS: &str = "0123456789abcdef0123456789ABCDEF0123456789abcdef0123456789abcdef";

    fn file(digits: &str) -> String {
        format!("/key/swarm/psk/1.0.0/\n/base16/\n{digits}\n")
    }

    #[test]
    fn a_key_is_read_as_it_was_written_and_as_libp2p_reads_it() {
        let key = NetworkKey::generate().unwrap();
        let text = key.to_secret_file();
        assert_eq!(NetworkKey::parse(&text), Ok(key.clone()));
        assert_eq!(NetworkKey::parse(text.trim_end()), Ok(key.clone()));
        assert_eq!(NetworkKey::parse(&text.replace('\n', "\r\n")), Ok(key.clone()));
        let theirs: PreSharedKey = text.parse().unwrap();
        assert_eq!(theirs.to_key_file(), text);
        assert_eq!(theirs.fingerprint().to_string(), key.fingerprint().to_string());
        assert_ne!(NetworkKey::generate().unwrap(), key);
    }

    #[test]
    fn what_is_not_quite_a_key_is_refused_with_the_reason() {
        let cases = [
            (String::new(), KeyError::Lines(0)),
            (file(DIGITS) + "more", KeyError::Lines(4)),
            (file(DIGITS).replace("psk", "rsa"), KeyError::Kind),
            (file(DIGITS).replace("16", "64"), KeyError::Encoding),
            (file(&DIGITS[1..]), KeyError::Length(63)),
            (file(&DIGITS.replacen("01", "+1", 1)), KeyError::Digit(1)),
            // 64 bytes, and a slice by bytes would panic.
            (file(&DIGITS.replacen("12", "é", 1)), KeyError::Length(63)),
            (file(&DIGITS.replacen('1', "é", 1)), KeyError::Digit(2)),
        ];
        assert!(NetworkKey::parse(&file(DIGITS)).is_ok());
        for (text, error) in cases {
            assert_eq!(NetworkKey::parse(&text), Err(error), "{text}");
        }
    }

    #[test]
    fn debug_shows_the_fingerprint_and_not_the_secret() {
        let key = NetworkKey::parse(&file(DIGITS)).unwrap();
        let shown = format!("{key:?}");
        assert_eq!(shown, format!("NetworkKey({})", key.fingerprint()));
        assert!(!shown.contains(&DIGITS[..8]), "{shown}");
    }
}
