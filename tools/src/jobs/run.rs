//! A job from its first step to its result: steps run one after another; one that fails has the
//! others skipped, but those whose condition says otherwise.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use p2p_workflow_scheduler::scheduler::limits::MAX_PAYLOAD_BYTES;
use serde_json::{Map, Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Refusal;
use super::commands::Files;
use super::expression::{Scope, Status, Template, is_true};
use super::job::Action;
use super::log::Log;
use super::prepare::{Payload, Prepared, Settings, holds};
use super::steps::{Ended, Script, folder, inherited};
use super::tree::Tree;

/// How long a job or a step may take that says nothing of it: GitHub's own.
const DEFAULT_MINUTES: f64 = 360.0;
/// How long the steps may take that tidy up behind a job that took too long: GitHub's own, too.
const TO_TIDY_UP: Duration = Duration::from_secs(300);
/// Bytes of a summary in the result.
const MAX_SUMMARY_BYTES: usize = 64 * 1024;

/// What came of a job.
#[derive(Debug)]
pub(crate) struct Verdict {
    pub(crate) result: Value,
    /// Why it failed, where it did.
    pub(crate) error: Option<String>,
}

/// Runs the job that a task names. Once `stop` is cancelled no more of its steps are begun.
///
/// # Errors
/// It was not begun.
pub(crate) async fn run(
    settings: &Settings,
    task: &str,
    stop: &CancellationToken,
) -> Result<Verdict, Refusal> {
    // A refusal may quote what an expression came to, and goes to all peers.
    begin(settings, task, stop).await.map_err(|refusal| refusal.masked(&settings.mask()))
}

async fn begin(
    settings: &Settings,
    task: &str,
    stop: &CancellationToken,
) -> Result<Verdict, Refusal> {
    let mut prepared = Prepared::of(settings, task)?;
    if !prepared.is_wanted()? {
        return Ok(prepared.skipped());
    }
    prepared.run(stop).await
}

impl Prepared<'_> {
    async fn run(&mut self, stop: &CancellationToken) -> Result<Verdict, Refusal> {
        let unable = |what: &str, why: String| Refusal::NotHere(format!("{what}: {why}"));
        let folder = Tree::new_in(&self.settings.work, "job-")
            .map_err(|error| unable("cannot make a working tree", error.to_string()))?;
        let (workspace, temp) = (folder.path().join("workspace"), folder.path().join("temp"));
        let (log_path, log) =
            self.begin_log().map_err(|error| unable("cannot begin the log", error.to_string()))?;
        fs::create_dir(&temp).map_err(|error| unable("cannot make a folder", error.to_string()))?;
        let commit = self.task.payload.commit.clone();
        self.repository
            .check_out(&commit, &workspace)
            .await
            .map_err(|why| unable("cannot make a working tree", why))?;
        let mut run = Run::begin(self, workspace, temp, log)?;
        let started_at = Instant::now();
        for index in 0..run.prepared.job.steps.len() {
            if stop.is_cancelled() {
                break;
            }
            run.step(index).await;
        }
        run.log.say(&format!(
            "== the job ended: {} in {:.1} s",
            run.status.name(),
            started_at.elapsed().as_secs_f64()
        ));
        Ok(run.verdict(&log_path))
    }

    fn begin_log(&self) -> std::io::Result<(PathBuf, Arc<Log>)> {
        fs::create_dir_all(&self.settings.logs)?;
        let plain = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' };
        let id: String = self.task.task_id.chars().map(plain).take(120).collect();
        let path = self.settings.logs.join(format!("{id}-{}.log", self.settings.fence));
        let log = Log::create(&path, self.settings.mask())?;
        let Payload { commit, path: file, job, matrix, .. } = &self.task.payload;
        log.say(&format!("task     {}, attempt {}", self.task.task_id, self.task.attempt));
        log.say(&format!("job      {job} of {file}"));
        log.say(&format!("commit   {commit} of {}", self.repository.folder.display()));
        if let Some(matrix) = matrix {
            log.say(&format!("matrix   {}", json!(matrix)));
        }
        Ok((path, Arc::new(log)))
    }
}

/// A job under way.
struct Run<'p, 'a> {
    prepared: &'p mut Prepared<'a>,
    workspace: PathBuf,
    temp: PathBuf,
    log: Arc<Log>,
    /// When the whole job has to be over; once it is late, the steps that tidy up.
    deadline: Instant,
    is_late: bool,
    status: Status,
    /// What all steps have, and what earlier ones put before the search path.
    inherited: Vec<(String, String)>,
    env: Vec<(String, String)>,
    path: Vec<String>,
    steps: Vec<Value>,
    summary: String,
    error: Option<String>,
}

/// How a step went.
struct Went {
    outcome: &'static str,
    why: Option<String>,
}

impl<'p, 'a> Run<'p, 'a> {
    fn begin(
        prepared: &'p mut Prepared<'a>,
        workspace: PathBuf,
        temp: PathBuf,
        log: Arc<Log>,
    ) -> Result<Self, Refusal> {
        let about = prepared
            .about(workspace.to_str().unwrap_or_default(), temp.to_str().unwrap_or_default());
        let (github, runner) = (about.github(), about.runner());
        let mut inherited = inherited(&prepared.settings.let_through);
        inherited.extend(about.variables());
        prepared.contexts.insert("github".into(), github);
        prepared.contexts.insert("runner".into(), runner);
        let scope = prepared.scope(Status::Success);
        let mut env = Vec::new();
        for (name, template) in prepared.job.workflow_env.iter().chain(&prepared.job.env) {
            let value = template
                .fill(&scope)
                .map_err(|why| Refusal::Never(format!("env.{name}: {why}")))?;
            set(&mut env, name, value);
        }
        let minutes = minutes(prepared.job.timeout.as_ref(), &scope).map_err(Refusal::Never)?;
        let deadline = Instant::now() + minutes;
        Ok(Run {
            prepared,
            workspace,
            temp,
            log,
            deadline,
            is_late: false,
            status: Status::Success,
            inherited,
            env,
            path: Vec::new(),
            steps: Vec::new(),
            summary: String::new(),
            error: None,
        })
    }

    async fn step(&mut self, index: usize) {
        let began = Instant::now();
        self.log.clear_tail();
        self.speak_of(&[]);
        let title = self.prepared.job.steps[index].title.fill(&self.prepared.scope(self.status));
        let title = self.log.mask(&title.unwrap_or_else(|why| why));
        let number = format!("step {} of {}", index + 1, self.prepared.job.steps.len());
        self.log.say(&format!("== {number}: {title}"));
        let went = self
            .perform(index)
            .await
            .unwrap_or_else(|why| Went { outcome: "failure", why: Some(why) });
        let step = &self.prepared.job.steps[index];
        let goes_on = step.continue_on_error.as_ref().is_some_and(|template| {
            template.value(&self.prepared.scope(self.status)).is_ok_and(|value| is_yes(&value))
        });
        let conclusion =
            if went.outcome == "failure" && goes_on { "success" } else { went.outcome };
        let seconds = (began.elapsed().as_secs_f64() * 1000.0).round() / 1000.0;
        let why = went.why.map(|why| self.log.mask(&why));
        self.log.say(&format!(
            "== {}{} in {seconds:.1} s",
            went.outcome,
            why.as_ref().map(|why| format!(" ({why})")).unwrap_or_default()
        ));
        if let Some(id) = step.id.clone() {
            let known = &mut self.prepared.contexts["steps"][&id];
            known["outcome"] = went.outcome.into();
            known["conclusion"] = conclusion.into();
        }
        self.steps.push(json!({"name": title, "outcome": went.outcome, "conclusion": conclusion, "seconds": seconds}));
        let is_too_late = !self.is_late && Instant::now() >= self.deadline;
        if is_too_late {
            self.is_late = true;
            self.deadline = Instant::now() + TO_TIDY_UP;
        }
        // A job that took too long has failed, whatever its step may do.
        if conclusion == "failure" || is_too_late {
            if self.error.is_none() {
                let why = why.unwrap_or_else(|| "the job took too long".into());
                self.error = Some(
                    format!("{number}, {title:?}: {why}\n{}", self.log.tail())
                        .trim_end()
                        .to_owned(),
                );
            }
            self.status = Status::Failure;
        }
    }

    /// What there is to speak of for the step that comes next.
    fn speak_of(&mut self, step_env: &[(String, String)]) {
        let mut env = Map::new();
        for (name, value) in self.env.iter().chain(step_env) {
            env.insert(name.clone(), value.clone().into());
        }
        let contexts = &mut self.prepared.contexts;
        contexts.insert("env".into(), Value::Object(env));
        contexts.insert("job".into(), json!({"status": self.status.name()}));
    }

    async fn perform(&mut self, index: usize) -> Result<Went, String> {
        let step_env = self.step_env(index)?;
        self.speak_of(&step_env);
        let scope = self.prepared.scope(self.status);
        let step = &self.prepared.job.steps[index];
        if !holds(step.condition.as_ref(), &scope).map_err(|why| format!("if: {why}"))? {
            return Ok(Went { outcome: "skipped", why: None });
        }
        let Action::Run { script, shell, working_directory } = &step.action else {
            return Ok(Went { outcome: "success", why: None });
        };
        let text = script.fill(&scope)?;
        text.lines().for_each(|line| self.log.say(&format!("   | {line}")));
        let directory = working_directory.as_ref().map(|it| it.fill(&scope)).transpose()?;
        let folder = folder(&self.workspace, directory.as_deref().unwrap_or("."))?;
        let limit = minutes(step.timeout.as_ref(), &scope)?;
        let failed = |error: std::io::Error| format!("cannot prepare the step: {error}");
        let files = Files::create(&self.temp, index).map_err(failed)?;
        let file = self.temp.join(format!("{index}-script.{}", shell.extension));
        fs::write(&file, text).map_err(failed)?;
        let script = Script {
            shell,
            file,
            folder,
            environment: self.environment(&step_env, &files),
            deadline: self.deadline.min(Instant::now() + limit),
        };
        let name = format!("{}-{index}", std::process::id());
        let ended = script.run(&name, &self.log).await?;
        // What a step that failed handed on counts too, as on GitHub.
        let taken = self.take(index, &files);
        match ended {
            Ended::TimedOut => Err("it took too long and was ended".into()),
            Ended::Exited(status) if !status.success() => Err(status.to_string()),
            Ended::Exited(_) => taken.map(|()| Went { outcome: "success", why: None }),
        }
    }

    fn step_env(&self, index: usize) -> Result<Vec<(String, String)>, String> {
        let scope = self.prepared.scope(self.status);
        let mut env = Vec::new();
        for (name, template) in &self.prepared.job.steps[index].env {
            let value = template.fill(&scope).map_err(|why| format!("env.{name}: {why}"))?;
            set(&mut env, name, value);
        }
        Ok(env)
    }

    /// Later ones go before earlier ones.
    fn environment(&self, step_env: &[(String, String)], files: &Files) -> Vec<(String, String)> {
        let mut environment = self.inherited.clone();
        for (name, value) in self.env.iter().chain(step_env) {
            set(&mut environment, name, value.clone());
        }
        for (name, path) in files.variables() {
            set(&mut environment, name, path.to_string_lossy().into_owned());
        }
        if !self.path.is_empty() {
            let known = environment.iter().find(|(name, _)| name == "PATH");
            let known = known.map(|(_, path)| path.clone()).unwrap_or_default();
            let folders = self.path.iter().map(PathBuf::from).chain(std::env::split_paths(&known));
            if let Ok(path) = std::env::join_paths(folders) {
                set(&mut environment, "PATH", path.to_string_lossy().into_owned());
            }
        }
        environment
    }

    /// Takes over what a step handed on.
    fn take(&mut self, index: usize, files: &Files) -> Result<(), String> {
        let handed_on = files.read()?;
        for (name, value) in handed_on.env {
            set(&mut self.env, &name, value);
        }
        self.path.splice(0..0, handed_on.path);
        self.summary += &handed_on.summary;
        if let Some(id) = &self.prepared.job.steps[index].id {
            let outputs: Map<_, _> =
                handed_on.outputs.into_iter().map(|(name, value)| (name, value.into())).collect();
            self.prepared.contexts["steps"][id] = json!({"outputs": outputs});
        }
        Ok(())
    }

    fn verdict(mut self, log_path: &Path) -> Verdict {
        self.speak_of(&[]);
        let scope = self.prepared.scope(self.status);
        let mut outputs = Map::new();
        for (name, template) in &self.prepared.job.outputs {
            match template.fill(&scope) {
                Ok(value) => {
                    outputs.insert(name.clone(), self.log.mask(&value).into());
                }
                Err(why) => {
                    self.error.get_or_insert(format!("outputs.{name}: {why}"));
                }
            }
        }
        let goes_on = self
            .prepared
            .job
            .continue_on_error
            .as_ref()
            .is_some_and(|template| template.value(&scope).is_ok_and(|value| is_yes(&value)));
        let outcome = if self.error.is_some() { "failure" } else { "success" };
        let error = self.error.filter(|_| !goes_on);
        let mut result = json!({
            "conclusion": if error.is_some() { "failure" } else { "success" },
            "job": self.prepared.job.id,
            "matrix": self.prepared.task.payload.matrix,
            "outputs": outputs,
            "steps": self.steps,
            "log": log_path,
        });
        if outcome == "failure" {
            result["outcome"] = outcome.into();
        }
        let summary = self.log.mask(&self.summary);
        if !summary.is_empty() {
            result["summary"] = summary[..summary.floor_char_boundary(MAX_SUMMARY_BYTES)].into();
        }
        let error = error.map(|error| format!("{error}\nlog: {}", log_path.display()));
        if result.to_string().len() > MAX_PAYLOAD_BYTES {
            let error = Some(format!("its outputs are more than {} KiB", MAX_PAYLOAD_BYTES / 1024));
            return Verdict { result: Value::Null, error };
        }
        Verdict { result, error }
    }
}

/// `true`, as a value or as the text of a template.
fn is_yes(value: &Value) -> bool {
    match value {
        Value::String(text) => text.eq_ignore_ascii_case("true"),
        value => is_true(value),
    }
}

fn minutes(template: Option<&Template>, scope: &Scope<'_>) -> Result<Duration, String> {
    let Some(template) = template else { return Ok(of_minutes(DEFAULT_MINUTES)) };
    let value = template.fill(scope)?;
    match value.trim().parse::<f64>() {
        Ok(minutes) if minutes > 0.0 && minutes.is_finite() => {
            Ok(of_minutes(minutes.min(DEFAULT_MINUTES)))
        }
        _ => Err(format!("timeout-minutes: {value:?} is no number of minutes")),
    }
}

fn of_minutes(minutes: f64) -> Duration {
    Duration::from_secs_f64(minutes * 60.0)
}

/// Sets a variable, in place of an earlier value.
fn set(environment: &mut Vec<(String, String)>, name: &str, value: String) {
    match environment.iter_mut().find(|(known, _)| known == name) {
        Some((_, known)) => *known = value,
        None => environment.push((name.to_owned(), value)),
    }
}
