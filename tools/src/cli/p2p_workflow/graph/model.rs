//! What is drawn: tasks and the arrows between them.

use serde::{Deserialize, Serialize};

use crate::cli::render;

/// A workflow's tasks, those elsewhere that they depend on, and what depends on what.
#[derive(Debug, Serialize)]
pub(super) struct Graph {
    pub(super) workflow_id: String,
    pub(super) nodes: Vec<Node>,
    /// From a task to one that depends on it, as places in `nodes`.
    pub(super) edges: Vec<(usize, usize)>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Node {
    pub(super) task_id: String,
    pub(super) name: String,
    pub(super) state: Standing,
    /// Of a task of another workflow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) workflow_id: Option<String>,
}

/// Where a task stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Standing {
    Pending,
    Blocked,
    Assigned,
    Completed,
    Failed,
    Cancelled,
    /// No task of this id is known here; it may still come, or ended long ago.
    #[serde(other)]
    Unknown,
}

/// Colours of a state: the area and its border. Text on the area is black.
pub(super) struct Colours {
    pub(super) area: &'static str,
    pub(super) border: &'static str,
}

impl Standing {
    pub(super) const ALL: [Standing; 7] = [
        Standing::Pending,
        Standing::Blocked,
        Standing::Assigned,
        Standing::Completed,
        Standing::Failed,
        Standing::Cancelled,
        Standing::Unknown,
    ];

    /// One word, which can name a class.
    pub(super) fn word(self) -> &'static str {
        match self {
            Standing::Pending => "pending",
            Standing::Blocked => "blocked",
            Standing::Assigned => "assigned",
            Standing::Completed => "completed",
            Standing::Failed => "failed",
            Standing::Cancelled => "cancelled",
            Standing::Unknown => "unknown",
        }
    }

    pub(super) fn colours(self) -> Colours {
        let (area, border) = match self {
            Standing::Pending => ("#fff8c5", "#9a6700"),
            Standing::Blocked => ("#eaeef2", "#57606a"),
            Standing::Assigned => ("#ddf4ff", "#0969da"),
            Standing::Completed => ("#dafbe1", "#1a7f37"),
            Standing::Failed => ("#ffebe9", "#cf222e"),
            Standing::Cancelled => ("#f6f8fa", "#8c959f"),
            Standing::Unknown => ("#ffffff", "#57606a"),
        };
        Colours { area, border }
    }
}

impl Node {
    /// A task that only another names.
    pub(super) fn unknown(task_id: &str) -> Self {
        Node {
            task_id: task_id.to_owned(),
            name: task_id.to_owned(),
            state: Standing::Unknown,
            workflow_id: None,
        }
    }

    pub(super) fn is_outer(&self) -> bool {
        self.workflow_id.is_some() || self.state == Standing::Unknown
    }

    /// What stands in the drawing: the name, then the id where it is another, the state, and the
    /// workflow where it is another.
    pub(super) fn lines(&self) -> [String; 2] {
        let mut second = match self.name == self.task_id {
            true => self.state.word().to_owned(),
            false => format!("{} · {}", self.task_id, self.state.word()),
        };
        if let Some(workflow_id) = &self.workflow_id {
            second += " · in ";
            second += workflow_id;
        }
        [one_line(&self.name), one_line(&second)]
    }
}

/// Without what steers, and without what XML cannot hold.
pub(super) fn one_line(text: &str) -> String {
    render::one_line(text).replace(['\u{fffe}', '\u{ffff}'], "\u{fffd}")
}

#[cfg(test)]
pub(super) mod testing {
    use super::*;

    /// Names that break out where something is not escaped.
    pub(crate) const HOSTILE: [&str; 14] = [
        "\"]; x --> y; z[\"",
        "\\",
        "ends with a backslash \\",
        "two\nlines\r\nand\tmore",
        "<script>alert(1)</script>",
        "]]>&amp;&#60;b&gt;",
        "end",
        "#quot;#35;",
        "%%{init: {\"theme\":\"dark\"}}%%",
        "`markdown` **bold** 1. list",
        "任务 🚀 é",
        "\u{1b}[2J\u{0}\u{202e}\u{ffff}",
        "<b>html label</b>",
        "\\N \\G \\l {a|b}",
    ];

    /// A chain of tasks with these names.
    pub(crate) fn chain(names: &[&str]) -> Graph {
        let nodes = names.iter().enumerate().map(|(n, name)| Node {
            task_id: format!("{name}{n}"),
            name: (*name).to_owned(),
            state: Standing::ALL[n % Standing::ALL.len()],
            workflow_id: (n % 5 == 4).then(|| (*name).to_owned()),
        });
        let edges = (1..names.len()).map(|n| (n - 1, n)).collect();
        Graph { workflow_id: names.concat(), nodes: nodes.collect(), edges }
    }

    #[test]
    fn the_lines_of_a_task_say_only_what_its_name_does_not() {
        let mut node = Node::unknown("a");
        assert_eq!(node.lines(), ["a", "unknown"]);
        node.name = "Build\nit".into();
        node.state = Standing::Failed;
        node.workflow_id = Some("other".into());
        assert_eq!(node.lines(), ["Build it", "a · failed · in other"]);
    }

    #[test]
    fn no_character_that_steers_is_left() {
        for name in HOSTILE {
            assert!(!one_line(name).chars().any(char::is_control), "{name:?}");
        }
        assert_eq!(one_line("a\u{202e}b"), "a\u{fffd}b");
    }
}
