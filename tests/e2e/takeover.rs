//! The node's process goes away, and a client whose server relays to it does not notice: every
//! request gets its one answer, and what it holds stays its own.

use std::collections::{BTreeMap, HashSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use serde_json::{Value, json};

use crate::harness::{Home, Random, Server, eventually, task};

const NEXT: &str = "p2p_get_next_task";
const MARK: &str = "p2p_mark_task_complete";

#[derive(Clone, Copy, Debug)]
enum Exit {
    Killed,
    HungUp,
    Terminated,
}

const EXITS: [Exit; 3] = [Exit::Killed, Exit::HungUp, Exit::Terminated];

impl Exit {
    fn end(self, mut node: Server) {
        match self {
            Exit::Killed => return node.kill(),
            Exit::HungUp => node.hang_up(),
            Exit::Terminated => node.terminate(),
        }
        assert_eq!(node.process.exit_code(), 0);
    }
}

fn node_and_relay(home: &Home) -> (Server, Server) {
    let (node, relay) = (home.start(), home.start());
    assert_eq!(home.node(), node.id());
    (node, relay)
}

/// A node that ended in order used to answer "no task" to whom it was about to leave.
#[test]
fn a_long_poll_goes_on_with_the_next_node() {
    for exit in EXITS {
        let home = Home::new();
        let (node, mut relay) = node_and_relay(&home);
        let waiting = relay.start_call(NEXT, &json!({"wait_seconds": 50}));
        relay.ping();
        exit.end(node);
        relay.submit("a");
        assert_eq!(relay.finish(waiting)["task"]["task_id"], "a", "{exit:?}");
        assert_eq!(home.node(), relay.id());
        relay.close();
    }
}

/// The relay did not find the answer to an id that its client had written with escapes, as PHP and
/// Python do. The call was repeated to every next node, and took a task that nobody knew of.
#[test]
fn an_answered_call_is_not_repeated_however_its_id_was_written() {
    let home = Home::new();
    let (mut node, mut relay) = node_and_relay(&home);
    relay.submit("a");
    relay.submit("b");
    let call = format!(
        r#"{{"jsonrpc":"2.0","id":"\u00e9\/1","method":"tools/call","params":{{"name":"{NEXT}"}}}}"#
    );
    relay.send_bytes(format!("{call}\n").as_bytes());
    let answer = relay.message().unwrap();
    assert_eq!(answer["id"], "é/1");
    assert_eq!(answer["result"]["structuredContent"]["task"]["task_id"], "a");
    node.kill();
    assert_eq!((relay.state("a"), relay.state("b")), ("assigned".into(), "pending".into()));
    relay.close();
}

/// The relay introduces its client anew and calls in the same breath. The call used to overtake
/// the introduction and was turned down: "send initialize first".
#[test]
fn a_session_between_two_calls_does_not_notice() {
    for exit in EXITS {
        let home = Home::new();
        let (node, mut relay) = node_and_relay(&home);
        relay.submit("a");
        let before = relay.status();
        exit.end(node);
        assert_eq!(relay.status(), before, "{exit:?}");
        assert_eq!(home.node(), relay.id());
        relay.close();
    }
}

#[test]
fn a_lease_is_still_its_holder_s_with_and_without_the_fence() {
    for exit in EXITS {
        for with_fence in [true, false] {
            let home = Home::new();
            let (node, mut relay) = node_and_relay(&home);
            relay.submit("a");
            let fence = relay.take()["lease"]["fence"].clone();
            exit.end(node);
            assert_eq!(relay.take()["task"], Value::Null, "{exit:?}: it is given once");
            let mut report = json!({"task_id": "a", "result": "done"});
            if with_fence {
                report["fence"] = fence;
            }
            assert_eq!(relay.call(MARK, &report)["state"], "completed", "{exit:?}");
            assert_eq!(relay.show("a")["result"], "done");
        }
    }
}

#[test]
fn every_call_in_flight_gets_its_one_answer() {
    for exit in EXITS {
        let home = Home::new();
        let (node, mut relay) = node_and_relay(&home);
        let ids: Vec<String> = (0..200).map(|number| format!("t{number}")).collect();
        let mut calls = Vec::new();
        for (number, id) in ids.iter().enumerate() {
            calls.push(relay.start_call("p2p_submit_task", &task(id)));
            if number == 100 {
                // Some are answered, some are under way, and the others are not yet sent.
                relay.finish(calls[0]);
            }
        }
        exit.end(node);
        for call in calls.drain(1..) {
            relay.finish(call);
        }
        assert_eq!(relay.status()["pending_tasks"], 200, "{exit:?}");
        relay.close();
    }
}

/// A task given in an answer that the killed node never sent must not stay with a worker that
/// does not know of it.
#[test]
fn a_task_whose_answer_was_lost_is_given_again() {
    let mut random = Random::new();
    for _ in 0..6 {
        let home = Home::new();
        let (node, mut relay) = node_and_relay(&home);
        let ids: Vec<String> = (0..40).map(|number| format!("t{number}")).collect();
        for id in &ids {
            relay.submit(id);
        }
        let mut calls: Vec<u64> = ids.iter().map(|_| relay.start_call(NEXT, &json!({}))).collect();
        let awaited = calls.swap_remove(random.below(40) as usize);
        let mut answers = vec![relay.finish(awaited)];
        Exit::Killed.end(node);
        answers.extend(calls.into_iter().map(|call| relay.finish(call)));
        let mut given = HashSet::new();
        for answer in &answers {
            let task = answer["task"]["task_id"].as_str();
            let task = task.unwrap_or_else(|| panic!("a task for each call: {answer}"));
            assert!(given.insert(task), "{task} was given twice");
        }
        assert_eq!(relay.take()["task"], Value::Null, "all are given");
        assert_eq!(given.len(), ids.len());
        for id in &ids {
            assert_eq!(relay.call(MARK, &json!({"task_id": id}))["state"], "completed");
        }
    }
}

#[test]
fn what_a_killed_session_held_is_given_to_another() {
    let home = Home::new();
    let (mut node, mut relay) = node_and_relay(&home);
    node.submit("a");
    let fence = node.take()["lease"]["fence"].as_u64();
    let waiting = relay.start_call(NEXT, &json!({"wait_seconds": 50}));
    relay.ping();
    Exit::Killed.end(node);
    let given = relay.finish(waiting);
    assert_eq!(given["task"]["task_id"], "a");
    assert_eq!(given["task"]["attempt"], 1, "that its node died is not the task's failure");
    assert!(given["lease"]["fence"].as_u64() > fence, "the fence rises: {given}");
}

/// What the clients of the test below did, together.
#[derive(Default)]
struct Ledger {
    /// Task id to the client whose completion was acknowledged.
    acknowledged: Mutex<BTreeMap<String, String>>,
    completed: AtomicU64,
}

/// Takes and completes tasks until all are done. Its server may be killed at any time, and is
/// then started anew.
fn work(home: &Home, name: &str, all: u64, ledger: &Ledger, server: &Mutex<Option<u32>>) {
    let start = || {
        let new = home.start();
        *server.lock().expect("no client panicked") = Some(new.id());
        new
    };
    let mut current = start();
    while ledger.completed.load(Ordering::Relaxed) < all {
        if step(&mut current, name, ledger).is_none() {
            current = start();
        }
    }
    *server.lock().expect("no client panicked") = None;
}

/// `None`: the server was killed.
fn step(server: &mut Server, name: &str, ledger: &Ledger) -> Option<()> {
    let next = server.start_call(NEXT, &json!({"wait_seconds": 0.2}));
    let given = server.try_answer(next)?["result"]["structuredContent"].clone();
    let Some(task_id) = given["task"]["task_id"].as_str() else {
        let status = server.start_call("p2p_scheduler_status", &json!({}));
        let status = server.try_answer(status)?;
        let completed = &status["result"]["structuredContent"]["completed_tasks"];
        ledger.completed.store(completed.as_u64().expect("a count"), Ordering::Relaxed);
        return Some(());
    };
    let fence = &given["lease"]["fence"];
    let report = json!({"task_id": task_id, "fence": fence, "result": name});
    let call = server.start_call(MARK, &report);
    let answer = server.try_answer(call)?;
    assert_eq!(answer["result"]["isError"], false, "{name} holds {task_id}: {answer}");
    let mut acknowledged = ledger.acknowledged.lock().expect("no client panicked");
    let before = acknowledged.insert(task_id.to_owned(), name.to_owned());
    assert_eq!(before, None, "{task_id} was completed twice");
    Some(())
}

#[test]
fn tasks_are_completed_once_while_the_node_is_killed_again_and_again() {
    const ALL: u64 = 400;
    let home = Home::new();
    let mut first = home.start();
    for number in 0..ALL {
        first.submit(&format!("t{number}"));
    }
    let ledger = Ledger::default();
    let servers: [Mutex<Option<u32>>; 3] = Default::default();
    thread::scope(|scope| {
        for (number, server) in servers.iter().enumerate() {
            let (home, ledger) = (&home, &ledger);
            scope.spawn(move || work(home, &format!("client-{number}"), ALL, ledger, server));
        }
        eventually("three clients", || {
            servers
                .iter()
                .all(|server| server.lock().expect("no client panicked").is_some())
                .then_some(())
        });
        first.kill();
        for kill in 1..8_u64 {
            // Between two kills some work is done, so that each hits another moment.
            eventually("some completions", || {
                let done = ledger.acknowledged.lock().expect("no client panicked").len() as u64;
                (done >= kill * ALL / 10).then_some(())
            });
            eventually("a node to kill", || {
                let node = home.node();
                let one_of_ours = |server: &&Mutex<Option<u32>>| {
                    *server.lock().expect("no client panicked") == Some(node)
                };
                let server = servers.iter().find(one_of_ours)?;
                kill_client(&mut server.lock().expect("no client panicked"));
                Some(())
            });
        }
    });
    let mut last = home.start();
    assert_eq!(last.status()["completed_tasks"], ALL);
    for (task_id, name) in ledger.acknowledged.lock().expect("no client panicked").iter() {
        assert_eq!(last.show(task_id)["result"], **name, "the outcome that was acknowledged");
    }
}

fn kill_client(server: &mut Option<u32>) {
    use rustix::process::{Pid, Signal, kill_process};
    let id = server.take().expect("it was there just now");
    let pid = Pid::from_raw(i32::try_from(id).expect("a process id")).expect("not zero");
    kill_process(pid, Signal::KILL).expect("it was not waited for yet");
}
