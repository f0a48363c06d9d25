//! Every code of a rejection, reached over a door: the text ends with it, and nothing changes.

use serde_json::{Value, json};

use crate::harness::{Client, Home, code, eventually, task};

const SUBMIT: &str = "p2p_submit_task";
const NEXT: &str = "p2p_get_next_task";
const MARK: &str = "p2p_mark_task_complete";
const STATUS: &str = "p2p_scheduler_status";

/// Two clients of one node: what each is refused depends on what the other did.
struct Stage {
    home: Home,
    one: Client,
    two: Client,
    _node: crate::harness::Server,
}

impl Stage {
    fn new() -> Self {
        let home = Home::new();
        let node = home.start();
        let [one, two] = std::array::from_fn(|_| {
            let mut client = home.connect();
            client.introduce();
            client
        });
        Stage { home, one, two, _node: node }
    }

    /// All that can be seen: the list, the texts of each task, the clock.
    fn everything(&mut self) -> Vec<Value> {
        let list = self.one.call(STATUS, &json!({"limit": 100}));
        let tasks = list["tasks"].as_array().expect("a list").clone();
        let shown =
            tasks.iter().map(|task| self.one.show(task["task_id"].as_str().expect("an id")));
        let mut all: Vec<Value> = shown.collect();
        all.push(list);
        all.push(self.one.call("p2p_get_merkle_clock", &json!({})));
        all
    }

    /// Client two is refused with this code, and nothing changes.
    fn refused(&mut self, expected: &str, tool: &str, arguments: &Value) {
        let before = self.everything();
        let id = self.two.start_call(tool, arguments);
        let answer = self.two.answer(id);
        assert_eq!(code(&answer["result"]), expected, "{tool} {arguments}: {answer}");
        assert_eq!(self.everything(), before, "{expected}: {tool} {arguments}");
    }
}

fn with(mut arguments: Value, field: &str, value: Value) -> Value {
    arguments[field] = value;
    arguments
}

#[test]
fn submissions_are_refused_whole() {
    let mut stage = Stage::new();
    stage.one.call(SUBMIT, &with(task("a"), "payload", json!({"n": 1})));
    stage.one.call(SUBMIT, &with(task("b"), "depends_on", json!(["c"])));
    stage.refused("task_exists", SUBMIT, &with(task("a"), "payload", json!({"n": 2})));
    stage.refused("dependency_cycle", SUBMIT, &with(task("c"), "depends_on", json!(["b"])));
    stage.refused("dependency_cycle", SUBMIT, &with(task("d"), "depends_on", json!(["d"])));
    stage.refused("unknown_tag", SUBMIT, &with(task("d"), "tags", json!(["p2p-only", "gpu"])));
    stage.refused("invalid_argument", SUBMIT, &with(task("d"), "priority", json!(11)));
    let mut strict = with(task("d"), "depends_on", json!(["a", "nowhere"]));
    strict["dependencies_must_exist"] = json!(true);
    stage.refused("unknown_dependency", SUBMIT, &strict);
    for (field, value) in [
        ("task_id", json!("x".repeat(257))),
        ("workflow_id", json!("x".repeat(257))),
        ("name", json!("ü".repeat(257))),
        ("payload", json!("x".repeat(256 * 1024))),
        ("tags", json!(vec!["p2p-only"; 65])),
        ("requires", json!(vec!["gpu"; 65])),
        ("depends_on", json!((0..257).map(|n| format!("t{n}")).collect::<Vec<_>>())),
    ] {
        stage.refused("too_large", SUBMIT, &with(task("d"), field, value));
    }
}

#[test]
fn reports_are_refused_whole() {
    let mut stage = Stage::new();
    for id in ["held", "free", "done", "off"] {
        stage.one.submit(id);
    }
    stage.refused("task_not_found", MARK, &json!({"task_id": "nowhere"}));
    stage.refused("task_not_found", MARK, &json!({"task_id": "nowhere", "outcome": "cancelled"}));
    stage.refused("task_not_found", STATUS, &json!({"task_id": "nowhere"}));
    let fence = stage.one.take()["lease"]["fence"].as_u64().expect("a fence");
    stage.one.call(MARK, &json!({"task_id": "off", "outcome": "cancelled"}));
    stage.refused("already_cancelled", MARK, &json!({"task_id": "off"}));
    for outcome in ["completed", "failed", "released", "in_progress"] {
        let report = |id: &str| json!({"task_id": id, "outcome": outcome});
        stage.refused("not_holder", MARK, &report("held"));
        stage.refused("not_holder", MARK, &with(report("held"), "fence", json!(fence)));
        stage.refused("stale_fence", MARK, &with(report("held"), "fence", json!(fence + 1)));
        stage.refused("not_holder", MARK, &report("free"));
    }
    stage.refused("too_large", MARK, &json!({"task_id": "held", "result": "x".repeat(256 * 1024)}));
    stage.refused(
        "too_large",
        MARK,
        &json!({"task_id": "held", "outcome": "failed", "error": "x".repeat(4097)}),
    );
    stage.one.call(MARK, &json!({"task_id": "held", "result": 1}));
    for outcome in ["completed", "failed", "cancelled"] {
        stage.refused("already_completed", MARK, &json!({"task_id": "held", "outcome": outcome}));
    }
}

#[test]
fn a_lease_that_ran_out_is_told_from_one_that_was_replaced() {
    let mut stage = Stage::new();
    stage.one.submit("a");
    let taken = stage.two.call(NEXT, &json!({"lease_seconds": 1}));
    let fence = taken["lease"]["fence"].clone();
    eventually("the lease to run out", || (stage.one.state("a") == "pending").then_some(()));
    stage.refused("lease_expired", MARK, &json!({"task_id": "a"}));
    let taken = stage.one.call(NEXT, &json!({"wait_seconds": 50}));
    assert_eq!((&taken["task"]["task_id"], &taken["task"]["attempt"]), (&json!("a"), &json!(2)));
    stage.refused("stale_fence", MARK, &json!({"task_id": "a", "fence": fence}));
    stage.refused("not_holder", MARK, &json!({"task_id": "a"}));
    stage.one.call(MARK, &json!({"task_id": "a"}));
}

#[test]
fn clocks_that_cannot_be_right_are_refused_whole() {
    let mut stage = Stage::new();
    stage.one.submit("a");
    let ours = stage.one.call("p2p_get_merkle_clock", &json!({}));
    let me = ours["node_id"].as_str().expect("a peer").to_owned();
    let report = |peer: &str, vector: Value, root: &str| {
        json!({"peer_id": peer,
               "clock_data": {"node_id": "you", "vector": vector, "merkle_root": root}})
    };
    for clock in [
        report("you", json!({"you": 1}), "0000"),
        report("you", json!({"you": 1_u64 << 53}), ""),
        report("somebody-else", json!({"you": 1}), ""),
        report("you", json!({me: 1_000_000}), ""),
    ] {
        stage.refused("forged_clock", "p2p_update_peer_state", &clock);
    }
}

#[test]
fn a_client_with_too_much_in_flight_is_overloaded() {
    let mut stage = Stage::new();
    let waiting: Vec<u64> =
        (0..256).map(|_| stage.two.start_call(NEXT, &json!({"wait_seconds": 50}))).collect();
    stage.refused("overloaded", SUBMIT, &task("a"));
    drop(waiting);
}

#[test]
fn commands_print_the_code_and_exit_with_1() {
    let mut stage = Stage::new();
    stage.one.submit("a");
    for (arguments, code) in [
        (&["complete", "--task-id", "nowhere"][..], "task_not_found"),
        (&["complete", "--task-id", "a"], "not_holder"),
        (&["show", "--task-id", "nowhere"], "task_not_found"),
        (&["requeue", "--task-id", "a"], "invalid_argument"),
        (&["cancel", "--task-id", "nowhere"], "task_not_found"),
        (&["reprioritize", "--task-id", "nowhere", "--priority", "9"], "task_not_found"),
    ] {
        let run = stage.home.run(&[&["p2p-workflow"], arguments].concat());
        assert_eq!((run.code, run.stdout.as_str()), (1, ""), "{arguments:?}");
        assert!(run.stderr.starts_with("✗ "), "{}", run.stderr);
        assert!(run.stderr.ends_with(&format!("code: {code}\n")), "{}", run.stderr);
    }
}
