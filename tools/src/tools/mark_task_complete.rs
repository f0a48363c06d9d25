//! `p2p_mark_task_complete`: what became of a task.

use p2p_workflow_scheduler::node::{CallError, Session};
use p2p_workflow_scheduler::scheduler::{Mark, Marked, State};
use rmcp::model::Tool;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::Answer;
use super::fields::{invalid, parse};
use super::schema::{self, Effect};

pub(super) const NAME: &str = "p2p_mark_task_complete";

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Input {
    task_id: String,
    /// Default completed. in_progress renews the lease, released hands the task back, cancelled is for anyone.
    #[serde(default)]
    outcome: Option<Outcome>,
    /// The task's output, with completed or failed: any JSON, at most 256 KiB.
    #[schemars(with = "Option<serde_json::Value>")]
    result: Option<Box<RawValue>>,
    /// Why, with failed or cancelled.
    error: Option<String>,
    /// How far you are, with in_progress.
    note: Option<String>,
    /// With failed: whether to try again. Default true.
    retry: Option<bool>,
    /// The lease's fence from p2p_get_next_task; needed where another connection took the task.
    fence: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    #[default]
    Completed,
    Failed,
    Released,
    InProgress,
    Cancelled,
}

#[derive(Serialize, JsonSchema)]
struct Output {
    success: bool,
    task_id: String,
    state: &'static str,
    attempt: u32,
    /// Ids of tasks that became ready by it
    unblocked: Vec<String>,
    /// Milliseconds since 1970
    #[serde(skip_serializing_if = "Option::is_none")]
    next_attempt_at: Option<u64>,
    /// When the lease ends now, in milliseconds since 1970
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<u64>,
}

pub(super) fn definition() -> Tool {
    schema::definition::<Input, Output>(
        NAME,
        "Report on a task",
        "Reports what became of a task that you took with p2p_get_next_task: completed, failed, \
         released, in_progress; or cancels any task. Use it once the work is done, or about every \
         ten minutes of long work. stale_fence, lease_expired, not_holder: the task is no longer \
         yours, stop working on it. already_completed: nothing is left to do.",
        Effect::ChangesOnce,
    )
}

pub(super) async fn call<'s>(
    session: impl FnOnce() -> &'s Session,
    arguments: &str,
) -> Result<Answer, CallError> {
    let input: Input = parse(arguments)?;
    let (task_id, fence, outcome) = (input.task_id.clone(), input.fence, input.outcome);
    let marked = session().mark(&task_id, input.mark()?, fence).await?;
    Ok(shape(task_id, outcome.unwrap_or_default(), marked))
}

impl Input {
    /// Fields that do not go with the outcome are refused: whoever sends them meant another one.
    fn mark(self) -> Result<Mark, CallError> {
        let outcome = self.outcome.unwrap_or_default();
        let (result, error, note) = (self.result, self.error, self.note);
        let misplaced = |field: &str, with: &str| {
            Err(invalid(format!(
                "{field} goes with outcome {with}. Change the outcome, or leave {field} out."
            )))
        };
        if result.is_some() && !matches!(outcome, Outcome::Completed | Outcome::Failed) {
            return misplaced("result", "completed or failed");
        }
        if error.is_some() && !matches!(outcome, Outcome::Failed | Outcome::Cancelled) {
            return misplaced("error", "failed or cancelled");
        }
        if note.is_some() && outcome != Outcome::InProgress {
            return misplaced("note", "in_progress");
        }
        let result = result.map(|json| Box::<str>::from(json).into_string());
        Ok(match outcome {
            Outcome::Completed => Mark::Completed { result },
            Outcome::Failed => Mark::Failed { error, result, retry: self.retry.unwrap_or(true) },
            Outcome::Released => Mark::Released,
            Outcome::InProgress => Mark::InProgress { note },
            Outcome::Cancelled => Mark::Cancelled { error },
        })
    }
}

fn shape(task_id: String, outcome: Outcome, marked: Marked) -> Answer {
    let attempt = marked.attempt;
    let mut text = match (outcome, marked.state) {
        (Outcome::Completed, _) => format!("Task {task_id:?} is completed."),
        (Outcome::Cancelled, _) => format!("Task {task_id:?} is cancelled."),
        (Outcome::Released, _) => format!("Task {task_id:?} is handed back for others to take."),
        (Outcome::InProgress, _) => format!("Task {task_id:?} is still yours (attempt {attempt})."),
        (Outcome::Failed, State::Failed) => {
            format!(
                "Task {task_id:?} has failed for good after attempt {attempt}; a person can requeue it."
            )
        }
        (Outcome::Failed, state) => {
            format!(
                "Attempt {attempt} of task {task_id:?} failed; it will be tried again ({state})."
            )
        }
    };
    if let Some(at) = marked.next_attempt_at {
        text += &format!(" Next attempt not before {at} (ms since 1970).");
    }
    if let Some(at) = marked.expires_at {
        text += &format!(" The lease ends at {at} (ms since 1970).");
    }
    if !marked.unblocked.is_empty() {
        text += &format!(" Ready now: {}.", marked.unblocked.join(", "));
    }
    answer(task_id, marked, text)
}

/// The shape of every answer that says where a task stands now.
pub(super) fn answer(task_id: String, marked: Marked, text: String) -> Answer {
    let output = Output {
        success: true,
        task_id,
        state: marked.state.as_str(),
        attempt: marked.attempt,
        unblocked: marked.unblocked,
        next_attempt_at: marked.next_attempt_at,
        expires_at: marked.expires_at,
    };
    Answer::new(&output, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(more: &str) -> Result<Mark, CallError> {
        parse::<Input>(&format!(r#"{{"task_id":"t"{more}}}"#))?.mark()
    }

    #[test]
    fn an_outcome_takes_the_fields_that_go_with_it() {
        assert_eq!(mark("").unwrap(), Mark::Completed { result: None });
        assert_eq!(
            mark(r#","result":{"b":1.10}"#).unwrap(),
            Mark::Completed { result: Some(r#"{"b":1.10}"#.into()) }
        );
        assert_eq!(
            mark(r#","outcome":"failed","error":"e","retry":false"#).unwrap(),
            Mark::Failed { error: Some("e".into()), result: None, retry: false }
        );
        assert_eq!(mark(r#","outcome":"released""#).unwrap(), Mark::Released);
        assert_eq!(
            mark(r#","outcome":"in_progress","note":"half""#).unwrap(),
            Mark::InProgress { note: Some("half".into()) }
        );
        assert_eq!(mark(r#","outcome":"cancelled""#).unwrap(), Mark::Cancelled { error: None });
    }

    #[test]
    fn a_field_of_another_outcome_is_refused_rather_than_lost() {
        for more in [
            r#","error":"it broke""#,
            r#","note":"half""#,
            r#","outcome":"in_progress","result":1"#,
            r#","outcome":"released","error":"e""#,
        ] {
            assert_eq!(mark(more).unwrap_err().code(), "invalid_argument", "{more}");
        }
        let error = mark(r#","outcome":"done""#).unwrap_err().to_string();
        assert!(error.contains("outcome") && error.contains("in_progress"), "{error}");
        assert!(mark(r#","fence":-1"#).unwrap_err().to_string().starts_with("fence: "));
    }

    #[test]
    fn the_answer_says_when_the_next_attempt_starts() {
        let marked = Marked {
            state: State::Pending,
            attempt: 2,
            unblocked: vec![],
            next_attempt_at: Some(1000),
            expires_at: None,
        };
        let answer = shape("t".into(), Outcome::Failed, marked);
        assert_eq!(
            answer.structured,
            r#"{"success":true,"task_id":"t","state":"pending","attempt":2,"unblocked":[],"next_attempt_at":1000}"#
        );
        assert_eq!(
            answer.text,
            "Attempt 2 of task \"t\" failed; it will be tried again (pending). Next attempt not \
             before 1000 (ms since 1970)."
        );
    }
}
