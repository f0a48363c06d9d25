//! The tags of a workflow and of its jobs: in `env`, and in comments.
//!
//! ```text
//!   # P2P: p2p-eligible              counts for the workflow
//!   env:
//!     WORKFLOW_TAGS: web-scraping    counts for the workflow
//!   jobs:
//!     # Tags: unit-test              right above a job, as far in as it is: counts for that job
//!     test:
//!       env:
//!         P2P_TAGS: [p2p-only]       counts for the job
//!       steps: …  # P2P: …           inside its block: counts for the job
//! ```
//!
//! Texts in scripts are no comments. A text that names no tag is told with its place and counts for
//! nothing; a job has its workflow's tags and its own.

use std::collections::{HashMap, HashSet};

use p2p_workflow_scheduler::scheduler::{TagSet, WorkflowTag};

use super::Remark;
use super::yaml::{Comment, Node};

/// The variables that hold tags.
const VARIABLES: [&str; 2] = ["WORKFLOW_TAGS", "P2P_TAGS"];

/// The tags of a workflow's `env` and of the comments that belong to no job.
pub(super) fn of_workflow(
    workflow: &Node,
    comments: &Owned<'_>,
    remarks: &mut Vec<Remark>,
) -> TagSet {
    let mut tags = of_env(workflow, remarks);
    add_comments(&mut tags, comments.of(None), remarks);
    tags
}

/// The tags of a job itself, which is the one at `index` of the file's.
pub(super) fn of_job(
    job: &Node,
    index: usize,
    comments: &Owned<'_>,
    remarks: &mut Vec<Remark>,
) -> TagSet {
    let mut tags = of_env(job, remarks);
    add_comments(&mut tags, comments.of(Some(index)), remarks);
    tags
}

/// The comments that name tags, by the job that they belong to.
pub(super) struct Owned<'c>(HashMap<Option<usize>, Vec<Tagging<'c>>>);

/// A comment that names tags.
struct Tagging<'c> {
    comment: &'c Comment,
    words: &'c str,
}

impl<'c> Owned<'c> {
    /// Sorts comments to the jobs of a workflow.
    pub(super) fn sort(comments: &'c [Comment], workflow: &Node) -> Self {
        let blocks = Blocks::of(workflow, comments);
        let mut owned: HashMap<_, Vec<_>> = HashMap::new();
        for comment in comments {
            if let Some(words) = tagging_words(&comment.text) {
                owned.entry(blocks.owner(comment)).or_default().push(Tagging { comment, words });
            }
        }
        Owned(owned)
    }

    fn of(&self, job: Option<usize>) -> &[Tagging<'c>] {
        self.0.get(&job).map(Vec::as_slice).unwrap_or_default()
    }
}

/// What follows `P2P:` or `Tags:` at the start of a comment.
fn tagging_words(text: &str) -> Option<&str> {
    let text = text.trim_start_matches('#').trim_start();
    text.strip_prefix("P2P:").or_else(|| text.strip_prefix("p2p:")).or(text.strip_prefix("Tags:"))
}

/// Where the jobs of a file lie.
struct Blocks {
    /// In the order of their lines.
    jobs: Vec<Block>,
    /// The line of the first key behind all jobs.
    end: usize,
}

struct Block {
    /// Which of the file's jobs.
    index: usize,
    /// Of its key.
    line: usize,
    column: usize,
    /// The first line of the comments right above its key, or the key's own.
    top: usize,
}

impl Blocks {
    fn of(workflow: &Node, comments: &[Comment]) -> Self {
        let alone: HashSet<usize> = comments
            .iter()
            .filter(|comment| comment.is_alone)
            .map(|comment| comment.line)
            .collect();
        let block = |(index, (key, _)): (usize, &(Node, Node))| {
            let above = (1..key.line).rev().take_while(|line| alone.contains(line)).count();
            Block { index, line: key.line, column: key.column, top: key.line - above }
        };
        let pairs = workflow.get("jobs").map(Node::pairs).unwrap_or_default();
        let mut jobs: Vec<Block> = pairs.iter().enumerate().map(block).collect();
        jobs.sort_by_key(|block| block.line);
        let last = jobs.last().map_or(usize::MAX, |block| block.line);
        let tops = workflow.pairs().iter().map(|(key, _)| key.line);
        let end = tops.filter(|line| *line > last).min().unwrap_or(usize::MAX);
        Blocks { jobs, end }
    }

    fn owner(&self, comment: &Comment) -> Option<usize> {
        let next = self.jobs.partition_point(|block| block.line <= comment.line);
        let within = next.checked_sub(1).and_then(|before| self.jobs.get(before)).filter(|block| {
            comment.line < self.end && (comment.column > block.column || comment.line == block.line)
        });
        let above = self.jobs.get(next).filter(|block| {
            comment.is_alone && comment.column == block.column && comment.line >= block.top
        });
        within.or(above).map(|block| block.index)
    }
}

fn of_env(node: &Node, remarks: &mut Vec<Remark>) -> TagSet {
    let mut tags = TagSet::default();
    let Some(env) = node.get("env") else { return tags };
    for variable in VARIABLES {
        let Some(value) = env.get(variable) else { continue };
        let texts = value.items().unwrap_or(std::slice::from_ref(value));
        for text in texts.iter().filter(|text| !text.is_null()) {
            match text.text() {
                Some(words) if words.contains("${{") => {
                    let what =
                        format!("{variable} is an expression, which is known on GitHub only");
                    remarks.push(Remark::at(text, what));
                }
                Some(words) => add(&mut tags, words, (text.line, text.column), remarks),
                None => remarks.push(Remark::at(text, format!("{variable} names no tag here"))),
            }
        }
    }
    tags
}

fn add_comments(tags: &mut TagSet, taggings: &[Tagging<'_>], remarks: &mut Vec<Remark>) {
    for tagging in taggings {
        add(tags, tagging.words, (tagging.comment.line, tagging.comment.column), remarks);
    }
}

/// Adds the tags that stand in a text, between commas and spaces.
fn add(tags: &mut TagSet, words: &str, place: (usize, usize), remarks: &mut Vec<Remark>) {
    let is_between = |c: char| c == ',' || c.is_whitespace();
    let mut unknown = Vec::new();
    for word in words.split(is_between).filter(|word| !word.is_empty()) {
        match word.parse::<WorkflowTag>() {
            Ok(tag) => {
                tags.insert(tag);
            }
            Err(_) => unknown.push(word),
        }
    }
    if !unknown.is_empty() {
        let valid = WorkflowTag::ALL.map(WorkflowTag::as_str).join(", ");
        let what = format!("no tags: {}. The tags are {valid}", unknown.join(", "));
        remarks.push(Remark { line: place.0, column: place.1, what });
    }
}

#[cfg(test)]
mod tests {
    use super::super::yaml::parse_with_comments;
    use super::*;

    /// The tags of the workflow, then of each job itself, and what is remarked.
    fn tags(text: &str) -> (Vec<String>, Vec<String>) {
        let (workflow, comments) = parse_with_comments(text).unwrap();
        let owned = Owned::sort(&comments, &workflow);
        let mut remarks = Vec::new();
        let mut sets = vec![of_workflow(&workflow, &owned, &mut remarks)];
        let jobs = workflow.get("jobs").map(Node::pairs).unwrap_or_default();
        for (index, (_, job)) in jobs.iter().enumerate() {
            sets.push(of_job(job, index, &owned, &mut remarks));
        }
        let names = |set: TagSet| set.iter().map(WorkflowTag::as_str).collect::<Vec<_>>().join(" ");
        let remarks = remarks.into_iter().map(|remark| remark.to_string());
        (sets.into_iter().map(names).collect(), remarks.collect())
    }

    #[test]
    fn env_takes_commas_spaces_and_lists_in_any_spelling() {
        for value in ["P2P_ONLY, unit_test", "p2p-only unit-test", "[P2P-Only, ' unit-test']"] {
            for variable in VARIABLES {
                let text = format!("env:\n  {variable}: {value}\njobs:\n  a:\n    steps: []\n");
                assert_eq!(tags(&text), (vec!["p2p-only unit-test".into(), String::new()], vec![]));
            }
        }
    }

    #[test]
    fn comments_count_for_the_job_in_whose_block_they_are() {
        let text = "
# P2P: p2p-eligible
jobs:
  # Tags: unit-test
  # about it
  a: # Tags: web-scraping
    steps:
      - run: x # P2P: code-generation
      # Tags: data-processing

  # Tags: github-api

  b:
    steps: []
# P2P: github-api
on: push # Tags: data-processing
";
        let (sets, remarks) = tags(text);
        assert_eq!(
            sets,
            [
                "github-api p2p-eligible data-processing",
                "unit-test code-generation web-scraping data-processing",
                ""
            ]
        );
        assert_eq!(remarks, [""; 0]);
    }

    #[test]
    fn scripts_and_other_comments_name_no_tags() {
        let text = "
# the P2P: p2p-only
#P2P: unit-test
name: '# P2P: p2p-only'
jobs:
  a:
    steps:
      - run: |
          # Tags: p2p-only
          echo '# P2P: p2p-only'
      - run: >-
          # P2P: p2p-only
";
        assert_eq!(tags(text), (vec!["unit-test".into(), String::new()], vec![]));
    }

    #[test]
    fn what_names_no_tag_is_told_with_its_place() {
        let text = "
env:
  P2P_TAGS: p2p-only, fast
  WORKFLOW_TAGS: ${{ vars.TAGS }}
jobs:
  a: # Tags: gpu big
    env: {P2P_TAGS: [{a: b}]}
";
        let (sets, remarks) = tags(text);
        assert_eq!(sets, ["p2p-only", ""]);
        assert!(remarks[0].starts_with("4:18: WORKFLOW_TAGS is an expression"), "{remarks:?}");
        assert!(remarks[1].starts_with("3:13: no tags: fast. The tags are github-api"));
        assert!(remarks[2].starts_with("7:22: P2P_TAGS names no tag"), "{remarks:?}");
        assert!(remarks[3].starts_with("6:6: no tags: gpu, big."), "{remarks:?}");
    }
}
