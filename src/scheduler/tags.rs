//! The seven workflow tags and sets of them.
//!
//! A tag says where a workflow may run and what it needs. Two of them decide
//! whether GitHub is bypassed: `p2p-only` and `p2p-eligible`. People write tags in
//! many ways (`P2P_ONLY`, ` p2p-only `); [`WorkflowTag::from_str`] accepts these,
//! everything that leaves this module is the kebab-case name.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What a workflow needs or allows.
///
/// The order of the variants is the order in which tags are listed everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WorkflowTag {
    /// Needs the GitHub API.
    GithubApi,
    /// May run on the peers instead of GitHub.
    P2pEligible,
    /// Must run on the peers, never on GitHub.
    P2pOnly,
    /// Runs unit tests.
    UnitTest,
    /// Generates code.
    CodeGeneration,
    /// Fetches web pages.
    WebScraping,
    /// Transforms data.
    DataProcessing,
}

impl WorkflowTag {
    /// Every tag, in order.
    pub const ALL: [Self; 7] = [
        Self::GithubApi,
        Self::P2pEligible,
        Self::P2pOnly,
        Self::UnitTest,
        Self::CodeGeneration,
        Self::WebScraping,
        Self::DataProcessing,
    ];

    /// The kebab-case name, as in JSON and on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::GithubApi => "github-api",
            Self::P2pEligible => "p2p-eligible",
            Self::P2pOnly => "p2p-only",
            Self::UnitTest => "unit-test",
            Self::CodeGeneration => "code-generation",
            Self::WebScraping => "web-scraping",
            Self::DataProcessing => "data-processing",
        }
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

impl fmt::Display for WorkflowTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for WorkflowTag {
    type Err = ParseTagError;

    /// Reads a tag in any case, with underscores for hyphens and white space around it.
    fn from_str(text: &str) -> Result<Self, ParseTagError> {
        let name = text.trim().to_ascii_lowercase().replace('_', "-");
        Self::ALL
            .into_iter()
            .find(|tag| tag.as_str() == name)
            .ok_or_else(|| ParseTagError(text.to_owned()))
    }
}

/// A text that names no tag; it holds the text as given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown tag {0:?}; the valid tags are {valid}", valid = WorkflowTag::ALL.map(WorkflowTag::as_str).join(", "))]
pub struct ParseTagError(pub String);

/// A set of tags: one bit a tag, listed in the order of [`WorkflowTag::ALL`].
///
/// In JSON it is a list of names; duplicates are dropped on reading.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "Vec<WorkflowTag>", from = "Vec<WorkflowTag>")]
pub struct TagSet(u8);

impl TagSet {
    /// Adds a tag; true if it was not there yet.
    pub fn insert(&mut self, tag: WorkflowTag) -> bool {
        let before = self.0;
        self.0 |= tag.bit();
        self.0 != before
    }

    /// The set that these bits are; `None` where one stands for no tag.
    pub const fn from_bits(bits: u8) -> Option<Self> {
        match bits >> WorkflowTag::ALL.len() {
            0 => Some(Self(bits)),
            _ => None,
        }
    }

    /// Whether the tag is in the set.
    pub const fn contains(self, tag: WorkflowTag) -> bool {
        self.0 & tag.bit() != 0
    }

    /// Whether there is no tag at all.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether the two sets share a tag.
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// One bit a tag, the first of [`WorkflowTag::ALL`] lowest: what a spec's hash covers.
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// The tags, in order.
    pub fn iter(self) -> impl Iterator<Item = WorkflowTag> {
        WorkflowTag::ALL.into_iter().filter(move |&tag| self.contains(tag))
    }

    /// Whether the workflow must never run on GitHub.
    pub const fn is_p2p_only(self) -> bool {
        self.contains(WorkflowTag::P2pOnly)
    }

    /// Whether the workflow goes to the peers: it may or must run there.
    pub const fn should_bypass_github(self) -> bool {
        self.is_p2p_only() || self.contains(WorkflowTag::P2pEligible)
    }

    /// Whether the tags contradict each other: never on GitHub, yet in need of its API.
    pub const fn conflict(self) -> bool {
        self.is_p2p_only() && self.contains(WorkflowTag::GithubApi)
    }
}

impl fmt::Debug for TagSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

impl FromIterator<WorkflowTag> for TagSet {
    fn from_iter<I: IntoIterator<Item = WorkflowTag>>(tags: I) -> Self {
        Self(tags.into_iter().fold(0, |bits, tag| bits | tag.bit()))
    }
}

impl From<Vec<WorkflowTag>> for TagSet {
    fn from(tags: Vec<WorkflowTag>) -> Self {
        tags.into_iter().collect()
    }
}

impl From<TagSet> for Vec<WorkflowTag> {
    fn from(set: TagSet) -> Self {
        set.iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tag_reads_back_from_its_name_however_it_is_written() {
        for tag in WorkflowTag::ALL {
            let upper = format!(" \t{}\n", tag.as_str().to_uppercase().replace('-', "_"));
            assert_eq!(upper.parse(), Ok(tag));
            assert_eq!(tag.to_string().parse(), Ok(tag));
        }
    }

    #[test]
    fn json_uses_the_same_names_as_the_command_line() {
        for tag in WorkflowTag::ALL {
            let json = serde_json::to_string(&tag).unwrap();
            assert_eq!(json, format!("{:?}", tag.as_str()));
            assert_eq!(serde_json::from_str::<WorkflowTag>(&json).unwrap(), tag);
        }
    }

    #[test]
    fn an_unknown_tag_is_refused_with_the_valid_ones() {
        let error = "gpu".parse::<WorkflowTag>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "unknown tag \"gpu\"; the valid tags are github-api, p2p-eligible, p2p-only, \
             unit-test, code-generation, web-scraping, data-processing"
        );
    }

    #[test]
    fn a_set_lists_its_tags_in_order_and_once() {
        let set: TagSet =
            serde_json::from_str(r#"["web-scraping","github-api","web-scraping"]"#).unwrap();
        assert_eq!(serde_json::to_string(&set).unwrap(), r#"["github-api","web-scraping"]"#);
        let mut copy = TagSet::default();
        assert!(copy.is_empty());
        assert!(copy.insert(WorkflowTag::WebScraping));
        assert!(!copy.insert(WorkflowTag::WebScraping));
        assert!(copy.intersects(set));
        assert!(!copy.intersects(TagSet::default()));
    }

    #[test]
    fn p2p_only_together_with_github_api_is_a_conflict() {
        let set = TagSet::from_iter([WorkflowTag::P2pOnly, WorkflowTag::GithubApi]);
        assert!(set.conflict() && set.is_p2p_only() && set.should_bypass_github());
        let eligible = TagSet::from_iter([WorkflowTag::P2pEligible, WorkflowTag::GithubApi]);
        assert!(!eligible.conflict() && !eligible.is_p2p_only() && eligible.should_bypass_github());
    }
}
