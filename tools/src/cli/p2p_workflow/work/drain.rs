//! `--drain`: whether anything is left that this worker waits for.

use serde_json::Value;

use super::super::status;
use super::slot::Worker;
use crate::client::{Arguments, CallError, Client};

/// Tasks in one page.
const PAGE: u64 = 100;

/// Whether a task runs, here or elsewhere, or waits that this worker may take: for another peer's
/// turn, or to be tried again. A first attempt that is to begin later is not waited for.
///
/// # Errors
/// The node does not say.
pub(super) async fn is_unfinished(client: &mut Client, worker: &Worker) -> Result<bool, CallError> {
    if find(client, worker, "assigned", |task| worker.covers(task)).await? {
        return Ok(true);
    }
    find(client, worker, "pending", |task| worker.waits_for(task)).await
}

/// Whether the worker's workflow, or any, has such a task in this state.
async fn find(
    client: &mut Client,
    worker: &Worker,
    state: &str,
    is_such: impl Fn(&Value) -> bool,
) -> Result<bool, CallError> {
    let mut cursor = Value::Null;
    loop {
        let page = Arguments::new()
            .with("state", state)
            .with("workflow_id", &worker.workflow)
            .with("limit", PAGE)
            .with("cursor", &cursor);
        let mut page = client.call(status::TOOL, page).await?.value()?;
        if page["tasks"].as_array().is_some_and(|tasks| tasks.iter().any(&is_such)) {
            return Ok(true);
        }
        cursor = page["next_cursor"].take();
        if cursor.is_null() {
            return Ok(false);
        }
    }
}

impl Worker {
    fn covers(&self, task: &Value) -> bool {
        task["workflow_id"].as_str().is_some_and(|id| self.scope.covers(id))
    }

    fn waits_for(&self, task: &Value) -> bool {
        let begins_later = task["next_attempt_at"].is_u64() && task["attempt"] == 1;
        let names = |key: &str| task[key].as_array().map(Vec::as_slice).unwrap_or_default();
        let has = |own: &[String], name: &Value| own.iter().any(|own| name == own);
        let is_able = names("requires").iter().all(|name| has(&self.capabilities, name));
        let is_tagged = self.tags.is_empty()
            || names("tags").iter().any(|tag| {
                self.tags.iter().any(|own| tag.as_str().is_some_and(|tag| is_same_tag(own, tag)))
            });
        self.covers(task) && !begins_later && is_able && is_tagged
    }
}

/// Tags are taken in upper case and with underscores too.
fn is_same_tag(given: &str, tag: &str) -> bool {
    given.trim().replace('_', "-").eq_ignore_ascii_case(tag)
}
