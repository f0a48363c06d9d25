//! `submit`: hands in one task, or a file of them (see [`super::bulk`]).

use std::path::PathBuf;

use clap::{Args, ValueHint};
use serde_json::json;
use serde_json::value::RawValue;

use super::{Failure, Format, bulk, input};
use crate::cli::duration::Seconds;
use crate::cli::render::Card;
use crate::client::{Arguments, Client};

pub(super) const TOOL: &str = "p2p_submit_task";

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ipfs-accelerate p2p-workflow submit --task-id build-1 --workflow-id release \\
      --name \"Build the image\" --tags p2p-only code-generation --priority 8
  ipfs-accelerate p2p-workflow submit --task-id test-1 --workflow-id release \\
      --name \"Test it\" --tags unit-test --depends-on build-1 --payload '{\"suite\": \"all\"}'
  ipfs-accelerate p2p-workflow submit --file tasks.jsonl

Tags: github-api, p2p-eligible, p2p-only, unit-test, code-generation, web-scraping,
data-processing. The task id is the idempotency key: the same task twice is one task.
A file has one JSON object on each line, with the fields of the tool p2p_submit_task.")]
pub(crate) struct Submit {
    /// The task's name for machines, unique in the swarm
    #[arg(long, value_name = "ID", required_unless_present = "file")]
    task_id: Option<String>,

    /// The group the task belongs to
    #[arg(long, value_name = "ID", required_unless_present = "file")]
    workflow_id: Option<String>,

    /// What a person reads
    #[arg(long, required_unless_present = "file")]
    name: Option<String>,

    /// What kind of work this is
    #[arg(long, value_name = "TAG", num_args = 1.., value_delimiter = ',')]
    #[arg(required_unless_present = "file")]
    tags: Vec<String>,

    /// 1 to 10, higher first [default: 5]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=10))]
    priority: Option<u8>,

    /// The task's input
    #[arg(long, value_name = "JSON", value_parser = input::json, conflicts_with = "payload_file")]
    payload: Option<Box<RawValue>>,

    /// Read the task's input from a file of JSON (- is stdin)
    #[arg(long, value_name = "FILE", value_parser = input::json_file)]
    #[arg(value_hint = ValueHint::FilePath)]
    payload_file: Option<Box<RawValue>>,

    /// Tasks that must be completed first
    #[arg(long, value_name = "ID", num_args = 1..)]
    depends_on: Vec<String>,

    /// What a worker must be capable of
    #[arg(long, value_name = "CAPABILITY", num_args = 1..)]
    requires: Vec<String>,

    /// How long the task waits before it may be taken (30s, 5m, 2h)
    #[arg(long, value_name = "TIME")]
    delay: Option<Seconds>,

    /// How many attempts may fail before the task does, 0 for no limit [default: 3]
    #[arg(long, value_name = "N")]
    max_attempts: Option<u32>,

    /// How long a worker may be silent before the task goes to another [default: 1h]
    #[arg(long, value_name = "TIME")]
    lease: Option<Seconds>,

    /// Reject the task if a dependency is not known yet
    #[arg(long)]
    dependencies_must_exist: bool,

    /// Hand in every line of a JSONL file (- is stdin)
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    #[arg(conflicts_with_all = [
        "task_id", "workflow_id", "name", "tags", "priority", "payload", "payload_file",
        "depends_on", "requires", "delay", "max_attempts", "lease", "dependencies_must_exist",
    ])]
    file: Option<PathBuf>,

    #[command(flatten)]
    format: Format,
}

impl Submit {
    pub(super) async fn run(self, client: &mut Client) -> Result<String, Failure> {
        if let Some(file) = &self.file {
            return bulk::submit(client, file, self.format.json).await;
        }
        let answer = client.call(TOOL, self.input()).await?;
        self.format.print(&answer, |submitted| {
            let title = match submitted["created"] == json!(false) {
                true => "Task was already there",
                false => "Task submitted",
            };
            Card::new(title)
                .fields(submitted, &["task_id", "state", "priority", "owner", "task_hash"])
                .into_text()
        })
    }

    fn input(&self) -> Arguments {
        Arguments::new()
            .with("task_id", &self.task_id)
            .with("workflow_id", &self.workflow_id)
            .with("name", &self.name)
            .with_list("tags", &self.tags)
            .with("priority", self.priority)
            .with("payload", self.payload.as_ref().or(self.payload_file.as_ref()))
            .with_list("depends_on", &self.depends_on)
            .with_list("requires", &self.requires)
            .with("delay_seconds", self.delay)
            .with("max_attempts", self.max_attempts)
            .with("lease_seconds", self.lease)
            .with("dependencies_must_exist", self.dependencies_must_exist.then_some(true))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::super::testing::{is_wrong_usage, run};
    use super::*;
    use crate::client::fake;

    const LEAST: [&str; 10] = [
        "submit",
        "--task-id",
        "a",
        "--workflow-id",
        "w",
        "--name",
        "A",
        "--tags",
        "p2p-only",
        "unit-test",
    ];

    fn least() -> Value {
        json!({"task_id": "a", "workflow_id": "w", "name": "A", "tags": ["p2p-only", "unit-test"]})
    }

    #[tokio::test]
    async fn only_what_was_given_is_sent() {
        let answer = json!({"success": true, "created": true, "task_id": "a", "priority": 5,
                            "state": "pending", "owner": "12D3", "task_hash": "ff"});
        let text = run(&LEAST, vec![fake::tool(TOOL, least(), answer)]).await.unwrap();
        assert_eq!(
            text,
            "✓ Task submitted\n  Task ID: a\n  State: pending\n  Priority: 5\n  Owner: 12D3\n  \
             Task hash: ff\n"
        );
    }

    #[tokio::test]
    async fn every_flag_reaches_its_field() {
        let flags = [
            "--priority",
            "9",
            "--payload",
            "{\"n\": 1}",
            "--depends-on",
            "b",
            "c, d",
            "--requires",
            "gpu",
            "--delay",
            "5m",
            "--max-attempts",
            "0",
            "--lease",
            "2h",
            "--dependencies-must-exist",
        ];
        let mut expected = least();
        let more = json!({"priority": 9, "payload": {"n": 1}, "depends_on": ["b", "c, d"],
                          "requires": ["gpu"], "delay_seconds": 300, "max_attempts": 0,
                          "lease_seconds": 7200, "dependencies_must_exist": true});
        for (key, value) in more.as_object().unwrap() {
            expected[key] = value.clone();
        }
        let script = vec![fake::tool(TOOL, expected, json!({"created": false}))];
        let text = run(&[&LEAST[..], &flags].concat(), script).await.unwrap();
        assert!(text.starts_with("✓ Task was already there\n"), "{text}");
    }

    #[tokio::test]
    async fn a_rejection_exits_with_1() {
        let no = "unknown tags: x.\ncode: unknown_tag";
        let failure = run(&LEAST, vec![fake::rejected(TOOL, least(), no)]).await.unwrap_err();
        assert_eq!(failure.exit_code(), 1);
        assert!(failure.message().contains("code: unknown_tag"));
        let no = "the disk is full.\ncode: store_failed";
        let failure = run(&LEAST, vec![fake::rejected(TOOL, least(), no)]).await.unwrap_err();
        assert_eq!(failure.exit_code(), 3);
    }

    #[test]
    fn wrong_flags_are_wrong_usage() {
        assert!(is_wrong_usage(&["submit", "--task-id", "a"]));
        for flags in [
            &["--priority", "11"][..],
            &["--payload", "not json"],
            &["--payload", "1", "--payload-file", "-"],
            &["--payload-file", "/nowhere/at-all.json"],
            &["--delay", "soon"],
            &["--file", "tasks.jsonl"],
        ] {
            assert!(is_wrong_usage(&[&LEAST[..], flags].concat()), "{flags:?}");
        }
        assert!(!is_wrong_usage(&["submit", "--file", "tasks.jsonl", "--json"]));
    }
}
