//! What expressions may speak of, where, and what it comes to.
//!
//! A script's text is executed, so nothing that another machine sent may become a part of it: not
//! `needs`, and no variable of `env` that is made of it. Such a variable reaches the script as a
//! variable. What scripts themselves hand on, by files, is theirs.

use serde_json::{Map, Value, json};

use super::expression::{Expression, Named, Template};

/// Where an expression stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    WorkflowEnv,
    /// Everything of a job that is known before its first step.
    JobEnv,
    JobIf,
    Step,
    StepIf,
    /// The text of a script.
    Script,
    Outputs,
}

impl Place {
    /// The contexts of each place, as on GitHub, as far as there are such here.
    fn contexts(self) -> &'static [&'static str] {
        match self {
            Place::WorkflowEnv => &["github", "secrets"],
            Place::JobEnv => &["github", "needs", "matrix", "secrets"],
            Place::JobIf => &["github", "needs"],
            Place::StepIf => &["github", "needs", "matrix", "env", "steps", "job", "runner"],
            Place::Step | Place::Script | Place::Outputs => {
                &["github", "needs", "matrix", "env", "steps", "job", "runner", "secrets"]
            }
        }
    }
}

const GITHUB: [&str; 9] = [
    "sha",
    "repository",
    "repository_owner",
    "workflow",
    "job",
    "run_id",
    "run_attempt",
    "event_name",
    "workspace",
];
const RUNNER: [&str; 3] = ["os", "arch", "temp"];

/// What a file has to speak of, as far as it was read.
#[derive(Debug)]
pub(super) struct Available<'w> {
    secrets: &'w [String],
    needs: Vec<String>,
    /// Ids of the steps so far.
    pub(super) steps: Vec<&'w str>,
    /// Variables made of what another machine sent: those of the job, and those of the step.
    sent: Vec<String>,
    sent_to_step: Vec<String>,
}

impl<'w> Available<'w> {
    pub(super) fn new(secrets: &'w [String], needs: &[String]) -> Self {
        Available {
            secrets,
            needs: needs.to_vec(),
            steps: Vec::new(),
            sent: Vec::new(),
            sent_to_step: Vec::new(),
        }
    }

    /// Keeps in mind whether a variable is made of what another machine sent.
    pub(super) fn note_env(&mut self, name: &str, template: &Template, place: Place) {
        let is_sent = template.expressions().any(|it| self.is_sent(it));
        if is_sent {
            let list = if place == Place::Step { &mut self.sent_to_step } else { &mut self.sent };
            list.push(name.to_owned());
        }
    }

    pub(super) fn forget_step_env(&mut self) {
        self.sent_to_step.clear();
    }

    /// Whether an expression may stand there.
    ///
    /// # Errors
    /// What it speaks of that is not there.
    pub(super) fn check(&self, expression: &Expression, place: Place) -> Result<(), String> {
        for named in expression.names() {
            if !place.contexts().contains(&named.context) || !self.has(named) {
                return Err(self.unavailable(named));
            }
        }
        if place == Place::Script && self.is_sent(expression) {
            return Err("what another machine answered cannot be a part of a script, which would \
                        execute it: put it into `env`, and use the variable"
                .into());
        }
        Ok(())
    }

    fn has(&self, named: Named<'_>) -> bool {
        let is_one_of =
            |names: &[&str], part: &str| names.iter().any(|it| it.eq_ignore_ascii_case(part));
        match (named.context, named.part) {
            ("env" | "matrix" | "needs" | "steps", None) | ("env" | "matrix", Some(_)) => true,
            ("github", Some(part)) => is_one_of(&GITHUB, part),
            ("runner", Some(part)) => is_one_of(&RUNNER, part),
            ("job", Some(part)) => is_one_of(&["status"], part),
            ("steps", Some(part)) => is_one_of(&self.steps, part),
            ("needs", Some(part)) => self.needs.iter().any(|it| it.eq_ignore_ascii_case(part)),
            ("secrets", Some(part)) => self.secrets.iter().any(|it| it.eq_ignore_ascii_case(part)),
            _ => false,
        }
    }

    fn unavailable(&self, named: Named<'_>) -> String {
        match (named.context, named.part) {
            ("secrets", Some(part)) if !self.has(named) => {
                format!("there is no secret {part}: start the worker with --secret {part}")
            }
            ("steps", Some(_)) => format!("{named}: no step before this one has that id"),
            ("needs", Some(_)) => format!("{named}: the job does not need that one"),
            _ => format!("`{named}` is not known here"),
        }
    }

    fn is_sent(&self, expression: &Expression) -> bool {
        let sent = || self.sent.iter().chain(&self.sent_to_step);
        expression.names().iter().any(|named| match (named.context, named.part) {
            ("needs", _) => true,
            ("env", Some(part)) => sent().any(|it| it.eq_ignore_ascii_case(part)),
            ("env", None) => sent().next().is_some(),
            _ => false,
        })
    }
}

/// What a job is told about itself and this machine.
#[derive(Debug)]
pub(super) struct About<'a> {
    pub(super) sha: &'a str,
    pub(super) repository: String,
    pub(super) workflow: &'a str,
    pub(super) job: &'a str,
    /// A number made of the task's id: as text, that is another machine's.
    pub(super) run_id: u64,
    pub(super) attempt: u64,
    pub(super) is_scheduled: bool,
    pub(super) workspace: &'a str,
    pub(super) temp: &'a str,
}

impl About<'_> {
    /// The `github` context.
    pub(super) fn github(&self) -> Value {
        // `github.com/owner/app`: GitHub names the last two.
        let parts: Vec<&str> = self.repository.rsplitn(3, '/').collect();
        let (name, owner) = (parts[0], parts.get(1).copied().unwrap_or_default());
        let repository = if owner.is_empty() { name.to_owned() } else { format!("{owner}/{name}") };
        json!({
            "sha": self.sha,
            "repository": repository,
            "repository_owner": owner,
            "workflow": self.workflow,
            "job": self.job,
            "run_id": self.run_id.to_string(),
            "run_attempt": self.attempt.to_string(),
            // Nobody pushed, and nobody asked GitHub: it was dispatched.
            "event_name": if self.is_scheduled { "schedule" } else { "workflow_dispatch" },
            "workspace": self.workspace,
        })
    }

    /// The `runner` context.
    pub(super) fn runner(&self) -> Value {
        json!({"os": os(), "arch": arch(), "temp": self.temp})
    }

    /// The variables that every step has of both.
    pub(super) fn variables(&self) -> Vec<(String, String)> {
        let of = |prefix: &str, value: Value| {
            let map = match value {
                Value::Object(map) => map,
                _ => Map::new(),
            };
            let prefix = prefix.to_owned();
            map.into_iter().map(move |(key, value)| {
                let value = value.as_str().map(str::to_owned).unwrap_or_default();
                (format!("{prefix}_{}", key.to_ascii_uppercase()), value)
            })
        };
        let mut variables: Vec<_> =
            of("GITHUB", self.github()).chain(of("RUNNER", self.runner())).collect();
        variables.push(("CI".into(), "true".into()));
        variables
    }
}

fn os() -> &'static str {
    match std::env::consts::OS {
        "linux" => "Linux",
        "macos" => "macOS",
        "windows" => "Windows",
        other => other,
    }
}

fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "X64",
        "x86" => "X86",
        "aarch64" => "ARM64",
        "arm" => "ARM",
        other => other,
    }
}

/// Whether a label of `runs-on` asks for another operating system than this one.
pub(super) fn is_for_another_os(label: &str) -> bool {
    let label = label.to_ascii_lowercase();
    let systems =
        [("ubuntu", "Linux"), ("linux", "Linux"), ("macos", "macOS"), ("windows", "Windows")];
    systems.iter().any(|(prefix, system)| label.starts_with(prefix) && *system != os())
}
