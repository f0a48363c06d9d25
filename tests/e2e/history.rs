//! `show --history`: what happened to a task, as its node saw it.

use serde_json::{Value, json};

use crate::harness::{Home, task};

/// What happened, with the attempt and the reason.
fn told(home: &Home, id: &str) -> Vec<(String, u64, Value)> {
    let shown = home.json(&["show", "--task-id", id, "--history"]);
    let changes = shown["history"].as_array().expect("a history").iter();
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let attempt = |value: &Value| value.as_u64().expect("a number");
    changes.map(|it| (text(&it["what"]), attempt(&it["attempt"]), it["reason"].clone())).collect()
}

#[test]
fn the_history_of_a_task_says_what_happened_where_and_why() {
    let home = Home::new();
    let mut server = home.start();
    server.submit("a");
    let next = || ["next", "--wait", "50s"];
    for outcome in ["failed", "released", "completed"] {
        let given = home.json(&next());
        let fence = given["lease"]["fence"].to_string();
        let mut report = vec!["complete", "--task-id", "a", "--fence", &fence];
        report.extend(["--outcome", outcome]);
        if outcome == "failed" {
            report.extend(["--error", "no disk"]);
        }
        home.json(&report);
    }
    let expected = [
        ("submitted", 1, Value::Null),
        ("taken", 1, Value::Null),
        ("attempt_failed", 1, json!("no disk")),
        ("taken", 2, Value::Null),
        ("released", 2, Value::Null),
        ("taken", 2, Value::Null),
        ("completed", 2, Value::Null),
    ];
    let expected = expected.map(|(what, attempt, reason)| (what.to_owned(), attempt, reason));
    assert_eq!(told(&home, "a"), expected);

    let shown = home.json(&["show", "--task-id", "a", "--history"]);
    let (peer, changes) = (&shown["peer_id"], shown["history"].as_array().unwrap());
    assert!(changes.iter().all(|change| change["peer"] == *peer), "{shown}");
    assert!(changes.is_sorted_by_key(|change| change["at"].as_u64()), "{shown}");
    assert_eq!(changes[1]["worker"], "command-line");
    assert_eq!(shown["tasks"][0]["state"], "completed", "the task is there as well");
    let people = home.run(&["p2p-workflow", "show", "--task-id", "a", "--history"]);
    assert!(people.stdout.contains("attempt failed"), "{people:?}");

    // Another node goes on with it.
    server.close();
    assert_eq!(told(&home, "a"), expected);
}

#[test]
fn a_worker_that_dies_and_what_people_do_stand_in_the_history() {
    let home = Home::new();
    let mut server = home.start();
    let mut once = task("a");
    once["max_attempts"] = json!(1);
    server.call("p2p_submit_task", &once);
    let mut worker = home.start();
    let given = worker.take();
    let note = json!({"task_id": "a", "fence": given["lease"]["fence"],
                      "outcome": "in_progress", "note": "half way"});
    worker.call("p2p_mark_task_complete", &note);
    worker.kill();
    let again = server.call("p2p_get_next_task", &json!({"wait_seconds": 50}));
    let failed = json!({"task_id": "a", "fence": again["lease"]["fence"],
                        "outcome": "failed", "error": "no memory"});
    server.call("p2p_mark_task_complete", &failed);
    home.json(&["requeue", "--task-id", "a"]);
    home.json(&["reprioritize", "--task-id", "a", "--priority", "9"]);
    home.json(&["cancel", "--task-id", "a", "--reason", "not needed"]);
    let expected = [
        ("submitted", 1, Value::Null),
        ("taken", 1, Value::Null),
        ("progressed", 1, json!("half way")),
        ("worker_lost", 1, Value::Null),
        ("taken", 1, Value::Null),
        ("failed", 1, json!("no memory")),
        ("requeued", 1, Value::Null),
        ("reprioritized", 1, json!("priority 9")),
        ("cancelled", 1, json!("not needed")),
    ];
    let expected = expected.map(|(what, attempt, reason)| (what.to_owned(), attempt, reason));
    assert_eq!(told(&home, "a"), expected);
    server.close();
}

#[test]
fn a_task_that_is_not_there_has_no_history() {
    let home = Home::new();
    let run = home.run(&["p2p-workflow", "show", "--task-id", "none", "--history"]);
    assert_eq!((run.code, run.stdout.as_str()), (1, ""));
    assert!(run.stderr.contains("code: task_not_found"), "{run:?}");
}
