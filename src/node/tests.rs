//! A node among peers that are not like it: ill-behaved, of another version, or slow. They are
//! played by hand, over the swarm's own transport.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::timeout;

use super::{Attached, Hello, Node, Options, Session, attach, wire};
use crate::scheduler::{
    Carried, Config, Content, Message, Now, P2PTask, P2PWorkflowScheduler, State, TagSet, VERSION,
};
use crate::swarm::{
    self, Answer, Event, Identity, Invitation, Multiaddr, NetworkKey, PeerId, Refusal, Swarm, Why,
};

/// A bound on what is waited for, never reached where things work.
const LONG: Duration = Duration::from_secs(40);

/// A peer that does by hand what a node does.
struct Peer {
    swarm: Swarm,
    events: UnboundedReceiver<Event>,
    key: NetworkKey,
    address: Multiaddr,
}

impl Peer {
    async fn start(key: &NetworkKey) -> Self {
        let listen = vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()];
        let options = swarm::Options { listen, mdns: false, ..swarm::Options::default() };
        let (swarm, mut events) = Swarm::start(&Identity::generate(), key, &options).unwrap();
        let address = loop {
            if let Event::ListeningOn(address) = next(&mut events).await {
                break address;
            }
        };
        Peer { swarm, events, key: key.clone(), address }
    }

    fn invitation(&self) -> String {
        let addresses = vec![self.address.clone()];
        let invitation =
            Invitation { key: self.key.clone(), peer: self.swarm.peer_id(), addresses };
        invitation.to_secret_line()
    }

    /// The next thing that the node asks.
    async fn asked(&mut self) -> (Vec<u8>, Answer) {
        loop {
            if let Event::Request { bytes, answer, .. } = next(&mut self.events).await {
                return (bytes, answer);
            }
        }
    }

    /// What the node says of a message.
    async fn say(&self, node: PeerId, bytes: Vec<u8>) -> String {
        let answer = timeout(LONG, self.swarm.request(node, bytes)).await.unwrap().unwrap();
        String::from_utf8(answer).unwrap()
    }
}

async fn next(events: &mut UnboundedReceiver<Event>) -> Event {
    timeout(LONG, events.recv()).await.expect("no event came").expect("the swarm ended")
}

/// A node in the swarm of a peer.
async fn node(folder: &TempDir, of: &Peer) -> (Node, Session, PeerId) {
    let node = match attach(&Options::new(folder.path().join("data"))).await.unwrap() {
        Attached::Node(node) => node,
        Attached::Peer(_) => panic!("somebody else is the node of {folder:?}"),
    };
    let (peer, reached) = node.swarm_join(&of.invitation()).await.unwrap();
    assert_eq!((peer, reached), (of.swarm.peer_id(), Ok(())));
    let id = node.swarm_here().await.peer_id.parse().unwrap();
    let session = node.session(Hello::default());
    (node, session, id)
}

/// The refusals of one peer, in some order.
async fn refusals(node: &Node, of: PeerId) -> Vec<Refusal> {
    let refusals = node.swarm_peers().await.unwrap().refusals;
    refusals.into_iter().filter(|refusal| refusal.peer == Some(of)).collect()
}

/// Waits until something about a node is so.
async fn eventually(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let started = Instant::now();
    while !is_so().await {
        assert!(started.elapsed() < LONG, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn task(id: &str, payload: Option<String>) -> P2PTask {
    P2PTask { payload, ..P2PTask::new(id, "w", "a task", TagSet::default()) }
}

/// A push of what another scheduler wrote, spoilt.
fn push(spoil: impl Fn(&mut Carried)) -> Message {
    let mut other =
        P2PWorkflowScheduler::new("other", "other/1", Config::default(), Box::new(|| 0));
    other.submit(Now::default(), task("from elsewhere", Some("[1]".into()))).unwrap();
    let changes = other.take_changes().tasks.into_iter();
    let mut records: Vec<Carried> = changes
        .map(|change| Carried {
            record: change.record,
            payload: change.payload,
            result: change.result,
        })
        .collect();
    records.iter_mut().for_each(spoil);
    let (records, clock, told) = (Arc::new(records), [].into(), Vec::new());
    Content::Push { records, clock, told }.into()
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_with_a_reason_counted_and_changes_nothing() {
    let folder = TempDir::new().unwrap();
    let peer = Peer::start(&NetworkKey::generate().unwrap()).await;
    let (node, session, id) = node(&folder, &peer).await;
    let later = Message { version: VERSION + 1, ..push(|_| ()) };
    let bad = [
        (b"".to_vec(), "no version"),
        (b"hello, is it me you are looking for?".to_vec(), "version"),
        ([&VERSION.to_be_bytes()[..], b"{}"].concat(), "no content"),
        (wire::encode(&later).unwrap(), "version 2"),
        (wire::encode(&push(|it| it.record.priority = 99)).unwrap(), "priority 99"),
        (wire::encode(&push(|it| it.payload = Some("[2]".into()))).unwrap(), "hash"),
    ];
    for _ in 0..3 {
        for (bytes, reason) in &bad {
            let said = peer.say(id, bytes.clone()).await;
            assert!(said.contains(reason), "{said:?} and not {reason:?}");
        }
    }
    let me = peer.swarm.peer_id();
    let mut counted: Vec<(Why, u64)> =
        refusals(&node, me).await.into_iter().map(|it| (it.why, it.times)).collect();
    counted.sort_unstable();
    assert_eq!(counted, [(Why::Malformed, 6), (Why::OtherVersion, 6), (Why::BadRecord, 6)]);
    assert_eq!(session.status().await.unwrap().count(State::Pending), 0);
    // The connection is as good as before.
    assert_eq!(peer.say(id, wire::encode(&push(|_| ())).unwrap()).await, "");
    assert_eq!(session.status().await.unwrap().count(State::Pending), 1);
    node.close().await;
}

#[tokio::test]
async fn a_node_whose_messages_are_refused_says_so_once_with_the_reason_that_it_is_given() {
    let folder = TempDir::new().unwrap();
    let mut peer = Peer::start(&NetworkKey::generate().unwrap()).await;
    let (node, _session, _) = node(&folder, &peer).await;
    let me = peer.swarm.peer_id();
    let reason = "it speaks version 1 of the protocol, and this node version 2";
    for _ in 0..2 {
        let (_, answer) = peer.asked().await;
        answer.send(reason.into()).unwrap();
    }
    eventually(
        "both are counted",
        async || matches!(refusals(&node, me).await.as_slice(), [refusal] if refusal.times == 2),
    )
    .await;
    let refusal = refusals(&node, me).await.remove(0);
    assert_eq!((refusal.why, refusal.detail.as_deref()), (Why::RefusedOurs, Some(reason)));
    node.close().await;
}

#[tokio::test]
async fn a_peer_that_answers_nothing_costs_a_bounded_room_and_others_are_told_all_the_same() {
    let folder = TempDir::new().unwrap();
    let key = NetworkKey::generate().unwrap();
    let (mut slow, quick) = (Peer::start(&key).await, Peer::start(&key).await);
    let (node, session, id) = node(&folder, &quick).await;
    let invitation = node.swarm_here().await.addresses;
    slow.swarm.dial(id, invitation).await.unwrap();
    let slow_id = slow.swarm.peer_id();
    let quick_id = quick.swarm.peer_id();
    let mut quick_events = quick.events;
    let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let quick = quick.swarm;
    tokio::spawn(async move {
        while let Some(event) = quick_events.recv().await {
            if let Event::Request { bytes, answer, .. } = event {
                answer.send(Vec::new()).unwrap();
                let Content::Push { records, .. } = wire::decode(&bytes).unwrap().content else {
                    continue;
                };
                for carried in &*records {
                    told.send(carried.record.spec.task_id.to_string()).unwrap();
                }
            }
        }
    });
    // Each is a push of its own, and all together are more than the slow one has room for.
    let payload = format!("{:?}", "x".repeat(200 * 1024));
    for number in 0..40 {
        let id = number.to_string();
        session.submit(task(&id, Some(payload.clone()))).await.unwrap();
        // It may be told again of those before.
        while timeout(LONG, heard.recv()).await.expect("the quick one is told").unwrap() != id {}
    }
    let refused = refusals(&node, slow_id).await;
    assert!(refused.iter().any(|refusal| refusal.why == Why::TooSlow), "{refused:?}");
    assert_eq!(refusals(&node, quick_id).await, []);
    let mut waiting = 0;
    while let Ok(event) = slow.events.try_recv() {
        if let Event::Request { bytes, .. } = event {
            waiting += bytes.len();
        }
    }
    assert!(waiting < 5 * 1024 * 1024, "{waiting} bytes were sent to who answers nothing");
    drop(quick);
    node.close().await;
}

/// Once a busy node had so many pushes under way to one peer that the swarm allowed no more of them,
/// and what was in the others was missing there until a pull.
#[tokio::test]
async fn a_busy_node_pushes_little_at_a_time_and_leaves_nothing_out() {
    const TASKS: usize = 300;
    let folder = TempDir::new().unwrap();
    let mut peer = Peer::start(&NetworkKey::generate().unwrap()).await;
    let (node, session, _) = node(&folder, &peer).await;
    for number in 0..TASKS {
        session.submit(task(&number.to_string(), None)).await.unwrap();
    }
    // Until there are so many, nothing is answered.
    let (mut told, mut most, mut waiting) = (BTreeSet::new(), 0, BTreeMap::new());
    while told.len() < TASKS {
        let next = timeout(Duration::from_secs(1), peer.events.recv()).await;
        let Ok(Some(event)) = next else {
            // All are on their way that may be.
            let answers = std::mem::take(&mut waiting).into_values();
            answers.for_each(|answer: Answer| answer.send(Vec::new()).unwrap());
            continue;
        };
        let Event::Request { bytes, answer, .. } = event else { continue };
        match wire::decode(&bytes).unwrap().content {
            Content::Push { records, .. } => {
                let ids = records.iter().map(|carried| &*carried.record.spec.task_id);
                told.extend(ids.map(|id| id.parse::<usize>().unwrap()));
                // One that went over a connection that was closed comes again.
                waiting.insert(bytes, answer);
                most = most.max(waiting.len());
            }
            _ => answer.send(Vec::new()).unwrap(),
        }
    }
    assert_eq!(told, BTreeSet::from_iter(0..TASKS));
    assert!(most <= 8, "{most} at a time");
    assert_eq!(refusals(&node, peer.swarm.peer_id()).await, []);
    node.close().await;
}
