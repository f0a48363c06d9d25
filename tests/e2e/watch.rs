//! `watch`: lines where there is no terminal, and the full screen under a real pseudo-terminal.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{Home, Process, Server, eventually, task};
use crate::terminal::Terminal;

/// Two workflows, with a task that is held and one whose name would steer a terminal.
fn scene(home: &Home) -> Server {
    let mut server = home.start();
    server.submit("first");
    server.take();
    server.submit("second");
    let mut hostile = task("hostile");
    hostile["workflow_id"] = json!("v");
    hostile["name"] = json!("名 🚀 \u{202e}");
    hostile["priority"] = json!(1);
    server.call("p2p_submit_task", &hostile);
    server
}

#[test]
fn once_prints_how_it_stands_as_lines_or_one_object() {
    let home = Home::new();
    let server = scene(&home);
    let run = home.run(&["p2p-workflow", "watch", "--once"]);
    assert_eq!((run.code, run.stderr.as_str()), (0, ""));
    let lines: Vec<&str> =
        run.stdout.lines().map(|line| line.split_once(' ').expect("a time").1).collect();
    assert_eq!(lines.len(), 1 + 2 + 3, "{}", run.stdout);
    assert_eq!(
        lines[0],
        "totals assigned=1 failed=0 pending=2 blocked=0 completed=0 cancelled=0 workflows=2"
    );
    let first = lines.iter().find(|line| line.starts_with("task first ")).expect("it is there");
    assert!(first.contains(" state=assigned ") && first.contains(" since=20"), "{first}");
    let of_v = home.run(&["p2p-workflow", "watch", "--once", "--workflow", "v"]);
    assert!(!of_v.stdout.contains("first") && of_v.stdout.contains("hostile"), "{of_v:?}");
    let shown: Value = home.json(&["watch"]);
    assert_eq!(shown["tasks"][0]["task_id"], "first");
    assert_eq!(shown["known_workflows"], 2);
    server.close();
}

#[test]
fn without_a_terminal_each_change_is_a_line_until_ctrl_c() {
    let home = Home::new();
    let mut server = scene(&home);
    let mut command = home.command();
    command.args(["p2p-workflow", "watch"]).stdout(Stdio::piped());
    let mut watch = Process::spawn(command);
    let stdout = watch.child().stdout.take().expect("a pipe");
    let mut lines = BufReader::new(stdout).lines().map(|line| line.expect("UTF-8"));
    let mut wait_for = |what: &str| lines.find(|line| line.contains(what)).expect("until the end");
    wait_for("totals assigned=1");
    wait_for(" task second workflow=w state=pending");
    server.submit("appears");
    wait_for(" task appears workflow=w state=pending");
    server.call("p2p_mark_task_complete", &json!({"task_id": "first"}));
    wait_for(" task first workflow=w state=completed");
    watch.signal(Signal::INT);
    assert_eq!(watch.exit_code(), 0);
    server.close();
}

#[test]
fn on_a_terminal_a_task_appears_is_filtered_shown_and_cancelled() {
    let home = Home::new();
    let mut server = scene(&home);
    let mut watch = start(&home);
    watch.shows("the first screen", |screen| {
        screen.contains("P2P workflows") && screen.contains("second") && screen.contains("1 held")
    });
    server.submit("appears");
    watch.shows("the new task", |screen| screen.contains("appears"));
    watch.types("/appears\r");
    watch.shows("the filter", |screen| {
        screen.contains("with \"appears\"") && !screen.contains("second")
    });
    watch.types("\t\r");
    watch.shows("the task", |screen| {
        screen.contains("Task ID: appears") && screen.contains("submitted")
    });
    watch.types("q");
    watch.types("c");
    watch.shows("the question", |screen| screen.contains("Cancel this task? y/n"));
    assert_eq!(server.state("appears"), "pending");
    watch.types("y");
    eventually("the end of the task", || (server.state("appears") == "cancelled").then_some(()));
    watch.shows("that it was done", |screen| screen.contains("cancelled appears"));
    watch.types("r");
    watch.shows("why not", |screen| screen.contains("\"appears\" is already cancelled"));
    watch.types("?");
    watch.shows("help", |screen| screen.contains("Ctrl-C"));
    watch.types("xq");
    assert_eq!(watch.process.exit_code(), 0);
    watch.is_restored();
    let steers = |c: char| c == '\u{202e}' || ('\u{80}'..'\u{a0}').contains(&c);
    assert!(!watch.written().contains(steers), "nothing of a name steers the terminal");
    server.close();
}

#[test]
fn the_terminal_is_restored_by_ctrl_c_and_by_signals_and_when_the_node_is_stopped() {
    let home = Home::new();
    let server = scene(&home);
    for (end, code) in [("ctrl-c", 0), ("term", 0), ("hup", 0), ("stop", 3)] {
        let mut watch = start(&home);
        watch.shows("the screen", |screen| screen.contains("second"));
        match end {
            "ctrl-c" => watch.types("\u{3}"),
            "term" => watch.process.signal(Signal::TERM),
            "hup" => watch.process.signal(Signal::HUP),
            _ => assert_eq!(home.run(&["node", "stop"]).code, 0),
        }
        assert_eq!(watch.process.exit_code(), code, "{end}: {}", watch.written());
        watch.is_restored();
    }
    drop(server);
}

#[test]
fn where_no_node_runs_watch_is_the_node_meanwhile() {
    let home = Home::new();
    let mut watch = start(&home);
    watch.shows("the empty screen", |screen| screen.contains("No workflow has tasks"));
    let submitted = home.run(&[
        "p2p-workflow",
        "submit",
        "--task-id",
        "a",
        "--workflow-id",
        "w",
        "--name",
        "A",
        "--tags",
        "p2p-only",
    ]);
    assert_eq!(submitted.code, 0, "{submitted:?}");
    watch.shows("the new task", |screen| screen.contains("pending   a "));
    watch.types("q");
    assert_eq!(watch.process.exit_code(), 0);
    watch.is_restored();
}

fn start(home: &Home) -> Terminal {
    let mut command = home.command();
    command.args(["p2p-workflow", "watch"]);
    Terminal::run(command)
}
