//! What the node answers, read into the shapes that are drawn. Texts are made harmless here, once.

use serde::{Deserialize, Deserializer, Serialize};

use crate::cli::render;
use crate::client::{Arguments, CallError, Client};

/// The request for what is shown.
pub(super) const OVERVIEW: &str = "ipfs-accelerate/overview";
const PEERS: &str = "ipfs-accelerate/swarm/peers";

/// What is looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Look {
    pub(super) workflow_id: Option<String>,
    pub(super) state: Option<State>,
    pub(super) text: Option<String>,
}

/// In the order in which they are shown, and chosen one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum State {
    Assigned,
    Failed,
    Pending,
    Blocked,
    Completed,
    Cancelled,
}

/// How it stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Overview {
    #[serde(deserialize_with = "harmless")]
    pub(super) peer_id: String,
    #[serde(flatten)]
    pub(super) counts: Counts,
    pub(super) known_peers: u64,
    pub(super) alive_peers: u64,
    pub(super) in_sync: bool,
    pub(super) completions: u64,
    pub(super) known_workflows: u64,
    pub(super) workflows: Vec<Workflow>,
    pub(super) tasks: Vec<Task>,
    pub(super) more_tasks: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Counts {
    pub(super) pending_tasks: u64,
    pub(super) blocked_tasks: u64,
    pub(super) assigned_tasks: u64,
    pub(super) completed_tasks: u64,
    pub(super) failed_tasks: u64,
    pub(super) cancelled_tasks: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Workflow {
    pub(super) workflow_id: Id,
    #[serde(flatten)]
    pub(super) counts: Counts,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Task {
    pub(super) task_id: Id,
    #[serde(deserialize_with = "harmless")]
    pub(super) workflow_id: String,
    #[serde(deserialize_with = "harmless")]
    pub(super) name: String,
    pub(super) state: State,
    pub(super) attempt: u32,
    #[serde(default, deserialize_with = "harmless_or_none")]
    pub(super) assigned_peer: Option<String>,
    #[serde(default, deserialize_with = "harmless_or_none")]
    pub(super) worker: Option<String>,
    pub(super) held_since: Option<u64>,
    pub(super) ended_at: Option<u64>,
    #[serde(default, deserialize_with = "harmless_or_none")]
    pub(super) text: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(super) struct Peer {
    #[serde(deserialize_with = "harmless")]
    pub(super) peer_id: String,
    pub(super) this_peer: bool,
    #[serde(default, deserialize_with = "harmless_or_none")]
    pub(super) state: Option<String>,
    pub(super) connected: bool,
    pub(super) held: u64,
    pub(super) round_trip_ms: Option<f64>,
    pub(super) heard_at: Option<u64>,
}

#[derive(Deserialize)]
struct Peers {
    peers: Vec<Peer>,
}

/// An id as the node knows it, and as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Id {
    pub(super) known: String,
    pub(super) shown: String,
}

impl From<&str> for Id {
    fn from(id: &str) -> Self {
        Id { known: id.to_owned(), shown: render::one_line(id) }
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(id: D) -> Result<Self, D::Error> {
        Ok(Id::from(&*String::deserialize(id)?))
    }
}

fn harmless<'de, D: Deserializer<'de>>(text: D) -> Result<String, D::Error> {
    Ok(render::one_line(&String::deserialize(text)?))
}

fn harmless_or_none<'de, D: Deserializer<'de>>(text: D) -> Result<Option<String>, D::Error> {
    Ok(Option::<String>::deserialize(text)?.map(|text| render::one_line(&text)))
}

impl Look {
    pub(super) fn arguments(&self) -> Arguments {
        Arguments::new()
            .with("workflow_id", &self.workflow_id)
            .with("state", self.state)
            .with("text", &self.text)
    }
}

impl State {
    pub(super) const ALL: [State; 6] = [
        State::Assigned,
        State::Failed,
        State::Pending,
        State::Blocked,
        State::Completed,
        State::Cancelled,
    ];

    pub(super) fn word(self) -> &'static str {
        match self {
            State::Assigned => "assigned",
            State::Failed => "failed",
            State::Pending => "pending",
            State::Blocked => "blocked",
            State::Completed => "completed",
            State::Cancelled => "cancelled",
        }
    }

    /// The one that is chosen after this: every state after the last.
    pub(super) fn after(state: Option<State>) -> Option<State> {
        match state {
            None => State::ALL.first().copied(),
            Some(state) => State::ALL.get(state as usize + 1).copied(),
        }
    }
}

impl Counts {
    pub(super) fn of(&self, state: State) -> u64 {
        match state {
            State::Assigned => self.assigned_tasks,
            State::Failed => self.failed_tasks,
            State::Pending => self.pending_tasks,
            State::Blocked => self.blocked_tasks,
            State::Completed => self.completed_tasks,
            State::Cancelled => self.cancelled_tasks,
        }
    }

    pub(super) fn total(&self) -> u64 {
        State::ALL.iter().map(|state| self.of(*state)).sum()
    }
}

/// Asks how it stands.
pub(super) async fn overview(client: &mut Client, look: &Look) -> Result<Overview, CallError> {
    client.request(OVERVIEW, look.arguments()).await?.read()
}

/// Asks which peers there are.
pub(super) async fn peers(client: &mut Client) -> Result<Vec<Peer>, CallError> {
    let answer = client.request(PEERS, Arguments::new()).await?;
    Ok(answer.read::<Peers>()?.peers)
}

#[cfg(test)]
pub(super) mod testing {
    use super::*;

    pub(crate) fn counts(counts: [u64; 6]) -> Counts {
        let [
            assigned_tasks,
            failed_tasks,
            pending_tasks,
            blocked_tasks,
            completed_tasks,
            cancelled_tasks,
        ] = counts;
        Counts {
            assigned_tasks,
            failed_tasks,
            pending_tasks,
            blocked_tasks,
            completed_tasks,
            cancelled_tasks,
        }
    }

    pub(crate) fn workflow(id: &str, standing: [u64; 6]) -> Workflow {
        Workflow { workflow_id: id.into(), counts: counts(standing) }
    }

    pub(crate) fn task(id: &str, state: State) -> Task {
        Task {
            task_id: id.into(),
            workflow_id: "w".into(),
            name: format!("Task {id}"),
            state,
            attempt: 1,
            assigned_peer: None,
            worker: None,
            held_since: None,
            ended_at: None,
            text: None,
        }
    }

    #[test]
    fn each_state_is_chosen_after_the_other_and_then_all_again() {
        let mut state = None;
        for expected in State::ALL {
            state = State::after(state);
            assert_eq!(state, Some(expected));
        }
        assert_eq!(State::after(state), None);
    }

    #[test]
    fn nothing_that_steers_a_terminal_is_read() {
        let steers = "\\u001b[2J\\u0007\\u009b1A\\nx\\u202e";
        let text = format!(
            r#"{{"task_id":"{steers}","workflow_id":"{steers}","name":"{steers}","state":"failed",
                "attempt":1,"worker":"{steers}","text":"{steers}"}}"#
        );
        let task: Task = serde_json::from_str(&text).unwrap();
        let shown = [&task.task_id.shown, &task.workflow_id, &task.name];
        let shown = shown.into_iter().chain(&task.worker).chain(&task.text);
        for text in shown {
            assert_eq!(text, "\u{fffd}[2J\u{fffd}\u{fffd}1A x\u{fffd}");
        }
        assert!(task.task_id.known.starts_with('\u{1b}'), "the node is asked for what it knows");
    }
}
