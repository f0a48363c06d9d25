//! The disk refuses: nothing is acknowledged that is not kept, what is there can be read, and
//! writing goes on by itself once the disk takes writes again.
//!
//! A limit on the size of files stands in for a full disk. The signal that comes with it is ignored
//! by the shell that starts the server, so that writes fail with EFBIG.

use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::harness::{Client, Home, Server, code, eventually, task, text};

const SUBMIT: &str = "p2p_submit_task";

fn start(home: &Home) -> Server {
    let mut command = home.prepare(Command::new("sh"));
    command.args([
        "-c",
        "trap '' XFSZ; exec \"$0\" mcp start",
        env!("CARGO_BIN_EXE_ipfs-accelerate"),
    ]);
    command.stderr(Stdio::null());
    let mut server = Server::spawn(command);
    server.introduce();
    server
}

/// Limits the files that the server writes, or lifts the limit.
fn limit(server: &Server, size: &str) {
    let status = Command::new("prlimit")
        .args(["--pid", &server.id().to_string(), &format!("--fsize={size}:")])
        .status()
        .expect("prlimit (util-linux) is there");
    assert!(status.success());
}

fn refuse_writes(server: &Server) {
    limit(server, "1024");
}

fn take_writes(server: &Server) {
    limit(server, "unlimited");
}

/// All that is shown to readers.
fn everything(client: &mut Client) -> Vec<Value> {
    vec![
        client.status(),
        client.call("p2p_scheduler_status", &json!({"limit": 100})),
        client.call("p2p_get_merkle_clock", &json!({})),
        client.show("a"),
        client.show("held"),
    ]
}

#[test]
fn a_full_disk_refuses_writes_and_serves_reads_until_there_is_room() {
    let home = Home::new();
    let mut server = start(&home);
    server.submit("held");
    assert!(server.take()["task"].is_object());
    server.call(SUBMIT, &{
        let mut task = task("a");
        task["payload"] = json!({"n": [1, 2, 3]});
        task
    });
    let before = everything(&mut server);
    refuse_writes(&server);
    let writes = [
        (SUBMIT, task("new")),
        ("p2p_get_next_task", json!({})),
        ("p2p_mark_task_complete", json!({"task_id": "held"})),
        ("p2p_mark_task_complete", json!({"task_id": "a", "outcome": "cancelled"})),
    ];
    for _again in 0..2 {
        for (tool, arguments) in &writes {
            let call = server.start_call(tool, arguments);
            let answer = server.answer(call);
            assert_eq!(code(&answer["result"]), "store_failed", "{tool}: {answer}");
            let what = text(&answer["result"]);
            assert!(what.contains("then repeat the call"), "it says what to do: {what}");
        }
        assert_eq!(everything(&mut server), before, "only what was committed is shown");
    }
    let command = home.run(&["p2p-workflow", "cancel", "--task-id", "a"]);
    assert_eq!((command.code, command.stdout.as_str()), (3, ""), "{command:?}");
    assert_eq!(home.status(), before[0]);

    take_writes(&server);
    eventually("the store to take writes again", || {
        let call = server.start_call(SUBMIT, &task("new"));
        let answer = server.answer(call);
        (answer["result"]["isError"] == false).then_some(())
    });
    server.call("p2p_mark_task_complete", &json!({"task_id": "held", "result": "kept"}));
    server.kill();
    let mut next = home.start();
    assert_eq!(next.show("held")["result"], "kept");
    assert_eq!(next.show("a"), before[3]);
    assert_eq!(next.state("new"), "pending");
}

#[test]
fn a_task_whose_submission_failed_is_given_to_nobody() {
    let home = Home::new();
    let mut server = start(&home);
    let mut waiting = home.start();
    let wait = json!({"wait_seconds": 50});
    let call = waiting.start_call("p2p_get_next_task", &wait);
    waiting.ping();
    refuse_writes(&server);
    assert_eq!(server.refused(SUBMIT, &task("a")), "store_failed");
    let answer = waiting.answer(call);
    assert_eq!(code(&answer["result"]), "store_failed", "it would have been given: {answer}");
    take_writes(&server);
    eventually("the store to take writes again", || {
        let call = server.start_call(SUBMIT, &task("a"));
        let answer = server.answer(call);
        (answer["result"]["isError"] == false).then_some(())
    });
    assert_eq!(waiting.call("p2p_get_next_task", &wait)["task"]["task_id"], "a");
}

/// A subscriber may be told of a change before its commit fails. It never reads it, and is told
/// again of all that it watches once the tasks were read again from the disk.
#[test]
fn a_subscriber_is_told_when_what_it_was_told_of_was_not_kept() {
    let home = Home::new();
    let mut server = start(&home);
    let mut subscriber = home.start();
    subscriber.subscribe("p2p://tasks/a");
    subscriber.subscribe("p2p://tasks/never");
    refuse_writes(&server);
    assert_eq!(server.refused(SUBMIT, &task("a")), "store_failed");
    let mut told = Vec::new();
    while !told.contains(&"p2p://tasks/never".to_owned()) {
        told.push(subscriber.updated());
        let missing = subscriber.fails("resources/read", &json!({"uri": "p2p://tasks/a"}));
        // While the commit is under way the look fails with it, and else there is no such task.
        assert!([-32002, -32603].map(Value::from).contains(&missing["code"]), "{missing}");
    }
    assert!(told.contains(&"p2p://tasks/a".to_owned()), "{told:?}");
    take_writes(&server);
    eventually("the store to take writes again", || {
        let call = server.start_call(SUBMIT, &task("a"));
        let answer = server.answer(call);
        (answer["result"]["isError"] == false).then_some(())
    });
    let read = json!({"uri": "p2p://tasks/a"});
    while subscriber.updated() != "p2p://tasks/a" || {
        let id = subscriber.request("resources/read", &read);
        subscriber.answer(id)["result"].is_null()
    } {}
    assert_eq!(subscriber.read("p2p://tasks/a")["state"], "pending");
}

/// A call whose batch had been dropped, and which had not yet asked for it, used to take a number
/// that was raised for all as its own commit: acknowledged, and lost.
#[test]
fn of_many_writes_those_that_were_acknowledged_are_there() {
    let home = Home::new();
    let mut server = start(&home);
    let mut acknowledged = Vec::new();
    for round in 0..5 {
        let calls: Vec<(String, u64)> = (0..200)
            .map(|number| {
                let id = format!("t{round}-{number}");
                let call = server.start_call(SUBMIT, &task(&id));
                if number == 100 {
                    refuse_writes(&server);
                }
                (id, call)
            })
            .collect();
        for (id, call) in calls {
            let answer = server.answer(call);
            match answer["result"]["isError"] == false {
                true => acknowledged.push(id),
                false => assert_eq!(code(&answer["result"]), "store_failed"),
            }
        }
        take_writes(&server);
        eventually("the store to take writes again", || {
            let id = format!("after-{round}");
            let call = server.start_call(SUBMIT, &task(&id));
            let taken = server.answer(call)["result"]["isError"] == false;
            taken.then(|| acknowledged.push(id))
        });
    }
    refuse_writes(&server);
    assert_eq!(server.refused(SUBMIT, &task("last")), "store_failed");
    server.close();
    let mut next = home.start();
    for id in &acknowledged {
        assert_eq!(next.state(id), "pending", "{id}");
    }
}

#[test]
fn relaxed_durability_survives_a_killed_process() {
    let home = Home::new();
    let mut command = home.command();
    command.args(["mcp", "start", "--durability", "relaxed"]);
    let mut server = Server::spawn(command);
    server.introduce();
    let peer = server.status()["peer_id"].clone();
    for number in 0..100 {
        server.submit(&format!("t{number}"));
    }
    let fence =
        server.call("p2p_get_next_task", &json!({"lease_seconds": 60}))["lease"]["fence"].clone();
    server.kill();
    let mut next = home.start();
    let status = next.status();
    assert_eq!(status["peer_id"], peer);
    assert_eq!((&status["pending_tasks"], &status["assigned_tasks"]), (&json!(99), &json!(1)));
    assert_eq!(next.show("t0")["fence"], fence);
    next.submit("after");
}
