//! From a plan to the tasks that are submitted.

use std::sync::Arc;

use p2p_workflow_scheduler::scheduler::TagSet;
use serde::Serialize;

use super::cron::Moment;
use super::ids;
use super::matrix::Cell;
use super::plan::{Job, Plan};
use crate::client::Arguments;

/// Priorities: what only peers may run goes before what they may run too.
const P2P_ONLY: u8 = 8;
const P2P_ELIGIBLE: u8 = 6;

/// Which version of which file a plan is of.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    /// What people call the repository; it names nothing.
    pub(crate) repository: String,
    /// The hash of the repository's first commit; none without git.
    pub(crate) root: Option<String>,
    /// The commit that is checked out; none without git.
    pub(crate) commit: Option<String>,
    /// From the repository's top, with slashes.
    pub(crate) path: String,
    /// Of the file, in hex.
    pub(crate) sha256: String,
}

/// A task as it is submitted.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Task {
    pub(crate) task_id: String,
    pub(crate) workflow_id: Arc<str>,
    pub(crate) name: String,
    pub(crate) tags: TagSet,
    pub(crate) priority: u8,
    pub(crate) payload: Payload,
    pub(crate) depends_on: Arc<[String]>,
    pub(crate) requires: Arc<[String]>,
}

/// What whoever runs the job needs to find it in a checkout of its own.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Payload {
    kind: &'static str,
    repository: String,
    root: Option<String>,
    commit: Option<String>,
    path: String,
    sha256: String,
    job: String,
    matrix: Option<Cell>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scheduled_at: Option<String>,
}

/// The tasks of a plan, those that are needed first. Those of a schedule name when it was due.
pub(crate) fn tasks(
    origin: &Origin,
    plan: &Plan,
    requires: &Arc<[String]>,
    due: Option<Moment>,
) -> Vec<Task> {
    let workflow_id: Arc<str> = ids::workflow_id(origin).into();
    let workflow = plan.name.as_deref().unwrap_or_else(|| ids::file_name(&origin.path));
    let mut tasks = Vec::new();
    let mut ids_of_jobs: Vec<Vec<String>> = Vec::new();
    for job in &plan.jobs {
        let needed = job.needs.iter().filter_map(|index| ids_of_jobs.get(*index));
        let depends_on: Arc<[String]> = needed.flatten().cloned().collect();
        let ids: Vec<String> = ids_of(origin, job, due.map(|due| due.to_string()).as_deref());
        tasks.extend(job.cells.iter().zip(&ids).map(|(cell, id)| Task {
            task_id: id.clone(),
            workflow_id: workflow_id.clone(),
            name: ids::title(workflow, job.name.as_deref().unwrap_or(&job.id), cell.as_ref()),
            tags: job.tags,
            priority: if job.tags.is_p2p_only() { P2P_ONLY } else { P2P_ELIGIBLE },
            payload: payload(origin, &job.id, cell.clone(), due),
            depends_on: depends_on.clone(),
            requires: requires.clone(),
        }));
        ids_of_jobs.push(ids);
    }
    tasks
}

/// The tasks that each task of a job waits for, in order: the job that each is of, and its id.
pub(crate) fn needed(
    origin: &Origin,
    plan: &Plan,
    job: &Job,
    due: Option<&str>,
) -> Vec<(String, String)> {
    let jobs = job.needs.iter().filter_map(|index| plan.jobs.get(*index));
    let ids = |needed: &Job| {
        let ids = ids_of(origin, needed, due).into_iter();
        ids.map(|id| (needed.id.clone(), id)).collect::<Vec<_>>()
    };
    jobs.flat_map(ids).collect()
}

fn ids_of(origin: &Origin, job: &Job, due: Option<&str>) -> Vec<String> {
    job.cells.iter().map(|cell| ids::task_id(origin, &job.id, cell.as_ref(), due)).collect()
}

fn payload(origin: &Origin, job: &str, matrix: Option<Cell>, due: Option<Moment>) -> Payload {
    let Origin { repository, root, commit, path, sha256 } = origin.clone();
    let scheduled_at = due.map(|due| due.to_string());
    let job = job.to_owned();
    Payload {
        kind: "workflow-job",
        repository,
        root,
        commit,
        path,
        sha256,
        job,
        matrix,
        scheduled_at,
    }
}

impl Task {
    /// The input of the tool that submits it.
    pub(crate) fn arguments(&self) -> Arguments {
        Arguments::new()
            .with("task_id", &self.task_id)
            .with("workflow_id", &self.workflow_id)
            .with("name", &self.name)
            .with("tags", self.tags)
            .with("priority", self.priority)
            .with("payload", &self.payload)
            .with_list("depends_on", &self.depends_on)
            .with_list("requires", &self.requires)
    }
}
