//! `p2p-workflow …`: one file for each command, each one call of a tool.

mod bulk;
mod cancel;
mod check_tags;
mod clock;
mod complete;
mod discover;
mod graph;
mod input;
mod list;
mod next;
mod pipeline;
mod reprioritize;
mod requeue;
mod show;
mod status;
mod submit;
mod watch;
mod why;
mod work;

use clap::{Args, Subcommand};
use serde_json::Value;

pub(super) use self::watch::Stderr;
pub(super) use self::work::guard;
use super::Failure;
use crate::client::{Answer, Client};

#[derive(Debug, Subcommand)]
pub(crate) enum WorkflowCommand {
    #[command(flatten)]
    Call(CallCommand),
    /// Take tasks and run a command of yours for each
    Work(Box<work::Work>),
    /// Hand in the jobs of the workflow files in your checkouts
    Discover(discover::Discover),
    /// Runs one job of a workflow file
    #[command(hide = true)]
    RunJob(work::RunJob),
    /// Watch workflows, tasks and peers as they change
    Watch(watch::Watch),
    /// Ends what a worker runs when that worker is gone
    #[command(hide = true)]
    Guard,
}

/// The commands that call the node and are done.
#[derive(Debug, Subcommand)]
pub(crate) enum CallCommand {
    /// Show how many tasks stand where, and the peers
    Status(status::Status),
    /// Hand in a task, or a file of tasks
    Submit(Box<submit::Submit>),
    /// Take the next task to run
    Next(next::Next),
    /// Report on a task that you took
    Complete(complete::Complete),
    /// Say what tags mean for a GitHub workflow
    CheckTags(check_tags::CheckTags),
    /// Show the Merkle clock
    Clock(clock::Clock),
    /// List tasks
    List(list::List),
    /// Show everything about one task
    Show(show::Show),
    /// Draw a workflow's tasks and what they depend on
    Graph(graph::GraphCommand),
    /// Say why a task goes to the peer that it goes to
    Why(why::Why),
    /// Call a task off
    Cancel(cancel::Cancel),
    /// Put a failed task back into the queue
    Requeue(requeue::Requeue),
    /// Change the priority of a task
    Reprioritize(reprioritize::Reprioritize),
}

impl CallCommand {
    /// Returns what belongs on stdout.
    pub(super) async fn run(self, client: &mut Client) -> Result<String, Failure> {
        match self {
            CallCommand::Status(command) => command.run(client).await,
            CallCommand::Submit(command) => command.run(client).await,
            CallCommand::Next(command) => command.run(client).await,
            CallCommand::Complete(command) => command.run(client).await,
            CallCommand::CheckTags(command) => command.run(client).await,
            CallCommand::Clock(command) => command.run(client).await,
            CallCommand::List(command) => command.run(client).await,
            CallCommand::Show(command) => command.run(client).await,
            CallCommand::Graph(command) => command.run(client).await,
            CallCommand::Why(command) => command.run(client).await,
            CallCommand::Cancel(command) => command.run(client).await,
            CallCommand::Requeue(command) => command.run(client).await,
            CallCommand::Reprioritize(command) => command.run(client).await,
        }
    }
}

/// The task that a command is about: as a word, or by the flag that `submit` has.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(super) struct OneTask {
    /// The task
    #[arg(value_name = "TASK")]
    task: Option<String>,

    /// The task, by a flag
    #[arg(long, value_name = "ID")]
    task_id: Option<String>,
}

impl OneTask {
    fn id(&self) -> &str {
        // The group requires one of them.
        self.task.as_deref().or(self.task_id.as_deref()).unwrap_or_default()
    }
}

/// How an answer is printed.
#[derive(Debug, Args)]
pub(super) struct Format {
    /// Print the scheduler's answer as one JSON object, exactly
    #[arg(long)]
    json: bool,
}

impl Format {
    pub(super) fn print(
        &self,
        answer: &Answer,
        for_people: impl FnOnce(&Value) -> String,
    ) -> Result<String, Failure> {
        match self.json {
            true => Ok(format!("{}\n", answer.json())),
            false => Ok(for_people(&answer.value()?)),
        }
    }

    /// The same, of an answer that was put together from several.
    pub(super) fn print_value(
        &self,
        answer: &Value,
        for_people: impl FnOnce(&Value) -> String,
    ) -> Result<String, Failure> {
        match self.json {
            true => Ok(format!("{answer}\n")),
            false => Ok(for_people(answer)),
        }
    }
}

#[cfg(test)]
mod testing {
    //! Runs a command line against a node that follows a script.

    use anstream::adapter::strip_str;
    use clap::Parser;

    use super::super::{Attach, Cli, Connection, Failure, NodeLasts, execute};
    use crate::client::fake::{self, Exchange};

    /// What the command prints, without styles; the script must be used up.
    pub(super) async fn run(line: &[&str], script: Vec<Exchange>) -> Result<String, Failure> {
        let words = ["ipfs-accelerate", "p2p-workflow"].iter().chain(line);
        let cli = Cli::try_parse_from(words).expect("the command line parses");
        let (stream, node) = fake::node(script);
        let connect = async |_: &_, attach| {
            assert_eq!(attach, Attach::Any);
            Ok(Connection { stream, node: NodeLasts::On })
        };
        let serve = async |_: &_, _: Option<&_>| unreachable!("not a server");
        let result = execute(cli, connect, serve, async |_: &_| unreachable!("no worker")).await;
        node.await.expect("the script was followed");
        result.map(|text| strip_str(&text).to_string())
    }

    /// Whether the words are wrong usage, before anything is connected.
    pub(super) fn is_wrong_usage(line: &[&str]) -> bool {
        let words = ["ipfs-accelerate", "p2p-workflow"].iter().chain(line);
        Cli::try_parse_from(words).is_err_and(|error| error.exit_code() == 2)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::testing::{is_wrong_usage, run};
    use crate::client::fake;

    /// Whoever came from `show --task-id` was told that there is no such flag, and from `why a`
    /// that there is no such argument.
    #[tokio::test]
    async fn the_task_is_named_with_or_without_the_flag_and_once() {
        for named in [&["a"][..], &["--task-id", "a"]] {
            for (command, request) in
                [("why", "ipfs-accelerate/why"), ("requeue", super::requeue::REQUEST)]
            {
                let script = vec![fake::request(request, json!({"task_id": "a"}), json!({}))];
                assert!(run(&[&[command], named].concat(), script).await.is_ok(), "{command}");
            }
        }
        for command in ["why", "show", "complete", "cancel", "requeue"] {
            assert!(is_wrong_usage(&[command]), "{command}");
            assert!(is_wrong_usage(&[command, "a", "--task-id", "b"]), "{command}");
            assert!(!is_wrong_usage(&[command, "a"]), "{command}");
        }
        assert!(!is_wrong_usage(&["reprioritize", "a", "--priority", "9"]));
    }

    /// `work` and `watch` say it short.
    #[test]
    fn a_workflow_is_named_by_either_flag() {
        for flag in ["--workflow", "--workflow-id"] {
            assert!(!is_wrong_usage(&["list", flag, "a"]), "{flag}");
            assert!(!is_wrong_usage(&["work", flag, "a", "--", "true"]), "{flag}");
            assert!(!is_wrong_usage(&["watch", flag, "a"]), "{flag}");
        }
    }
}
