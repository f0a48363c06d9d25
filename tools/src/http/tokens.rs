//! Bearer tokens: a file of lines `NAME ROLE TOKEN`.
//!
//! Empty lines and lines that start with `#` are comments; a line of one word is a token alone,
//! as secrets managers write it, with the name `default` and the role `work`. Tokens are kept as
//! their SHA-256 and compared as that, each with every entry to the end, so that the time tells
//! neither how much of a token was right nor whose it is. Errors name lines, never what is on
//! them: with the words out of order, any of them may be the token.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fmt, io};

use p2p_workflow_scheduler::node::{read_or_make_private, read_private};
use p2p_workflow_scheduler::scheduler::Hash256;
use subtle::{ConditionallySelectable, ConstantTimeEq};

use super::guard::{Principal, Role};

/// Shorter tokens may be guessed: 32 characters of hexadecimal are 128 bits.
pub const MIN_TOKEN_CHARS: usize = 32;
/// A token is looked for in all lines of the file, at every request.
pub const MAX_TOKENS: usize = 256;
/// The file that a data folder has its own tokens in.
const FILE: &str = "http-token";
/// As long as an id may usefully be in a log.
const MAX_NAME_CHARS: usize = 64;
/// The name and the role of a token that stands alone.
const ALONE: (&str, &str) = ("default", "work");

/// Who may enter, by what they show.
#[derive(Clone)]
pub struct Tokens {
    entries: Vec<Entry>,
}

#[derive(Clone)]
struct Entry {
    digest: [u8; 32],
    principal: Principal,
}

impl Tokens {
    /// Reads the token file that a person names.
    ///
    /// # Errors
    /// It cannot be read, others can read it, or it does not hold what it should.
    pub fn of_file(path: &Path) -> Result<Self, TokenFileError> {
        Self::read(read_private(path), path)
    }

    /// Reads the token file of a data folder, made at the first time, and says where it is.
    ///
    /// # Errors
    /// As of [`Tokens::of_file`], or it cannot be made.
    pub fn of_folder(folder: &Path) -> Result<(Self, PathBuf), TokenFileError> {
        let path = folder.join(FILE);
        let text = read_or_make_private(&path, || Self::generate().1);
        Ok((Self::read(text, &path)?, path))
    }

    fn read(text: io::Result<String>, path: &Path) -> Result<Self, TokenFileError> {
        let wrong = |why: String| TokenFileError { path: path.to_owned(), why };
        let text = text.map_err(|error| wrong(error.to_string()))?;
        Self::parse(&text).map_err(|error| wrong(error.to_string()))
    }

    /// Reads the text of a token file.
    ///
    /// # Errors
    /// See [`TokenError`].
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        let mut entries: Vec<(usize, Entry)> = Vec::new();
        for (line, text) in (1..).zip(text.lines()) {
            let text = text.trim();
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            let entry = Entry::parse(text).map_err(|wrong| TokenError::Line { line, wrong })?;
            for (first, other) in &entries {
                if entry.principal.name == other.principal.name {
                    return Err(TokenError::SameName { line, first: *first });
                }
                if entry.digest == other.digest {
                    return Err(TokenError::SameToken { line, first: *first });
                }
            }
            if entries.len() == MAX_TOKENS {
                return Err(TokenError::TooMany { line });
            }
            entries.push((line, entry));
        }
        if entries.is_empty() {
            return Err(TokenError::None);
        }
        Ok(Tokens { entries: entries.into_iter().map(|(_, entry)| entry).collect() })
    }

    /// Whose token this is.
    #[must_use]
    pub fn find(&self, bearer: &str) -> Option<Principal> {
        let given = digest(bearer);
        let mut found = u64::MAX;
        for (index, entry) in (0_u64..).zip(&self.entries) {
            found.conditional_assign(&index, entry.digest.ct_eq(&given));
        }
        let entry = self.entries.get(usize::try_from(found).ok()?)?;
        Some(entry.principal.clone())
    }

    /// One new token of 256 random bits, and the text of a file that holds it.
    ///
    /// # Panics
    /// If the operating system has no randomness.
    #[must_use]
    pub fn generate() -> (Self, String) {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).expect("the operating system has randomness");
        let token = Hash256::from_bytes(bytes).to_hex();
        let (name, role) = ALONE;
        let text = format!(
            "# Bearer tokens for HTTP, one a line: NAME ROLE TOKEN. Roles: read, work, admin.\n\
             {name} {role} {token}\n"
        );
        let tokens = Self::parse(&text).expect("64 hexadecimal digits are a token");
        (tokens, text)
    }
}

/// Without the digests: a weak token may be found by its digest.
impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.entries.iter().map(|entry| &entry.principal)).finish()
    }
}

impl Entry {
    fn parse(line: &str) -> Result<Self, Wrong> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (name, role, token) = match words[..] {
            [token] => (ALONE.0, ALONE.1, token),
            [name, role, token] => (name, role, token),
            _ => return Err(Wrong::Words),
        };
        if !is_name(name) {
            return Err(Wrong::Name);
        }
        let role = Role::from_word(role).ok_or(Wrong::Role)?;
        if !is_token(token) {
            return Err(Wrong::Characters);
        }
        if token.len() < MIN_TOKEN_CHARS {
            return Err(Wrong::Short);
        }
        let principal = Principal { name: Arc::from(name), role };
        Ok(Entry { digest: digest(token), principal })
    }
}

fn digest(token: &str) -> [u8; 32] {
    Hash256::of(token.as_bytes()).to_bytes()
}

fn is_name(text: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (1..=MAX_NAME_CHARS).contains(&text.len()) && text.bytes().all(known)
}

/// The `b64token` of RFC 6750: what every client and proxy passes on as it is.
fn is_token(text: &str) -> bool {
    let body = text.trim_end_matches('=');
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte);
    !body.is_empty() && body.bytes().all(known)
}

/// A token file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the token file {} cannot be used: {why}.", path.display())]
pub struct TokenFileError {
    path: PathBuf,
    why: String,
}

/// What is wrong with a token file's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// A line does not hold what it should.
    #[error("line {line}: {wrong}")]
    Line {
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        wrong: Wrong,
    },
    /// Two lines with one name.
    #[error("line {line}: its name stands on line {first} already; give each token its own")]
    SameName {
        /// The second line with it.
        line: usize,
        /// The first one.
        first: usize,
    },
    /// Two lines with one token.
    #[error("line {line}: its token stands on line {first} already; make a new one")]
    SameToken {
        /// The second line with it.
        line: usize,
        /// The first one.
        first: usize,
    },
    /// More than [`MAX_TOKENS`].
    #[error("line {line}: a token file holds at most {MAX_TOKENS} tokens")]
    TooMany {
        /// The first line too many.
        line: usize,
    },
    /// Nothing but comments.
    #[error("there is no token in it; write a line NAME ROLE TOKEN")]
    None,
}

/// What is wrong with a line of a token file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    /// Neither one word nor three.
    #[error("a line is NAME ROLE TOKEN, or a token alone; comments have lines of their own")]
    Words,
    /// The name.
    #[error("a name is 1 to {MAX_NAME_CHARS} of the characters A-Z a-z 0-9 - _ .")]
    Name,
    /// The role.
    #[error("the second word is the role: read, work or admin")]
    Role,
    /// The token's alphabet.
    #[error("a token is of the characters A-Z a-z 0-9 - . _ ~ + / with = at its end only")]
    Characters,
    /// The token's length.
    #[error(
        "a token has at least {MIN_TOKEN_CHARS} characters; `openssl rand -hex 32` makes a good one"
    )]
    Short,
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

    fn error(text: &str) -> TokenError {
        Tokens::parse(text).unwrap_err()
    }

    fn wrong(text: &str) -> Wrong {
        match error(text) {
            TokenError::Line { line: 1, wrong } => wrong,
            other => panic!("{text}: {other}"),
        }
    }

    #[test]
    fn each_token_of_a_file_has_its_own_name_and_role() {
        let text = format!("# people\n\nada\tadmin  {A}\r\n  dash-board.1 read {B}==\n");
        let tokens = Tokens::parse(&text).unwrap();
        let ada = tokens.find(A).unwrap();
        assert_eq!((&*ada.name, ada.role), ("ada", Role::Admin));
        let dashboard = tokens.find(&format!("{B}==")).unwrap();
        assert_eq!((&*dashboard.name, dashboard.role), ("dash-board.1", Role::Read));
        for not in [B, "", "ada", &A[1..], &format!("{A}a"), &A.to_uppercase()] {
            assert_eq!(tokens.find(not), None, "{not:?}");
        }
    }

    #[test]
    fn a_token_alone_may_do_the_work() {
        let tokens = Tokens::parse(&format!("{A}\n")).unwrap();
        let principal = tokens.find(A).unwrap();
        assert_eq!((&*principal.name, principal.role), ("default", Role::Work));
    }

    #[test]
    fn what_is_wrong_is_told_by_its_line_and_never_shows_a_token() {
        assert_eq!(wrong(&format!("ada {A}")), Wrong::Words);
        assert_eq!(wrong(&format!("ada work {A} # note")), Wrong::Words);
        assert_eq!(wrong(&format!("a/b work {A}")), Wrong::Name);
        assert_eq!(wrong(&format!("{} work {A}", "n".repeat(65))), Wrong::Name);
        assert_eq!(wrong(&format!("ada Work {A}")), Wrong::Role);
        assert_eq!(wrong(&format!("ada {A} work")), Wrong::Role);
        assert_eq!(wrong(&format!("ada work {A}=a")), Wrong::Characters);
        assert_eq!(wrong(&format!("ada work {A},")), Wrong::Characters);
        assert_eq!(wrong(&A[..31]), Wrong::Short);
        assert_eq!(wrong(&"=".repeat(32)), Wrong::Characters);
        let twice = format!("# one\nada work {A}\nada read {B}");
        assert_eq!(error(&twice), TokenError::SameName { line: 3, first: 2 });
        let twice = format!("ada work {A}\nbob read {A}");
        assert_eq!(error(&twice), TokenError::SameToken { line: 2, first: 1 });
        for text in ["", "# nothing\n\n"] {
            assert_eq!(error(text), TokenError::None);
        }
        for text in [format!("{A} {B} ada"), format!("{A} work {B}\n{A} read {A}")] {
            let shown = error(&text).to_string();
            assert!(!shown.contains("aaaa") && !shown.contains("bbbb"), "{shown}");
        }
    }

    #[test]
    fn a_file_of_too_many_tokens_is_refused() {
        let line = |n: usize| format!("n{n} work {n:064}\n");
        let full: String = (0..MAX_TOKENS).map(line).collect();
        let tokens = Tokens::parse(&full).unwrap();
        assert_eq!(&*tokens.find(&format!("{:064}", MAX_TOKENS - 1)).unwrap().name, "n255");
        let more = full + &line(MAX_TOKENS);
        assert_eq!(error(&more), TokenError::TooMany { line: MAX_TOKENS + 1 });
    }

    #[test]
    fn a_generated_token_lets_in_and_is_no_other() {
        let (tokens, text) = Tokens::generate();
        let (_, other) = Tokens::generate();
        assert_ne!(text, other);
        let token = |text: &str| text.split_whitespace().last().unwrap().to_owned();
        assert_eq!(token(&text).len(), 64);
        assert_eq!(tokens.find(&token(&text)).unwrap().role, Role::Work);
        assert_eq!(tokens.find(&token(&other)), None);
        assert!(Tokens::parse(&text).unwrap().find(&token(&text)).is_some());
    }

    #[test]
    fn a_data_folder_s_token_is_made_once() {
        let folder = tempfile::tempdir().unwrap();
        let (_, path) = Tokens::of_folder(folder.path()).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let (tokens, again) = Tokens::of_folder(folder.path()).unwrap();
        assert_eq!((&again, &std::fs::read_to_string(&again).unwrap()), (&path, &text));
        assert!(tokens.find(text.split_whitespace().last().unwrap()).is_some());
        assert!(Tokens::of_file(&path).is_ok(), "it can be named as well");
    }

    #[test]
    fn a_token_file_that_cannot_be_used_is_named_with_the_reason() {
        let folder = tempfile::tempdir().unwrap();
        let (_, path) = Tokens::of_folder(folder.path()).unwrap();
        std::fs::write(&path, format!("ada boss {A}")).unwrap();
        let shown = Tokens::of_file(&path).unwrap_err().to_string();
        assert!(shown.contains(&*path.to_string_lossy()) && shown.contains("line 1"), "{shown}");
        let shown = Tokens::of_file(&folder.path().join("none")).unwrap_err().to_string();
        assert!(shown.contains("none") && shown.contains("No such file"), "{shown}");
    }

    #[test]
    fn tokens_are_not_shown_where_they_are_printed() {
        let tokens = Tokens::parse(&format!("ada work {A}")).unwrap();
        let shown = format!("{tokens:?}");
        assert!(shown.contains("ada") && !shown.contains("aaaa"), "{shown}");
        assert!(!shown.contains("digest"), "{shown}");
    }
}
