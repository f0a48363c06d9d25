//! The seven tools. Each file is one: its input, its output, its definition, its body (parse, one
//! call of the session, shape), its tests.
//!
//! Seven, always: agents pay for every tool in every prompt. What is new becomes an optional
//! field, a resource or a command. [`views`] has what resources show, in the tools' own shapes.

mod check_workflow_tags;
pub(crate) mod commands;
mod fields;
mod get_merkle_clock;
mod get_next_task;
mod mark_task_complete;
pub(crate) mod overview;
mod scheduler_status;
mod schema;
mod submit_task;
pub(crate) mod swarm;
mod update_peer_state;
pub(crate) mod views;

use std::sync::LazyLock;
use std::time::Duration;

use p2p_workflow_scheduler::node::{CallError, Session};
use rmcp::model::Tool;
use serde::Serialize;

/// The tool that gives out tasks: who calls it is a worker.
pub(crate) const GET_NEXT_TASK: &str = get_next_task::NAME;

/// What a tool answers.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The structured content: a JSON text.
    pub(crate) structured: String,
    /// The same in words, enough on its own.
    pub(crate) text: String,
}

impl Answer {
    fn new(output: &impl Serialize, text: String) -> Self {
        Answer { structured: json_text(output), text }
    }
}

fn json_text(output: &impl Serialize) -> String {
    serde_json::to_string(output).expect("outputs have text keys only")
}

/// Every tool, as `tools/list` shows it.
pub(crate) fn definitions() -> &'static [Tool] {
    static DEFINITIONS: LazyLock<[Tool; 7]> = LazyLock::new(|| {
        [
            scheduler_status::definition(),
            submit_task::definition(),
            get_next_task::definition(),
            mark_task_complete::definition(),
            check_workflow_tags::definition(),
            update_peer_state::definition(),
            get_merkle_clock::definition(),
        ]
    });
    &*DEFINITIONS
}

/// How far a call is that waits.
#[derive(Debug)]
pub(crate) struct Progress {
    pub(crate) waited: Duration,
    /// How long it waits at most.
    pub(crate) wait: Duration,
    /// What it waits for.
    pub(crate) why: String,
}

/// Takes the progress of a call, now and then.
pub(crate) type Report<'r> = &'r (dyn Fn(Progress) + Send + Sync);

/// Calls a tool; `None` if there is none of this name. A wait ends early when `cancelled` does, and
/// says how far it is, if somebody asked.
pub(crate) async fn call<'s>(
    name: &str,
    session: impl FnOnce() -> &'s Session,
    arguments: &str,
    cancelled: impl Future<Output = ()> + Send,
    report: Option<Report<'_>>,
) -> Option<Result<Answer, CallError>> {
    Some(match name {
        scheduler_status::NAME => scheduler_status::call(session, arguments).await,
        submit_task::NAME => submit_task::call(session, arguments).await,
        get_next_task::NAME => get_next_task::call(session, arguments, cancelled, report).await,
        mark_task_complete::NAME => mark_task_complete::call(session, arguments).await,
        check_workflow_tags::NAME => check_workflow_tags::call(arguments),
        update_peer_state::NAME => update_peer_state::call(session, arguments).await,
        get_merkle_clock::NAME => get_merkle_clock::call(session, arguments).await,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    #[test]
    fn the_tools_stay_within_the_budget_of_every_prompt() {
        let tools = definitions();
        let with = serde_json::to_string(tools).unwrap().len();
        let inputs: Vec<Tool> = tools
            .iter()
            .map(|tool| {
                let mut tool = tool.clone();
                tool.output_schema = None;
                tool
            })
            .collect();
        let without = serde_json::to_string(&inputs).unwrap().len();
        assert!(without < 9_000, "{without} bytes without output schemas");
        assert!(with < 20_000, "{with} bytes with output schemas");
    }

    #[test]
    fn every_tool_says_all_that_a_client_may_ask_for() {
        for tool in definitions() {
            let name = &tool.name;
            let hints = tool.annotations.as_ref().unwrap();
            for hint in [
                hints.read_only_hint,
                hints.destructive_hint,
                hints.idempotent_hint,
                hints.open_world_hint,
            ] {
                assert!(hint.is_some(), "{name} leaves a hint out");
            }
            assert!(tool.title.is_some() && tool.description.is_some(), "{name}");
            for schema in [&tool.input_schema, tool.output_schema.as_ref().unwrap()] {
                assert_eq!(schema["type"], "object", "{name}");
                let text = serde_json::to_string(schema).unwrap();
                for surprise in ["$ref", "$defs", "\"format\"", "$schema"] {
                    assert!(!text.contains(surprise), "{name} has {surprise}");
                }
            }
            let input = serde_json::to_string(&tool.input_schema).unwrap();
            assert!(!input.contains("\"null\""), "{name} asks for null");
            assert_eq!(tool.input_schema["additionalProperties"], false, "{name}");
        }
    }

    /// Public shapes are files, so that a change of one is seen in review. Rewritten where
    /// `UPDATE_SCHEMAS` is set.
    #[test]
    fn the_checked_in_schemas_are_what_clients_are_shown() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../schemas");
        let rewrite = std::env::var_os("UPDATE_SCHEMAS").is_some();
        if rewrite {
            std::fs::create_dir_all(&folder).unwrap();
        }
        let mut expected = BTreeSet::new();
        for tool in definitions() {
            let name = format!("{}.json", tool.name);
            let shown = serde_json::to_string_pretty(tool).unwrap() + "\n";
            let path = folder.join(&name);
            if rewrite {
                std::fs::write(&path, &shown).unwrap();
            }
            let kept = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(kept == shown, "{name} is out of date: set UPDATE_SCHEMAS=1 and look at it");
            expected.insert(name);
        }
        let files = std::fs::read_dir(&folder).unwrap();
        let found: BTreeSet<String> =
            files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        assert_eq!(found, expected, "schemas/ holds one file for each tool, and no other");
    }
}
