use super::fake::Peer;
use super::*;

async fn connected() -> (Client, Peer) {
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let (client, peer) = tokio::join!(Client::attach(ours), Peer::accept(theirs));
    (client.unwrap(), peer)
}

#[tokio::test]
async fn the_handshake_says_that_leases_run_on_time() {
    let (_client, peer) = connected().await;
    assert_eq!(peer.hello["params"]["worker"], "command-line");
    assert_eq!(peer.hello["params"]["shared"], true);
}

#[tokio::test]
async fn answers_that_overtake_each_other_reach_their_own_callers() {
    let (mut client, mut peer) = connected().await;
    let first = client.start_call("a", Arguments::new()).await.unwrap();
    let second = client.start_call("b", Arguments::new()).await.unwrap();
    let node = tokio::spawn(async move {
        let requests = [peer.read().await.unwrap(), peer.read().await.unwrap()];
        assert_eq!(requests[0]["params"]["name"], "a", "requests keep their order");
        for request in requests.iter().rev() {
            let name = &request["params"]["name"];
            peer.reply(request, json!({"content": [], "structuredContent": {"was": name}})).await;
        }
    });
    assert_eq!(client.answer(first).await.unwrap().json(), r#"{"was":"a"}"#);
    assert_eq!(client.answer(second).await.unwrap().json(), r#"{"was":"b"}"#);
    node.await.unwrap();
}

/// A payload taken apart and put together again would have its keys sorted and its numbers
/// rounded, and a second submission of the same task would look like another.
#[tokio::test]
async fn values_pass_through_as_they_were_written() {
    let odd = r#"{"z":1.10,"a":123456789012345678901234567890}"#;
    let raw = RawValue::from_string(odd.into()).unwrap();
    let arguments = Arguments::new().with("payload", raw).with("absent", None::<u8>);
    assert_eq!(serde_json::to_string(&arguments).unwrap(), format!(r#"{{"payload":{odd}}}"#));

    let (mut client, mut peer) = connected().await;
    let call = tokio::spawn(async move { client.call("a", arguments).await });
    let id = peer.read().await.unwrap()["id"].clone();
    peer.write_line(&format!(
        r#"{{"jsonrpc":"2.0","id":{id},"result":{{"structuredContent":{odd}}}}}"#
    ))
    .await;
    assert_eq!(call.await.unwrap().unwrap().json(), odd);
}

#[tokio::test]
async fn what_the_node_says_unasked_is_passed_over() {
    let (mut client, mut peer) = connected().await;
    let call = tokio::spawn(async move { client.call("a", Arguments::new()).await });
    let request = peer.read().await.unwrap();
    peer.write(json!({"jsonrpc": "2.0", "method": "notifications/message", "params": {}})).await;
    peer.write(json!({"jsonrpc": "2.0", "id": request["id"], "method": "ping"})).await;
    peer.reply(&request, json!({"structuredContent": {}})).await;
    assert_eq!(call.await.unwrap().unwrap().json(), "{}");
}

/// A node stops reading while a client leaves too many answers unread. A client that only
/// wrote then would wait for it, and it for the client.
#[tokio::test]
async fn answers_are_read_while_requests_wait_for_room() {
    let (ours, theirs) = tokio::io::duplex(64);
    let (client, peer) = tokio::join!(Client::attach(ours), Peer::accept(theirs));
    let (mut client, mut peer) = (client.unwrap(), peer);
    let node = tokio::spawn(async move {
        for _ in 0..3 {
            let request = peer.read().await.unwrap();
            let answer = json!({"structuredContent": {"text": "y".repeat(1000)}});
            peer.reply(&request, answer).await;
        }
    });
    let mut tickets = Vec::new();
    for _ in 0..3 {
        // Longer than what is buffered before it has to leave.
        let large = Arguments::new().with("text", "x".repeat(10_000));
        tickets.push(client.start_call("a", large).await.unwrap());
    }
    for ticket in tickets {
        client.answer(ticket).await.unwrap();
    }
    node.await.unwrap();
}

async fn answered(reply: impl FnOnce(&Value) -> Value) -> CallError {
    let (mut client, mut peer) = connected().await;
    let call = tokio::spawn(async move { client.call("a", Arguments::new()).await });
    let request = peer.read().await.unwrap();
    peer.write(reply(&request)).await;
    drop(peer);
    call.await.unwrap().unwrap_err()
}

fn error_result(text: &'static str) -> impl FnOnce(&Value) -> Value {
    move |request| {
        let content = json!([{"type": "text", "text": text}]);
        let result = json!({"isError": true, "content": content});
        json!({"jsonrpc": "2.0", "id": request["id"], "result": result})
    }
}

#[tokio::test]
async fn a_rejection_is_told_from_a_failure_by_its_code() {
    let no = answered(error_result("task \"a\" is taken.\ncode: task_exists")).await;
    assert!(matches!(no, CallError::Rejected(text) if text.ends_with("code: task_exists")));
    let broken = answered(error_result("the disk is full.\ncode: store_failed")).await;
    assert!(matches!(broken, CallError::Failed(_)));
}

#[tokio::test]
async fn a_protocol_fault_and_a_missing_answer_are_errors() {
    let fault = answered(|request| {
        json!({"jsonrpc": "2.0", "id": request["id"],
               "error": {"code": -32601, "message": "no such tool"}})
    });
    assert!(matches!(fault.await, CallError::Protocol(text) if text == "no such tool"));
    let bare = answered(|request| json!({"jsonrpc": "2.0", "id": request["id"], "result": {}}));
    assert!(matches!(bare.await, CallError::Protocol(_)));
}

#[tokio::test]
async fn a_node_that_goes_away_is_a_lost_connection() {
    let (mut client, peer) = connected().await;
    drop(peer);
    assert!(matches!(client.call("a", Arguments::new()).await, Err(CallError::Lost(_))));
}
