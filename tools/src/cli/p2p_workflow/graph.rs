//! `graph`: a workflow's tasks and what they depend on, as a drawing.
//!
//! ```text
//!   pages of the status tool ──► gather ──► Graph ──┬─► mermaid
//!                                                   ├─► dot
//!                                                   └─► layers ──► svg
//! ```
//!
//! Names come from other machines: nodes have names of our own in each format (`t0`, `t1`), and what
//! a task is called stands only in labels, escaped by the rules of the format.

mod dot;
mod gather;
mod layers;
mod mermaid;
mod model;
mod svg;

use std::path::PathBuf;

use clap::{Args, ValueEnum, ValueHint};
use serde_json::json;

use self::model::Graph;
use super::Failure;
use crate::cli::render::Card;
use crate::client::Client;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ipfs-accelerate p2p-workflow graph release
  ipfs-accelerate p2p-workflow graph release --format svg --output release.svg
  ipfs-accelerate p2p-workflow graph release --format dot | dot -Tpdf > release.pdf

An arrow leads from a task to those that depend on it. Round ends: a task of another workflow.
Dashed: a task that is not known here.")]
pub(crate) struct GraphCommand {
    /// The workflow
    #[arg(value_name = "WORKFLOW")]
    workflow_id: String,

    // Mermaid, since it is drawn wherever it is pasted (GitHub, editors, agents' chats) with nothing
    // installed.
    /// How it is written
    #[arg(long, value_enum, default_value_t = Language::Mermaid)]
    format: Language,

    /// Write it into this file
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    output: Option<PathBuf>,

    /// Print tasks and dependencies as one JSON object
    #[arg(long, conflicts_with_all = ["format", "output"])]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Language {
    /// For Graphviz
    Dot,
    /// For GitHub, editors and chats
    Mermaid,
    /// A picture for browsers
    Svg,
}

impl GraphCommand {
    pub(super) async fn run(self, client: &mut Client) -> Result<String, Failure> {
        let graph = gather::gather(client, self.workflow_id).await?;
        if self.json {
            return Ok(format!("{}\n", json!(graph)));
        }
        let text = match self.format {
            Language::Dot => dot::write(&graph),
            Language::Mermaid => mermaid::write(&graph),
            Language::Svg => svg::write(&graph),
        };
        let Some(file) = self.output else { return Ok(text) };
        std::fs::write(&file, text).map_err(|error| {
            Failure::Failed(format!("cannot write {}: {error}", file.display()))
        })?;
        Ok(written(&graph, &file.display().to_string()))
    }
}

fn written(graph: &Graph, file: &str) -> String {
    Card::new("Graph written")
        .field("file", &json!(file))
        .field("tasks", &json!(graph.nodes.len()))
        .field("dependencies", &json!(graph.edges.len()))
        .into_text()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::status;
    use super::super::testing::{is_wrong_usage, run};
    use super::gather::MAX_TASKS;
    use crate::client::fake::{self, Exchange};

    fn task(id: &str, depends_on: &[&str]) -> Value {
        json!({"task_id": id, "workflow_id": "w", "name": id.to_uppercase(), "state": "pending",
               "depends_on": depends_on})
    }

    fn page(cursor: Value, tasks: &[Value], next: Value) -> Exchange {
        let mut asked = json!({"workflow_id": "w", "limit": 100});
        if !cursor.is_null() {
            asked["cursor"] = cursor;
        }
        fake::tool(status::TOOL, asked, json!({"tasks": tasks, "next_cursor": next}))
    }

    #[tokio::test]
    async fn pages_are_followed_and_dependencies_elsewhere_looked_up() {
        let elsewhere = json!({"task_id": "x", "workflow_id": "v", "name": "X", "state": "failed"});
        let script = vec![
            page(Value::Null, &[task("a", &["x"])], json!("1")),
            page(json!("1"), &[task("b", &["a", "y", "x"])], Value::Null),
            fake::tool(status::TOOL, json!({"task_id": "x"}), json!({"tasks": [elsewhere]})),
            fake::rejected(status::TOOL, json!({"task_id": "y"}), "none\ncode: task_not_found"),
        ];
        let text = run(&["graph", "w", "--json"], script).await.unwrap();
        let graph: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            graph,
            json!({"workflow_id": "w", "nodes": [
                {"task_id": "a", "name": "A", "state": "pending"},
                {"task_id": "b", "name": "B", "state": "pending"},
                {"task_id": "x", "name": "X", "state": "failed", "workflow_id": "v"},
                {"task_id": "y", "name": "y", "state": "unknown"},
            ], "edges": [[2, 0], [0, 1], [3, 1], [2, 1]]})
        );
    }

    #[tokio::test]
    async fn a_workflow_without_a_task_exits_with_1() {
        let failure =
            run(&["graph", "w"], vec![page(Value::Null, &[], Value::Null)]).await.unwrap_err();
        assert_eq!(failure.exit_code(), 1);
        assert!(failure.message().contains("workflow \"w\" has no task here"));
    }

    #[tokio::test]
    async fn a_workflow_that_nobody_could_read_a_drawing_of_is_refused() {
        let full: Vec<Value> = (0..100).map(|n| task(&n.to_string(), &[])).collect();
        let pages = MAX_TASKS / 100;
        let cursor = |n: usize| if n == 0 { Value::Null } else { json!(n.to_string()) };
        let script = (0..=pages).map(|n| page(cursor(n), &full, cursor(n + 1))).collect();
        let failure = run(&["graph", "w"], script).await.unwrap_err();
        assert_eq!(failure.exit_code(), 1);
        assert!(failure.message().contains("p2p-workflow list"), "{}", failure.message());
    }

    #[tokio::test]
    async fn a_file_is_written_and_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("w.svg");
        let name = file.to_str().unwrap();
        let script = || vec![page(Value::Null, &[task("a", &[])], Value::Null)];
        let line = ["graph", "w", "--format", "svg", "--output", name];
        let text = run(&line, script()).await.unwrap();
        assert!(text.starts_with("✓ Graph written\n") && text.contains(name), "{text}");
        assert!(std::fs::read_to_string(&file).unwrap().starts_with("<svg"));
        let nowhere = folder.path().join("none/w.svg");
        let line = ["graph", "w", "--output", nowhere.to_str().unwrap()];
        assert_eq!(run(&line, script()).await.unwrap_err().exit_code(), 3);
    }

    #[test]
    fn a_workflow_and_one_known_format_are_needed() {
        assert!(is_wrong_usage(&["graph"]));
        assert!(is_wrong_usage(&["graph", "w", "--format", "png"]));
        assert!(is_wrong_usage(&["graph", "w", "--format", "dot", "--json"]));
    }
}
