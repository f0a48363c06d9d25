//! GitHub workflow files, read where they lie, and the tasks that they come to.
//!
//! ```text
//!   PATH ─ places ─► checkouts, folders ─ git ─► committed files ─ yaml ─► trees
//!                                                                           │
//!   tasks ◄─ ids ─ cells ◄─ matrix ─ jobs, tags, needs, schedules ◄─ plan ──┘
//! ```
//!
//! Nothing here talks to GitHub, to a node, or to the network. What counts is what is *committed*,
//! since a task names a commit and whoever runs it takes the code from there: a file that differs
//! in the working tree is told, and its committed version counts.
//!
//! The same commit gives the same tasks, with the same ids, on every machine: an id is a hash over
//! the repository's first commit, the commit, the file, the job and its matrix cell ([`ids`]).

mod cron;
pub(crate) mod git;
mod ids;
mod matrix;
mod places;
mod plan;
mod survey;
mod tags;
mod tasks;
pub(crate) mod yaml;

use std::fmt;

pub(crate) use self::cron::{Moment, due};
pub(crate) use self::places::{Mark, Place, find as find_places};
pub(crate) use self::plan::plan;
pub(crate) use self::survey::{File, Problem, Repository, Severity, Survey};
pub(crate) use self::tasks::{Origin, Task, needed, tasks};

/// The folder of a repository that GitHub takes workflows from.
const FOLDER: &str = ".github/workflows";

/// Whether GitHub would take the file of a repository for a workflow.
pub(crate) fn is_workflow(path: &str) -> bool {
    let name = path.strip_prefix(FOLDER).and_then(|rest| rest.strip_prefix('/'));
    name.is_some_and(|name| !name.contains('/') && is_workflow_name(name))
}

fn is_workflow_name(path: &str) -> bool {
    path.ends_with(".yml") || path.ends_with(".yaml")
}

/// What a person should know about a file, though it can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Remark {
    pub(crate) line: usize,
    pub(crate) column: usize,
    pub(crate) what: String,
}

impl Remark {
    fn at(node: &yaml::Node, what: impl Into<String>) -> Self {
        Remark { line: node.line, column: node.column, what: what.into() }
    }
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.what)
    }
}
