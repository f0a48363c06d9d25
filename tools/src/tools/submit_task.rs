//! `p2p_submit_task`: hands a task in.

use std::sync::Arc;

use p2p_workflow_scheduler::node::{CallError, Session};
use p2p_workflow_scheduler::scheduler::limits::{MAX_DELAY, MAX_LEASE};
use p2p_workflow_scheduler::scheduler::{P2PTask, Submitted};
use rmcp::model::Tool;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::Answer;
use super::fields::{millis, parse, tags, whole};
use super::schema::{self, Effect};

pub(super) const NAME: &str = "p2p_submit_task";

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Input {
    /// Yours to choose, unique: submitting the same task again changes nothing.
    #[schemars(length(min = 1, max = 256))]
    task_id: String,
    /// The group of tasks it belongs to.
    #[schemars(length(min = 1, max = 256))]
    workflow_id: String,
    /// What a person reads.
    #[schemars(length(min = 1, max = 256))]
    name: String,
    /// Of: github-api, p2p-eligible, p2p-only, unit-test, code-generation, web-scraping, data-processing.
    tags: Vec<String>,
    /// Higher goes first. Default 5.
    #[schemars(with = "Option<u8>", range(min = 1, max = 10))]
    priority: Option<f64>,
    /// The task's input: any JSON, at most 256 KiB.
    #[schemars(with = "Option<serde_json::Value>")]
    payload: Option<Box<RawValue>>,
    /// Ids of tasks that must be completed first. They may be submitted later.
    depends_on: Option<Vec<String>>,
    /// Reject the task if one of them is not known yet.
    dependencies_must_exist: Option<bool>,
    /// Capabilities that a worker must have.
    requires: Option<Vec<String>>,
    /// Not to be started before.
    #[schemars(range(min = 0))]
    delay_seconds: Option<f64>,
    /// Failed attempts until the task fails. Default 3, 0 for no limit.
    #[schemars(with = "Option<u32>", range(min = 0))]
    max_attempts: Option<f64>,
    /// How long a lease on it lasts where no connection keeps it. Default 3600.
    #[schemars(range(min = 1))]
    lease_seconds: Option<f64>,
}

#[derive(Serialize, JsonSchema)]
struct Output {
    success: bool,
    /// False where the same task was already there
    created: bool,
    task_id: String,
    task_hash: String,
    priority: u8,
    state: &'static str,
    /// The peer whose turn is first
    owner: Arc<str>,
    /// Dependencies not known here yet
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unknown_dependencies: Vec<String>,
}

pub(super) fn definition() -> Tool {
    schema::definition::<Input, Output>(
        NAME,
        "Submit a task",
        "Hands in a task for any agent on this machine or its peers to run. Use it to split work \
         or to pass it on; order tasks with depends_on. The answer means that it is on disk. \
         Submitting the same task again is safe (created: false). task_exists: another task has \
         this id, choose a new one.",
        Effect::ChangesOnce,
    )
}

pub(super) async fn call<'s>(
    session: impl FnOnce() -> &'s Session,
    arguments: &str,
) -> Result<Answer, CallError> {
    let task = parse::<Input>(arguments)?.task()?;
    let task_id = task.task_id.clone();
    let submitted = session().submit(task).await?;
    Ok(shape(task_id, submitted))
}

impl Input {
    fn task(self) -> Result<P2PTask, CallError> {
        let mut task =
            P2PTask::new(&self.task_id, &self.workflow_id, &self.name, tags(&self.tags)?);
        if let Some(priority) = self.priority {
            task.priority = priority_of(priority)?;
        }
        task.payload = self.payload.map(|json| Box::<str>::from(json).into_string());
        task.depends_on = self.depends_on.unwrap_or_default();
        task.dependencies_must_exist = self.dependencies_must_exist.unwrap_or(false);
        task.requires = self.requires.unwrap_or_default();
        if let Some(seconds) = self.delay_seconds {
            task.delay = millis("delay_seconds", seconds, MAX_DELAY)?;
        }
        if let Some(attempts) = self.max_attempts {
            task.max_attempts = whole("max_attempts", attempts, 0..=u32::MAX)?;
        }
        if let Some(seconds) = self.lease_seconds {
            task.lease_duration = millis("lease_seconds", seconds, MAX_LEASE)?;
        }
        Ok(task)
    }
}

/// A priority, as given.
pub(super) fn priority_of(number: f64) -> Result<u8, CallError> {
    whole("priority", number, 1..=10).map(|priority| u8::try_from(priority).unwrap_or(u8::MAX))
}

fn shape(task_id: String, submitted: Submitted) -> Answer {
    let state = submitted.state.as_str();
    let owner = &submitted.owner;
    let mut text = match submitted.created {
        true => format!("Task {task_id:?} is submitted: {state}, owner {owner}."),
        false => format!("Task {task_id:?} was there already, the same: {state}, owner {owner}."),
    };
    if !submitted.unknown_dependencies.is_empty() {
        let ids = submitted.unknown_dependencies.join(", ");
        text += &format!(" It waits for tasks that are not known here yet: {ids}. Submit them.");
    }
    let output = Output {
        success: true,
        created: submitted.created,
        task_id,
        task_hash: submitted.task_hash.to_string(),
        priority: submitted.priority,
        state,
        owner: submitted.owner,
        unknown_dependencies: submitted.unknown_dependencies,
    };
    Answer::new(&output, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use p2p_workflow_scheduler::scheduler::{State, task_hash};

    fn task(more: &str) -> Result<P2PTask, CallError> {
        let input =
            format!(r#"{{"task_id":"t","workflow_id":"w","name":"n","tags":["p2p-only"]{more}}}"#);
        parse::<Input>(&input)?.task()
    }

    #[test]
    fn what_is_left_out_has_its_default() {
        let task = task("").unwrap();
        assert_eq!(task, P2PTask::new("t", "w", "n", task.tags));
        assert_eq!(super::super::fields::names(task.tags), ["p2p-only"]);
    }

    #[test]
    fn every_field_arrives_and_a_null_is_as_good_as_nothing() {
        let task = task(
            r#","priority":9,"payload":{"b":1.10,"a":123456789012345678901},"depends_on":["d"],
            "requires":["gpu"],"delay_seconds":1.5,"max_attempts":0,"lease_seconds":60"#,
        )
        .unwrap();
        assert_eq!(task.priority, 9);
        assert_eq!(task.payload.as_deref(), Some(r#"{"b":1.10,"a":123456789012345678901}"#));
        assert_eq!((task.delay, task.max_attempts, task.lease_duration), (1500, 0, 60_000));
        assert_eq!((task.depends_on, task.requires), (vec!["d".into()], vec!["gpu".into()]));
        assert_eq!(self::task(r#","payload":null,"depends_on":null"#).unwrap().payload, None);
    }

    /// The original took 10**9 and −5 as priorities.
    #[test]
    fn numbers_that_make_no_sense_are_refused_with_their_field() {
        for (field, number) in [
            ("priority", "1000000000"),
            ("priority", "-5"),
            ("priority", "5.5"),
            ("priority", "1000000000000000000000000000000"),
            ("delay_seconds", "-1"),
            ("max_attempts", "0.5"),
            ("lease_seconds", "1e9"),
        ] {
            let error = task(&format!(r#","{field}":{number}"#)).unwrap_err();
            assert!(error.to_string().starts_with(field), "{error}");
            assert_eq!(error.code(), "invalid_argument");
        }
    }

    #[test]
    fn an_unknown_tag_is_refused_with_the_valid_ones() {
        let input = r#"{"task_id":"t","workflow_id":"w","name":"n","tags":["gpu"]}"#;
        let error = parse::<Input>(input).unwrap().task().unwrap_err();
        assert_eq!(error.code(), "unknown_tag");
        assert!(error.to_string().contains("data-processing"));
    }

    #[test]
    fn the_answer_says_what_the_task_waits_for() {
        let answer = shape(
            "t".into(),
            Submitted {
                created: true,
                task_hash: task_hash("t", "w"),
                priority: 5,
                state: State::Blocked,
                owner: "me".into(),
                unknown_dependencies: vec!["d".into()],
            },
        );
        assert!(
            answer
                .structured
                .starts_with(r#"{"success":true,"created":true,"task_id":"t","task_hash":""#)
        );
        assert!(answer.structured.ends_with(
            r#""priority":5,"state":"blocked","owner":"me","unknown_dependencies":["d"]}"#
        ));
        assert_eq!(
            answer.text,
            "Task \"t\" is submitted: blocked, owner me. It waits for tasks that are not known \
             here yet: d. Submit them."
        );
    }
}
