//! A job before its first step: the task read, the file found, everything in it looked through.
//!
//! A job that is refused here has done nothing.

use std::collections::BTreeMap;
use std::path::PathBuf;

use p2p_workflow_scheduler::scheduler::Hash256;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::Refusal;
use super::checkout::{Origin, Repository};
use super::context::{About, is_for_another_os};
use super::expression::{Expression, Scope, Status, is_true, text};
use super::job::Job;
use super::log::Mask;
use super::run::Verdict;
use crate::workflows::{self, yaml};

/// What a task's payload is called that names a job.
const KIND: &str = "workflow-job";
/// What the operator said.
#[derive(Debug)]
pub(crate) struct Settings {
    /// The checkouts whose jobs may run.
    pub(crate) repositories: Vec<Repository>,
    /// Where logs go.
    pub(crate) logs: PathBuf,
    /// Where working trees go, and vanish.
    pub(crate) work: PathBuf,
    /// Names and values.
    pub(crate) secrets: Vec<(String, String)>,
    /// Variables of the worker's environment that steps have too.
    pub(crate) let_through: Vec<String>,
    /// What numbers the task's runs.
    pub(crate) fence: String,
}

impl Settings {
    /// What nobody shall read.
    pub(super) fn mask(&self) -> Mask {
        Mask::of(self.secrets.iter().map(|(_, value)| &**value))
    }
}

/// The task, as far as it is looked at.
#[derive(Debug, Deserialize)]
pub(super) struct Task {
    pub(super) task_id: String,
    #[serde(default)]
    pub(super) attempt: u64,
    pub(super) payload: Payload,
    #[serde(default)]
    pub(super) dependency_results: BTreeMap<String, Value>,
    /// Those whose results were too large to come with it.
    #[serde(default)]
    pub(super) omitted_results: Vec<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Payload {
    pub(super) kind: String,
    pub(super) root: String,
    pub(super) commit: String,
    pub(super) path: String,
    pub(super) sha256: String,
    pub(super) job: String,
    pub(super) matrix: Option<Map<String, Value>>,
    pub(super) scheduled_at: Option<String>,
}

/// A job that may run, and all that its expressions speak of so far.
pub(super) struct Prepared<'a> {
    pub(super) settings: &'a Settings,
    pub(super) task: Task,
    pub(super) repository: &'a Repository,
    pub(super) job: Job,
    pub(super) contexts: Map<String, Value>,
}

impl<'a> Prepared<'a> {
    pub(super) fn of(settings: &'a Settings, task: &str) -> Result<Self, Refusal> {
        let task: Task = serde_json::from_str(task).map_err(|error| {
            Refusal::Never(format!("not the task of a workflow's job: {error}"))
        })?;
        let payload = &task.payload;
        if payload.kind != KIND {
            return Err(Refusal::Never(format!("a payload of the kind {:?}", payload.kind)));
        }
        let repository = settings.repositories.iter().find(|it| it.root == payload.root);
        let Some(repository) = repository else {
            return Err(Refusal::Never(format!("no checkout here begins with {}", payload.root)));
        };
        let Payload { commit, path, sha256, .. } = payload;
        let workflow = repository.workflow(Origin { commit, path, sha256 })?;
        let needed = needed(&workflow, &task)?;
        let refused = |error: yaml::YamlError| Refusal::Never(format!("{path}: {error}"));
        let secrets: Vec<String> = settings.secrets.iter().map(|(name, _)| name.clone()).collect();
        let tree = yaml::parse(&workflow).map_err(refused)?;
        let job = Job::read(&tree, path, &payload.job, &secrets).map_err(refused)?;
        let contexts = contexts(settings, &task, &job, &needed);
        let mut prepared = Prepared { settings, task, repository, job, contexts };
        prepared.contexts.insert("github".into(), prepared.about("", "").github());
        prepared.check_machine()?;
        Ok(prepared)
    }

    pub(super) fn about<'b>(&'b self, workspace: &'b str, temp: &'b str) -> About<'b> {
        let digits = Hash256::of(self.task.task_id.as_bytes()).to_hex();
        About {
            sha: &self.task.payload.commit,
            repository: self.repository.name(),
            workflow: &self.job.workflow,
            job: &self.job.id,
            run_id: u64::from_str_radix(&digits[..12], 16).unwrap_or_default(),
            attempt: self.task.attempt,
            is_scheduled: self.task.payload.scheduled_at.is_some(),
            workspace,
            temp,
        }
    }

    pub(super) fn scope(&self, status: Status) -> Scope<'_> {
        Scope { contexts: &self.contexts, status }
    }

    /// How the jobs went that this one needs. One that was skipped is no success, and no failure.
    fn status_of_needs(&self) -> Status {
        let needs = self.contexts["needs"].as_object();
        let results = || needs.into_iter().flatten().map(|(_, need)| &need["result"]);
        if results().all(|result| result == "success") {
            Status::Success
        } else if results().any(|result| result == "failure") {
            Status::Failure
        } else {
            Status::Skipped
        }
    }

    fn check_machine(&self) -> Result<(), Refusal> {
        for label in &self.job.runs_on {
            let label = label.fill(&self.scope(Status::Success)).map_err(Refusal::Never)?;
            if is_for_another_os(&label) {
                let os = std::env::consts::OS;
                return Err(Refusal::NotHere(format!("it runs on {label}, and this is {os}")));
            }
        }
        Ok(())
    }

    /// Whether the job's own condition holds.
    pub(super) fn is_wanted(&self) -> Result<bool, Refusal> {
        let scope = self.scope(self.status_of_needs());
        holds(self.job.condition.as_ref(), &scope)
            .map_err(|why| Refusal::Never(format!("if: {why}")))
    }

    pub(super) fn skipped(&self) -> Verdict {
        let result = json!({
            "conclusion": "skipped",
            "job": self.job.id,
            "matrix": self.task.payload.matrix,
            "outputs": {},
        });
        Verdict { result, error: None }
    }
}

/// What the task must have waited for: jobs, and the ids of their tasks.
///
/// The file must itself hand this very job and cell to the peers: nobody else's matrix runs. And the
/// task must wait for all that the file has the job wait for: else whoever submits one could have a
/// job run without those before it, as if they had succeeded.
fn needed(workflow: &str, task: &Task) -> Result<Vec<(String, String)>, Refusal> {
    let Payload { path, root, commit, sha256, .. } = &task.payload;
    let plan =
        workflows::plan(workflow).map_err(|error| Refusal::Never(format!("{path}: {error}")))?;
    let job = plan.jobs.iter().find(|job| job.id == task.payload.job);
    let Some(job) = job.filter(|job| job.cells.contains(&task.payload.matrix)) else {
        return Err(Refusal::Never(format!(
            "{path} hands no such job to the peers: {:?}, matrix {}",
            task.payload.job,
            json!(task.payload.matrix)
        )));
    };
    let origin = workflows::Origin {
        repository: String::new(),
        root: Some(root.clone()),
        commit: Some(commit.clone()),
        path: path.clone(),
        sha256: sha256.clone(),
    };
    let needed = workflows::needed(&origin, &plan, job, task.payload.scheduled_at.as_deref());
    for (job, id) in &needed {
        if task.omitted_results.contains(id) {
            return Err(Refusal::Never(format!(
                "what the tasks before it answered is too much to come with it: {id:?}"
            )));
        }
        if !task.dependency_results.contains_key(id) {
            return Err(Refusal::Never(format!(
                "the task does not wait for {id:?}, and its job needs {job:?}"
            )));
        }
    }
    Ok(needed)
}

/// What is known before the job runs.
fn contexts(
    settings: &Settings,
    task: &Task,
    job: &Job,
    needed: &[(String, String)],
) -> Map<String, Value> {
    let secrets: Map<String, Value> =
        settings.secrets.iter().map(|(name, value)| (name.clone(), value.clone().into())).collect();
    let mut needs = Map::new();
    for id in &job.needs {
        needs.insert(id.clone(), json!({"result": "success", "outputs": {}}));
    }
    // Cells of one job come one after another: later outputs replace earlier ones, as on GitHub,
    // and empty ones nothing. So each cell can have an output of its own.
    for (id, task_id) in needed {
        let result = &task.dependency_results[task_id];
        let Some(need) = needs.get_mut(id) else { continue };
        if let Some(conclusion) = result["conclusion"].as_str().filter(|it| *it != "success") {
            need["result"] = conclusion.into();
        }
        for (name, value) in result["outputs"].as_object().into_iter().flatten() {
            let value = text(value);
            if !value.is_empty() || need["outputs"][name].is_null() {
                need["outputs"][name] = value.into();
            }
        }
    }
    let matrix = task.payload.matrix.clone().unwrap_or_default();
    let mut contexts = Map::new();
    contexts.insert("secrets".into(), Value::Object(secrets));
    contexts.insert("needs".into(), Value::Object(needs));
    contexts.insert("matrix".into(), Value::Object(matrix));
    contexts.insert("steps".into(), json!({}));
    contexts
}

/// Whether a condition holds; success of what came before is a part of each that does not ask.
pub(super) fn holds(condition: Option<&Expression>, scope: &Scope<'_>) -> Result<bool, String> {
    let is_success = scope.status == Status::Success;
    let Some(condition) = condition else { return Ok(is_success) };
    if !condition.asks_for_status() && !is_success {
        return Ok(false);
    }
    condition.evaluate(scope).map(|value| is_true(&value))
}
