//! The commands, by hand: what stands on stdout and stderr, and the exit code.

use std::process::Stdio;

use serde_json::{Value, json};

use crate::harness::{Home, Run};

const SUBMIT: [&str; 9] = [
    "p2p-workflow",
    "submit",
    "--workflow-id",
    "w",
    "--name",
    "A task",
    "--tags",
    "p2p-only",
    "--task-id",
];

fn submit(home: &Home, task_id: &str) {
    assert_eq!(home.run(&[&SUBMIT[..], &[task_id]].concat()).code, 0);
}

fn workflow(home: &Home, arguments: &[&str]) -> Run {
    home.run(&[&["p2p-workflow"], arguments].concat())
}

/// A ✓ line, then indented lines, and no colour for a pipe.
fn is_a_card(run: &Run, title: &str) {
    assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{run:?}");
    let mut lines = run.stdout.lines();
    assert_eq!(lines.next(), Some(format!("✓ {title}").as_str()), "{run:?}");
    for line in lines {
        assert!(line.starts_with("  "), "{line:?} of {run:?}");
    }
    assert!(run.stdout.ends_with('\n') && !run.stdout.contains('\u{1b}'), "{run:?}");
}

#[test]
fn every_command_prints_a_card_for_people() {
    let home = Home::new();
    is_a_card(&home.run(&[&SUBMIT[..], &["a"]].concat()), "Task submitted");
    is_a_card(&home.run(&[&SUBMIT[..], &["a"]].concat()), "Task was already there");
    submit(&home, "b");
    is_a_card(
        &workflow(&home, &["reprioritize", "--task-id", "b", "--priority", "1"]),
        "Priority is now 1",
    );
    let taken = workflow(&home, &["next"]);
    is_a_card(&taken, "Task taken");
    assert!(taken.stdout.contains("  Task ID: a\n"), "{taken:?}");
    let complete = taken.stdout.lines().find_map(|line| line.trim().strip_prefix("Report:"));
    let complete: Vec<&str> = complete.expect("how to report").split_whitespace().skip(1).collect();
    is_a_card(&home.run(&complete), "Task completed");
    is_a_card(&workflow(&home, &["next"]), "Task taken");
    let renewed = workflow(
        &home,
        &["complete", "--task-id", "b", "--outcome", "in_progress", "--note", "half"],
    );
    is_a_card(&renewed, "Lease renewed");
    let failed =
        ["complete", "--task-id", "b", "--outcome", "failed", "--error", "no disk", "--no-retry"];
    is_a_card(&workflow(&home, &failed), "Task marked as failed");
    is_a_card(&workflow(&home, &["requeue", "--task-id", "b"]), "Task requeued");
    is_a_card(&workflow(&home, &["cancel", "--task-id", "b"]), "Task cancelled");
    is_a_card(&workflow(&home, &["show", "--task-id", "b"]), "Task");
    is_a_card(&workflow(&home, &["next"]), "No task to take");
    is_a_card(&workflow(&home, &["status"]), "P2P scheduler");
    is_a_card(&workflow(&home, &["clock"]), "Merkle clock");
    is_a_card(
        &workflow(&home, &["check-tags", "--tags", "p2p-only", "unit_test"]),
        "Runs on peers, not on GitHub",
    );
    let list = workflow(&home, &["list"]);
    assert_eq!(list.code, 0, "{list:?}");
    assert!(list.stdout.starts_with("✓ 2 tasks\n"), "{list:?}");
}

#[test]
fn json_is_one_object_on_one_line_and_nothing_else() {
    let home = Home::new();
    let submitted =
        home.json(&[&SUBMIT[1..], &["a", "--payload", r#"{"b":1.10,"a":[]}"#]].concat());
    assert_eq!(submitted["created"], true);
    let taken = home.run(&["p2p-workflow", "next", "--json"]);
    assert!(taken.stdout.contains(r#""payload":{"b":1.10,"a":[]}"#), "to the letter: {taken:?}");
    let completed = home.json(&["complete", "--task-id", "a", "--result", "[1]"]);
    assert_eq!(completed["state"], "completed");
    assert_eq!(home.json(&["show", "--task-id", "a"])["tasks"][0]["result"], json!([1]));
    assert_eq!(home.json(&["list"])["tasks"][0]["task_id"], "a");
    assert_eq!(home.status()["completed_tasks"], 1);
    let clock = home.json(&["clock"]);
    assert_eq!(clock["vector"].as_object().expect("counters").len(), 1);
    assert_eq!(home.json(&["check-tags", "--tags", "gpu"])["unknown_tags"], json!(["gpu"]));
    let nothing = home.json(&["next"]);
    assert_eq!(nothing["task"], Value::Null);
    assert!(nothing["reason"].is_string(), "{nothing}");
}

#[test]
fn exit_codes_tell_rejections_wrong_usage_and_failures_apart() {
    let home = Home::new();
    submit(&home, "a");
    let code = |arguments: &[&str]| {
        let run = workflow(&home, arguments);
        assert!(run.code == 0 || run.stdout.is_empty(), "{run:?}");
        run.code
    };
    assert_eq!(code(&["status"]), 0);
    assert_eq!(code(&["complete", "--task-id", "a", "--json"]), 1);
    let other = [
        "submit",
        "--task-id",
        "a",
        "--workflow-id",
        "w",
        "--name",
        "Another",
        "--tags",
        "p2p-only",
    ];
    assert_eq!(code(&other), 1);
    assert_eq!(code(&["submit", "--task-id", "a"]), 2);
    assert_eq!(code(&["list", "--state", "lost"]), 2);
    std::fs::write(home.data().join("identity.key"), "no key").expect("it is ours");
    assert_eq!(code(&["status"]), 3);
}

#[test]
fn a_dependency_must_exist_where_that_was_asked_for() {
    let home = Home::new();
    let strict = ["b", "--depends-on", "a", "--dependencies-must-exist"];
    let refused = home.run(&[&SUBMIT[..], &strict].concat());
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stderr.ends_with("code: unknown_dependency\n"), "{refused:?}");
    submit(&home, "a");
    assert_eq!(home.run(&[&SUBMIT[..], &strict].concat()).code, 0);
}

#[test]
fn a_file_is_handed_in_line_by_line_and_bad_lines_are_named() {
    let home = Home::new();
    let task =
        |id: &str| json!({"task_id": id, "workflow_id": "w", "name": id, "tags": ["unit-test"]});
    let lines = [
        task("a").to_string(),
        String::new(),
        "nonsense".into(),
        json!({"task_id": "b"}).to_string(),
        task("c").to_string(),
        json!({"task_id": "a", "workflow_id": "other", "name": "a", "tags": []}).to_string(),
        task("a").to_string(),
    ];
    let file = home.path().join("tasks.jsonl");
    std::fs::write(&file, lines.join("\n")).expect("a file");
    let file = file.display().to_string();
    let run = workflow(&home, &["submit", "--file", &file, "--json"]);
    assert_eq!(run.code, 1, "{run:?}");
    let summary: Value = serde_json::from_str(&run.stdout).expect("one object");
    assert_eq!(summary, json!({"submitted": 3, "already_there": 1, "rejected": 3}));
    let named: Vec<&str> = run.stderr.lines().map(|line| &line[.."✗ line 3".len()]).collect();
    assert_eq!(named, ["✗ line 3", "✗ line 4", "✗ line 6"], "{run:?}");
    assert_eq!(home.status()["pending_tasks"], 2);
    let again = workflow(&home, &["submit", "--file", &file]);
    assert!(again.stdout.contains("3 submitted (3 already there), 3 rejected"), "{again:?}");
}

#[test]
fn a_long_file_is_handed_in_whole_and_listed_in_pages() {
    let home = Home::new();
    let lines: String = (0..1000)
        .map(|n| format!("{{\"task_id\":\"t{n}\",\"workflow_id\":\"w\",\"name\":\"n\",\"tags\":[\"unit-test\"]}}\n"))
        .collect();
    let file = home.path().join("tasks.jsonl");
    std::fs::write(&file, lines).expect("a file");
    let run = workflow(&home, &["submit", "--file", &file.display().to_string()]);
    assert_eq!((run.code, run.stdout.as_str()), (0, "✓ 1000 submitted\n"), "{run:?}");
    let all = home.json(&["list", "--all"]);
    let ids = all["tasks"].as_array().expect("a list").iter().map(|task| &task["task_id"]);
    let expected: Vec<Value> = (0..1000).map(|n| json!(format!("t{n}"))).collect();
    assert!(ids.eq(&expected), "each task once, in the order of arrival");
}

#[test]
fn a_reader_who_has_seen_enough_ends_a_list_quietly() {
    let home = Home::new();
    submit(&home, "a");
    let mut command = home.command();
    command.args(["p2p-workflow", "list"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}

#[test]
fn node_stop_ends_the_node_and_all_that_relay_to_it() {
    let home = Home::new();
    let mut servers = [home.start(), home.start(), home.start()];
    servers[2].submit("a");
    let waiting = servers[1]
        .start_call("p2p_get_next_task", &json!({"workflow_id": "x", "wait_seconds": 50}));
    servers[1].ping();
    let run = home.run(&["node", "stop"]);
    assert_eq!((run.code, run.stdout.as_str()), (0, "✓ Node stopped\n"), "{run:?}");
    // A backup that was put back while the node was still closing its store was destroyed.
    for file in ["node.sock", "tasks.sqlite3-wal"] {
        assert!(!home.data().join(file).exists(), "{file} is there after the stop");
    }
    for server in &mut servers {
        assert_eq!(server.process.exit_code(), 0);
    }
    if let Some(answer) = servers[1].try_answer(waiting) {
        assert_eq!(answer["result"]["structuredContent"]["task"], Value::Null, "{answer}");
    }
    assert_eq!(home.run(&["node", "stop"]).stdout, "✓ No node is running\n");
    assert_eq!(home.status()["pending_tasks"], 1, "the tasks stay");
    let mut anew = home.start();
    assert_eq!(anew.take()["task"]["task_id"], "a");
}
