//! `reprioritize`: moves a task forward or back in the queue. A request of our own, as `requeue`.

use clap::Args;

use super::{Failure, Format, OneTask, complete};
use crate::client::{Arguments, Client};

const REQUEST: &str = "ipfs-accelerate/reprioritize";

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ipfs-accelerate p2p-workflow reprioritize --task-id build-1 --priority 10")]
pub(crate) struct Reprioritize {
    #[command(flatten)]
    task: OneTask,

    /// 1 to 10, higher first
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=10))]
    priority: u8,

    #[command(flatten)]
    format: Format,
}

impl Reprioritize {
    pub(super) async fn run(self, client: &mut Client) -> Result<String, Failure> {
        let input =
            Arguments::new().with("task_id", self.task.id()).with("priority", self.priority);
        let answer = client.request(REQUEST, input).await?;
        self.format.print(&answer, |marked| {
            complete::for_people(&format!("Priority is now {}", self.priority), marked)
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::{is_wrong_usage, run};
    use super::*;
    use crate::client::fake;

    #[tokio::test]
    async fn a_priority_is_changed_by_a_request_of_our_own() {
        let expected = json!({"task_id": "a", "priority": 10});
        let answer = json!({"task_id": "a", "state": "pending"});
        let script = vec![fake::request(REQUEST, expected, answer)];
        let flags = ["reprioritize", "--task-id", "a", "--priority", "10"];
        let text = run(&flags, script).await.unwrap();
        assert_eq!(text, "✓ Priority is now 10\n  Task ID: a\n  State: pending\n");
    }

    #[test]
    fn a_priority_out_of_range_is_wrong_usage() {
        assert!(is_wrong_usage(&["reprioritize", "--task-id", "a", "--priority", "0"]));
        assert!(is_wrong_usage(&["reprioritize", "--task-id", "a"]));
    }
}
