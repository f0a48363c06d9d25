//! Keeping a task while its command runs: renewing a lease on time, and noticing when the task is no
//! longer this worker's.

use std::time::Duration;

use p2p_workflow_scheduler::scheduler::limits::MIN_LEASE;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::super::{complete, status};
use super::slot::Taken;
use crate::client::{Arguments, CallError, Client};

/// How often a task under a lease that needs no renewing is looked at: it may have been cancelled.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// Keeps the task until `over` is cancelled, or it is no longer this worker's. Returns why that is.
///
/// # Errors
/// The node is gone for good. One that refuses for the time being is asked again.
pub(super) async fn keep(
    client: &mut Client,
    task: &Taken,
    over: &CancellationToken,
) -> Result<Option<String>, CallError> {
    let interval = task.lease().map_or(LOOK_INTERVAL, renew_interval);
    while over.run_until_cancelled(tokio::time::sleep(interval)).await.is_some() {
        // Not broken off: the report that follows would be answered after it anyway.
        let kept = match task.lease() {
            Some(_) => renew(client, task).await,
            None => look(client, task).await,
        };
        match kept {
            Ok(None) => {}
            Ok(Some(lost)) | Err(CallError::Rejected(lost)) => return Ok(Some(lost)),
            Err(CallError::Failed(why)) => {
                tracing::warn!("the lease of task {:?} could not be renewed: {why}", task.id());
            }
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// A third of the lease: two renewals may fail.
fn renew_interval(lease: Duration) -> Duration {
    lease.max(Duration::from_millis(MIN_LEASE)) / 3
}

async fn renew(client: &mut Client, task: &Taken) -> Result<Option<String>, CallError> {
    let renewal = Arguments::new()
        .with("task_id", task.id())
        .with("outcome", "in_progress")
        .with("fence", task.fence());
    client.call(complete::TOOL, renewal).await.map(|_| None)
}

async fn look(client: &mut Client, task: &Taken) -> Result<Option<String>, CallError> {
    let answer = client.call(status::TOOL, Arguments::new().with("task_id", task.id())).await?;
    let found = answer.value()?["tasks"][0].take();
    let is_ours = found["state"] == "assigned" && found["fence"].as_u64() == Some(task.fence());
    Ok((!is_ours).then(|| match &found["state"] {
        Value::String(state) => format!("it is {state} under another lease or none"),
        _ => "it is not there any more".into(),
    }))
}
