//! Asks the node for a workflow's tasks, page by page, and for those elsewhere that they depend on.

use std::collections::HashMap;

use serde::Deserialize;

use super::super::status;
use super::model::{Graph, Node};
use crate::cli::Failure;
use crate::client::{Arguments, CallError, Client};

/// Tasks that are drawn, those of other workflows included: more than a person can look at, and far
/// below what layout and viewers take.
pub(super) const MAX_TASKS: usize = 2_000;
/// The largest page that the tool gives.
const PAGE: usize = 100;
/// Questions on their way at once; the node takes 256.
const AT_ONCE: usize = 64;

#[derive(Deserialize)]
struct Page {
    #[serde(default)]
    tasks: Vec<Task>,
    next_cursor: Option<String>,
}

#[derive(Deserialize)]
struct Task {
    #[serde(flatten)]
    node: Node,
    #[serde(default)]
    depends_on: Vec<String>,
}

pub(super) async fn gather(client: &mut Client, workflow_id: String) -> Result<Graph, Failure> {
    let tasks = tasks(client, &workflow_id).await?;
    let mut places = HashMap::new();
    for (place, task) in tasks.iter().enumerate() {
        places.insert(task.node.task_id.clone(), place);
    }
    let (mut outer, mut edges) = (Vec::new(), Vec::new());
    for (place, task) in tasks.iter().enumerate() {
        for id in &task.depends_on {
            let from = *places.entry(id.clone()).or_insert_with(|| {
                outer.push(id.clone());
                tasks.len() + outer.len() - 1
            });
            edges.push((from, place));
        }
    }
    if tasks.len() + outer.len() > MAX_TASKS {
        return Err(too_many(&workflow_id));
    }
    let own = tasks.into_iter().map(|task| Node { workflow_id: None, ..task.node });
    let mut nodes: Vec<Node> = own.collect();
    for ids in outer.chunks(AT_ONCE) {
        nodes.append(&mut look_up(client, ids, &workflow_id).await?);
    }
    Ok(Graph { workflow_id, nodes, edges })
}

async fn tasks(client: &mut Client, workflow_id: &str) -> Result<Vec<Task>, Failure> {
    let mut tasks = Vec::new();
    let mut cursor = None;
    loop {
        let input = Arguments::new()
            .with("workflow_id", workflow_id)
            .with("limit", PAGE)
            .with("cursor", &cursor);
        let answer = client.call(status::TOOL, input).await?;
        let mut page: Page = answer.read()?;
        tasks.append(&mut page.tasks);
        cursor = page.next_cursor;
        if tasks.len() > MAX_TASKS {
            return Err(too_many(workflow_id));
        }
        if cursor.is_none() {
            break;
        }
    }
    match tasks.is_empty() {
        true => Err(Failure::Rejected(format!(
            "workflow {workflow_id:?} has no task here. Look for its id with `p2p-workflow list`.\n\
             code: task_not_found"
        ))),
        false => Ok(tasks),
    }
}

/// The tasks with these ids; one that is not known is drawn as such.
async fn look_up(
    client: &mut Client,
    ids: &[String],
    workflow_id: &str,
) -> Result<Vec<Node>, Failure> {
    let mut tickets = Vec::new();
    for id in ids {
        let input = Arguments::new().with("task_id", id);
        tickets.push(client.start_call(status::TOOL, input).await?);
    }
    let mut nodes = Vec::new();
    for (id, ticket) in ids.iter().zip(tickets) {
        let known = match client.answer(ticket).await {
            Ok(answer) => answer.read::<Page>()?.tasks.pop(),
            Err(CallError::Rejected(_)) => None,
            Err(error) => return Err(error.into()),
        };
        let node = known.map_or_else(|| Node::unknown(id), |task| task.node);
        // It came meanwhile.
        let is_own = node.workflow_id.as_deref() == Some(workflow_id);
        nodes.push(if is_own { Node { workflow_id: None, ..node } } else { node });
    }
    Ok(nodes)
}

fn too_many(workflow_id: &str) -> Failure {
    Failure::Rejected(format!(
        "workflow {workflow_id:?} has more than {MAX_TASKS} tasks with those that it depends on: \
         nobody could read the drawing. `p2p-workflow list --workflow-id {workflow_id} --all` has \
         them.\ncode: too_large"
    ))
}
