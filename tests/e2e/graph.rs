//! `graph`: what is written is what Graphviz and readers of XML take, whatever tasks are called.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::harness::{Home, Server, task};

/// Names that break out where something is not escaped.
const HOSTILE: [&str; 8] = [
    "\"]; x -> y; z[\"",
    "ends with a backslash \\",
    "<script>alert(1)</script>",
    "]]>&amp;&#60;b&gt;",
    "end",
    "%%{init: {\"theme\":\"dark\"}}%%",
    "任务 🚀 é",
    "\\N {a|b} `md` #quot;",
];

/// A chain of hostile tasks, one of which depends on another workflow's and on an unknown one.
fn hostile(home: &Home) -> Server {
    let mut server = home.start();
    let mut outer = task("outer");
    outer["workflow_id"] = json!("other");
    server.call("p2p_submit_task", &outer);
    let mut before = json!(["outer", "never seen"]);
    for name in HOSTILE {
        let mut task = task(name);
        task["depends_on"] = before;
        server.call("p2p_submit_task", &task);
        before = json!([name]);
    }
    server
}

fn graph(home: &Home, format: &str) -> String {
    let run = home.run(&["p2p-workflow", "graph", "w", "--format", format]);
    assert_eq!((run.code, run.stderr.as_str()), (0, ""));
    run.stdout
}

/// Gives a text to a program; `None` where that is not installed.
fn piped(program: &str, arguments: &[&str], text: &str) -> Option<(bool, String)> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().ok()?;
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(text.as_bytes()).expect("it reads");
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    let said = [output.stdout, output.stderr].concat();
    Some((output.status.success(), String::from_utf8_lossy(&said).into_owned()))
}

#[test]
fn graphviz_takes_what_is_written_for_it_with_all_names_in_it() {
    let home = Home::new();
    let server = hostile(&home);
    let text = graph(&home, "dot");
    let Some((is_good, plain)) = piped("dot", &["-Tplain-ext"], &text) else {
        eprintln!("SKIPPED: `dot` is not installed, so nobody reads what is written for it");
        return;
    };
    assert!(is_good, "{plain}\n{text}");
    let nodes = plain.lines().filter(|line| line.starts_with("node "));
    assert_eq!(nodes.count(), HOSTILE.len() + 2, "{plain}");
    let edges = plain.lines().filter(|line| line.starts_with("edge "));
    assert_eq!(edges.count(), HOSTILE.len() + 1, "{plain}");
    server.close();
}

#[test]
fn the_picture_is_xml_with_all_names_in_it_and_nothing_that_runs() {
    let home = Home::new();
    let server = hostile(&home);
    const READ: &str = "\
import sys, json, xml.etree.ElementTree as tree
root = tree.fromstring(sys.stdin.buffer.read())
names = {e.tag.split('}')[1] for e in root.iter()}
print(json.dumps([sorted(names), [e.text for e in root.iter() if e.tag.endswith('title')]]))
";
    let (is_good, said) =
        piped("python3", &["-c", READ], &graph(&home, "svg")).expect("python3 is installed");
    assert!(is_good, "{said}");
    let read: serde_json::Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!(read[0], json!(["defs", "g", "marker", "path", "rect", "svg", "text", "title"]));
    let titles: Vec<&str> =
        read[1].as_array().unwrap().iter().filter_map(|it| it.as_str()).collect();
    for name in HOSTILE {
        assert!(titles.iter().any(|title| title.starts_with(name)), "{name}: {titles:?}");
    }
    assert!(titles.contains(&"outer · pending · in other"), "{titles:?}");
    assert!(titles.contains(&"never seen · unknown"), "{titles:?}");
    server.close();
}

#[test]
fn mermaid_is_the_default_and_a_file_gets_the_same() {
    let home = Home::new();
    let mut server = home.start();
    server.submit("a");
    let shown = home.run(&["p2p-workflow", "graph", "w"]).stdout;
    assert_eq!(shown, graph(&home, "mermaid"));
    assert!(shown.starts_with("flowchart LR\n"), "{shown}");
    let run = home.run(&["p2p-workflow", "graph", "w", "--output", "w.mmd"]);
    assert_eq!((run.code, run.stdout.starts_with("✓ Graph written")), (0, true), "{run:?}");
    assert_eq!(std::fs::read_to_string(home.path().join("w.mmd")).unwrap(), shown);
    server.close();
}

#[test]
fn an_unknown_workflow_exits_with_1_and_says_where_to_look() {
    let home = Home::new();
    for format in ["dot", "mermaid", "svg"] {
        let run = home.run(&["p2p-workflow", "graph", "none", "--format", format]);
        assert_eq!((run.code, run.stdout.as_str()), (1, ""), "{run:?}");
        assert!(run.stderr.contains("p2p-workflow list"), "{run:?}");
    }
}
