//! SHA-256 hashes, as what is compared, counted and written.

use std::fmt;
use std::str::FromStr;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

/// A SHA-256 hash, as four big-endian words: the order of hashes is that of their texts.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash256(pub [u64; 4]);

impl Hash256 {
    /// The hash of some bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Sha256::new_with_prefix(bytes).into()
    }

    /// The hash with these bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        let mut words = [0; 4];
        for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(8)) {
            *word = bytes.iter().fold(0, |word, &byte| word << 8 | u64::from(byte));
        }
        Self(words)
    }

    /// Its bytes.
    pub fn to_bytes(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for (bytes, word) in bytes.chunks_exact_mut(8).zip(self.0) {
            bytes.copy_from_slice(&word.to_be_bytes());
        }
        bytes
    }

    /// 64 lowercase hexadecimal digits.
    pub fn to_hex(&self) -> String {
        self.to_string()
    }

    /// Reads 64 hexadecimal digits of either case.
    pub fn from_hex(text: &str) -> Result<Self, ParseHashError> {
        if text.len() != 64 {
            return Err(ParseHashError);
        }
        let mut words = [0; 4];
        for (index, digit) in text.bytes().enumerate() {
            let value = hex_value(digit).ok_or(ParseHashError)?;
            words[index / 16] = words[index / 16] << 4 | u64::from(value);
        }
        Ok(Self(words))
    }

    /// The same, without an allocation.
    pub(super) fn hex_digits(&self) -> [u8; 64] {
        std::array::from_fn(|index| {
            let nibble = self.0[index / 16] >> (60 - index % 16 * 4) & 0xf;
            b"0123456789abcdef"[nibble as usize]
        })
    }
}

impl From<Sha256> for Hash256 {
    fn from(hasher: Sha256) -> Self {
        Self::from_bytes(hasher.finalize().into())
    }
}

impl fmt::Display for Hash256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d] = self.0;
        write!(f, "{a:016x}{b:016x}{c:016x}{d:016x}")
    }
}

impl fmt::Debug for Hash256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Digits where people may read it, bytes where not.
impl Serialize for Hash256 {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match to.is_human_readable() {
            true => to.collect_str(self),
            false => to.serialize_bytes(&self.to_bytes()),
        }
    }
}

impl<'de> Deserialize<'de> for Hash256 {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        match from.is_human_readable() {
            true => from.deserialize_str(Written),
            false => from.deserialize_bytes(Written),
        }
    }
}

/// A hash in either form.
struct Written;

impl Visitor<'_> for Written {
    type Value = Hash256;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a SHA-256 hash")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Hash256, E> {
        Hash256::from_hex(text).map_err(E::custom)
    }

    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Hash256, E> {
        let bytes = bytes.try_into().map_err(|_| E::invalid_length(bytes.len(), &self))?;
        Ok(Hash256::from_bytes(bytes))
    }
}

impl FromStr for Hash256 {
    type Err = ParseHashError;

    fn from_str(text: &str) -> Result<Self, ParseHashError> {
        Self::from_hex(text)
    }
}

/// A text that is no SHA-256 hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a hash is 64 hexadecimal digits")]
pub struct ParseHashError;

/// What a digit stands for.
pub(super) fn hex_value(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(text: &str) -> Hash256 {
        Hash256::of(text.as_bytes())
    }

    #[test]
    fn a_hash_reads_back_from_its_digits() {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(hash("").to_hex(), empty);
        assert_eq!(Hash256::from_hex(empty), Ok(hash("")));
        assert_eq!(empty.to_uppercase().parse(), Ok(hash("")));
        assert_eq!(hash("").hex_digits(), empty.as_bytes());
        let json = serde_json::to_string(&hash("")).unwrap();
        assert_eq!(json, format!("\"{empty}\""));
        assert_eq!(serde_json::from_str::<Hash256>(&json).unwrap(), hash(""));
        for wrong in ["", &empty[1..], &empty.replace('e', "g"), &"é".repeat(32)] {
            assert_eq!(Hash256::from_hex(wrong), Err(ParseHashError));
        }
    }
}
