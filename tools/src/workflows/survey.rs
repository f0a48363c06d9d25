//! All that is found at one place: its repository, its files with their tasks, and what a person
//! should know.

use std::fmt;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use serde::Serialize;

use super::git::{Found, Source};
use super::places::Place;
use super::plan::{Plan, plan};
use super::tasks::{Origin, Task, tasks};

/// What was found at a place.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    /// None where it could not be read.
    pub(crate) repository: Option<Repository>,
    pub(crate) files: Vec<File>,
    pub(crate) problems: Vec<Problem>,
}

/// A checkout, or a folder without git.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Repository {
    pub(crate) folder: PathBuf,
    pub(crate) repository: String,
    pub(crate) root: Option<String>,
    pub(crate) commit: Option<String>,
}

/// A workflow file that could be read.
#[derive(Debug)]
pub(crate) struct File {
    /// As a person finds it from here.
    pub(crate) shown: String,
    pub(crate) origin: Origin,
    pub(crate) plan: Plan,
    /// Those that are due now, the needed ones first.
    pub(crate) tasks: Vec<Task>,
}

/// Something that a person should know.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub(crate) struct Problem {
    #[serde(skip)]
    pub(crate) severity: Severity,
    pub(crate) file: String,
    pub(crate) line: Option<usize>,
    pub(crate) column: Option<usize>,
    pub(crate) what: String,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Severity {
    /// Something is left out that could not be meant otherwise.
    Warning,
    /// Something cannot be read.
    Error,
}

impl Survey {
    /// Looks through places, as many at once as there are cores: most of the time goes to starting
    /// git. They come in the order of the places.
    pub(crate) fn of_all(places: &[Place], requires: &Arc<[String]>) -> Vec<Self> {
        let next = AtomicUsize::new(0);
        let look = || {
            let mut surveys = Vec::new();
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some(place) = places.get(index) else { return surveys };
                surveys.push((index, Survey::of(place, requires)));
            }
        };
        let threads = thread::available_parallelism().map_or(1, usize::from).min(places.len());
        let mut surveys: Vec<_> = thread::scope(|scope| {
            let running: Vec<_> = (0..threads).map(|_| scope.spawn(look)).collect();
            let ended = running.into_iter().map(|thread| thread.join());
            ended.flat_map(|ended| ended.unwrap_or_else(|bug| resume_unwind(bug))).collect()
        });
        surveys.sort_by_key(|(index, _)| *index);
        surveys.into_iter().map(|(_, survey)| survey).collect()
    }

    /// Looks through a place.
    pub(crate) fn of(place: &Place, requires: &Arc<[String]>) -> Self {
        let source = match place.read() {
            Ok(source) => source,
            Err(why) => {
                let problem = Problem::of(shown(&place.folder), why);
                return Survey { problems: vec![problem], ..Survey::default() };
            }
        };
        let Source { folder, repository, root, commit, files, left_out } = source;
        let mut survey = Survey::default();
        for (path, why) in left_out {
            let problem = Problem::of(shown(&folder.join(path)), why);
            survey.problems.push(Problem { severity: Severity::Warning, ..problem });
        }
        let repository = Repository { folder, repository, root, commit };
        for found in files {
            survey.add(&repository, found, requires);
        }
        survey.repository = Some(repository);
        survey
    }

    fn add(&mut self, repository: &Repository, found: Found, requires: &Arc<[String]>) {
        let shown = shown(&repository.folder.join(&found.path));
        let warning =
            Problem { severity: Severity::Warning, ..Problem::of(shown.clone(), String::new()) };
        if let Some(remark) = found.remark {
            self.problems.push(Problem { what: remark.to_owned(), ..warning.clone() });
        }
        let text = match std::str::from_utf8(&found.bytes) {
            Ok(text) => text,
            Err(error) => {
                let before = found.bytes.get(..error.valid_up_to()).unwrap_or_default();
                let line = before.iter().filter(|c| **c == b'\n').count() + 1;
                let problem = Problem::of(shown, "not UTF-8".to_owned());
                return self.problems.push(Problem { line: Some(line), ..problem });
            }
        };
        let plan = match plan(text) {
            Ok(plan) => plan,
            Err(error) => {
                let (line, column) = (Some(error.line), Some(error.column));
                let problem = Problem::of(shown, error.what);
                return self.problems.push(Problem { line, column, ..problem });
            }
        };
        self.problems.extend(plan.remarks.iter().map(|remark| Problem {
            line: Some(remark.line),
            column: Some(remark.column),
            what: remark.what.clone(),
            ..warning.clone()
        }));
        let origin = Origin {
            repository: repository.repository.clone(),
            root: repository.root.clone(),
            commit: repository.commit.clone(),
            path: found.path,
            sha256: found.sha256,
        };
        let tasks = tasks(&origin, &plan, requires, None);
        self.files.push(File { shown, origin, plan, tasks });
    }
}

impl Problem {
    /// An error about a whole file.
    pub(crate) fn of(file: String, what: String) -> Self {
        Problem { severity: Severity::Error, file, line: None, column: None, what }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        for number in [self.line, self.column].into_iter().flatten() {
            write!(f, ":{number}")?;
        }
        write!(f, ": {}", self.what)
    }
}

/// A path as a person finds it from here.
fn shown(path: &Path) -> String {
    let here = std::env::current_dir().and_then(std::fs::canonicalize);
    let below = here.ok().and_then(|here| path.strip_prefix(here).ok().map(Path::to_owned));
    let below = below.filter(|below| !below.as_os_str().is_empty());
    below.as_deref().unwrap_or(path).display().to_string()
}
