//! Hosts and origins: as requests name them, and as flags allow them.
//!
//! Both are compared by their parts (RFC 3986, RFC 6454): case does not matter, and an address is
//! the same however it is written.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

/// The longest name that the domain name system has.
const MAX_NAME_BYTES: usize = 253;

/// Whom a request is for, without the port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// A name, in lower case.
    Name(String),
    /// An address. A page cannot rebind one, since no name server is asked for it.
    Address(IpAddr),
}

impl Host {
    /// Whether this names the machine itself: `localhost`, `127.0.0.0/8` or `::1`.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        match self {
            Host::Name(name) => name == "localhost",
            Host::Address(address) => address.is_loopback(),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        if let Some(inner) = text.strip_prefix('[') {
            let address: Ipv6Addr = inner.strip_suffix(']')?.parse().ok()?;
            return Some(Host::Address(address.into()));
        }
        if let Ok(address) = text.parse() {
            return Some(Host::Address(IpAddr::V4(address)));
        }
        let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
        let fits = (1..=MAX_NAME_BYTES).contains(&text.len()) && text.bytes().all(known);
        fits.then(|| Host::Name(text.to_ascii_lowercase()))
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Name(name) => f.write_str(name),
            Host::Address(IpAddr::V4(address)) => write!(f, "{address}"),
            Host::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

impl FromStr for Host {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        match authority(text) {
            Some((host, None)) => Ok(host),
            Some((_, Some(_))) => Err(NameError::Port),
            None => Err(NameError::Host),
        }
    }
}

/// Which site's page a request comes from (RFC 6454).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A page that the browser does not tell the site of: a file, a sandboxed frame.
    Null,
    /// A page of a site.
    Site {
        /// `http`, `https`, or what an application calls its own pages by.
        scheme: String,
        /// The site's host.
        host: Host,
        /// Its port; of `http` and `https` always there.
        port: Option<u16>,
    },
}

impl Origin {
    /// Whether a page of this machine itself asks.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        match self {
            Origin::Null => false,
            Origin::Site { scheme, host, .. } => {
                matches!(scheme.as_str(), "http" | "https") && host.is_loopback()
            }
        }
    }

    /// Reads an `Origin` header.
    pub(super) fn parse(text: &str) -> Option<Self> {
        if text == "null" {
            return Some(Origin::Null);
        }
        let (scheme, rest) = text.split_once("://")?;
        let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
        if scheme.is_empty() || !scheme.bytes().all(known) {
            return None;
        }
        let scheme = scheme.to_ascii_lowercase();
        let (host, port) = authority(rest)?;
        let usual = match scheme.as_str() {
            "http" => Some(80),
            "https" => Some(443),
            _ => None,
        };
        Some(Origin::Site { scheme, host, port: port.or(usual) })
    }
}

impl FromStr for Origin {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        // As a browser's address line shows it.
        Origin::parse(text.strip_suffix('/').unwrap_or(text)).ok_or(NameError::Origin)
    }
}

/// Why a flag names no host or no origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not a host.
    #[error("not a host: give a name such as tasks.example.org, without scheme, port and path")]
    Host,
    /// A host with a port.
    #[error("give the host without its port: every port of it is let in")]
    Port,
    /// Not an origin.
    #[error("not an origin: give scheme, host and port, such as https://app.example.org:8443")]
    Origin,
}

/// Reads `host` or `host:port`, as in a `Host` header.
pub(super) fn authority(text: &str) -> Option<(Host, Option<u16>)> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let port = match port {
        Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => Some(port.parse().ok()?),
        Some(_) => return None,
        None => None,
    };
    Some((Host::parse(host)?, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(text: &str) -> Host {
        authority(text).unwrap_or_else(|| panic!("{text} is a host")).0
    }

    #[test]
    fn this_machine_is_known_by_its_name_and_its_addresses() {
        for text in ["localhost", "LocalHost:9000", "127.0.0.1", "127.8.9.1:80", "[::1]:9000"] {
            assert!(host(text).is_loopback(), "{text}");
        }
        for text in ["localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.1", "[::2]", "0"] {
            assert!(!host(text).is_loopback(), "{text}");
        }
    }

    #[test]
    fn what_is_no_host_is_not_taken_for_one() {
        for text in [
            "",
            ":80",
            "a:b",
            "a:+80",
            "a:99999",
            "a:",
            "::1",
            "[::1",
            "::1]",
            "[127.0.0.1]",
            "[fe80::1%25eth0]",
            "localhost@evil.example",
            "evil.example/localhost",
            "a b",
            "a,b",
            "ä",
        ] {
            assert_eq!(authority(text), None, "{text:?}");
        }
        assert_eq!(authority(&"a".repeat(MAX_NAME_BYTES + 1)), None);
    }

    #[test]
    fn origins_are_equal_when_their_parts_are() {
        let same = |a: &str, b: &str| Origin::parse(a).unwrap() == Origin::parse(b).unwrap();
        assert!(same("https://App.example", "HTTPS://app.example:443"));
        assert!(same("http://[::1]", "http://[0:0::1]:80"));
        assert!(!same("https://app.example", "http://app.example"));
        assert!(!same("https://app.example", "https://app.example:8443"));
        assert!(!same("https://app.example", "https://www.app.example"));
        assert!(same("vscode-webview://1a2b", "vscode-webview://1a2b"));
        for text in ["", "app.example", "://a", "http://", "http://a/", "http://a/b", "http:///a"] {
            assert_eq!(Origin::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn only_web_pages_of_this_machine_are_its_own() {
        for text in ["http://localhost:3000", "https://127.0.0.1", "http://[::1]:8080"] {
            assert!(Origin::parse(text).unwrap().is_loopback(), "{text}");
        }
        for text in ["null", "http://localhost.evil.example", "ftp://localhost", "http://10.0.0.1"]
        {
            assert!(!Origin::parse(text).unwrap().is_loopback(), "{text}");
        }
    }

    #[test]
    fn a_flag_that_is_wrong_says_what_it_takes() {
        assert_eq!("Tasks.example".parse(), Ok(Host::Name("tasks.example".into())));
        assert_eq!("tasks.example:80".parse::<Host>(), Err(NameError::Port));
        assert_eq!("https://tasks.example".parse::<Host>(), Err(NameError::Host));
        assert_eq!("*".parse::<Host>(), Err(NameError::Host));
        assert_eq!(
            "https://app.example/".parse::<Origin>().ok(),
            Origin::parse("https://app.example")
        );
        assert_eq!("app.example".parse::<Origin>(), Err(NameError::Origin));
        assert_eq!("*".parse::<Origin>(), Err(NameError::Origin));
    }
}
