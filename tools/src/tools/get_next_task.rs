//! `p2p_get_next_task`: gives the caller a task to run, waiting for one if asked to.

use std::convert::Infallible;
use std::fmt::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use p2p_workflow_scheduler::node::{CallError, Given, Next, Session};
use p2p_workflow_scheduler::scheduler::limits::MAX_LEASE;
use p2p_workflow_scheduler::scheduler::{LeaseTerm, NothingReady, Reason, TaskView, Turn, Want};
use rmcp::model::Tool;
use schemars::JsonSchema;
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;

use super::fields::{json, millis, names, parse, shown, tags};
use super::schema::{self, Effect};
use super::{Answer, Progress, Report};

pub(super) const NAME: &str = "p2p_get_next_task";

/// The longest wait, in milliseconds: many clients give a call up after 60 seconds.
const MAX_WAIT: u64 = 50_000;
/// When a call first says that it waits: soon, but not where a task comes at once.
const FIRST_REPORT: Duration = Duration::from_millis(500);
/// How often it does so again: a person sees that it is alive, and its client's time-out starts
/// anew.
const REPORT_INTERVAL: Duration = Duration::from_secs(5);

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Input {
    /// How long to wait for a task where none is ready. Default 0.
    #[schemars(range(min = 0, max = 50))]
    wait_seconds: Option<f64>,
    /// What you can do; tasks that require more are left to others.
    capabilities: Option<Vec<String>>,
    /// Only tasks with one of these.
    tags: Option<Vec<String>>,
    /// Only tasks of this workflow.
    workflow_id: Option<String>,
    /// Only tasks of workflows whose ids begin with one of these.
    workflow_prefixes: Option<Vec<String>>,
    /// Lease on time instead of for as long as this connection lasts.
    #[schemars(range(min = 1))]
    lease_seconds: Option<f64>,
}

#[derive(Serialize, JsonSchema)]
struct Output {
    task: Option<Task>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lease: Option<Lease>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ownership: Option<Ownership>,
    /// Why there is none
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_seconds: Option<f64>,
}

#[derive(Serialize, JsonSchema)]
struct Task {
    task_id: Arc<str>,
    workflow_id: Arc<str>,
    name: String,
    tags: Vec<&'static str>,
    priority: u8,
    task_hash: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    assigned_peer: Option<Arc<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<serde_json::Value>")]
    payload: Option<Box<RawValue>>,
    /// Counted from 1
    attempt: u32,
    /// Milliseconds since 1970
    created_at: u64,
    #[schemars(with = "std::collections::BTreeMap<String, serde_json::Value>")]
    dependency_results: Results,
    /// Dependencies whose results are too large to go with it
    #[serde(skip_serializing_if = "Vec::is_empty")]
    omitted_results: Vec<Arc<str>>,
}

/// Task ids and what the tasks returned, in the order of the dependencies.
struct Results(Vec<(Arc<str>, Option<Box<RawValue>>)>);

impl Serialize for Results {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(Some(self.0.len()))?;
        for (id, result) in &self.0 {
            map.serialize_entry(id, result)?;
        }
        map.end()
    }
}

#[derive(Serialize, JsonSchema)]
struct Lease {
    /// Pass it to p2p_mark_task_complete
    fence: u64,
    /// Milliseconds since 1970; null while the connection keeps the lease
    expires_at: Option<u64>,
}

#[derive(Serialize, JsonSchema)]
struct Ownership {
    /// The peer whose turn was first
    owner: Arc<str>,
    /// This peer's place, from 0
    rank: u32,
    /// Hamming distance, 0-256
    distance: u32,
    reason: Why,
    /// Distances are measured from it
    #[serde(skip_serializing_if = "Option::is_none")]
    combined_hash: Option<String>,
    /// The first in line, where there are others
    #[serde(skip_serializing_if = "Vec::is_empty")]
    candidates: Vec<Candidate>,
    /// Most peers are out of reach and may run it too
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    provisional: bool,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct Candidate {
    peer_id: Arc<str>,
    distance: u32,
}

impl From<Turn> for Candidate {
    fn from(turn: Turn) -> Self {
        Candidate { peer_id: turn.peer, distance: turn.distance }
    }
}

#[derive(Clone, Copy, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Why {
    Owned,
    TakenOver,
    Offered,
}

pub(super) fn definition() -> Tool {
    schema::definition::<Input, Output>(
        NAME,
        "Take the next task",
        "Gives you the most urgent task that is ready, with its payload and the results of its \
         dependencies. Nobody else gets it while you hold its lease. Use it whenever you are free; \
         wait_seconds waits for one. Then do the work and call p2p_mark_task_complete. task: null \
         is no failure: reason says why there is none and retry_after_seconds when to ask again.",
        Effect::Changes,
    )
}

pub(super) async fn call<'s>(
    session: impl FnOnce() -> &'s Session,
    arguments: &str,
    cancelled: impl Future<Output = ()> + Send,
    report: Option<Report<'_>>,
) -> Result<Answer, CallError> {
    let (want, wait) = parse::<Input>(arguments)?.want()?;
    let session = session();
    let next = session.next(want, wait, cancelled);
    let next = match report {
        None => next.await,
        Some(report) => tokio::select! {
            biased;
            next = next => next,
            never = keep_reporting(session, wait, report) => match never {},
        },
    };
    Ok(match next? {
        Next::Given(given) => given_shape(*given),
        Next::Nothing(nothing) => nothing_shape(nothing),
    })
}

/// Says again and again why there is no task yet.
async fn keep_reporting(session: &Session, wait: Duration, report: Report<'_>) -> Infallible {
    let asked = Instant::now();
    tokio::time::sleep(FIRST_REPORT).await;
    loop {
        match session.nothing_ready().await {
            // Never more than all of it, where the last report is late.
            Ok(NothingReady { reason, .. }) => {
                report(Progress { waited: asked.elapsed().min(wait), wait, why: reason });
            }
            // The call itself says so in a moment.
            Err(error) => tracing::debug!(%error, "a wait cannot tell why"),
        }
        tokio::time::sleep(REPORT_INTERVAL).await;
    }
}

impl Input {
    fn want(self) -> Result<(Want, Duration), CallError> {
        let wait = millis("wait_seconds", self.wait_seconds.unwrap_or_default(), MAX_WAIT)?;
        let capabilities = self.capabilities.unwrap_or_default();
        let lease = match self.lease_seconds {
            None => LeaseTerm::Session,
            Some(seconds) => LeaseTerm::Timed(millis("lease_seconds", seconds, MAX_LEASE)?),
        };
        let tags = tags(&self.tags.unwrap_or_default())?;
        let workflow_prefixes = self.workflow_prefixes.unwrap_or_default();
        let workflow_id = self.workflow_id;
        let want = Want { capabilities, tags, workflow_id, workflow_prefixes, lease };
        Ok((want, Duration::from_millis(wait)))
    }
}

fn given_shape(given: Given) -> Answer {
    let text = given_text(&given);
    let claimed = given.claimed;
    let ownership = claimed.ownership;
    let output = Output {
        task: Some(Task::new(
            claimed.task,
            given.payload,
            given.dependency_results,
            given.omitted_results,
        )),
        lease: Some(Lease { fence: claimed.fence, expires_at: claimed.expires_at }),
        ownership: Some(Ownership {
            owner: ownership.owner,
            rank: ownership.rank,
            distance: ownership.distance,
            reason: match ownership.reason {
                Reason::Owned => Why::Owned,
                Reason::TakenOver => Why::TakenOver,
                Reason::Offered => Why::Offered,
            },
            combined_hash: (!ownership.turns.is_empty()).then(|| ownership.combined.to_hex()),
            candidates: ownership.turns.into_iter().map(Candidate::from).collect(),
            provisional: ownership.provisional,
        }),
        reason: None,
        retry_after_seconds: None,
    };
    Answer::new(&output, text)
}

impl Task {
    fn new(
        task: TaskView,
        payload: Option<String>,
        dependency_results: Vec<(Arc<str>, Option<String>)>,
        omitted_results: Vec<Arc<str>>,
    ) -> Self {
        let results =
            dependency_results.into_iter().map(|(id, text)| (id, text.as_deref().map(json)));
        Task {
            task_id: task.task_id,
            workflow_id: task.workflow_id,
            name: task.name,
            tags: names(task.tags),
            priority: task.priority,
            task_hash: task.task_hash.to_string(),
            assigned_peer: task.assigned_peer,
            payload: payload.as_deref().map(json),
            attempt: task.attempt,
            created_at: task.created_at,
            dependency_results: Results(results.collect()),
            omitted_results,
        }
    }
}

fn given_text(given: &Given) -> String {
    let (task, fence) = (&given.claimed.task, given.claimed.fence);
    let mut text = format!(
        "Task {:?} is yours: {:?} of workflow {:?}, attempt {}, priority {}, tags {}.\n",
        task.task_id,
        task.name,
        task.workflow_id,
        task.attempt,
        task.priority,
        names(task.tags).join(", "),
    );
    let mut line = |label: std::fmt::Arguments<'_>, body: &str| {
        writeln!(text, "{label}: {}", shown(body)).expect("a String takes any text");
    };
    match &given.payload {
        Some(payload) => line(format_args!("Payload"), payload),
        None => line(format_args!("Payload"), "none"),
    }
    for (id, result) in &given.dependency_results {
        line(format_args!("Result of {id:?}"), result.as_deref().unwrap_or("none"));
    }
    for id in &given.omitted_results {
        line(
            format_args!("Result of {id:?}"),
            "too large to go with the task, read it with p2p_scheduler_status and task_id",
        );
    }
    if let Some(error) = &task.error {
        line(format_args!("The attempt before failed"), error);
    }
    let lease = match given.claimed.expires_at {
        None => "The lease lasts while you stay connected.".to_owned(),
        Some(at) => format!(
            "The lease ends at {at} (ms since 1970); renew it with outcome \"in_progress\"."
        ),
    };
    if given.claimed.ownership.provisional {
        text += "Most machines of the swarm are out of reach: one of them may run it too.\n";
    }
    let task_id = &task.task_id;
    text += &format!(
        "Do it, then call p2p_mark_task_complete with task_id {task_id:?} and fence {fence}. {lease}"
    );
    text
}

fn nothing_shape(nothing: NothingReady) -> Answer {
    let retry_after_seconds = nothing.retry_after.map(|millis| millis as f64 / 1000.0);
    let mut text = format!("No task. {}", nothing.reason);
    if let Some(seconds) = retry_after_seconds {
        text += &format!(" Ask again in {seconds} s.");
    }
    let output = Output {
        task: None,
        lease: None,
        ownership: None,
        reason: Some(nothing.reason),
        retry_after_seconds,
    };
    Answer::new(&output, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use p2p_workflow_scheduler::scheduler::{self, Claimed, State, TagSet, WorkflowTag, task_hash};

    fn given(expires_at: Option<u64>) -> Given {
        let task = TaskView {
            key: 1,
            task_id: "t".into(),
            workflow_id: "w".into(),
            name: "n".into(),
            tags: TagSet::from_iter([WorkflowTag::UnitTest]),
            priority: 5,
            state: State::Assigned,
            reason: None,
            task_hash: task_hash("t", "w"),
            assigned_peer: Some("me".into()),
            worker: None,
            fence: Some(7),
            attempt: 2,
            max_attempts: 3,
            depends_on: vec!["d".into(), "e".into()],
            requires: vec![],
            created_at: 1,
            not_before: None,
            ended_at: None,
            expires_at,
            note: None,
            error: Some("no disk".into()),
            has_payload: true,
            has_result: false,
        };
        let ownership = scheduler::Ownership {
            owner: "you".into(),
            rank: 1,
            distance: 120,
            reason: Reason::TakenOver,
            combined: task_hash("combined", ""),
            turns: Vec::new(),
            provisional: false,
        };
        Given {
            claimed: Claimed { task, fence: 7, expires_at, ownership },
            payload: Some(r#"{"b":1.10,"a":123456789012345678901}"#.into()),
            dependency_results: vec![("d".into(), Some("[1]".into())), ("c".into(), None)],
            omitted_results: vec!["e".into()],
        }
    }

    #[test]
    fn a_given_task_comes_with_all_that_the_work_needs() {
        let answer = given_shape(given(None));
        let hash = task_hash("t", "w");
        assert_eq!(
            answer.structured,
            format!(
                r#"{{"task":{{"task_id":"t","workflow_id":"w","name":"n","tags":["unit-test"],"priority":5,"task_hash":"{hash}","assigned_peer":"me","payload":{{"b":1.10,"a":123456789012345678901}},"attempt":2,"created_at":1,"dependency_results":{{"d":[1],"c":null}},"omitted_results":["e"]}},"lease":{{"fence":7,"expires_at":null}},"ownership":{{"owner":"you","rank":1,"distance":120,"reason":"taken_over"}}}}"#
            )
        );
        assert_eq!(
            answer.text,
            "Task \"t\" is yours: \"n\" of workflow \"w\", attempt 2, priority 5, tags unit-test.\n\
             Payload: {\"b\":1.10,\"a\":123456789012345678901}\n\
             Result of \"d\": [1]\n\
             Result of \"c\": none\n\
             Result of \"e\": too large to go with the task, read it with p2p_scheduler_status and task_id\n\
             The attempt before failed: no disk\n\
             Do it, then call p2p_mark_task_complete with task_id \"t\" and fence 7. The lease lasts \
             while you stay connected."
        );
    }

    #[test]
    fn among_several_machines_it_says_why_this_one_and_whether_another_may_run_it_too() {
        let mut given = given(None);
        let ownership = &mut given.claimed.ownership;
        ownership.turns = vec![Turn { peer: "you".into(), distance: 118 }];
        ownership.provisional = true;
        let combined = ownership.combined;
        let answer = given_shape(given);
        let why = format!(
            r#""reason":"taken_over","combined_hash":"{combined}","candidates":[{{"peer_id":"you","distance":118}}],"provisional":true}}"#
        );
        assert!(answer.structured.contains(&why), "{}", answer.structured);
        assert!(answer.text.contains("one of them may run it too"), "{}", answer.text);
    }

    #[test]
    fn a_lease_on_time_says_when_it_ends() {
        let answer = given_shape(given(Some(9)));
        assert!(answer.structured.contains(r#""lease":{"fence":7,"expires_at":9}"#));
        assert!(answer.text.contains("The lease ends at 9 (ms since 1970)"));
    }

    #[test]
    fn nothing_to_do_is_no_error() {
        let nothing = NothingReady { reason: "All is done.".into(), retry_after: Some(1500) };
        let answer = nothing_shape(nothing);
        assert_eq!(
            answer.structured,
            r#"{"task":null,"reason":"All is done.","retry_after_seconds":1.5}"#
        );
        assert_eq!(answer.text, "No task. All is done. Ask again in 1.5 s.");
    }

    #[test]
    fn what_a_worker_wants_is_checked() {
        let want = |text: &str| parse::<Input>(text).and_then(Input::want);
        let (all, wait) = want("{}").unwrap();
        assert_eq!((all, wait), (Want::default(), Duration::ZERO));
        let (some, wait) = want(
            r#"{"wait_seconds":0.5,"capabilities":["gpu"],"tags":["P2P_ONLY"],"workflow_id":"w","lease_seconds":60}"#,
        )
        .unwrap();
        assert_eq!(wait, Duration::from_millis(500));
        assert_eq!(some.lease, LeaseTerm::Timed(60_000));
        assert_eq!((some.capabilities, some.workflow_id), (vec!["gpu".into()], Some("w".into())));
        assert_eq!(names(some.tags), ["p2p-only"]);
        assert!(want(r#"{"wait_seconds":51}"#).unwrap_err().to_string().contains("0 to 50"));
        assert_eq!(want(r#"{"tags":["gpu"]}"#).unwrap_err().code(), "unknown_tag");
    }
}
