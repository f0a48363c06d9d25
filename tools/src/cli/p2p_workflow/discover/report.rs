//! What was found and what came of it, for people and as JSON.

use std::fmt;
use std::io::Write;
use std::sync::Arc;

use serde::Serialize;
use serde_json::json;

use super::super::Failure;
use super::super::pipeline::Settled;
use super::is_there;
use crate::cli::render::{Card, done, refused, warning};
use crate::workflows::{File, Problem, Repository, Severity, Survey, Task};

/// Says something on stderr. Whoever listened there may be gone, which is no reason to stop.
pub(super) fn say(text: &str) {
    let _gone = anstream::stderr().write_all(text.as_bytes());
}

/// Says what a person should know.
pub(super) fn tell(problem: &Problem) {
    say(&match problem.severity {
        Severity::Warning => warning(&problem.to_string()),
        Severity::Error => refused(&problem.to_string()),
    });
}

/// Tasks that were submitted, and how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Counts {
    pub(super) tasks: u64,
    pub(super) new: u64,
    pub(super) rejected: u64,
}

impl Counts {
    /// Counts one; what was rejected is returned.
    pub(super) fn add(&mut self, settled: Settled) -> Option<String> {
        self.tasks += 1;
        match settled {
            Settled::Created => self.new += 1,
            Settled::AlreadyThere => {}
            Settled::Rejected(text) if is_there(&text) => {}
            Settled::Rejected(text) => {
                self.rejected += 1;
                return Some(text);
            }
        }
        None
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {} new", many(self.tasks, "task"), self.new)?;
        if self.rejected > 0 {
            write!(f, ", {} rejected", self.rejected)?;
        }
        Ok(())
    }
}

/// `1 task`, `2 tasks`.
fn many(count: u64, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        count => format!("{count} {what}s"),
    }
}

/// Why a task was rejected, as a problem of its file.
pub(super) fn rejection(file: &File, task: &Task, why: &str) -> Problem {
    Problem::of(file.shown.clone(), format!("{}: {}", task.task_id, why.replace('\n', " ")))
}

/// All that one run of the command found.
pub(super) struct Report {
    repositories: Vec<Repository>,
    files: Arc<[File]>,
    /// Of each file.
    counts: Vec<Counts>,
    problems: Vec<Problem>,
    /// Of each task, in order, whether it is new.
    created: Vec<bool>,
    is_dry: bool,
}

impl Report {
    pub(super) fn of(surveys: Vec<Survey>, is_dry: bool) -> Self {
        let (mut repositories, mut files, mut problems) = (Vec::new(), Vec::new(), Vec::new());
        for survey in surveys {
            repositories.extend(survey.repository);
            files.extend(survey.files);
            problems.extend(survey.problems);
        }
        let counts = vec![Counts::default(); files.len()];
        let files = files.into();
        Report { repositories, files, counts, problems, created: Vec::new(), is_dry }
    }

    pub(super) fn tell_problems(&self) {
        self.problems.iter().for_each(tell);
    }

    pub(super) fn has_tasks(&self) -> bool {
        self.files.iter().any(|file| !file.tasks.is_empty())
    }

    /// The files, to submit their tasks while what comes of them is counted here.
    pub(super) fn files(&self) -> Arc<[File]> {
        self.files.clone()
    }

    /// Counts what came of a task of the file with this index. Tasks are settled in their order.
    pub(super) fn settle(&mut self, index: usize, task: &Task, settled: Settled) {
        self.created.push(matches!(settled, Settled::Created));
        let rejected = self.counts.get_mut(index).and_then(|counts| counts.add(settled));
        if let (Some(why), Some(file)) = (rejected, self.files.get(index)) {
            let problem = rejection(file, task, &why);
            tell(&problem);
            self.problems.push(problem);
        }
    }

    /// What belongs on stdout. It is a rejection if anything could not be read or submitted.
    pub(super) fn finish(&self, json: bool) -> Result<String, Failure> {
        let summary = if json { self.json() } else { self.text() };
        match self.problems.iter().any(|problem| problem.severity == Severity::Error) {
            true => Err(Failure::SomeRejected { summary }),
            false => Ok(summary),
        }
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for (file, counts) in self.files.iter().zip(&self.counts) {
            if file.tasks.is_empty() {
                continue;
            }
            let tasks = many(file.tasks.len() as u64, "task");
            text += &match self.is_dry {
                true => Card::new(&format!("{}: {tasks}", file.shown))
                    .list(
                        "tasks",
                        file.tasks.iter().map(line).collect::<Vec<_>>().iter().map(String::as_str),
                    )
                    .into_text(),
                false => done(&format!("{}: {counts}", file.shown)),
            };
        }
        text += &done(&self.summary());
        if !self.files.is_empty() && !self.has_tasks() && self.problems.is_empty() {
            text += "A job takes part once its tags, or its workflow's, say `p2p-eligible` or \
                     `p2p-only`:\nset P2P_TAGS in its `env`.\n";
        }
        text
    }

    fn summary(&self) -> String {
        let files = many(self.files.len() as u64, "workflow file");
        let repositories = match self.repositories.len() as u64 {
            1 => "1 repository".to_owned(),
            count => format!("{count} repositories"),
        };
        let mut total = Counts::default();
        for counts in &self.counts {
            total.tasks += counts.tasks;
            total.new += counts.new;
            total.rejected += counts.rejected;
        }
        let tasks = match self.is_dry {
            true => {
                let count = self.files.iter().map(|file| file.tasks.len() as u64).sum();
                format!("{}, none submitted", many(count, "task"))
            }
            false => total.to_string(),
        };
        format!("{files} in {repositories}: {tasks}")
    }

    fn json(&self) -> String {
        let mut created = self.created.iter();
        let tasks: Vec<Shown<'_>> = self
            .files
            .iter()
            .flat_map(|file| &file.tasks)
            .map(|task| Shown { task, created: created.next().copied() })
            .collect();
        let files: Vec<_> = self
            .files
            .iter()
            .zip(&self.counts)
            .map(|(file, counts)| {
                json!({"file": file.shown, "path": file.origin.path, "sha256": file.origin.sha256,
                       "repository": file.origin.repository, "tasks": file.tasks.len(),
                       "new": counts.new, "rejected": counts.rejected})
            })
            .collect();
        let problems = |severity| {
            let matching = self.problems.iter().filter(move |problem| problem.severity == severity);
            matching.collect::<Vec<_>>()
        };
        let found = json!({"repositories": self.repositories, "files": files, "tasks": tasks,
                           "errors": problems(Severity::Error),
                           "warnings": problems(Severity::Warning)});
        format!("{found}\n")
    }
}

/// A task as the JSON has it.
#[derive(Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    task: &'a Task,
    /// None where nothing was submitted.
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<bool>,
}

/// A task for people who look what would be submitted.
fn line(task: &Task) -> String {
    match task.depends_on.len() as u64 {
        0 => format!("{}  {}", task.task_id, task.name),
        count => format!("{}  {}, after {}", task.task_id, task.name, many(count, "other")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_told_in_words() {
        let mut counts = Counts::default();
        counts.add(Settled::Created);
        assert_eq!(counts.to_string(), "1 task, 1 new");
        counts.add(Settled::AlreadyThere);
        assert_eq!(counts.add(Settled::Rejected("x exists.\ncode: task_exists".into())), None);
        assert!(counts.add(Settled::Rejected("full.\ncode: overloaded".into())).is_some());
        assert_eq!(counts.to_string(), "4 tasks, 1 new, 1 rejected");
    }
}
