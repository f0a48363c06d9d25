use axum::Router;
use axum::body::{Body, to_bytes};
use axum::routing::any;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;

use super::*;

const READER: &str = "readreadreadreadreadreadreadread";
const WORKER: &str = "workworkworkworkworkworkworkwork";
const LOOPBACK: &str = "127.0.0.1";
const EVERYWHERE: &str = "0.0.0.0";

/// A door in which every route answers who asks.
struct Door(TowerToHyperService<Router>);

impl Door {
    fn new(address: &str, hosts: &[&str], origins: &[&str], tokens: Option<&str>) -> Self {
        let guard = Guard::new(
            address.parse().unwrap(),
            hosts.iter().map(|host| host.parse().unwrap()).collect(),
            origins.iter().map(|origin| origin.parse().unwrap()).collect(),
            tokens.map(|text| Tokens::parse(text).unwrap()),
        );
        let who = async |request: Request| match request.extensions().get::<Principal>() {
            Some(principal) => format!("{} {}", principal.name, principal.role),
            None => "nobody".to_owned(),
        };
        let guard = axum::middleware::from_fn_with_state(Arc::new(guard), Guard::admit);
        let routes = Router::new().route("/mcp", any(who)).route(HEALTH, any(who)).layer(guard);
        Door(TowerToHyperService::new(routes))
    }

    fn local() -> Self {
        Door::new(LOOPBACK, &[], &[], None)
    }

    fn with_tokens() -> Self {
        let tokens = format!("dash read {READER}\nbee work {WORKER}");
        Door::new(EVERYWHERE, &[], &[], Some(&tokens))
    }

    async fn ask(&self, line: &str, headers: &[(&str, &str)]) -> Answer {
        let (method, target) = line.split_once(' ').unwrap();
        let mut request = Request::builder().method(method).uri(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (head, body) =
            self.0.call(request.body(Body::empty()).unwrap()).await.unwrap().into_parts();
        let body = to_bytes(body, 1 << 20).await.unwrap();
        Answer {
            status: head.status.as_u16(),
            headers: head.headers,
            body: String::from_utf8(body.to_vec()).unwrap(),
        }
    }

    /// The status of a GET with this Host.
    async fn host(&self, host: &str) -> u16 {
        self.ask("GET /mcp", &[("host", host)]).await.status
    }

    /// The answer to a GET from a page of this origin.
    async fn origin(&self, origin: &str) -> Answer {
        self.ask("GET /mcp", &[("host", "localhost"), ("origin", origin)]).await
    }

    /// The answer to a POST with this Authorization header.
    async fn authorization(&self, value: &str) -> Answer {
        self.ask("POST /mcp", &[("host", "localhost"), ("authorization", value)]).await
    }
}

#[derive(Debug)]
struct Answer {
    status: u16,
    headers: HeaderMap,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// What a JSON-RPC error says.
    fn message(&self) -> String {
        let body: serde_json::Value = serde_json::from_str(&self.body).unwrap();
        assert_eq!(body["jsonrpc"], "2.0");
        assert_eq!(self.header("content-type"), Some("application/json"));
        body["error"]["message"].as_str().unwrap().to_owned()
    }
}

#[tokio::test]
async fn on_loopback_only_the_names_of_this_machine_are_let_in() {
    let door = Door::local();
    for host in ["localhost", "LOCALHOST:1", "127.0.0.1:9000", "127.3.2.1", "[::1]:9000"] {
        assert_eq!(door.host(host).await, 200, "{host}");
    }
    for host in ["evil.example", "localhost.evil.example:9000", "10.0.0.1", "[2001:db8::1]", "0"] {
        assert_eq!(door.host(host).await, 403, "{host}");
    }
    let refused = door.ask("GET /healthz", &[("host", "evil.example:9000")]).await;
    assert_eq!(refused.status, 403, "every route is guarded");
    assert!(refused.message().contains("--allow-host evil.example"), "{refused:?}");
    assert_eq!(door.ask("GET /none", &[("host", "evil.example")]).await.status, 403);
}

#[tokio::test]
async fn beyond_this_machine_an_address_is_let_in_and_a_name_only_if_allowed() {
    let door = Door::new(EVERYWHERE, &["Tasks.example"], &[], None);
    for host in ["localhost", "10.0.0.1:9000", "[2001:db8::1]:80", "tasks.example:9000"] {
        assert_eq!(door.host(host).await, 200, "{host}");
    }
    for host in ["evil.example", "tasks.example.evil.example", "2130706433"] {
        assert_eq!(door.host(host).await, 403, "{host}");
    }
    let door = Door::new(LOOPBACK, &["tasks.example"], &[], None);
    assert_eq!(door.host("tasks.example").await, 200);
}

#[tokio::test]
async fn a_host_that_is_missing_doubled_or_unreadable_is_refused() {
    let door = Door::local();
    assert_eq!(door.ask("GET /mcp", &[]).await.status, 400);
    let twice = [("host", "localhost"), ("host", "localhost")];
    assert_eq!(door.ask("GET /mcp", &twice).await.status, 400);
    for host in ["", "localhost:http", "a@localhost", "localhost/", "localhost, localhost"] {
        assert_eq!(door.host(host).await, 400, "{host:?}");
    }
}

#[tokio::test]
async fn the_host_in_the_request_line_is_held_to_the_same() {
    let door = Door::local();
    let host = [("host", "localhost")];
    assert_eq!(door.ask("GET http://127.0.0.1:9000/mcp", &host).await.status, 200);
    assert_eq!(door.ask("GET http://evil.example/mcp", &host).await.status, 403);
    assert_eq!(door.ask("GET http://a@localhost/mcp", &host).await.status, 400);
    let evil = [("host", "evil.example")];
    assert_eq!(door.ask("GET http://localhost/mcp", &evil).await.status, 403);
}

#[tokio::test]
async fn pages_of_this_machine_and_of_allowed_sites_are_let_in_and_no_others() {
    let door = Door::new(LOOPBACK, &[], &["https://app.example", "vscode-webview://1a2b"], None);
    for origin in [
        "http://localhost:3000",
        "https://127.0.0.1",
        "http://[::1]:80",
        "https://app.example",
        "https://app.example:443",
        "vscode-webview://1a2b",
    ] {
        let answer = door.origin(origin).await;
        assert_eq!(answer.status, 200, "{origin}");
        assert_eq!(answer.header("access-control-allow-origin"), Some(origin));
        assert_eq!(answer.header("vary"), Some("origin"));
        let exposed = answer.header("access-control-expose-headers").unwrap();
        assert_eq!(exposed, "Mcp-Session-Id, WWW-Authenticate");
    }
    for origin in [
        "null",
        "",
        "https://evil.example",
        "http://app.example",
        "https://app.example:8443",
        "https://app.example/path",
        "http://localhost.evil.example",
        "http://localhost, http://localhost",
    ] {
        let answer = door.origin(origin).await;
        assert_eq!(answer.status, 403, "{origin}");
        assert_eq!(answer.header("access-control-allow-origin"), None);
    }
    let refused = door.origin("https://evil.example").await.message();
    assert!(refused.contains("--allow-origin https://evil.example"), "{refused}");
    let twice =
        [("host", "localhost"), ("origin", "http://localhost"), ("origin", "http://localhost")];
    assert_eq!(door.ask("GET /mcp", &twice).await.status, 403);
}

#[tokio::test]
async fn a_page_without_a_site_is_let_in_only_where_that_is_allowed() {
    let door = Door::new(LOOPBACK, &[], &["null"], None);
    let answer = door.origin("null").await;
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (200, Some("null")));
}

#[tokio::test]
async fn what_sends_no_origin_is_let_in_unless_a_browser_says_it_is_a_foreign_page() {
    let door = Door::local();
    let answer = door.ask("GET /mcp", &[("host", "localhost")]).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "local work"));
    assert_eq!(answer.header("access-control-allow-origin"), None);
    assert_eq!(answer.header("vary"), Some("origin"));
    for (site, status) in
        [("none", 200), ("same-origin", 200), ("same-site", 200), ("cross-site", 403)]
    {
        let headers = [("host", "localhost"), ("sec-fetch-site", site)];
        assert_eq!(door.ask("GET /mcp", &headers).await.status, status, "{site}");
    }
    // A page of an allowed origin is cross-site as well, and says which it is.
    let headers =
        [("host", "localhost"), ("sec-fetch-site", "cross-site"), ("origin", "http://127.0.0.1")];
    assert_eq!(door.ask("GET /mcp", &headers).await.status, 200);
}

#[tokio::test]
async fn a_preflight_is_answered_without_a_token() {
    let door = Door::with_tokens();
    let headers = [
        ("host", "localhost"),
        ("origin", "http://localhost:3000"),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "authorization,Content-Type, mcp-param-region"),
        ("access-control-request-private-network", "true"),
    ];
    let answer = door.ask("OPTIONS /mcp", &headers).await;
    assert_eq!((answer.status, answer.body.as_str()), (204, ""));
    let says = |name: &str| answer.header(name).unwrap();
    assert_eq!(says("access-control-allow-origin"), "http://localhost:3000");
    assert_eq!(says("access-control-allow-methods"), "GET, POST, DELETE, OPTIONS");
    let allowed = "authorization,Content-Type, mcp-param-region";
    assert_eq!(says("access-control-allow-headers"), allowed);
    assert_eq!(says("access-control-max-age"), "7200");
    assert_eq!(says("access-control-allow-private-network"), "true");
    assert_eq!(answer.header("access-control-allow-credentials"), None);
    let vary: Vec<_> = answer.headers.get_all("vary").iter().collect();
    assert_eq!(vary, ["access-control-request-headers", "origin"]);
}

#[tokio::test]
async fn a_preflight_for_a_header_that_no_client_sends_is_told_which_are_allowed() {
    let door = Door::local();
    for asked in ["x-secret", "accept, x-secret", "", "mcp-a b"] {
        let headers = [
            ("host", "localhost"),
            ("origin", "http://localhost"),
            ("access-control-request-headers", asked),
        ];
        let answer = door.ask("OPTIONS /mcp", &headers).await;
        assert_eq!(answer.status, 204);
        let allowed = answer.header("access-control-allow-headers").unwrap();
        assert_eq!(allowed, HEADERS.join(", "), "{asked:?}");
    }
}

#[tokio::test]
async fn a_preflight_from_a_foreign_page_is_refused() {
    let headers = [
        ("host", "localhost"),
        ("origin", "https://evil.example"),
        ("access-control-request-method", "POST"),
    ];
    assert_eq!(Door::local().ask("OPTIONS /mcp", &headers).await.status, 403);
    // Without an origin it is no preflight, and needs a token like everything else.
    let answer = Door::with_tokens().ask("OPTIONS /mcp", &[("host", "localhost")]).await;
    assert_eq!(answer.status, 401);
}

#[tokio::test]
async fn a_token_lets_its_principal_in() {
    let door = Door::with_tokens();
    for scheme in ["Bearer", "bearer", "BEARER", "Bearer  "] {
        let answer = door.authorization(&format!("{scheme} {WORKER}")).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "bee work"), "{scheme}");
    }
    assert_eq!(door.authorization(&format!("Bearer {READER}")).await.body, "dash read");
}

#[tokio::test]
async fn without_a_token_only_the_health_is_told() {
    let door = Door::with_tokens();
    let host = [("host", "localhost")];
    let answer = door.ask("GET /healthz", &host).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "nobody"));
    for line in ["GET /mcp", "POST /mcp", "GET /none", "GET /healthz/", "GET /mcp?/healthz"] {
        let answer = door.ask(line, &host).await;
        assert_eq!(answer.status, 401, "{line}");
        assert_eq!(answer.header("www-authenticate"), Some(r#"Bearer realm="ipfs-accelerate""#));
        assert!(answer.message().contains("Authorization: Bearer TOKEN"), "{answer:?}");
    }
}

#[tokio::test]
async fn what_a_proxy_forwards_needs_a_token() {
    for header in [("Via", "1.1 tunnel"), ("X-Forwarded-For", "192.0.2.1"), ("Forwarded", "for=x")]
    {
        let headers = [("host", "localhost"), header];
        let refused = Door::local().ask("POST /mcp", &headers).await;
        assert_eq!(refused.status, 403, "{header:?}");
        assert!(refused.message().contains("--token-file"), "{refused:?}");
        let bearer = format!("Bearer {WORKER}");
        let headers = [headers[0], header, ("authorization", &bearer)];
        assert_eq!(Door::with_tokens().ask("POST /mcp", &headers).await.status, 200);
    }
}

#[tokio::test]
async fn a_wrong_token_is_refused_and_not_repeated() {
    let door = Door::with_tokens();
    let wrong = format!("{WORKER}x");
    for value in
        [format!("Bearer {wrong}"), "Bearer".to_owned(), format!("bearer {READER} {READER}")]
    {
        let answer = door.authorization(&value).await;
        assert_eq!(answer.status, 401, "{value}");
        let challenge = answer.header("www-authenticate").unwrap();
        assert_eq!(challenge, r#"Bearer realm="ipfs-accelerate", error="invalid_token""#);
        assert!(!answer.body.contains("workwork") && !answer.body.contains("readread"));
    }
    // Another scheme is no token at all.
    let answer = door.authorization(&format!("Basic {WORKER}")).await;
    assert_eq!(answer.status, 401);
    assert!(!answer.header("www-authenticate").unwrap().contains("error"));
}

#[tokio::test]
async fn two_tokens_are_refused_even_where_one_is_right() {
    let right = format!("Bearer {WORKER}");
    let headers = [("host", "localhost"), ("authorization", &right), ("authorization", "Bearer x")];
    let answer = Door::with_tokens().ask("POST /mcp", &headers).await;
    assert_eq!(answer.status, 400);
    assert!(answer.header("www-authenticate").unwrap().contains("invalid_request"));
}

#[tokio::test]
async fn a_token_in_the_url_is_not_looked_at() {
    let door = Door::with_tokens();
    for name in ["access_token", "token", "authorization"] {
        let line = format!("POST /mcp?{name}={WORKER}");
        let answer = door.ask(&line, &[("host", "localhost")]).await;
        assert_eq!(answer.status, 401, "{line}");
    }
}

#[tokio::test]
async fn a_page_of_an_allowed_origin_can_read_why_it_was_turned_down() {
    let headers = [("host", "localhost"), ("origin", "http://localhost:3000")];
    let answer = Door::with_tokens().ask("POST /mcp", &headers).await;
    assert_eq!(answer.status, 401);
    assert_eq!(answer.header("access-control-allow-origin"), Some("http://localhost:3000"));
    assert!(answer.header("www-authenticate").is_some());
}

#[test]
fn each_role_may_do_what_those_before_it_may_and_more() {
    let role = |method: &str, tool: Option<&str>| {
        let may = [Role::Read, Role::Work, Role::Admin].map(|role| may_call(role, method, tool));
        assert!(may.is_sorted(), "{method} {tool:?}");
        may.into_iter().filter(|may| *may).count()
    };
    for method in ["initialize", "tools/list", "resources/read", "prompts/get", "ping"] {
        assert_eq!(role(method, None), 3, "{method}");
    }
    for (tool, roles) in [
        ("p2p_scheduler_status", 3),
        ("p2p_check_workflow_tags", 3),
        ("p2p_get_merkle_clock", 3),
        ("p2p_submit_task", 2),
        ("p2p_get_next_task", 2),
        ("p2p_mark_task_complete", 2),
        ("p2p_update_peer_state", 2),
        ("p2p_unheard_of", 2),
    ] {
        assert_eq!(role("tools/call", Some(tool)), roles, "{tool}");
    }
    assert_eq!(role("tools/call", None), 2);
    for method in ["requeue", "reprioritize", "stop"] {
        assert_eq!(role(&format!("ipfs-accelerate/{method}"), None), 1, "{method}");
    }
    for method in ["hello", "", "unheard-of"] {
        assert_eq!(role(&format!("ipfs-accelerate/{method}"), None), 0, "{method}");
    }
}

async fn refusal(role: Role, method: &str, tool: Option<&str>, id: &str) -> Answer {
    let principal = Principal { name: "dash".into(), role };
    let (head, body) =
        role_refusal(&principal, method, tool, Some(id)).into_response().into_parts();
    let body = to_bytes(body, 1 << 20).await.unwrap();
    let body = String::from_utf8(body.to_vec()).unwrap();
    Answer { status: head.status.as_u16(), headers: head.headers, body }
}

#[tokio::test]
async fn a_wrong_role_is_told_which_one_is_needed_under_the_request_s_id() {
    let answer = refusal(Role::Read, "tools/call", Some("p2p_submit_task"), r#""seven""#).await;
    assert_eq!(answer.status, 403);
    let challenge = answer.header("www-authenticate").unwrap();
    assert!(challenge.starts_with("Bearer "), "{challenge}");
    assert!(challenge.contains(r#"error="insufficient_scope", scope="work""#), "{challenge}");
    let message = answer.message();
    assert!(message.contains("needs the role work") && message.contains("the role read"));
    assert!(answer.body.contains(r#""id":"seven""#), "{}", answer.body);
    let answer = refusal(Role::Work, "ipfs-accelerate/stop", None, "7").await;
    assert!(answer.header("www-authenticate").unwrap().contains(r#"scope="admin""#));
    assert!(answer.body.contains(r#""id":7"#), "{}", answer.body);
}

#[tokio::test]
async fn what_no_role_may_do_asks_for_no_other() {
    let answer = refusal(Role::Admin, "ipfs-accelerate/hello", None, "1").await;
    assert_eq!((answer.status, answer.header("www-authenticate")), (403, None));
    assert!(answer.message().contains("not for HTTP"), "{answer:?}");
}
