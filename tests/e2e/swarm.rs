//! Two machines, here two data directories, that share their tasks.

use serde_json::{Value, json};

use crate::harness::{Home, Run, eventually, task};

fn swarm(home: &Home, arguments: &[&str]) -> Run {
    home.run(&[&["swarm"], arguments].concat())
}

fn done(run: &Run) -> Value {
    assert_eq!(run.code, 0, "{run:?}");
    serde_json::from_str(&run.stdout).expect("JSON on stdout")
}

/// Makes a swarm at one, and lets the other join.
fn pair(one: &Home, other: &Home) {
    done(&swarm(one, &["init", "--json"]));
    let line = swarm(one, &["invite"]).stdout;
    let joined = done(&swarm(other, &["join", line.trim(), "--json"]));
    assert_eq!(joined["reached"], true, "{joined}");
}

fn in_sync(homes: &[&Home]) {
    eventually("that all hold the same", || {
        let status: Vec<Value> = homes.iter().map(|home| home.status()).collect();
        let same = |key: &str| status.iter().all(|of| of[key] == status[0][key]);
        let agree = same("merkle_root") && same("completed_tasks") && same("pending_tasks");
        (agree && status.iter().all(|of| of["in_sync"] == true)).then_some(())
    });
}

#[test]
fn what_one_machine_hands_in_another_takes_and_completes() {
    let (one, other) = (Home::new(), Home::new());
    let (mut here, mut there) = (one.start(), other.start());
    // What was there before is shared as well.
    here.submit("before");
    pair(&one, &other);
    let mut with_payload = task("after");
    with_payload["payload"] = json!({"text": "to the letter", "number": 1.5});
    here.call("p2p_submit_task", &with_payload);
    let mut taken = Vec::new();
    while taken.len() < 2 {
        let given = there.call("p2p_get_next_task", &json!({"wait_seconds": 50}));
        let id = given["task"]["task_id"].as_str().unwrap_or_else(|| panic!("{given}")).to_owned();
        if id == "after" {
            assert_eq!(given["task"]["payload"], with_payload["payload"]);
        }
        there.call("p2p_mark_task_complete", &json!({"task_id": id, "result": {"by": "other"}}));
        taken.push(id);
    }
    in_sync(&[&one, &other]);
    assert_eq!(here.show("after")["result"], json!({"by": "other"}));
    assert_eq!(here.show("before")["state"], "completed");
}

#[test]
fn a_machine_that_dies_is_replaced_and_its_task_is_done_by_the_other() {
    let (one, other) = (Home::new(), Home::new());
    let (mut here, mut there) = (one.start(), other.start());
    pair(&one, &other);
    here.submit("a");
    eventually("that the other machine has it", || {
        there.status()["pending_tasks"].as_u64().filter(|tasks| *tasks == 1)
    });
    assert_eq!(
        here.call("p2p_get_next_task", &json!({"wait_seconds": 50}))["task"]["task_id"],
        "a"
    );
    eventually("that the other machine knows who has it", || {
        there.status()["assigned_tasks"].as_u64().filter(|tasks| *tasks == 1)
    });
    here.kill();
    let given = there.call("p2p_get_next_task", &json!({"wait_seconds": 50}));
    assert_eq!(given["task"]["task_id"], "a", "{given}");
    assert_eq!(
        there.call("p2p_mark_task_complete", &json!({"task_id": "a"}))["state"],
        "completed"
    );
    // Back from the dead, it learns what became of its task.
    let mut here = one.start();
    in_sync(&[&one, &other]);
    assert_eq!(here.show("a")["state"], "completed");
}

#[test]
fn a_machine_without_a_key_is_in_no_swarm_and_says_how_to_enter_one() {
    let home = Home::new();
    for command in [&["peers"][..], &["invite"], &["leave"]] {
        let run = swarm(&home, command);
        assert_eq!((run.code, run.stdout.as_str()), (1, ""), "{command:?}");
        assert!(run.stderr.contains("swarm init"), "{}", run.stderr);
    }
    let run = swarm(&home, &["join", "not a line"]);
    assert_eq!(run.code, 1);
    assert!(run.stderr.contains("swarm invite"), "{}", run.stderr);
    let made = done(&swarm(&home, &["init", "--json"]));
    let again = swarm(&home, &["init"]);
    assert_eq!(again.code, 1);
    assert!(again.stderr.contains(made["fingerprint"].as_str().expect("a text")), "{again:?}");
    assert_eq!(swarm(&home, &["leave"]).code, 0);
    assert!(!home.data().join("swarm.key").exists());
}
