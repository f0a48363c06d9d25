//! `p2p_scheduler_status`: counts; with a filter also tasks; with a task's id all of it.

use std::sync::Arc;

use p2p_workflow_scheduler::node::{self, CallError, Session, Shown};
use p2p_workflow_scheduler::scheduler::limits::{DEFAULT_PAGE, MAX_PAGE};
use p2p_workflow_scheduler::scheduler::{Filter, State, Status, TaskView};
use rmcp::model::Tool;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::Answer;
use super::fields::{invalid, json, names, parse, shown, whole};
use super::schema::{self, Effect};

pub(super) const NAME: &str = "p2p_scheduler_status";

#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Input {
    /// Show this task, with payload and result. Not with other filters.
    task_id: Option<String>,
    /// List tasks of this workflow.
    workflow_id: Option<String>,
    /// List tasks in this state.
    state: Option<Standing>,
    /// List at most so many. Default 20.
    #[schemars(with = "Option<u8>", range(min = 1, max = 100))]
    limit: Option<f64>,
    /// Go on after a page: its next_cursor.
    cursor: Option<String>,
}

#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Standing {
    Pending,
    Blocked,
    Assigned,
    Completed,
    Failed,
    Cancelled,
}

#[derive(Serialize, JsonSchema)]
struct Output {
    peer_id: Arc<str>,
    pending_tasks: u64,
    blocked_tasks: u64,
    assigned_tasks: u64,
    completed_tasks: u64,
    failed_tasks: u64,
    cancelled_tasks: u64,
    /// Tasks that this peer may take now
    queue_size: u64,
    known_peers: u64,
    alive_peers: u64,
    merkle_root: String,
    /// All connected peers hold the same tasks
    in_sync: bool,
    /// Tasks that lost against another under the same id
    conflicts: u64,
    /// Second runs that were found
    duplicates: u64,
    /// Groups of calls written to disk since the node started
    commits: u64,
    version: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    tasks: Option<Vec<Task>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// Times are milliseconds since 1970.
#[derive(Serialize, JsonSchema)]
pub(super) struct Task {
    task_id: Arc<str>,
    workflow_id: Arc<str>,
    name: String,
    tags: Vec<&'static str>,
    priority: u8,
    state: &'static str,
    /// Why it stands there
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    task_hash: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    assigned_peer: Option<Arc<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    worker: Option<Arc<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fence: Option<u64>,
    attempt: u32,
    max_attempts: u32,
    depends_on: Vec<Arc<str>>,
    requires: Vec<Arc<str>>,
    created_at: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_attempt_at: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_at: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    has_payload: bool,
    has_result: bool,
    /// Runs beside the one that counts
    #[serde(skip_serializing_if = "Vec::is_empty")]
    duplicates: Vec<LostRun>,
    /// What else was submitted under this id while machines were apart
    #[serde(skip_serializing_if = "Vec::is_empty")]
    conflicts: Vec<LostSpec>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<serde_json::Value>")]
    payload: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<serde_json::Value>")]
    result: Option<Box<RawValue>>,
}

pub(super) fn definition() -> Tool {
    schema::definition::<Input, Output>(
        NAME,
        "Show the scheduler's status",
        "Counts tasks and peers; with a filter also lists tasks; with task_id shows that task with \
         its payload and result. Use it to look before acting, to follow a workflow, or to read \
         what a task returned. It changes nothing. task_not_found: no task of this id is known \
         here.",
        Effect::Reads,
    )
}

pub(super) async fn call<'s>(
    session: impl FnOnce() -> &'s Session,
    arguments: &str,
) -> Result<Answer, CallError> {
    let asked = parse::<Input>(arguments)?.asked()?;
    let session = session();
    let output = |status| Output::new(status, session.commits());
    match asked {
        Asked::Counts => counts(session).await,
        Asked::Task(task_id) => {
            let (status, shown) = session.show(&task_id).await?;
            Ok(task_shape(output(status), shown))
        }
        Asked::Tasks(filter) => {
            let (status, page) = session.list(filter).await?;
            Ok(page_shape(output(status), page.tasks, page.next))
        }
    }
}

/// The counts, as without a filter.
pub(super) async fn counts(session: &Session) -> Result<Answer, CallError> {
    let status = session.status().await?;
    Ok(counts_shape(Output::new(status, session.commits())))
}

enum Asked {
    Counts,
    Task(String),
    Tasks(Filter),
}

impl Input {
    fn asked(self) -> Result<Asked, CallError> {
        let Input { task_id, workflow_id, state, limit, cursor } = self;
        let filtered =
            workflow_id.is_some() || state.is_some() || limit.is_some() || cursor.is_some();
        match (task_id, filtered) {
            (Some(_), true) => {
                Err(invalid("task_id goes alone. Leave the other filters out.".into()))
            }
            (Some(task_id), false) => Ok(Asked::Task(task_id)),
            (None, false) => Ok(Asked::Counts),
            (None, true) => Ok(Asked::Tasks(Filter {
                task_id: None,
                workflow_id,
                state: state.map(State::from),
                limit: limit.map_or(Ok(DEFAULT_PAGE), page_limit)?,
                after: cursor.as_deref().map(page_start).transpose()?,
            })),
        }
    }
}

fn page_limit(limit: f64) -> Result<usize, CallError> {
    let limit = whole("limit", limit, 1..=MAX_PAGE as u32)?;
    Ok(limit as usize)
}

fn page_start(cursor: &str) -> Result<u64, CallError> {
    cursor.parse().map_err(|_| {
        invalid(format!(
            "cursor is {cursor:?}. Give the next_cursor of the page before, unchanged."
        ))
    })
}

impl From<Standing> for State {
    fn from(standing: Standing) -> Self {
        match standing {
            Standing::Pending => State::Pending,
            Standing::Blocked => State::Blocked,
            Standing::Assigned => State::Assigned,
            Standing::Completed => State::Completed,
            Standing::Failed => State::Failed,
            Standing::Cancelled => State::Cancelled,
        }
    }
}

fn counts_shape(output: Output) -> Answer {
    let text = counts_text(&output);
    Answer::new(&output, text)
}

fn task_shape(mut output: Output, shown: Shown) -> Answer {
    let text = task_text(&shown);
    output.tasks = Some(vec![Task::whole(shown)]);
    Answer::new(&output, text)
}

fn page_shape(mut output: Output, tasks: Vec<TaskView>, next: Option<u64>) -> Answer {
    let mut text = counts_text(&output);
    text += &format!("\n{} tasks on this page:", tasks.len());
    for task in &tasks {
        text += "\n- ";
        text += &task_line(task);
    }
    if let Some(next) = next {
        text += &format!("\nThere may be more: call again with cursor \"{next}\".");
    }
    output.tasks = Some(tasks.into_iter().map(Task::new).collect());
    output.next_cursor = next.map(|key| key.to_string());
    Answer::new(&output, text)
}

impl Output {
    fn new(status: Status, commits: u64) -> Self {
        Output {
            pending_tasks: status.count(State::Pending),
            blocked_tasks: status.count(State::Blocked),
            assigned_tasks: status.count(State::Assigned),
            completed_tasks: status.count(State::Completed),
            failed_tasks: status.count(State::Failed),
            cancelled_tasks: status.count(State::Cancelled),
            peer_id: status.peer_id,
            queue_size: status.queue_size,
            known_peers: status.known_peers,
            alive_peers: status.alive_peers,
            merkle_root: status.merkle_root,
            in_sync: status.in_sync,
            conflicts: status.conflicts,
            duplicates: status.duplicates,
            commits,
            version: env!("CARGO_PKG_VERSION"),
            tasks: None,
            next_cursor: None,
        }
    }
}

#[derive(Serialize, JsonSchema)]
struct LostRun {
    peer_id: String,
    worker: String,
}

impl From<node::LostRun> for LostRun {
    fn from(run: node::LostRun) -> Self {
        LostRun { peer_id: run.peer, worker: run.worker }
    }
}

#[derive(Serialize, JsonSchema)]
struct LostSpec {
    workflow_id: String,
    name: String,
    created_at: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<serde_json::Value>")]
    payload: Option<Box<RawValue>>,
}

impl From<node::LostSpec> for LostSpec {
    fn from(spec: node::LostSpec) -> Self {
        LostSpec {
            workflow_id: spec.workflow_id,
            name: spec.name,
            created_at: spec.created_at,
            payload: spec.payload.as_deref().map(json),
        }
    }
}

impl Task {
    /// With its texts.
    pub(super) fn whole(shown: Shown) -> Self {
        let mut task = Task::new(shown.task);
        task.payload = shown.payload.as_deref().map(json);
        task.result = shown.result.as_deref().map(json);
        task.duplicates = shown.duplicates.into_iter().map(LostRun::from).collect();
        task.conflicts = shown.conflicts.into_iter().map(LostSpec::from).collect();
        task
    }

    pub(super) fn new(task: TaskView) -> Self {
        Task {
            task_id: task.task_id,
            workflow_id: task.workflow_id,
            name: task.name,
            tags: names(task.tags),
            priority: task.priority,
            state: task.state.as_str(),
            reason: task.reason,
            task_hash: task.task_hash.to_string(),
            assigned_peer: task.assigned_peer,
            worker: task.worker,
            fence: task.fence,
            attempt: task.attempt,
            max_attempts: task.max_attempts,
            depends_on: task.depends_on,
            requires: task.requires,
            created_at: task.created_at,
            next_attempt_at: task.not_before,
            ended_at: task.ended_at,
            expires_at: task.expires_at,
            note: task.note,
            error: task.error,
            has_payload: task.has_payload,
            has_result: task.has_result,
            duplicates: Vec::new(),
            conflicts: Vec::new(),
            payload: None,
            result: None,
        }
    }
}

fn counts_text(of: &Output) -> String {
    let mut text = format!(
        "Peer {}: {} pending ({} ready here), {} blocked, {} assigned, {} completed, {} failed, \
         {} cancelled. {} of {} peers alive, {}.",
        of.peer_id,
        of.pending_tasks,
        of.queue_size,
        of.blocked_tasks,
        of.assigned_tasks,
        of.completed_tasks,
        of.failed_tasks,
        of.cancelled_tasks,
        of.alive_peers,
        of.known_peers,
        if of.in_sync { "in sync" } else { "not in sync" },
    );
    if of.conflicts > 0 {
        text += &format!(" {} conflicting submissions.", of.conflicts);
    }
    if of.duplicates > 0 {
        text += &format!(" {} second runs.", of.duplicates);
    }
    text
}

fn task_line(task: &TaskView) -> String {
    let mut line = format!(
        "{:?} {:?} of {:?}: {}, priority {}, attempt {}",
        task.task_id, task.name, task.workflow_id, task.state, task.priority, task.attempt
    );
    let said = [&task.reason, &task.note, &task.error];
    for text in said.into_iter().flatten() {
        line += "; ";
        line += text;
    }
    line
}

fn task_text(of: &Shown) -> String {
    let task = &of.task;
    let mut text = format!("Task {}.", task_line(task));
    if let Some(peer) = &task.assigned_peer {
        text += &format!("\nPeer: {peer}");
    }
    if !task.depends_on.is_empty() {
        text += &format!("\nDepends on: {}", task.depends_on.join(", "));
    }
    for (label, body) in [("Payload", &of.payload), ("Result", &of.result)] {
        if let Some(body) = body {
            text += &format!("\n{label}: {}", shown(body));
        }
    }
    for run in &of.duplicates {
        let (peer, worker) = (&run.peer, &run.worker);
        text += &format!("\nIt also ran at {peer}, worker {worker}: that run does not count.");
    }
    for spec in &of.conflicts {
        let (name, workflow) = (&spec.name, &spec.workflow_id);
        text += &format!(
            "\n{name:?} of {workflow:?} was submitted under this id too, and does not run: submit it \
             under another."
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use p2p_workflow_scheduler::scheduler::{TagSet, task_hash};

    fn status() -> Status {
        Status {
            takes_work: true,
            peer_id: "me".into(),
            counts: [1, 2, 3, 4, 5, 6],
            queue_size: 1,
            known_peers: 2,
            alive_peers: 1,
            merkle_root: "ab".into(),
            in_sync: true,
            conflicts: 0,
            duplicates: 1,
        }
    }

    fn task() -> TaskView {
        TaskView {
            key: 1,
            task_id: "t".into(),
            workflow_id: "w".into(),
            name: "n".into(),
            tags: TagSet::default(),
            priority: 5,
            state: State::Failed,
            reason: None,
            task_hash: task_hash("t", "w"),
            assigned_peer: Some("me".into()),
            worker: None,
            fence: None,
            attempt: 3,
            max_attempts: 3,
            depends_on: vec!["d".into()],
            requires: vec![],
            created_at: 1,
            not_before: None,
            ended_at: None,
            expires_at: None,
            note: None,
            error: Some("no disk".into()),
            has_payload: true,
            has_result: false,
        }
    }

    #[test]
    fn counts_come_without_tasks() {
        let answer = counts_shape(Output::new(status(), 7));
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(
            answer.structured,
            format!(
                r#"{{"peer_id":"me","pending_tasks":1,"blocked_tasks":2,"assigned_tasks":3,"completed_tasks":4,"failed_tasks":5,"cancelled_tasks":6,"queue_size":1,"known_peers":2,"alive_peers":1,"merkle_root":"ab","in_sync":true,"conflicts":0,"duplicates":1,"commits":7,"version":"{version}"}}"#
            )
        );
        assert_eq!(
            answer.text,
            "Peer me: 1 pending (1 ready here), 2 blocked, 3 assigned, 4 completed, 5 failed, \
             6 cancelled. 1 of 2 peers alive, in sync. 1 second runs."
        );
    }

    #[test]
    fn one_task_comes_with_its_payload_to_the_letter() {
        let shown = Shown {
            task: task(),
            payload: Some("{\"b\":1.10}".into()),
            result: None,
            duplicates: Vec::new(),
            conflicts: Vec::new(),
        };
        let answer = task_shape(Output::new(status(), 7), shown);
        assert!(answer.structured.ends_with(
            r#""error":"no disk","has_payload":true,"has_result":false,"payload":{"b":1.10}}]}"#
        ));
        assert_eq!(
            answer.text,
            "Task \"t\" \"n\" of \"w\": failed, priority 5, attempt 3; no disk.\nPeer: me\n\
             Depends on: d\nPayload: {\"b\":1.10}"
        );
    }

    #[test]
    fn what_lost_against_a_task_is_shown_with_it() {
        let shown = Shown {
            task: task(),
            payload: None,
            result: None,
            duplicates: vec![node::LostRun { peer: "you".into(), worker: "w-1".into() }],
            conflicts: vec![node::LostSpec {
                workflow_id: "other".into(),
                name: "Another".into(),
                created_at: 7,
                payload: Some("[1]".into()),
            }],
        };
        let answer = task_shape(Output::new(status(), 7), shown);
        let lost = r#""duplicates":[{"peer_id":"you","worker":"w-1"}],"conflicts":[{"workflow_id":"other","name":"Another","created_at":7,"payload":[1]}]"#;
        assert!(answer.structured.contains(lost), "{}", answer.structured);
        assert!(answer.text.contains("It also ran at you, worker w-1: that run does not count."));
        assert!(answer.text.contains("\"Another\" of \"other\" was submitted under this id too"));
    }

    #[test]
    fn a_page_says_how_to_go_on() {
        let answer = page_shape(Output::new(status(), 7), vec![task()], Some(7));
        assert!(answer.structured.ends_with(r#""next_cursor":"7"}"#));
        assert!(answer.text.ends_with(
            "1 tasks on this page:\n- \"t\" \"n\" of \"w\": failed, priority 5, attempt 3; no disk\n\
             There may be more: call again with cursor \"7\"."
        ));
    }

    #[test]
    fn a_filter_is_checked() {
        let asked = |text: &str| parse::<Input>(text).and_then(Input::asked);
        assert!(matches!(asked("{}"), Ok(Asked::Counts)));
        assert!(matches!(asked(r#"{"task_id":"t"}"#), Ok(Asked::Task(id)) if id == "t"));
        let Ok(Asked::Tasks(filter)) = asked(r#"{"state":"failed","cursor":"7"}"#) else {
            panic!("not a list");
        };
        assert_eq!((filter.limit, filter.after), (20, Some(7)));
        assert_eq!(filter.state, Some(State::Failed));
        for wrong in [
            r#"{"task_id":"t","state":"failed"}"#,
            r#"{"limit":0}"#,
            r#"{"limit":101}"#,
            r#"{"cursor":"x"}"#,
            r#"{"state":"done"}"#,
        ] {
            assert_eq!(asked(wrong).map(|_| ()).unwrap_err().code(), "invalid_argument", "{wrong}");
        }
    }
}
