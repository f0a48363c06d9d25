//! Resources: what the tools show, to be read, listed and watched by address.
//!
//! Ids stand in addresses as RFC 6570's simple expansion writes them: percent-encoded but for
//! letters, digits, `-`, `.`, `_` and `~`. What a client left unencoded is taken as it is.

use std::sync::Arc;

use p2p_workflow_scheduler::node::{CallError, Session, Topic};
use p2p_workflow_scheduler::scheduler::Rejection;
use p2p_workflow_scheduler::scheduler::limits::MAX_ID_CHARS;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use rmcp::model::{
    ErrorData, ListResourceTemplatesResult, ListResourcesResult, ReadResourceResult, Resource,
    ResourceContents, ResourceTemplate,
};

use super::answers::fault;
use crate::tools::views;

const STATUS: &str = "p2p://status";
const CLOCK: &str = "p2p://clock";
const PEERS: &str = "p2p://peers";
const TASKS: &str = "p2p://tasks/";
const WORKFLOWS: &str = "p2p://workflows/";
/// The address of a task.
pub(super) const TASK_TEMPLATE: &str = "p2p://tasks/{task_id}";
/// The address of a workflow.
pub(super) const WORKFLOW_TEMPLATE: &str = "p2p://workflows/{workflow_id}";

const JSON: &str = "application/json";
/// All but RFC 3986's unreserved characters.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What an address names; `None` if there is no such resource, whatever tasks there are.
pub(super) fn topic_of(uri: &str) -> Option<Topic> {
    match uri {
        STATUS => Some(Topic::Status),
        CLOCK => Some(Topic::Clock),
        PEERS => Some(Topic::Peers),
        _ => match (uri.strip_prefix(TASKS), uri.strip_prefix(WORKFLOWS)) {
            (Some(id), _) => id_of(id).map(Topic::Task),
            (_, Some(id)) => id_of(id).map(Topic::Workflow),
            _ => None,
        },
    }
}

/// An id that a task or workflow could have.
fn id_of(encoded: &str) -> Option<Arc<str>> {
    let id = percent_decode_str(encoded).decode_utf8().ok()?;
    (1..=MAX_ID_CHARS).contains(&id.chars().count()).then(|| id.into())
}

/// A workflow's address.
pub(super) fn workflow_uri(id: &str) -> String {
    format!("{WORKFLOWS}{}", utf8_percent_encode(id, RESERVED))
}

/// The three resources that are always there, then the newest workflows.
pub(super) async fn list(session: &Session) -> Result<ListResourcesResult, ErrorData> {
    let workflows = session.newest_workflows().await.map_err(|error| fault(&error))?;
    let fixed = [
        (
            STATUS,
            "status",
            "Status",
            "How many tasks stand where, and this peer's view of the rest.",
        ),
        (CLOCK, "clock", "Merkle clock", "One counter per peer, and the root hash over them."),
        (PEERS, "peers", "Peers", "Who else is there: alive or not, taking work or not."),
    ]
    .map(|(uri, name, title, description)| {
        Resource::new(uri, name).with_title(title).with_description(description)
    });
    let newest = workflows.iter().map(|id| {
        Resource::new(workflow_uri(id), &**id)
            .with_title(format!("Workflow {id}"))
            .with_description("Its tasks, and how many of them stand where.")
    });
    let all = fixed.into_iter().chain(newest).map(|resource| resource.with_mime_type(JSON));
    Ok(ListResourcesResult::with_all_items(all.collect()))
}

/// The two families of resources.
pub(super) fn templates() -> ListResourceTemplatesResult {
    let templates = [
        (
            TASK_TEMPLATE,
            "task",
            "Task",
            "One task as it stands, with its payload and result. Subscribe to it to be told when \
             it is taken, completed or unblocked.",
        ),
        (
            WORKFLOW_TEMPLATE,
            "workflow",
            "Workflow",
            "A workflow's tasks in the order of arrival, and how many of them stand where.",
        ),
    ];
    let templates = templates.map(|(uri, name, title, description)| {
        ResourceTemplate::new(uri, name)
            .with_title(title)
            .with_description(description)
            .with_mime_type(JSON)
    });
    ListResourceTemplatesResult::with_all_items(templates.to_vec())
}

/// Shows a resource. The answer waits until all that it shows is on disk.
pub(super) async fn read(session: &Session, uri: &str) -> Result<ReadResourceResult, ErrorData> {
    let shown = match topic_of(uri) {
        Some(Topic::Status) => views::status(session).await.map(Some),
        Some(Topic::Clock) => views::clock(session).await.map(Some),
        Some(Topic::Peers) => views::peers(session).await.map(Some),
        Some(Topic::Workflow(id)) => views::workflow(session, &id).await,
        Some(Topic::Task(id)) => match views::task(session, &id).await {
            Err(CallError::Rejected(Rejection::TaskNotFound { .. })) => Ok(None),
            shown => shown.map(Some),
        },
        Some(Topic::Workflows) | None => Ok(None),
    };
    match shown {
        Ok(Some(json)) => {
            let contents = ResourceContents::text(json, uri).with_mime_type(JSON);
            Ok(ReadResourceResult::new(vec![contents]))
        }
        Ok(None) => Err(not_found(uri)),
        Err(error) => Err(fault(&error)),
    }
}

/// Nothing has this address; says what there is.
pub(super) fn not_found(uri: &str) -> ErrorData {
    let what = match topic_of(uri) {
        Some(Topic::Task(id)) => format!("no task {id:?} is known here"),
        Some(Topic::Workflow(id)) => format!("no workflow {id:?} is known here"),
        _ => format!("there is no resource {uri:?}"),
    };
    let text = format!(
        "{what}. There are {STATUS}, {CLOCK}, {PEERS}, {TASK_TEMPLATE} and {WORKFLOW_TEMPLATE}, \
         with ids percent-encoded; completion/complete offers the ids that are known."
    );
    ErrorData::resource_not_found(text, Some(serde_json::json!({ "uri": uri })))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(id: &str) -> String {
        format!("{TASKS}{}", utf8_percent_encode(id, RESERVED))
    }

    #[test]
    fn every_id_comes_back_out_of_its_address() {
        for id in ["a", "a/b c", "100%", "ünï/日本", "%2F", "?x=1#y", "a+b", "\u{1F600}"] {
            assert_eq!(topic_of(&encoded(id)), Some(Topic::Task(id.into())), "{id}");
        }
        assert_eq!(encoded("a-b._~1/ü"), "p2p://tasks/a-b._~1%2F%C3%BC");
        // As a client writes that does not know about encoding.
        assert_eq!(topic_of("p2p://tasks/a/b c"), Some(Topic::Task("a/b c".into())));
        assert_eq!(topic_of("p2p://workflows/w%20v"), Some(Topic::Workflow("w v".into())));
    }

    #[test]
    fn what_nothing_can_have_as_its_address_is_refused() {
        let long = format!("p2p://tasks/{}", "a".repeat(MAX_ID_CHARS + 1));
        for uri in ["", "p2p://", "p2p://tasks", "p2p://tasks/", "http://status", "p2p://tasks/%FF"]
            .into_iter()
            .chain([long.as_str()])
        {
            assert_eq!(topic_of(uri), None, "{uri}");
        }
    }
}
