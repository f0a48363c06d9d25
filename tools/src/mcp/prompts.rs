//! Prompts: how to work through the queue, and how to hand it a goal.

use p2p_workflow_scheduler::scheduler::{TagCheck, WorkflowTag};
use rmcp::model::{
    ErrorData, GetPromptResult, JsonObject, ListPromptsResult, Prompt, PromptArgument,
    PromptMessage, Role,
};
use serde_json::{Value, json};

use super::answers::invalid;
use super::resources;

pub(super) const WORK_LOOP: &str = "work-loop";
pub(super) const PLAN_WORKFLOW: &str = "plan-workflow";

const WORK_LOOP_TEXT: &str = include_str!("prompts/work-loop.md");
const PLAN_WORKFLOW_TEXT: &str = include_str!("prompts/plan-workflow.md");

/// The workflow of a plan that names none is made of the goal's first words: so many characters.
const MADE_ID_CHARS: usize = 40;

/// Both prompts, as `prompts/list` shows them.
pub(super) fn list() -> ListPromptsResult {
    ListPromptsResult::with_all_items(vec![
        Prompt::new(
            WORK_LOOP,
            Some("Take tasks from the queue, do them, and report, until nothing is left."),
            Some(vec![
                optional("workflow_id", "Only tasks of this workflow"),
                optional("tags", "Only tasks with one of these tags, separated by commas"),
                optional("capabilities", "What you can do, separated by commas"),
            ]),
        )
        .with_title("Work through the queue"),
        Prompt::new(
            PLAN_WORKFLOW,
            Some("Split a goal into tasks with dependencies, and submit them."),
            Some(vec![
                PromptArgument::new("goal")
                    .with_description("What is to be reached")
                    .with_required(true),
                optional("workflow_id", "The group that the tasks belong to"),
            ]),
        )
        .with_title("Plan a workflow"),
    ])
}

fn optional(name: &str, description: &str) -> PromptArgument {
    PromptArgument::new(name).with_description(description).with_required(false)
}

/// A prompt's text, with its arguments in place.
pub(super) fn get(name: &str, arguments: Option<JsonObject>) -> Result<GetPromptResult, ErrorData> {
    let Some(prompt) = list().prompts.into_iter().find(|prompt| prompt.name == name) else {
        return Err(unknown(name));
    };
    let arguments = Arguments::new(&prompt, arguments.unwrap_or_default())?;
    let text = match name {
        WORK_LOOP => work_loop(&arguments)?,
        _ => plan_workflow(&arguments)?,
    };
    let message = PromptMessage::new_text(Role::User, text);
    let result = GetPromptResult::new(vec![message]);
    Ok(match prompt.description {
        Some(description) => result.with_description(description),
        None => result,
    })
}

/// No prompt has this name; says which there are.
pub(super) fn unknown(name: &str) -> ErrorData {
    invalid(format!("there is no prompt {name:?}. The prompts are: {WORK_LOOP}, {PLAN_WORKFLOW}."))
}

fn work_loop(arguments: &Arguments) -> Result<String, ErrorData> {
    let workflow_id = arguments.get("workflow_id");
    let tags = match TagCheck::of(&arguments.names("tags")).all_known() {
        Ok(tags) => tags.iter().map(WorkflowTag::as_str).collect::<Vec<_>>(),
        Err(unknown) => return Err(invalid(unknown.to_string())),
    };
    let capabilities = arguments.names("capabilities");
    let mut want = json!({"wait_seconds": 50});
    let mut scope = String::new();
    if let Some(id) = workflow_id {
        want["workflow_id"] = json!(id);
        scope += &format!(
            "\nYou work for the workflow {} only. Before you stop, look at it with \
             `p2p_scheduler_status` and this `workflow_id`: say what is done, and what is `failed` \
             or `blocked` and why.\n",
            Value::from(id)
        );
    }
    if !tags.is_empty() {
        want["tags"] = json!(tags);
    }
    if !capabilities.is_empty() {
        want["capabilities"] = json!(capabilities);
    }
    let example = format!("{}/review-parser", workflow_id.unwrap_or("release-1.4"));
    Ok(WORK_LOOP_TEXT
        .replace("{scope}\n", &scope)
        .replace("{example}", &example)
        .replace("{want}", &want.to_string()))
}

fn plan_workflow(arguments: &Arguments) -> Result<String, ErrorData> {
    let Some(goal) = arguments.get("goal") else {
        return Err(invalid(format!(
            "{PLAN_WORKFLOW} needs the argument goal: what is to be reached, in a few sentences."
        )));
    };
    let (workflow_id, look) = match arguments.get("workflow_id") {
        Some(id) => (
            id.to_owned(),
            "Call `p2p_scheduler_status` with this `workflow_id`: the workflow may have tasks.",
        ),
        None => (
            made_id(goal),
            "Call `p2p_scheduler_status` with this `workflow_id`: an earlier plan for the same goal \
             may have tasks there. If what it shows belongs to something else, choose another id.",
        ),
    };
    let tags: Vec<&str> = WorkflowTag::ALL.into_iter().map(WorkflowTag::as_str).collect();
    // The goal comes last: nothing in it is taken for a place of ours.
    Ok(PLAN_WORKFLOW_TEXT
        .replace("{look}", look)
        .replace("{tags}", &format!("`{}`", tags.join("`, `")))
        .replace("{uri}", &resources::workflow_uri(&workflow_id))
        .replace("{workflow_json}", &Value::from(workflow_id.as_str()).to_string())
        .replace("{example}", &format!("{workflow_id}/parse-input"))
        .replace("{workflow_id}", &workflow_id)
        .replace("{goal}", &goal.replace('\n', "\n> ")))
}

/// An id from the goal's first words, so that the same goal has the same workflow.
fn made_id(goal: &str) -> String {
    let mut id = String::new();
    for word in goal.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
        if id.chars().count() + word.chars().count() >= MADE_ID_CHARS {
            break;
        }
        if !id.is_empty() {
            id.push('-');
        }
        id += &word.to_lowercase();
    }
    if id.is_empty() { "plan".to_owned() } else { id }
}

/// A prompt's arguments: texts that are not empty, each known to the prompt.
struct Arguments(JsonObject);

impl Arguments {
    fn new(prompt: &Prompt, mut given: JsonObject) -> Result<Self, ErrorData> {
        let known: Vec<&str> =
            prompt.arguments.iter().flatten().map(|argument| argument.name.as_str()).collect();
        for (name, value) in &given {
            if !known.contains(&name.as_str()) {
                let (prompt, known) = (&prompt.name, known.join(", "));
                return Err(invalid(format!("{prompt} takes {known}; it has no {name:?}.")));
            }
            if !value.is_string() {
                return Err(invalid(format!("{name} is {value}. Prompts' arguments are texts.")));
            }
        }
        given.retain(|_, value| value.as_str().is_some_and(|text| !text.trim().is_empty()));
        Ok(Arguments(given))
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.as_str().map(str::trim)
    }

    /// Names separated by commas.
    fn names(&self, name: &str) -> Vec<String> {
        let names = self.get(name).unwrap_or_default().split(',').map(str::trim);
        names.filter(|name| !name.is_empty()).map(str::to_owned).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools;

    fn text(name: &str, arguments: Value) -> Result<String, String> {
        let Value::Object(arguments) = arguments else { panic!("an object") };
        let got = get(name, Some(arguments)).map_err(|error| error.message.into_owned())?;
        assert!(got.description.is_some());
        match got.messages.as_slice() {
            [message] => Ok(message.content.as_text().unwrap().text.clone()),
            more => panic!("one message, not {}", more.len()),
        }
    }

    /// Every word in code that looks like a tool or a field is one.
    #[test]
    fn the_texts_name_tools_and_fields_as_they_are() {
        let mut known: Vec<String> = Vec::new();
        for tool in tools::definitions() {
            let schemas = serde_json::to_string(tool).unwrap();
            known.extend(schemas.split('"').map(str::to_owned));
        }
        let codes = ["stale_fence", "lease_expired", "not_holder", "already_completed"];
        let codes = codes.into_iter().chain(["store_failed", "overloaded", "task_exists"]);
        known.extend(codes.map(str::to_owned));
        // Of a payload, as the text itself proposes it.
        known.extend(["goal", "input", "steps", "done_when"].map(str::to_owned));
        known.extend(["pending", "blocked", "failed"].map(str::to_owned));
        for body in [WORK_LOOP_TEXT, PLAN_WORKFLOW_TEXT] {
            for code in body.split('`').skip(1).step_by(2).filter(|code| !code.starts_with('{')) {
                for word in code.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')) {
                    let plain = ["", "true", "false", "null", "1", "3", "5", "10"].contains(&word);
                    assert!(plain || known.iter().any(|name| name == word), "{word} of {code}");
                }
            }
        }
    }

    #[test]
    fn the_work_loop_asks_for_what_the_arguments_say() {
        let all = text(WORK_LOOP, json!({})).unwrap();
        assert!(all.contains("`{\"wait_seconds\":50}`"), "{all}");
        let some = json!({"workflow_id": "w \"1\"", "tags": "P2P_ONLY, unit-test", "capabilities": "gpu,"});
        let some = text(WORK_LOOP, some).unwrap();
        let want = r#"`{"wait_seconds":50,"workflow_id":"w \"1\"","tags":["p2p-only","unit-test"],"capabilities":["gpu"]}`"#;
        assert!(some.contains(want), "{some}");
        assert!(some.contains("w \"1\"/review-parser"), "{some}");
        for text in [all, some] {
            for place in ["{want}", "{scope}", "{example}"] {
                assert!(!text.contains(place), "{place}");
            }
        }
    }

    #[test]
    fn a_plan_holds_its_goal_to_the_letter_and_has_the_same_workflow_each_time() {
        let goal = "Port the parser: \n{tags} stay";
        let plan = text(PLAN_WORKFLOW, json!({"goal": goal})).unwrap();
        assert!(plan.contains("> Port the parser: \n> {tags} stay\n"), "{plan}");
        assert!(plan.contains("`port-the-parser-tags-stay/parse-input`"), "{plan}");
        assert_eq!(plan, text(PLAN_WORKFLOW, json!({"goal": goal})).unwrap());
        let named = text(PLAN_WORKFLOW, json!({"goal": "g", "workflow_id": "r/1"})).unwrap();
        assert!(named.contains("p2p://workflows/r%2F1") && named.contains("`workflow_id` \"r/1\""));
        assert_eq!(made_id("日本 !"), "日本");
        assert_eq!(made_id("?"), "plan");
    }

    #[test]
    fn what_is_missing_or_wrong_is_said_with_what_to_give() {
        let error = |name, arguments| text(name, arguments).unwrap_err();
        assert!(error("x", json!({})).contains("work-loop, plan-workflow"));
        assert!(error(PLAN_WORKFLOW, json!({})).contains("goal"));
        assert!(error(PLAN_WORKFLOW, json!({"goal": "  "})).contains("goal"));
        assert!(error(WORK_LOOP, json!({"tags": "gpu"})).contains("data-processing"));
        assert!(error(WORK_LOOP, json!({"tag": "x"})).contains("workflow_id, tags, capabilities"));
        assert!(error(WORK_LOOP, json!({"tags": ["x"]})).contains("texts"));
    }
}
