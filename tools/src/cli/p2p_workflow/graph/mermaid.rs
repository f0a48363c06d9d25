//! Mermaid's language.

use super::model::{Graph, Standing, one_line};

pub(super) fn write(graph: &Graph) -> String {
    let mut text = format!("flowchart LR\n  %% Workflow {}\n", label(&graph.workflow_id));
    for (place, node) in graph.nodes.iter().enumerate() {
        let [name, second] = node.lines().map(|line| label(&line));
        let (open, close) = if node.is_outer() { ("([", "])") } else { ("[", "]") };
        let class = node.state.word();
        text += &format!("  t{place}{open}\"{name}<br/>{second}\"{close}:::{class}\n");
    }
    for (from, to) in &graph.edges {
        text += &format!("  t{from} --> t{to}\n");
    }
    let is_there = |state: &Standing| graph.nodes.iter().any(|node| node.state == *state);
    for state in Standing::ALL.into_iter().filter(is_there) {
        text += &format!("  {}\n", class(state));
    }
    text
}

fn class(state: Standing) -> String {
    let colours = state.colours();
    let dashes = if state == Standing::Unknown { ",stroke-dasharray:5 5" } else { "" };
    let (word, area, border) = (state.word(), colours.area, colours.border);
    format!("classDef {word} fill:{area},stroke:{border},color:#000{dashes}")
}

/// Within quotes. Everything in ASCII that is neither letter, digit nor space is written as its
/// number (`#35;`), so that it starts neither HTML, nor an entity, nor Markdown, nor a directive;
/// but for what joins parts of a word, which would make the text hard to read.
fn label(line: &str) -> String {
    let characters: Vec<char> = one_line(line).chars().collect();
    let is_word = |at: Option<usize>| {
        at.and_then(|at| characters.get(at)).is_some_and(|c: &char| c.is_alphanumeric())
    };
    let mut text = String::new();
    for (at, c) in characters.iter().enumerate() {
        let joins =
            matches!(c, '-' | '_' | '.') && is_word(at.checked_sub(1)) && is_word(Some(at + 1));
        match c.is_ascii_punctuation() && !joins {
            true => text += &format!("#{};", u32::from(*c)),
            false => text.push(*c),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::model::Node;
    use super::super::model::testing::{HOSTILE, chain};
    use super::*;

    #[test]
    fn a_chain_is_boxes_and_arrows() {
        assert_eq!(
            write(&chain(&["a-1", "b"])),
            "flowchart LR\n  %% Workflow a-1b\n  t0[\"a-1<br/>a-10 · pending\"]:::pending\n  \
             t1[\"b<br/>b1 · blocked\"]:::blocked\n  t0 --> t1\n  \
             classDef pending fill:#fff8c5,stroke:#9a6700,color:#000\n  \
             classDef blocked fill:#eaeef2,stroke:#57606a,color:#000\n"
        );
    }

    #[test]
    fn nothing_in_a_name_means_anything() {
        let text = write(&chain(&HOSTILE));
        let nodes = text.lines().filter(|line| line.starts_with("  t") && line.contains("[\""));
        let mut count = 0;
        for line in nodes {
            count += 1;
            let (start, end) = (line.find('"').unwrap(), line.rfind('"').unwrap());
            let label = line[start + 1..end].replacen("<br/>", "", 1);
            assert!(!label.contains(['"', '<', '>', '&', '`', '\\', '{', '%']), "{line}");
        }
        assert_eq!(count, HOSTILE.len());
        assert!(!text.contains("%%{"), "{text}");
        assert_eq!(label("1. a - b #35; _c_"), "1#46; a #45; b #35;35#59; #95;c#95;");
    }

    #[test]
    fn outer_tasks_are_round_and_unknown_ones_dashed() {
        let mut graph = chain(&["a", "b"]);
        graph.nodes[0].workflow_id = Some("other".into());
        graph.nodes[1] = Node::unknown("b");
        let text = write(&graph);
        assert!(text.contains("  t0([\"a<br/>a0 · pending · in other\"]):::pending\n"), "{text}");
        assert!(text.contains("  t1([\"b<br/>unknown\"]):::unknown\n"), "{text}");
        assert!(text.contains("color:#000,stroke-dasharray:5 5\n"), "{text}");
    }
}
