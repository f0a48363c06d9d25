//! Who is turned away from the HTTP door, and how: the lines of the table in docs/security.md, each
//! of which names its test here.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Home, code, eventually, task};
use crate::raw_http::{Connection, Door, MESSAGE, call, initialize, request};

const READER: &str = "reader-token-reader-token-reader-token";
const WORKER: &str = "worker-token-worker-token-worker-token";
const ADMIN: &str = "admin-token-admin-token-admin-token";
const AS_READER: &str = "Authorization: Bearer reader-token-reader-token-reader-token";
const AS_WORKER: &str = "Authorization: Bearer worker-token-worker-token-worker-token";
const AS_ADMIN: &str = "Authorization: Bearer admin-token-admin-token-admin-token";

/// Every way in, and one that leads nowhere.
const ROUTES: [&str; 7] = [
    "POST /mcp",
    "GET /mcp",
    "DELETE /mcp",
    "GET /sse",
    "POST /messages?session_id=1",
    "GET /healthz",
    "GET /elsewhere",
];

/// The protocol's version without sessions.
const MODERN: &str = "MCP-Protocol-Version: 2026-07-28";

/// The table itself: a line may not name a test that there is not.
#[test]
fn every_line_of_the_security_pass_names_a_test_and_every_test_is_named() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository");
    let page = fs::read_to_string(root.join("docs/security.md")).expect("docs/security.md");
    let (_, pass) = page.split_once("\n## The security pass\n").expect("its heading");
    let mut tests = Vec::new();
    for line in pass.lines().filter(|line| line.starts_with("| ")).skip(1) {
        let test = line.trim_end_matches(" |").rsplit("| ").next().expect("a last column");
        tests.push(test.trim_matches('`').to_owned());
    }
    let mut here: Vec<_> = include_str!("security.rs")
        .split("#[test]\nfn ")
        .skip(1)
        .filter_map(|test| Some(test.split_once("()")?.0.to_owned()))
        .filter(|test| {
            *test != "every_line_of_the_security_pass_names_a_test_and_every_test_is_named"
        })
        .collect();
    here.sort();
    tests.sort();
    assert_eq!(tests, here);
}

fn with_tokens(home: &Home) -> Door {
    let file = tokens(home, 0o600);
    Door::open(home, &["--token-file", &file])
}

fn tokens(home: &Home, mode: u32) -> String {
    let path = home.path().join("tokens");
    let text = format!("dash read {READER}\nbee work {WORKER}\nboss admin {ADMIN}\n");
    fs::write(&path, text).expect("a folder of the test");
    set_mode(&path, mode);
    path.to_str().expect("UTF-8").to_owned()
}

fn set_mode(path: impl AsRef<Path>, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("a file of the test");
}

/// What the door said to the first line of an answer that stays open.
fn status(connection: &mut Connection) -> u16 {
    let line = connection.until("\r\n", "HTTP/1.1 ");
    line.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status")
}

/// A request of the protocol without sessions, and the headers that go with it.
fn modern(tool: &str, arguments: &Value) -> ([String; 2], Value) {
    let mut message = call(tool, arguments);
    message["params"]["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    (["Mcp-Method: tools/call".to_owned(), format!("Mcp-Name: {tool}")], message)
}

#[test]
fn a_foreign_host_is_refused_on_every_route() {
    let home = Home::new();
    let door = Door::open(&home, &[]);
    for route in ROUTES {
        for host in ["evil.example", "evil.example:9000", "localhost.evil.example", "10.0.0.1"] {
            let answer = door.ask(route, &[&format!("Host: {host}")], "");
            assert_eq!(answer.status, 403, "{route} {host}: {answer:?}");
            assert!(answer.error().contains("--allow-host"), "{answer:?}");
        }
        let target = route.replace(" /", " http://evil.example/");
        assert_eq!(door.ask(&target, &[], "").status, 403, "{target}");
    }
    for host in ["localhost", "127.0.0.1:9000", "[::1]:9000"] {
        assert_eq!(door.ask("GET /healthz", &[&format!("Host: {host}")], "").status, 200, "{host}");
    }
}

#[test]
fn a_request_without_one_clear_host_is_refused() {
    let home = Home::new();
    let door = Door::open(&home, &[]);
    for head in [
        "GET /healthz HTTP/1.0\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nConnection: close\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nConnection: close\r\nHost: a@localhost\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nConnection: close\r\nHost: localhost evil.example\r\n\r\n",
    ] {
        assert_eq!(door.raw(head).status, 400, "{head:?}");
    }
}

#[test]
fn an_allowed_host_is_let_in_with_a_token_only() {
    let home = Home::new();
    let door = Door::open(&home, &["--allow-host", "tasks.example"]);
    let host = "Host: tasks.example";
    assert_eq!(door.ask("GET /healthz", &[host], "").status, 200);
    assert_eq!(door.post(&[host], &initialize()).status, 401, "others are behind that name");
    let token = made_token(&home);
    assert_eq!(door.post(&[host, &token], &initialize()).status, 200);
}

#[test]
fn a_foreign_origin_is_refused_on_every_route() {
    let home = Home::new();
    let door = Door::open(&home, &["--allow-origin", "https://app.example"]);
    for route in ROUTES {
        for origin in [
            "https://evil.example",
            "null",
            "https://app.example.evil.example",
            "http://app.example",
        ] {
            let answer = door.ask(route, &[&format!("Origin: {origin}")], "");
            assert_eq!(answer.status, 403, "{route} {origin}: {answer:?}");
            assert_eq!(answer.header("access-control-allow-origin"), None, "{answer:?}");
        }
    }
    let answer = door.post(&["Origin: https://evil.example"], &initialize());
    assert!(answer.error().contains("--allow-origin https://evil.example"), "{answer:?}");
    let answer = door.post(&["Origin: https://app.example"], &initialize());
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("access-control-allow-origin"), Some("https://app.example"));
    let exposed = answer.header("access-control-expose-headers").unwrap();
    assert!(exposed.contains("Mcp-Session-Id"), "{exposed}");
}

#[test]
fn a_foreign_page_that_hides_its_origin_is_refused() {
    let home = Home::new();
    let door = Door::open(&home, &[]);
    // As a browser asks for an image: it would hold a session for as long as the page is open.
    let answer =
        door.ask("GET /sse", &["Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: no-cors"], "");
    assert_eq!(answer.status, 403, "{answer:?}");
}

#[test]
fn a_foreign_page_s_preflight_is_refused_and_an_allowed_one_s_needs_no_token() {
    let home = Home::new();
    let door = with_tokens(&home);
    let asked = "Access-Control-Request-Method: POST";
    let names = "Access-Control-Request-Headers: authorization, mcp-session-id, mcp-param-x";
    let foreign = ["Origin: https://evil.example", asked, names];
    assert_eq!(door.ask("OPTIONS /mcp", &foreign, "").status, 403);
    let answer = door.ask("OPTIONS /mcp", &["Origin: http://localhost:3000", asked, names], "");
    assert_eq!(answer.status, 204, "{answer:?}");
    assert_eq!(answer.header("access-control-allow-origin"), Some("http://localhost:3000"));
    let allowed = answer.header("access-control-allow-headers");
    assert_eq!(allowed, Some("authorization, mcp-session-id, mcp-param-x"));
    assert_eq!(answer.header("access-control-allow-credentials"), None);
}

#[test]
fn without_a_token_only_the_health_is_told() {
    let home = Home::new();
    let door = with_tokens(&home);
    for route in ROUTES {
        let answer = door.ask(route, &[], "");
        if route == "GET /healthz" {
            assert_eq!((answer.status, answer.body.as_str()), (200, "ok\n"));
            continue;
        }
        assert_eq!(answer.status, 401, "{route}: {answer:?}");
        let asks = answer.header("www-authenticate");
        assert_eq!(asks, Some(r#"Bearer realm="ipfs-accelerate""#), "{route}");
        assert!(answer.error().contains("Authorization: Bearer TOKEN"), "{answer:?}");
    }
}

#[test]
fn a_wrong_token_is_refused_on_every_route_and_never_shown() {
    let home = Home::new();
    let door = with_tokens(&home);
    for token in ["xeader-token-reader-token-reader-token", "reader-token", ""] {
        for route in ROUTES.into_iter().filter(|route| *route != "GET /healthz") {
            let answer = door.ask(route, &[&format!("Authorization: Bearer {token}")], "");
            assert_eq!(answer.status, 401, "{route} {token:?}: {answer:?}");
            let says = answer.header("www-authenticate").unwrap();
            assert!(says.contains(r#"error="invalid_token""#), "{says}");
            assert!(!answer.body.contains("der-token"), "{answer:?}");
        }
    }
    let two = ["Authorization: Bearer x", AS_WORKER];
    assert_eq!(door.post(&two, &initialize()).status, 400, "one of two could be meant");
    assert_eq!(door.post(&[AS_WORKER], &initialize()).status, 200);
    let log = door.log();
    assert!(log.contains("refused a request"), "it is logged: {log}");
    assert!(!log.contains("er-token"), "no token is: {log}");
}

#[test]
fn what_a_proxy_forwards_is_refused_without_tokens() {
    let home = Home::new();
    let door = Door::open(&home, &[]);
    let forwarded = "X-Forwarded-For: 192.0.2.1";
    let answer = door.post(&[forwarded], &initialize());
    assert_eq!(answer.status, 403, "{answer:?}");
    assert!(answer.error().contains("--token-file"), "{answer:?}");
    let other = Home::new();
    let door = with_tokens(&other);
    assert_eq!(door.post(&[forwarded, AS_WORKER], &initialize()).status, 200);
}

#[test]
fn a_token_in_the_url_is_not_looked_at() {
    let home = Home::new();
    let door = with_tokens(&home);
    for name in ["access_token", "token", "Authorization"] {
        for route in ["GET /sse", "POST /mcp"] {
            let answer = door.ask(&format!("{route}?{name}={WORKER}"), &[], "");
            assert_eq!(answer.status, 401, "{route} {name}");
        }
    }
}

/// The answer to a tool's call with a token, by each of the ways to call one.
fn answers(door: &Door, token: &str, tool: &str, arguments: &Value) -> [u16; 3] {
    let session = door.session(&[token]);
    let by_session = door.post(&[token, &session], &call(tool, arguments)).status;
    let ([method, name], message) = modern(tool, arguments);
    let without = door.post(&[token, MODERN, &method, &name], &message).status;
    let (_stream, path) = door.stream(&[token]);
    let headers = [&MESSAGE[..], &[token]].concat();
    let message = call(tool, arguments).to_string();
    let by_stream = door.ask(&format!("POST {path}"), &headers, &message).status;
    [by_session, without, by_stream]
}

#[test]
fn a_reader_cannot_take_hand_in_or_report_on_tasks() {
    let home = Home::new();
    let door = with_tokens(&home);
    for (tool, arguments) in [
        ("p2p_submit_task", task("a")),
        ("p2p_get_next_task", json!({})),
        ("p2p_mark_task_complete", json!({"task_id": "a"})),
        ("p2p_update_peer_state", json!({"peer_id": "p", "clock_data": {}})),
    ] {
        assert_eq!(answers(&door, AS_READER, tool, &arguments), [403; 3], "{tool}");
    }
    assert_eq!(answers(&door, AS_READER, "p2p_scheduler_status", &json!({})), [200, 200, 202]);
    assert_eq!(answers(&door, AS_WORKER, "p2p_submit_task", &task("b")), [200, 200, 202]);
    let ids = |listed: &Value| listed["tasks"][0]["task_id"].clone();
    assert_eq!(ids(&home.json(&["list", "--all"])), "b", "the reader handed nothing in");

    let session = door.session(&[AS_READER]);
    let answer = door.post(&[AS_READER, &session], &call("p2p_submit_task", &task("a")));
    let says = answer.header("www-authenticate").unwrap();
    assert!(says.contains(r#"error="insufficient_scope", scope="work""#), "{says}");
    assert_eq!(answer.message()["id"], 2);
    assert!(answer.error().contains("needs the role work"), "{answer:?}");
}

#[test]
fn a_reader_cannot_hide_what_it_calls() {
    let home = Home::new();
    let door = with_tokens(&home);
    let session = door.session(&[AS_READER]);
    let headers = [&MESSAGE[..], &[AS_READER, &session]].concat();
    let submit = call("p2p_submit_task", &task("a")).to_string();
    let read = call("p2p_scheduler_status", &json!({})).to_string();
    for hidden in [
        // Two lines, two names, two methods, two params, a batch.
        format!("{read}\n{submit}"),
        format!("{read}\r{submit}"),
        submit.replace("\"name\":\"p2p_", "\"name\":\"p2p_scheduler_status\",\"name\":\"p2p_"),
        submit.replace("\"method\":", "\"method\":\"ping\",\"method\":"),
        submit.replace("\"params\":", "\"params\":{\"name\":\"p2p_scheduler_status\"},\"params\":"),
        format!("[{submit}]"),
        // Written in another way.
        submit.replace("tools/call", "tools\\/call"),
        submit.replace("p2p_submit_task", "p2p\\u005fsubmit_task"),
        submit.replace("\"method\"", "\"\\u006dethod\""),
        submit.replace("\"name\":\"p2p_", "\"\\u006eame\":\"p2p_"),
        // Without an answer to wait for.
        submit.replace("\"id\":2,", ""),
        submit.replace("\"id\":2,", "\"id\":null,"),
        format!("\u{feff}{submit}"),
    ] {
        let answer = door.ask("POST /mcp", &headers, &hidden);
        assert!(matches!(answer.status, 400 | 403), "{hidden}: {answer:?}");
        let listed = home.json(&["list", "--all"]);
        assert_eq!(listed["tasks"], json!([]), "{hidden}");
    }
}

#[test]
fn only_an_admin_steers_the_node_and_nobody_speaks_for_another_worker() {
    let home = Home::new();
    let mut door = with_tokens(&home);
    let message = |method: &str| {
        let method = format!("ipfs-accelerate/{method}");
        json!({"jsonrpc": "2.0", "id": 3, "method": method, "params": {"worker": "w"}})
    };
    for (token, methods) in [
        (AS_READER, &["stop", "requeue", "reprioritize", "hello", "new"][..]),
        (AS_WORKER, &["stop", "requeue", "reprioritize", "hello", "new"]),
        (AS_ADMIN, &["hello", "new"]),
    ] {
        let session = door.session(&[token]);
        for method in methods {
            let answer = door.post(&[token, &session], &message(method));
            assert_eq!(answer.status, 403, "{method} of {token}: {answer:?}");
        }
    }
    let session = door.session(&[AS_ADMIN]);
    let answer = door.post(&[AS_ADMIN, &session], &message("stop"));
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(door.process.exit_code(), 0);
}

#[test]
fn another_token_s_session_is_not_there() {
    let home = Home::new();
    let door = with_tokens(&home);
    let session = door.session(&[AS_WORKER]);
    let (_stream, path) = door.stream(&[AS_WORKER]);
    let headers = [&MESSAGE[..], &[AS_ADMIN, &session]].concat();
    let ping = json!({"jsonrpc": "2.0", "id": 1, "method": "ping"}).to_string();
    assert_eq!(door.ask("POST /mcp", &headers, &ping).status, 404);
    assert_eq!(door.ask("GET /mcp", &headers, "").status, 404);
    assert_eq!(door.ask("DELETE /mcp", &headers, "").status, 404);
    assert_eq!(door.ask(&format!("POST {path}"), &headers, &ping).status, 404);
    let headers = [&MESSAGE[..], &[AS_WORKER, &session]].concat();
    assert_eq!(door.ask("POST /mcp", &headers, &ping).status, 200);
}

/// The header with the token that the data folder has.
fn made_token(home: &Home) -> String {
    let text = fs::read_to_string(home.data().join("http-token")).expect("it was made");
    format!("Authorization: Bearer {}", text.split_whitespace().last().expect("a token"))
}

#[test]
fn beyond_loopback_a_token_is_made_and_needed() {
    let home = Home::new();
    let door = Door::open(&home, &["--host", "0.0.0.0"]);
    let path = home.data().join("http-token");
    let mode = fs::metadata(&path).expect("it was made").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let token = made_token(&home);
    let secret = token.rsplit(' ').next().unwrap();
    let says_where = || door.log().contains(path.to_str().unwrap()).then_some(());
    eventually("the path of the token", says_where);
    assert!(!door.log().contains(secret), "{}", door.log());
    assert_eq!(door.post(&[], &initialize()).status, 401);
    assert_eq!(door.post(&[&token], &initialize()).status, 200);
    // An address cannot be rebound, a name can.
    assert_eq!(door.ask("GET /healthz", &["Host: 10.0.0.1"], "").status, 200);
    assert_eq!(door.ask("GET /healthz", &["Host: evil.example"], "").status, 403);
    drop(door);
    let door = Door::open(&home, &["--host", "0.0.0.0"]);
    assert_eq!(made_token(&home), token, "clients go on with it");
    assert_eq!(door.post(&[&token], &initialize()).status, 200);
}

#[test]
fn a_token_file_that_others_can_read_is_refused() {
    let home = Home::new();
    let start = |file: &str| {
        home.run(&["mcp", "start", "--transport", "http", "--port", "0", "--token-file", file])
    };
    let file = tokens(&home, 0o640);
    let refused = start(&file);
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(refused.stderr.contains(&format!("chmod 600 {file}")), "{refused:?}");
    fs::write(&file, format!("dash read {READER}\nbee work {READER}\n")).unwrap();
    set_mode(&file, 0o600);
    let refused = start(&file);
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(refused.stderr.contains("line 2") && !refused.stderr.contains(READER), "{refused:?}");
    let refused = start(&format!("{file}-not"));
    assert_eq!(refused.code, 2, "{refused:?}");
}

#[test]
fn a_body_that_is_too_long_is_refused_however_it_comes() {
    let home = Home::new();
    let door = Door::open(&home, &[]);
    let session = door.session(&[]);
    let headers = [&MESSAGE[..], &[&session]].concat();
    let body = " ".repeat(4 * 1024 * 1024 + 1);
    let answer = door.ask("POST /mcp", &headers, &body);
    assert_eq!(answer.status, 413, "{answer:?}");
    assert!(answer.error().ends_with("code: too_large"), "{answer:?}");
    let chunked = [&headers[..], &["Transfer-Encoding: chunked"]].concat();
    let head = request("POST /mcp", &chunked, "");
    let answer = door.raw(&format!("{head}{:x}\r\n{body}\r\n0\r\n\r\n", body.len()));
    assert_eq!(answer.status, 413, "{answer:?}");
    // One that only says so is not waited for as long as one that comes.
    let announced = [&headers[..], &["Content-Length: 4000000000"]].concat();
    assert_eq!(door.ask("POST /mcp", &announced, "").status, 413);
    assert_eq!(door.post(&[&session], &call("p2p_scheduler_status", &json!({}))).status, 200);
}

#[test]
fn a_head_that_is_too_long_is_refused() {
    let home = Home::new();
    let door = Door::open(&home, &[]);
    let long = format!("X: {}", "x".repeat(1 << 20));
    let mut connection = door.connect();
    connection.send(request("GET /healthz", &[&long], "").as_bytes());
    let rest = connection.rest();
    assert!(rest.is_empty() || rest.starts_with("HTTP/1.1 431 "), "{rest}");
    let many = vec!["X: x"; 1000];
    assert_eq!(door.ask("GET /healthz", &many, "").status, 431);
    assert_eq!(door.ask(&format!("GET /{}", "x".repeat(70_000)), &[], "").status, 414);
    assert_eq!(door.ask("GET /healthz", &[], "").status, 200);
}

#[test]
fn a_request_whose_length_is_said_twice_is_not_taken_for_two() {
    let home = Home::new();
    let door = Door::open(&home, &[]);
    let two = ["Content-Length: 5", "Content-Length: 6"];
    assert_eq!(door.ask("POST /mcp", &two, "").status, 400);
    let smuggled = request("GET /healthz", &[], "");
    let length = format!("Content-Length: {}", smuggled.len() + 5);
    let both = [&MESSAGE[..], &[&length, "Transfer-Encoding: chunked"]].concat();
    let mut connection = door.connect();
    connection.send(format!("{}0\r\n\r\n{smuggled}", request("POST /mcp", &both, "")).as_bytes());
    let rest = connection.rest();
    assert_eq!(rest.matches("HTTP/1.1 ").count(), 1, "{rest}");
}

#[test]
fn slow_clients_are_cut_off_and_others_served_meanwhile() {
    let home = Home::new();
    let door = Door::open(&home, &[]);
    let trickle = |begin: String| {
        let mut connection = door.connect();
        let mut writer = connection.stream.try_clone().expect("a second descriptor");
        thread::spawn(move || {
            // A byte now and then, as long as the door takes them.
            let mut taken = writer.write_all(begin.as_bytes());
            while taken.is_ok() {
                thread::sleep(Duration::from_millis(500));
                taken = writer.write_all(b"x");
            }
        });
        thread::spawn(move || connection.rest())
    };
    let head = trickle("GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: ".into());
    let length = "Content-Length: 1000";
    let body = trickle(request("POST /mcp", &[&MESSAGE[..], &[length]].concat(), ""));
    let foreign = trickle(request("POST /mcp", &["Origin: https://evil.example", length], ""));
    let silent = trickle(String::new());
    // More than there is room for, were they to come.
    let large = [&MESSAGE[..], &["Content-Length: 4194304"]].concat();
    let large: Vec<_> = (0..10).map(|_| trickle(request("POST /mcp", &large, ""))).collect();
    assert_eq!(door.post(&[], &initialize()).status, 200, "others are served");
    let begins = |rest: thread::JoinHandle<String>, status: &str| {
        let rest = rest.join().expect("it ends");
        assert!(rest.starts_with(&format!("HTTP/1.1 {status}")), "{status}: {rest}");
    };
    begins(foreign, "403");
    begins(body, "408");
    for body in large {
        begins(body, "408");
    }
    for cut_off in [head, silent] {
        let rest = cut_off.join().expect("it ends");
        assert!(rest.is_empty() || rest.starts_with("HTTP/1.1 4"), "{rest}");
    }
    assert_eq!(door.post(&[], &initialize()).status, 200);
}

#[test]
fn a_client_that_reads_nothing_is_cut_off_and_costs_little() {
    let home = Home::new();
    let door = Door::open(&home, &[]);
    let session = door.session(&[]);
    let mut connection = door.connect();
    let list = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}).to_string();
    let headers = [&MESSAGE[..], &[&session]].concat();
    let one = request("POST /mcp", &headers, &list).replace("Connection: close\r\n", "");
    // It blocks once the door reads nothing more, and fails once it is cut off.
    let sent = (0..1_000_000).take_while(|_| connection.send(one.as_bytes())).count();
    assert!(sent < 1_000_000, "it was never cut off");
    #[cfg(target_os = "linux")]
    assert!(door.process.memory() < 100 << 20, "{} bytes", door.process.memory());
    assert_eq!(door.post(&[&session], &call("p2p_scheduler_status", &json!({}))).status, 200);
}

#[test]
fn a_flood_of_sessions_is_refused_and_those_that_are_open_go_on() {
    let home = Home::new();
    let door = Door::open(&home, &[]);
    let session = door.session(&[]);
    let mut streams: Vec<_> = (1..64).map(|_| door.stream(&[])).collect();
    for answer in [door.post(&[], &initialize()), door.ask("GET /sse", &[], "")] {
        assert_eq!(answer.status, 503, "{answer:?}");
        assert!(answer.header("retry-after").is_some(), "{answer:?}");
        assert!(answer.error().contains("64 sessions"), "{answer:?}");
    }
    assert_eq!(door.post(&[&session], &call("p2p_scheduler_status", &json!({}))).status, 200);
    streams.pop();
    eventually("room for a session", || {
        (door.post(&[], &initialize()).status == 200).then_some(())
    });
}

#[test]
fn a_flood_of_calls_is_refused_and_room_is_made_when_they_end() {
    let home = Home::new();
    let door = Door::open(&home, &[]);
    let wait = json!({"wait_seconds": 50, "workflow_id": "none"});
    // Without sessions, and in one session.
    let ([method, name], message) = modern("p2p_get_next_task", &wait);
    let headers = [&MESSAGE[..], &[MODERN, &method, &name]].concat();
    let waiting: Vec<_> = (0..256)
        .map(|_| {
            let mut connection = door.connect();
            connection.send(request("POST /mcp", &headers, &message.to_string()).as_bytes());
            connection
        })
        .collect();
    let ([method, name], look) = modern("p2p_scheduler_status", &json!({}));
    let look = || door.post(&[MODERN, &method, &name], &look);
    let refused = eventually("that all are in flight", || Some(look()).filter(|a| a.status != 200));
    assert_eq!(refused.status, 503, "{refused:?}");
    assert!(refused.error().ends_with("code: overloaded"), "{refused:?}");
    let session = door.session(&[]);
    assert_eq!(door.post(&[&session], &call("p2p_scheduler_status", &json!({}))).status, 200);
    drop(waiting);
    eventually("room for a call", || (look().status == 200).then_some(()));
}

#[test]
fn a_flood_of_calls_in_one_session_is_refused() {
    let home = Home::new();
    let door = Door::open(&home, &[]);
    let session = door.session(&[]);
    let headers = [&MESSAGE[..], &[&session]].concat();
    let wait = json!({"wait_seconds": 50, "workflow_id": "none"});
    let waiting: Vec<_> = (0..256)
        .map(|id| {
            let mut message = call("p2p_get_next_task", &wait);
            message["id"] = json!(format!("wait {id}"));
            let mut connection = door.connect();
            connection.send(request("POST /mcp", &headers, &message.to_string()).as_bytes());
            connection
        })
        .collect();
    let look = || door.post(&[&session], &call("p2p_scheduler_status", &json!({})));
    let refused = eventually("that all are in flight", || {
        Some(look()).filter(|answer| answer.message()["result"]["isError"] != false)
    });
    assert_eq!(code(&refused.message()["result"]), "overloaded");
    drop(waiting);
    eventually("room for a call", || {
        (look().message()["result"]["isError"] == false).then_some(())
    });
}

#[test]
fn a_flood_of_connections_is_refused_and_room_is_made_when_they_end() {
    let home = Home::new();
    let door = Door::open(&home, &[]);
    let mut open: Vec<_> = (0..512).map(|_| door.connect()).collect();
    let mut refused = door.connect();
    let mut text = String::new();
    // Unasked: it has not sent a word.
    refused.stream.read_to_string(&mut text).expect("an answer");
    assert!(text.starts_with("HTTP/1.1 503 "), "{text}");
    let served = open[0].send(request("GET /healthz", &[], "").as_bytes());
    assert!(served);
    assert_eq!(status(&mut open[0]), 200, "who is in is served");
    drop(open);
    eventually("room for a connection", || {
        let mut connection = door.connect();
        connection.send(request("GET /healthz", &[], "").as_bytes());
        (status(&mut connection) == 200).then_some(())
    });
}
