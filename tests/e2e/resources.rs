//! Resources, subscriptions, prompts, completion and progress, as a client has them over pipes and
//! the socket.

use std::time::Instant;

use serde_json::{Value, json};

use crate::harness::{Client, Home, Server, task, updated};

/// Submits a task of a workflow of its own.
fn submit(client: &mut Client, task_id: &str, workflow_id: &str, more: &Value) {
    let mut task = task(task_id);
    task["workflow_id"] = json!(workflow_id);
    for (name, value) in more.as_object().expect("an object") {
        task[name] = value.clone();
    }
    assert_eq!(client.call("p2p_submit_task", &task)["success"], true);
}

/// Takes the next task and completes it.
fn work(client: &mut Client) {
    let given = client.take();
    let done = json!({
        "task_id": given["task"]["task_id"], "fence": given["lease"]["fence"], "result": {"n": 1},
    });
    assert_eq!(client.call("p2p_mark_task_complete", &done)["state"], "completed");
}

/// What each request of the protocol from 2026-07-28 on says of itself.
fn modern(mut params: Value, version: &str) -> Value {
    params["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": version,
        "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    params
}

/// A server whose client never shakes hands.
fn stateless(home: &Home) -> Server {
    let mut command = home.command();
    command.args(["mcp", "start"]);
    Server::spawn(command)
}

#[test]
fn every_resource_shows_what_the_tools_show() {
    let home = Home::new();
    let mut client = home.start();
    let payload = json!({"payload": {"z": 1, "a": [1.5, null]}});
    for n in 0..101 {
        submit(&mut client, &format!("t{n}"), "w", &payload);
    }
    submit(&mut client, "next", "w", &json!({"depends_on": ["t0"]}));
    work(&mut client);

    assert_eq!(client.read("p2p://status"), client.call("p2p_scheduler_status", &json!({})));
    assert_eq!(client.read("p2p://clock"), client.call("p2p_get_merkle_clock", &json!({})));
    assert_eq!(client.read("p2p://tasks/t0"), client.show("t0"));
    let workflow = client.read("p2p://workflows/w");
    let counts = ["pending", "blocked", "assigned", "completed", "failed", "cancelled"]
        .map(|state| workflow[format!("{state}_tasks")].as_u64().expect("a count"));
    assert_eq!(counts, [101, 0, 0, 1, 0, 0]);
    let shown = workflow["tasks"].as_array().expect("tasks");
    assert_eq!((shown.len(), &shown[0]["state"]), (100, &json!("completed")));
    let rest = json!({"workflow_id": "w", "cursor": workflow["next_cursor"]});
    let rest = client.call("p2p_scheduler_status", &rest);
    let ids: Vec<_> =
        rest["tasks"].as_array().expect("tasks").iter().map(|t| &t["task_id"]).collect();
    assert_eq!(ids, ["t100", "next"]);
    client.close();
}

#[test]
fn the_peers_show_what_was_reported_of_them() {
    let home = Home::new();
    let mut client = home.start();
    client.subscribe("p2p://peers");
    let me = client.status()["peer_id"].clone();
    let alone = client.read("p2p://peers");
    assert_eq!((&alone["peer_id"], &alone["known_peers"]), (&me, &json!(1)));
    let root = "8c8d21a3b9d2d4f26a5a48a7ed9bfb0c2a9ee4d0ba4a0a5e3c1bb1dfbd9c6c1e";
    let clock = json!({"node_id": "you", "vector": {"you": 3}, "merkle_root": root});
    let report = json!({"peer_id": "you", "clock_data": clock});
    // The refusal names the root that the vector has.
    let id = client.start_call("p2p_update_peer_state", &report);
    let refusal = client.answer(id);
    let said = crate::harness::text(&refusal["result"]);
    let root = said.split([' ', '.', ',']).find(|word| word.len() == 64).expect("a root");
    let clock = json!({"node_id": "you", "vector": {"you": 3}, "merkle_root": root});
    client.call("p2p_update_peer_state", &json!({"peer_id": "you", "clock_data": clock}));
    assert_eq!(client.updated(), "p2p://peers");
    let both = client.read("p2p://peers");
    assert_eq!((&both["known_peers"], &both["alive_peers"]), (&json!(2), &json!(2)));
    assert_eq!((&both["peers"][0]["peer_id"], &both["peers"][0]["this_peer"]), (&me, &json!(true)));
    let you = &both["peers"][1];
    assert_eq!(
        (&you["peer_id"], &you["alive"], &you["takes_work"]),
        (&json!("you"), &json!(true), &json!(true))
    );
    assert_eq!((&you["clock_order"], &you["liveness"]), (&json!("after"), &Value::Null));
    assert!(you["heard_at"].is_u64(), "{you}");
    client.close();
}

#[test]
fn odd_ids_are_read_by_their_encoded_addresses() {
    let home = Home::new();
    let mut client = home.start();
    for (id, address) in [
        ("a/b c", "a%2Fb%20c"),
        ("100%", "100%25"),
        ("ünï/日本 😀", "%C3%BCn%C3%AF%2F%E6%97%A5%E6%9C%AC%20%F0%9F%98%80"),
        ("q?x=1#y&z", "q%3Fx%3D1%23y%26z"),
    ] {
        submit(&mut client, id, id, &json!({}));
        assert_eq!(client.read(&format!("p2p://tasks/{address}"))["task_id"], id);
        let workflow = client.read(&format!("p2p://workflows/{address}"));
        assert_eq!((&workflow["workflow_id"], &workflow["pending_tasks"]), (&json!(id), &json!(1)));
        let listed = client.ask("resources/list", &json!({}));
        client.hear();
        assert_eq!(listed["resources"][3]["uri"], format!("p2p://workflows/{address}"));
        assert_eq!(listed["resources"][3]["name"], id);
    }
    // As a client writes it that does not know of encoding.
    assert_eq!(client.read("p2p://tasks/a/b c")["task_id"], "a/b c");
    client.close();
}

#[test]
fn what_is_not_there_is_said_with_what_there_is() {
    let home = Home::new();
    let mut client = home.start();
    for uri in
        ["p2p://tasks/none", "p2p://workflows/none", "p2p://nothing", "http://x", "p2p://tasks/"]
    {
        let error = client.fails("resources/read", &json!({"uri": uri}));
        assert_eq!(error["code"], -32002, "{error}");
        let text = error["message"].as_str().expect("a message");
        assert!(text.contains("p2p://status") && text.contains("p2p://tasks/{task_id}"), "{text}");
    }
    let unknown = client.fails("resources/subscribe", &json!({"uri": "p2p://nothing"}));
    assert_eq!(unknown["code"], -32002);
    let params = modern(json!({"uri": "p2p://tasks/none"}), "2026-07-28");
    assert_eq!(client.fails("resources/read", &params)["code"], -32602);
    let without = client.fails("resources/read", &json!({"url": "p2p://status"}));
    assert_eq!(
        (&without["code"], &without["message"]),
        (&json!(-32602), &json!("resources/read takes {uri}"))
    );
    client.close();
}

#[test]
fn the_list_has_the_fixed_resources_and_the_newest_workflows() {
    let home = Home::new();
    let mut client = home.start();
    for n in 0..105 {
        submit(&mut client, &format!("t{n}"), &format!("w{n}"), &json!({}));
    }
    client.hear();
    let listed = client.ask("resources/list", &json!({}));
    let uris: Vec<_> =
        listed["resources"].as_array().expect("a list").iter().map(|r| r["uri"].clone()).collect();
    assert_eq!(uris.len(), 103);
    let first = [
        "p2p://status",
        "p2p://clock",
        "p2p://peers",
        "p2p://workflows/w104",
        "p2p://workflows/w103",
    ];
    assert_eq!(uris[..5], first);
    let templates = client.ask("resources/templates/list", &json!({}));
    let templates: Vec<_> = templates["resourceTemplates"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|t| &t["uriTemplate"])
        .collect();
    assert_eq!(templates, ["p2p://tasks/{task_id}", "p2p://workflows/{workflow_id}"]);
    // Whoever has listed is told of a new workflow, and of no other change.
    submit(&mut client, "another", "w104", &json!({}));
    assert_eq!(client.notices(), Vec::<Value>::new());
    submit(&mut client, "new", "new", &json!({}));
    assert_eq!(client.notice()["method"], "notifications/resources/list_changed");
    let listed = client.ask("resources/list", &json!({}));
    assert_eq!(listed["resources"][3]["uri"], "p2p://workflows/new");
    client.close();
}

#[test]
fn a_subscriber_is_told_of_what_another_process_does_and_reads_it() {
    let home = Home::new();
    let mut node = home.start();
    let mut relayed = home.start();
    // One is told by its own process, the other through a relay; each acts on the other's watch.
    for (subscriber, actor) in [(true, false), (false, true)] {
        let id = format!("t{subscriber}");
        let uri = format!("p2p://tasks/{id}");
        let (told, doing) = match (subscriber, actor) {
            (true, _) => (&mut node, &mut relayed),
            (false, _) => (&mut relayed, &mut node),
        };
        // Before there is such a task.
        told.subscribe(&uri);
        submit(doing, &id, "w", &json!({}));
        assert_eq!(told.updated(), uri);
        assert_eq!(told.read(&uri)["state"], "pending");
        let given = doing.take();
        assert_eq!(told.updated(), uri);
        assert_eq!(told.read(&uri)["state"], "assigned");
        let done = json!({"task_id": id, "fence": given["lease"]["fence"], "result": [7]});
        doing.call("p2p_mark_task_complete", &done);
        assert_eq!(told.updated(), uri);
        let read = told.read(&uri);
        assert_eq!((&read["state"], &read["result"]), (&json!("completed"), &json!([7])));
        // Exactly that: each change was told once.
        assert_eq!(told.notices(), Vec::<Value>::new());
    }
    // A command is a process too.
    node.subscribe("p2p://clock");
    let before = node.read("p2p://clock");
    home.json(&[
        "submit",
        "--task-id",
        "c",
        "--workflow-id",
        "v",
        "--name",
        "n",
        "--tags",
        "p2p-only",
    ]);
    assert_eq!(node.updated(), "p2p://clock");
    assert_ne!(node.read("p2p://clock"), before);
    relayed.close();
    node.close();
}

#[test]
fn a_task_that_is_unblocked_is_told_of_and_so_is_its_workflow() {
    let home = Home::new();
    let mut client = home.start();
    submit(&mut client, "first", "w", &json!({}));
    submit(&mut client, "second", "v", &json!({"depends_on": ["first"]}));
    client.subscribe("p2p://tasks/second");
    client.subscribe("p2p://workflows/v");
    assert_eq!(client.read("p2p://workflows/v")["blocked_tasks"], 1);
    let mut worker = home.connect();
    worker.introduce();
    work(&mut worker);
    let mut told = [client.updated(), client.updated()];
    told.sort();
    assert_eq!(told, ["p2p://tasks/second", "p2p://workflows/v"]);
    assert_eq!(client.read("p2p://tasks/second")["state"], "pending");
    assert_eq!(client.read("p2p://workflows/v")["pending_tasks"], 1);
    client.close();
}

#[test]
fn a_delay_that_ends_is_told_of_though_nobody_does_anything() {
    let home = Home::new();
    let mut client = home.start();
    submit(&mut client, "later", "w", &json!({"delay_seconds": 0.5}));
    client.subscribe("p2p://tasks/later");
    assert_eq!(client.updated(), "p2p://tasks/later");
    assert_eq!(client.read("p2p://tasks/later")["reason"], Value::Null);
    client.close();
}

#[test]
fn whoever_unsubscribes_hears_no_more() {
    let home = Home::new();
    let mut client = home.start();
    for uri in ["p2p://tasks/left", "p2p://tasks/kept", "p2p://tasks/l%65ft"] {
        client.subscribe(uri);
    }
    // Two ways to write one address are two subscriptions.
    assert_eq!(client.ask("resources/unsubscribe", &json!({"uri": "p2p://tasks/left"})), json!({}));
    submit(&mut client, "left", "w", &json!({}));
    assert_eq!(client.updated(), "p2p://tasks/l%65ft");
    for uri in ["p2p://tasks/l%65ft", "p2p://tasks/never"] {
        assert_eq!(client.ask("resources/unsubscribe", &json!({"uri": uri})), json!({}));
    }
    work(&mut client);
    submit(&mut client, "kept", "w", &json!({}));
    // What was told comes in order: nothing of the other was told before.
    assert_eq!(client.updated(), "p2p://tasks/kept");
    assert_eq!(client.notices(), Vec::<Value>::new());
    client.close();
}

#[test]
fn a_flood_of_changes_is_a_trickle_of_notifications_and_the_last_one_is_told() {
    const CHANGES: u64 = 2000;
    let home = Home::new();
    let mut client = home.start();
    client.subscribe("p2p://workflows/w");
    client.subscribe("p2p://status");
    let mut flood = home.connect();
    flood.introduce();
    let started = Instant::now();
    let submitting = std::thread::spawn(move || {
        for first in (0..CHANGES).step_by(100) {
            let batch: Vec<u64> = (first..first + 100)
                .map(|n| flood.start_call("p2p_submit_task", &task(&format!("t{n}"))))
                .collect();
            for id in batch {
                flood.finish(id);
            }
        }
    });
    let mut told = [0, 0];
    loop {
        let uri = client.updated();
        let place = usize::from(uri == "p2p://status");
        told[place] += 1;
        if client.read("p2p://workflows/w")["pending_tasks"] == CHANGES
            && told.iter().all(|count| *count > 0)
        {
            break;
        }
    }
    submitting.join().expect("all were submitted");
    // A round in each interval, and those at both ends.
    let rounds = 2 + started.elapsed().as_millis() / 100;
    for told in told {
        assert!(told * 10 < CHANGES, "{told} notifications of {CHANGES} changes");
        assert!(u128::from(told) <= rounds, "{told} notifications in {rounds} intervals");
    }
    client.close();
}

/// The memory of a process is read from Linux's /proc.
#[cfg(target_os = "linux")]
#[test]
fn a_subscriber_that_never_reads_stalls_nobody_and_costs_no_memory() {
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    let home = Home::new();
    let mut node = home.start();
    let mut deaf = UnixStream::connect(home.data().join("node.sock")).expect("the node's socket");
    let hello = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": crate::harness::hello()});
    writeln!(deaf, "{hello}").expect("it listens");
    for n in 0..1000 {
        let uri = format!("p2p://tasks/{n:0200}");
        let line = json!({"jsonrpc": "2.0", "id": n + 1, "method": "resources/subscribe", "params": {"uri": uri}});
        writeln!(deaf, "{line}").expect("it listens");
    }
    let ids: Vec<String> = (0..1000).map(|n| format!("{n:0200}")).collect();
    let touch = |node: &mut Server| {
        for batch in ids.chunks(100) {
            let calls: Vec<u64> =
                batch.iter().map(|id| node.start_call("p2p_submit_task", &task(id))).collect();
            calls.into_iter().for_each(|id| drop(node.finish(id)));
        }
    };
    touch(&mut node);
    let before = node.process.memory();
    // Each round would be 300 kB.
    for round in 0..10 {
        for batch in ids.chunks(100) {
            let calls: Vec<u64> = batch
                .iter()
                .map(|id| json!({"task_id": id, "priority": 1 + round}))
                .map(|params| node.request("ipfs-accelerate/reprioritize", &params))
                .collect();
            calls.into_iter().for_each(|id| drop(node.finish(id)));
        }
    }
    let grown = node.process.memory().saturating_sub(before);
    assert!(grown < 8 * 1024 * 1024, "{grown} bytes more");
    drop(deaf);
    node.close();
}

#[test]
fn one_connection_may_watch_so_many_addresses_and_no_more() {
    let home = Home::new();
    let mut client = home.start();
    client.hear();
    let uri = |n: usize| json!({"uri": format!("p2p://tasks/{n}")});
    for first in (0..1024).step_by(128) {
        let asked: Vec<u64> =
            (first..first + 128).map(|n| client.request("resources/subscribe", &uri(n))).collect();
        for id in asked {
            assert_eq!(client.answer(id)["result"], json!({}));
        }
    }
    let error = client.fails("resources/subscribe", &uri(1024));
    assert!(error["message"].as_str().is_some_and(|text| text.contains("1024")), "{error}");
    // One that it has already takes no more room, and one that it leaves makes some.
    let listen = json!({"notifications": {"resourceSubscriptions": ["p2p://status"]}});
    let refused = client.fails("subscriptions/listen", &modern(listen.clone(), "2026-07-28"));
    assert_eq!(refused["code"], -32602, "{refused}");
    client.ask("resources/unsubscribe", &uri(7));
    client.ask("resources/subscribe", &uri(1024));
    let many: Vec<String> = (0..1025).map(|n| format!("p2p://tasks/{n}")).collect();
    let many = modern(json!({"notifications": {"resourceSubscriptions": many}}), "2026-07-28");
    let mut other = stateless(&home);
    other.hear();
    assert_eq!(other.fails("subscriptions/listen", &many)["code"], -32602);
    other.close();
    client.close();
}

#[test]
fn a_client_without_a_handshake_listens_and_is_told_under_its_id() {
    let home = Home::new();
    let mut node = home.start();
    let mut client = stateless(&home);
    client.hear();
    let wish = json!({"notifications": {
        "resourceSubscriptions": ["p2p://tasks/t", "p2p://nothing"],
        "resourcesListChanged": true,
        "toolsListChanged": true,
    }});
    let listening = client.request("subscriptions/listen", &modern(wish, "2026-07-28"));
    let acknowledged = client.notice();
    assert_eq!(acknowledged["method"], "notifications/subscriptions/acknowledged");
    let accepted =
        json!({"resourceSubscriptions": ["p2p://tasks/t"], "resourcesListChanged": true});
    assert_eq!(acknowledged["params"]["notifications"], accepted, "{acknowledged}");
    let id = |notice: &Value| {
        notice["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"].clone()
    };
    assert_eq!(id(&acknowledged), listening);
    submit(&mut node, "t", "w", &json!({}));
    let (one, other) = (client.notice(), client.notice());
    let mut methods =
        [&one, &other].map(|notice| notice["method"].as_str().expect("a method").to_owned());
    methods.sort();
    assert_eq!(
        methods,
        ["notifications/resources/list_changed", "notifications/resources/updated"]
    );
    assert_eq!([id(&one), id(&other)], [listening, listening]);
    let params = modern(json!({"uri": "p2p://tasks/t"}), "2026-07-28");
    let read = client.ask("resources/read", &params);
    assert!(
        read["contents"][0]["text"]
            .as_str()
            .is_some_and(|text| text.contains("\"state\":\"pending\""))
    );

    // It is over once it is cancelled: another listener hears of a change, this one does not.
    let wish = json!({"notifications": {"resourceSubscriptions": ["p2p://workflows/w"]}});
    let second = client.request("subscriptions/listen", &modern(wish, "2026-07-28"));
    assert_eq!(id(&client.notice()), second);
    let cancel = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": listening}});
    client.send_bytes(format!("{cancel}\n").as_bytes());
    // Cancelled requests are not answered; the next answer means that it was heard.
    client.ask("tools/list", &modern(json!({}), "2026-07-28"));
    work(&mut node);
    let notice = client.notice();
    assert_eq!((updated(&notice).as_str(), id(&notice)), ("p2p://workflows/w", json!(second)));
    // What is of the later protocol alone, and what is of the earlier one alone.
    let legacy = node.fails("subscriptions/listen", &json!({"notifications": {}}));
    assert_eq!(legacy["code"], -32601);
    let modern = modern(json!({"uri": "p2p://status"}), "2026-07-28");
    assert_eq!(client.fails("resources/subscribe", &modern)["code"], -32601);
    client.kill();
    node.close();
}

#[test]
fn ids_are_completed() {
    let home = Home::new();
    let mut client = home.start();
    for n in 0..120 {
        submit(&mut client, &format!("a{n:03}"), "w/1", &json!({}));
    }
    submit(&mut client, "b", "w/2", &json!({}));
    let mut complete = |of: Value, name: &str, value: &str| {
        let params = json!({"ref": of, "argument": {"name": name, "value": value}});
        client.ask("completion/complete", &params)["completion"].take()
    };
    let task = json!({"type": "ref/resource", "uri": "p2p://tasks/{task_id}"});
    let workflow = json!({"type": "ref/resource", "uri": "p2p://workflows/{workflow_id}"});
    let prompt = json!({"type": "ref/prompt", "name": "work-loop"});
    let many = complete(task.clone(), "task_id", "a");
    assert_eq!((&many["total"], &many["hasMore"]), (&json!(120), &json!(true)));
    assert_eq!(
        (many["values"].as_array().expect("a list").len(), &many["values"][0]),
        (100, &json!("a000"))
    );
    let few = complete(task, "task_id", "a11");
    assert_eq!((&few["total"], &few["hasMore"]), (&json!(10), &json!(false)));
    assert_eq!(complete(workflow, "workflow_id", "")["values"], json!(["w/1", "w/2"]));
    assert_eq!(complete(prompt.clone(), "workflow_id", "w/2")["values"], json!(["w/2"]));
    assert_eq!(complete(prompt, "tags", "unit")["values"], json!(["unit-test"]));
    let wrong =
        json!({"ref": {"type": "ref/prompt", "name": "x"}, "argument": {"name": "y", "value": ""}});
    assert_eq!(client.fails("completion/complete", &wrong)["code"], -32602);
    client.close();
}

#[test]
fn prompts_are_listed_and_given() {
    let home = Home::new();
    let mut client = home.start();
    let listed = client.ask("prompts/list", &json!({}));
    let names: Vec<_> =
        listed["prompts"].as_array().expect("a list").iter().map(|p| &p["name"]).collect();
    assert_eq!(names, ["work-loop", "plan-workflow"]);
    let goal = json!({"name": "plan-workflow", "arguments": {"goal": "Ship it"}});
    let plan = client.ask("prompts/get", &goal);
    assert_eq!(plan["messages"][0]["role"], "user");
    assert!(
        plan["messages"][0]["content"]["text"]
            .as_str()
            .is_some_and(|text| text.contains("> Ship it"))
    );
    for wrong in [
        json!({"name": "plan-workflow"}),
        json!({"name": "nothing"}),
        json!({"name": "work-loop", "arguments": {"tags": "gpu"}}),
        json!({"name": "work-loop", "arguments": 5}),
    ] {
        assert_eq!(client.fails("prompts/get", &wrong)["code"], -32602, "{wrong}");
    }
    client.close();
}

#[test]
fn a_call_that_waits_says_how_long_and_nothing_after_its_answer() {
    let home = Home::new();
    let mut client = home.start();
    client.submit("held");
    client.take();
    client.hear();
    let call = |wait: f64| {
        json!({
            "name": "p2p_get_next_task",
            "arguments": {"wait_seconds": wait},
            "_meta": {"progressToken": "tok"},
        })
    };
    let waiting = client.request("tools/call", &call(50.0));
    let notice = client.notice();
    assert_eq!(notice["method"], "notifications/progress");
    let params = &notice["params"];
    assert_eq!((&params["progressToken"], &params["total"]), (&json!("tok"), &json!(50.0)));
    assert!(
        params["progress"].as_f64().is_some_and(|waited| waited > 0.0 && waited < 50.0),
        "{notice}"
    );
    assert_eq!(params["message"], "No task is waiting; 1 assigned.");
    let mut other = home.connect();
    other.introduce();
    other.submit("t");
    assert_eq!(client.finish(waiting)["task"]["task_id"], "t");
    let short = client.request("tools/call", &call(1.0));
    assert_eq!(client.finish(short)["task"], Value::Null);
    let progress: Vec<f64> = client
        .notices()
        .iter()
        .map(|notice| notice["params"]["progress"].as_f64().expect("a number"))
        .collect();
    assert!(!progress.is_empty() && progress.is_sorted_by(|a, b| a < b), "{progress:?}");
    // Longer than it takes to the first one.
    let waiting = client.request(
        "tools/call",
        &json!({"name": "p2p_get_next_task", "arguments": {"wait_seconds": 1}}),
    );
    client.finish(waiting);
    assert_eq!(client.notices(), Vec::<Value>::new(), "nobody asked for it");
    client.close();
}

#[test]
fn what_is_not_declared_is_not_found() {
    let home = Home::new();
    let mut client = home.start();
    for (method, params) in [
        ("logging/setLevel", json!({"level": "debug"})),
        ("tasks/get", json!({"taskId": "t"})),
        ("tasks/cancel", json!({"taskId": "t"})),
        ("tasks/list", json!({})),
        ("skills/list", json!({})),
        ("resources/directory/read", json!({"uri": "p2p://tasks"})),
        ("sampling/createMessage", json!({})),
        ("nothing/of-the-kind", json!({})),
    ] {
        assert_eq!(client.fails(method, &params)["code"], -32601, "{method}");
    }
    let mut early = home.connect();
    for (method, params) in [
        ("resources/list", json!({})),
        ("resources/templates/list", json!({})),
        ("resources/read", json!({"uri": "p2p://status"})),
        ("resources/subscribe", json!({"uri": "p2p://status"})),
        ("resources/unsubscribe", json!({"uri": "p2p://status"})),
        ("prompts/list", json!({})),
        ("prompts/get", json!({"name": "work-loop"})),
        (
            "completion/complete",
            json!({"ref": {"type": "ref/prompt", "name": "work-loop"}, "argument": {"name": "tags", "value": ""}}),
        ),
    ] {
        let error = early.fails(method, &params);
        assert_eq!(error["message"], "send initialize first", "{method}");
    }
    client.close();
}

/// What changed between the two nodes nobody could tell, so each client is told of all.
#[test]
fn subscriptions_outlive_the_node_that_took_them() {
    let id = |notice: &Value| {
        notice["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"].clone()
    };
    for is_killed in [true, false] {
        let home = Home::new();
        let mut node = home.start();
        let mut client = home.start();
        client.subscribe("p2p://tasks/t");
        client.subscribe("p2p://tasks/left");
        client.ask("resources/unsubscribe", &json!({"uri": "p2p://tasks/left"}));
        client.ask("resources/list", &json!({}));
        let wish = json!({"notifications": {
            "resourceSubscriptions": ["p2p://tasks/t"], "resourcesListChanged": true,
        }});
        let mut listener = stateless(&home);
        listener.hear();
        let listening = listener.request("subscriptions/listen", &modern(wish, "2026-07-28"));
        assert_eq!(listener.notice()["method"], "notifications/subscriptions/acknowledged");
        match is_killed {
            true => node.kill(),
            false => node.close(),
        }
        for (told, by) in
            [(&mut client.client, Value::Null), (&mut listener.client, json!(listening))]
        {
            let (update, list) = (told.notice(), told.notice());
            assert_eq!(updated(&update), "p2p://tasks/t");
            assert_eq!(list["method"], "notifications/resources/list_changed");
            assert_eq!([id(&update), id(&list)], [by.clone(), by]);
        }
        let mut other = home.start();
        submit(&mut other, "left", "w", &json!({}));
        submit(&mut other, "t", "w", &json!({}));
        for told in [&mut client.client, &mut listener.client] {
            let mut methods = [told.notice(), told.notice()]
                .map(|notice| notice["method"].as_str().expect("a method").to_owned());
            methods.sort();
            let both = ["notifications/resources/list_changed", "notifications/resources/updated"];
            assert_eq!(methods, both);
        }
        assert_eq!(client.read("p2p://tasks/t")["state"], "pending");
        assert_eq!(client.notices(), Vec::<Value>::new());
        // Whichever of them is the node, the others would be told again.
        for mut server in [listener, client, other] {
            server.kill();
        }
    }
}
