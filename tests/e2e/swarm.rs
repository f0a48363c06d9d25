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
pub(crate) fn pair(one: &Home, other: &Home) -> Value {
    done(&swarm(one, &["init", "--json"]));
    let line = swarm(one, &["invite"]).stdout;
    let joined = done(&swarm(other, &["join", line.trim(), "--json"]));
    assert_eq!(joined["reached"], true, "{joined}");
    // It returns when all tasks are there.
    assert_eq!(joined["caught_up"], true, "{joined}");
    joined
}

pub(crate) fn in_sync(homes: &[&Home]) {
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
    assert_eq!(pair(&one, &other)["tasks_taken"], 1);
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

/// This machine's row, and those of the others.
fn peers(home: &Home) -> (Value, Vec<Value>) {
    let shown = done(&swarm(home, &["peers", "--json"]));
    let mut rows = shown["peers"].as_array().expect("a list").clone();
    let this = rows.remove(0);
    assert_eq!(this["this_peer"], true, "{this}");
    (this, rows)
}

fn peer_id(home: &Home) -> String {
    peers(home).0["peer_id"].as_str().expect("a text").to_owned()
}

fn connected(home: &Home, to: &[&str]) {
    eventually("that it is connected to these alone", || {
        let rows = peers(home).1.into_iter().filter(|row| row["connected"] == true);
        let mut ids: Vec<String> =
            rows.map(|row| row["peer_id"].as_str().expect("a text").to_owned()).collect();
        ids.sort_unstable();
        let mut wanted = to.to_vec();
        wanted.sort_unstable();
        (ids == wanted).then_some(())
    });
}

/// Who was refused, and why.
fn refusals(home: &Home) -> Vec<(String, String)> {
    let shown = done(&swarm(home, &["peers", "--json"]));
    let refusals = shown["refusals"].as_array().expect("a list").iter();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    refusals.map(|it| (text(&it["peer_id"]), text(&it["why"]))).collect()
}

#[test]
fn once_somebody_is_trusted_all_others_are_kept_out_at_once_and_after_a_restart() {
    let (one, friend, stranger) = (Home::new(), Home::new(), Home::new());
    let (here, _friend, _stranger) = (one.start(), friend.start(), stranger.start());
    pair(&one, &friend);
    done(&swarm(&stranger, &["join", swarm(&one, &["invite"]).stdout.trim(), "--json"]));
    let (friend_id, stranger_id) = (peer_id(&friend), peer_id(&stranger));
    connected(&one, &[&friend_id, &stranger_id]);
    let trusted = swarm(&one, &["trust", &friend_id]);
    assert_eq!(trusted.code, 0, "{trusted:?}");
    assert!(trusted.stdout.contains("Only those who are trusted"), "{}", trusted.stdout);
    let kept_out = trusted.stdout.split("kept out now:").nth(1).expect("it names them");
    assert!(kept_out.contains(&stranger_id) && !kept_out.contains(&friend_id), "{kept_out}");
    connected(&one, &[&friend_id]);
    let mode = std::fs::metadata(one.data().join("swarm.trusted")).expect("it is kept");
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode.permissions()) & 0o777, 0o600);
    here.close();
    let _here = one.start();
    eventually("that the stranger is refused anew", || {
        let refused = refusals(&one);
        refused
            .iter()
            .any(|(id, why)| *id == stranger_id && why.contains("allow list"))
            .then_some(())
    });
    connected(&one, &[&friend_id]);
    let anyone = done(&swarm(&one, &["trust", "--anyone", "--json"]));
    assert_eq!((&anyone["trusted"], &anyone["kept_out"]), (&json!([]), &json!([])));
    connected(&one, &[&friend_id, &stranger_id]);
}

#[test]
fn a_blocked_machine_is_kept_out_though_it_is_trusted_until_it_is_blocked_no_longer() {
    let (one, other) = (Home::new(), Home::new());
    let (here, _there) = (one.start(), other.start());
    pair(&one, &other);
    let id = peer_id(&other);
    connected(&one, &[&id]);
    done(&swarm(&one, &["trust", &id, "--json"]));
    // As a narrow terminal shows it.
    let short = format!("{}…{}", &id[..8], &id[id.len() - 8..]);
    let blocked = done(&swarm(&one, &["block", &short, "--json"]));
    assert_eq!(blocked["blocked"], json!([id]));
    assert_eq!(blocked["kept_out"], json!([id]));
    connected(&one, &[]);
    assert_eq!(peers(&one).1, Vec::<Value>::new(), "it is no member any more");
    here.close();
    let _here = one.start();
    eventually("that it is refused anew", || {
        refusals(&one).iter().any(|(who, why)| *who == id && why.contains("block")).then_some(())
    });
    connected(&one, &[]);
    done(&swarm(&one, &["block", "--remove", &id, "--json"]));
    connected(&one, &[&id]);
}

#[test]
fn who_is_no_other_machine_cannot_be_trusted_or_blocked_and_nothing_changes() {
    let home = Home::new();
    let nobody = swarm(&home, &["trust", "12D3KooWCD6GPLKj8umF1ysMZTGzmEeRWnQH3MpH25VBxF1XqYvr"]);
    assert_eq!(nobody.code, 1);
    assert!(nobody.stderr.contains("swarm init"), "{}", nobody.stderr);
    done(&swarm(&home, &["init", "--json"]));
    let good = "12D3KooWCD6GPLKj8umF1ysMZTGzmEeRWnQH3MpH25VBxF1XqYvr";
    done(&swarm(&home, &["trust", good, "--json"]));
    let me = peer_id(&home);
    let other = "12D3KooWGWTtibP31YJvCbwyNN38C712SA8kkueSZKgpBfxCr6pQ";
    for arguments in [
        &["trust", other, "nonsense"][..],
        &["trust", other, &me],
        &["trust", other, "12D3KooW…zzzzzzzz"],
        // Everybody would be let in.
        &["trust", "--remove", good],
        &["block", other, ""],
        &["block", other, &me],
    ] {
        let run = swarm(&home, arguments);
        assert_eq!((run.code, run.stdout.as_str()), (1, ""), "{arguments:?}");
    }
    for arguments in [&["trust"][..], &["trust", "--anyone", good], &["block"]] {
        assert_eq!(swarm(&home, arguments).code, 2, "{arguments:?}");
    }
    let shown = done(&swarm(&home, &["peers", "--json"]));
    assert_eq!((&shown["trusted"], &shown["blocked"]), (&json!([good]), &json!([])));
    // A list that cannot be read lets nobody in.
    std::fs::write(home.data().join("swarm.trusted"), "half a li").expect("it is there");
    assert_eq!(swarm(&home, &["peers"]).code, 1);
    let fails = swarm(&home, &["invite"]);
    assert_eq!(fails.code, 1);
    assert!(fails.stderr.contains("swarm.trusted"), "{}", fails.stderr);
    assert_eq!(swarm(&home, &["leave"]).code, 0);
    assert!(!home.data().join("swarm.trusted").exists());
}

#[test]
fn a_machine_with_another_key_is_refused_and_counted_on_both_sides() {
    let (one, other) = (Home::new(), Home::new());
    let _here = one.start();
    done(&swarm(&one, &["init", "--json"]));
    done(&swarm(&other, &["init", "--json"]));
    let line = swarm(&one, &["invite"]).stdout;
    let known: Vec<&str> = line.trim().split('+').filter(|part| part.contains("/tcp/")).collect();
    let known = known.join(" ");
    let id = peer_id(&one);
    let known = format!("{id} {known}\n");
    std::fs::write(other.data().join("swarm.peers"), known).expect("it is there");
    let _there = other.start();
    // Who it was never got through to the one that was dialled.
    for (home, whom) in [(&other, &*id), (&one, "")] {
        eventually("that the other key is told of", || {
            let refused = refusals(home);
            let told = |(who, why): &(String, String)| who == whom && why.contains("key mismatch");
            refused.iter().any(told).then_some(())
        });
    }
    connected(&one, &[]);
}

/// Once each of them was told of, on the machine that its node had dialled for a moment, as a peer that
/// may have been refused.
#[test]
fn a_command_that_is_a_node_for_a_moment_is_no_peer_that_hangs_up() {
    let (one, other) = (Home::new(), Home::new());
    let _here = one.start();
    pair(&one, &other);
    for number in 0..10 {
        let id = format!("t{number}");
        let task =
            ["--task-id", &id, "--workflow-id", "w", "--name", "a task", "--tags", "p2p-only"];
        other.json(&[&["submit"], &task[..]].concat());
    }
    let _there = other.start();
    let id = peer_id(&other);
    connected(&one, &[&id]);
    let mut refused = refusals(&one);
    refused.retain(|(who, _)| *who == id);
    assert_eq!(refused, []);
}

/// Once it listed the other machine as not connected, or did not know it at all, and told of nothing
/// to be done.
#[test]
fn a_machine_that_joined_and_where_no_node_stays_is_told_why_nobody_is_connected() {
    let (one, other) = (Home::new(), Home::new());
    let here = one.start();
    done(&swarm(&one, &["init", "--json"]));
    let joined = swarm(&other, &["join", swarm(&one, &["invite"]).stdout.trim()]);
    assert_eq!(joined.code, 0, "{joined:?}");
    let inviting = peer_id(&one);
    assert!(joined.stdout.contains(&format!("Invited by: {inviting}\n")), "{}", joined.stdout);
    here.close();
    // The node of the command may have been connected for a moment before.
    let shown = swarm(&other, &["peers"]);
    assert_eq!(shown.code, 0, "{shown:?}");
    assert!(shown.stdout.contains(&inviting), "{}", shown.stdout);
    let why = "1 other machine is known, and none is connected: no node stays on this machine.";
    assert!(shown.stdout.contains(why), "{}", shown.stdout);
}

#[test]
fn an_invitation_names_the_loopback_only_where_the_machine_has_no_other_address() {
    let home = Home::new();
    let _node = home.start();
    done(&swarm(&home, &["init", "--json"]));
    let line = swarm(&home, &["invite"]).stdout;
    let told: Vec<&str> = line.trim().split('+').filter(|part| part.contains("/tcp/")).collect();
    let is_loopback =
        |address: &&str| address.starts_with("/ip4/127.") || address.starts_with("/ip6/::1/");
    let loopback = told.iter().copied().filter(is_loopback).count();
    assert!(!told.is_empty() && (loopback == 0 || loopback == told.len()), "{told:?}");
    assert_eq!(peers(&home).0["addresses"], json!(told));
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

/// It was shown as down for half a year, like a machine that somebody should look at.
#[test]
fn a_machine_that_left_for_good_is_shown_so() {
    let (one, other) = (Home::new(), Home::new());
    let (_here, _there) = (one.start(), other.start());
    pair(&one, &other);
    let state = || peers(&one).1.first().map(|row| row["state"].clone());
    eventually("that the other machine is there", || (state()? == "alive").then_some(()));
    assert_eq!(swarm(&other, &["leave"]).code, 0);
    eventually("that it is shown as having left", || (state()? == "left").then_some(()));
}
