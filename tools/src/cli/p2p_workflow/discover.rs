//! `discover`: hands in the jobs of the workflow files that lie in this machine's checkouts.
//!
//! ```text
//!   PATH… ─► workflows ─► files with their tasks ─► pipeline ─► node
//!                │
//!                └─ warnings and errors ─► stderr, each with its file, line and column
//! ```
//!
//! Ids are the same for the same commit, so that all may be handed in again at any time: by this
//! machine, or by another with a clone of its own. A file that cannot be read holds up no other.

mod report;
mod watch;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, ValueHint};

use self::report::Report;
use self::watch::Watch;
use super::Failure;
use super::pipeline::{Pipeline, Settled};
use crate::client::{CallError, Client, ConnectError};
use crate::start::{Way, new_worker};
use crate::workflows::{Place, Problem, Survey, Task, find_places};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ipfs-accelerate p2p-workflow discover                      the checkout that you are in
  ipfs-accelerate p2p-workflow discover ~/work --dry-run     all checkouts below a folder
  ipfs-accelerate p2p-workflow discover ~/work --watch       and what is committed there from now on

A workflow takes part whose tags say p2p-eligible or p2p-only: in its `env`, as WORKFLOW_TAGS or
P2P_TAGS, or in a comment `# P2P: p2p-eligible`. What is committed counts. Discovering twice submits
nothing twice.")]
pub(crate) struct Discover {
    /// Checkouts, folders of checkouts, or single workflow files
    #[arg(value_name = "PATH", default_value = ".", value_hint = ValueHint::AnyPath)]
    paths: Vec<PathBuf>,

    /// Go on: submit what is committed from now on, and scheduled jobs when they are due
    #[arg(long, conflicts_with = "dry_run")]
    watch: bool,

    /// Print what would be submitted, and submit nothing
    #[arg(long)]
    dry_run: bool,

    /// What a worker must be capable of to run these jobs
    #[arg(long, value_name = "CAPABILITY", value_delimiter = ',')]
    requires: Vec<String>,

    /// Print what was found as one JSON object
    #[arg(long)]
    json: bool,
}

impl Discover {
    /// Whether it goes on until it is ended.
    pub(crate) fn stays(&self) -> bool {
        self.watch
    }

    /// Returns what belongs on stdout. The way to a node is opened where there is anything to submit.
    pub(crate) async fn run(
        self,
        open: impl AsyncFnOnce() -> Result<Way, ConnectError>,
    ) -> Result<String, Failure> {
        let requires: Arc<[String]> = self.requires.into();
        if self.watch {
            let way = open().await?;
            let watched = Watch::new(self.paths, requires).run(&way, self.json).await;
            way.close().await;
            return watched;
        }
        let mut report = Report::of(look(&self.paths, &requires)?, self.dry_run);
        report.tell_problems();
        if !self.dry_run && report.has_tasks() {
            let way = open().await?;
            let submitted = submit_found(&way, &mut report).await;
            way.close().await;
            submitted?;
        }
        report.finish(self.json)
    }
}

/// Looks through all paths.
fn look(paths: &[PathBuf], requires: &Arc<[String]>) -> Result<Vec<Survey>, Failure> {
    let (places, problems) = places(paths);
    if places.is_empty() {
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        return Err(Failure::Usage(lines.join("\n")));
    }
    let mut surveys = vec![Survey { problems, ..Survey::default() }];
    surveys.extend(Survey::of_all(&Vec::from_iter(places), requires));
    Ok(surveys)
}

/// The places that the paths stand for, each once, and the paths that stand for none.
fn places(paths: &[PathBuf]) -> (BTreeSet<Place>, Vec<Problem>) {
    let (mut places, mut problems) = (BTreeSet::new(), Vec::new());
    for path in paths {
        match find_places(path) {
            Ok(found) => places.extend(found),
            Err(why) => problems.push(Problem::of(path.display().to_string(), why)),
        }
    }
    (places, problems)
}

async fn submit_found(way: &Way, report: &mut Report) -> Result<(), Failure> {
    let mut client = Client::attach_introduced(way.link(new_worker())).await?;
    let files = report.files();
    let tasks = files
        .iter()
        .enumerate()
        .flat_map(|(index, file)| file.tasks.iter().map(move |task| (index, task)));
    let settle = |index, task: &Task, settled| report.settle(index, task, settled);
    submit(&mut client, tasks, settle).await.map_err(|error| {
        Failure::Failed(format!(
            "{error}\nDiscover again: what was submitted already stays as it is."
        ))
    })
}

/// Submits tasks in their order, and says of each what came of it.
async fn submit<'t, L>(
    client: &mut Client,
    tasks: impl Iterator<Item = (L, &'t Task)>,
    mut settle: impl FnMut(L, &'t Task, Settled),
) -> Result<(), CallError> {
    let mut pipeline = Pipeline::new(client);
    for (label, task) in tasks {
        if let Some(((label, task), settled)) = pipeline.make_room().await? {
            settle(label, task, settled);
        }
        pipeline.submit((label, task), task.arguments()).await?;
    }
    while let Some(((label, task), settled)) = pipeline.settle_oldest().await? {
        settle(label, task, settled);
    }
    Ok(())
}

/// Whether a rejection only says that the job was submitted before, though otherwise: by a clone
/// whose remote has another name, or with other capabilities. The id says that it is the same job.
fn is_there(rejection: &str) -> bool {
    rejection.trim_end().ends_with("code: task_exists")
}

#[cfg(test)]
mod tests {
    use super::super::testing::is_wrong_usage;

    #[test]
    fn to_watch_and_to_submit_nothing_is_wrong_usage() {
        assert!(is_wrong_usage(&["discover", "--watch", "--dry-run"]));
        assert!(!is_wrong_usage(&["discover", "a", "b", "--requires", "gpu,cuda", "c"]));
    }
}
