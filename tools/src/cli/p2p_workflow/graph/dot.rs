//! Graphviz' language.

use super::model::{Graph, Node, Standing, one_line};

/// After the title.
const HEAD: [&str; 4] = [
    "rankdir=LR",
    "labelloc=t",
    "node [shape=box, style=filled, fontname=\"sans-serif\", fontsize=11]",
    "edge [color=\"#57606a\"]",
];

pub(super) fn write(graph: &Graph) -> String {
    let title = label(&one_line(&format!("Workflow {}", graph.workflow_id)));
    let mut text = format!("digraph workflow {{\n  label=\"{title}\";\n");
    for line in HEAD {
        text += &format!("  {line};\n");
    }
    for (place, node) in graph.nodes.iter().enumerate() {
        text += &format!("  t{place} [{}];\n", attributes(node));
    }
    for (from, to) in &graph.edges {
        text += &format!("  t{from} -> t{to};\n");
    }
    text + "}\n"
}

fn attributes(node: &Node) -> String {
    let [name, second] = node.lines().map(|line| label(&line));
    let colours = node.state.colours();
    let style = match (node.state, node.is_outer()) {
        (Standing::Unknown, _) => "filled,rounded,dashed",
        (_, true) => "filled,rounded",
        (_, false) => "filled",
    };
    format!(
        "label=\"{name}\\n{second}\", style=\"{style}\", fillcolor=\"{}\", color=\"{}\"",
        colours.area, colours.border
    )
}

/// Within quotes: no quote ends them, no backslash starts one of Graphviz' escapes, and no
/// ampersand an entity, which it reads in labels.
fn label(line: &str) -> String {
    let mut text = String::new();
    for c in line.chars() {
        match c {
            '"' => text += "\\\"",
            '\\' => text += "\\\\",
            '&' => text += "&amp;",
            c => text.push(c),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::model::testing::{HOSTILE, chain};
    use super::*;

    #[test]
    fn a_chain_is_boxes_and_arrows() {
        let text = write(&chain(&["a", "b"]));
        assert!(text.starts_with("digraph workflow {\n  label=\"Workflow ab\";\n"), "{text}");
        assert!(text.contains("  t0 [label=\"a\\na0 · pending\", style=\"filled\""), "{text}");
        assert!(text.ends_with("  t0 -> t1;\n}\n"), "{text}");
    }

    #[test]
    fn no_name_ends_its_quotes() {
        let text = write(&chain(&HOSTILE));
        for line in text.lines() {
            let mut quotes = 0;
            let mut characters = line.chars();
            while let Some(c) = characters.next() {
                match c {
                    '\\' => assert!(matches!(characters.next(), Some('"' | '\\' | 'n')), "{line}"),
                    '"' => quotes += 1,
                    _ => {}
                }
            }
            assert_eq!(quotes % 2, 0, "{line}");
        }
        let arrows = text.lines().filter(|line| line.starts_with("  t") && line.contains(" -> "));
        assert_eq!(arrows.count(), HOSTILE.len() - 1);
        assert_eq!(text.lines().count(), 2 + 4 + 2 * HOSTILE.len(), "one line each: {text}");
    }

    #[test]
    fn outer_tasks_are_round_and_unknown_ones_dashed() {
        let mut graph = chain(&["a", "b"]);
        graph.nodes[0].workflow_id = Some("other".into());
        graph.nodes[1] = Node::unknown("b");
        let text = write(&graph);
        assert!(text.contains("pending · in other\", style=\"filled,rounded\""), "{text}");
        assert!(text.contains("unknown\", style=\"filled,rounded,dashed\""), "{text}");
    }
}
