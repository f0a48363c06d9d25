//! What calls are answered, in rmcp's shapes: a tool's results with what the outbox is told beside,
//! and the errors of all else.

use p2p_workflow_scheduler::node::CallError;
use rmcp::model::{CallToolResult, ContentBlock, ErrorData};
use serde_json::Value;

use crate::tools::{self, Answer};

/// Where a result carries its structured content as JSON text, from here to the outbox. It never
/// leaves the process.
const STRUCTURED: &str = "ipfs-accelerate/structured";
/// Marks the result of a wait that was broken off with its connection. It is not sent: whoever
/// relays the call repeats it to the next node, and would take this for the answer.
const BROKEN_OFF: &str = "ipfs-accelerate/broken-off";

/// A tool's result, as the outbox writes it.
pub(super) fn result(answer: Answer) -> CallToolResult {
    let mut result = CallToolResult::success(vec![ContentBlock::text(answer.text)]);
    let structured = Value::String(answer.structured);
    result.meta.get_or_insert_default().0.insert(STRUCTURED.to_owned(), structured);
    result
}

/// The same as a whole, for answers that the outbox does not take for a tool's.
pub(super) fn whole_result(answer: Answer) -> Result<CallToolResult, ErrorData> {
    let mut result = CallToolResult::success(vec![ContentBlock::text(answer.text)]);
    let tree = serde_json::from_str(&answer.structured);
    let tree = tree.map_err(|error| ErrorData::internal_error(error.to_string(), None))?;
    result.structured_content = Some(tree);
    Ok(result)
}

/// The result of a call that was broken off.
pub(super) fn not_to_be_sent() -> CallToolResult {
    let mut result = CallToolResult::success(Vec::new());
    result.meta.get_or_insert_default().0.insert(BROKEN_OFF.to_owned(), Value::Null);
    result
}

/// Whether a result stands for a call that is not to be answered here.
pub(super) fn is_broken_off(result: &CallToolResult) -> bool {
    result.meta.as_ref().is_some_and(|meta| meta.0.contains_key(BROKEN_OFF))
}

/// The structured content that a result carries as text, taken out of it.
pub(super) fn take_structured(result: &mut CallToolResult) -> Option<String> {
    match result.meta.as_mut()?.0.swap_remove(STRUCTURED)? {
        Value::String(text) => Some(text),
        _ => None,
    }
}

/// The answer to a call that was turned down: text only, since strict clients hold structured
/// content against the output schema even then.
pub(super) fn refusal(error: &CallError) -> CallToolResult {
    failure(&error.to_string(), error.code())
}

/// What a panic is answered with.
pub(super) const INTERNAL: &str = "the scheduler failed on this call, which is a bug in it. What \
    the call asked for may or may not have been done: look with p2p_scheduler_status, then try again.";

/// The answer to a call that ended in a bug.
pub(super) fn panicked() -> CallToolResult {
    failure(INTERNAL, "internal")
}

fn failure(text: &str, code: &str) -> CallToolResult {
    CallToolResult::error(vec![ContentBlock::text(format!("{text}\ncode: {code}"))])
}

/// No tool has this name; says which there are.
pub(super) fn unknown_tool(name: &str) -> ErrorData {
    let known: Vec<&str> = tools::definitions().iter().map(|tool| tool.name.as_ref()).collect();
    let text = format!("there is no tool {name:?}. The tools are: {}.", known.join(", "));
    ErrorData::invalid_params(text, None)
}

/// A call's failure where no tool's result can say it.
pub(super) fn fault(error: &CallError) -> ErrorData {
    let text = format!("{error}\ncode: {}", error.code());
    match error {
        CallError::Rejected(_) => ErrorData::invalid_params(text, None),
        CallError::StoreFailed { .. } | CallError::Stopping => {
            ErrorData::internal_error(text, None)
        }
    }
}

/// A request asks for something that makes no sense.
pub(super) fn invalid(what: String) -> ErrorData {
    ErrorData::invalid_params(what, None)
}
