//! Swarms on real sockets of this machine. Each test waits for what must come, within a bound that
//! is never reached where things work.

use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

use libp2p::futures::future::{join_all, select_all};
use libp2p::futures::{self, AsyncRead, AsyncWrite, StreamExt};
use libp2p::request_response;
use libp2p::swarm::SwarmEvent;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::driver::Command;
use super::*;

/// Longer than anything takes that ends well; a wrong key takes 10 s to show.
const LONG: Duration = Duration::from_secs(60);
/// Between two looks at something.
const SHORT: Duration = Duration::from_millis(20);

/// A swarm, its events, and where it listens.
struct Peer {
    swarm: Swarm,
    events: UnboundedReceiver<Event>,
    id: PeerId,
    address: Multiaddr,
}

/// Listens on the loopback only, and knows nobody.
fn alone() -> Options {
    Options {
        listen: vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()],
        mdns: false,
        ..Options::default()
    }
}

fn key() -> NetworkKey {
    NetworkKey::generate().unwrap()
}

async fn start(key: &NetworkKey, options: &Options) -> Peer {
    start_as(&Identity::generate(), key, options, MAX_MESSAGE).await
}

async fn start_as(
    identity: &Identity,
    key: &NetworkKey,
    options: &Options,
    longest: usize,
) -> Peer {
    let starting = async {
        loop {
            match Swarm::start_with(identity, key, options, longest) {
                Ok(started) => return started,
                // Of a peer that ended a moment ago.
                Err(StartError::Listen { .. }) => tokio::time::sleep(SHORT).await,
                Err(error) => panic!("{error}"),
            }
        }
    };
    let (swarm, mut events) = timeout(LONG, starting).await.expect("the address stays taken");
    let address = until(&mut events, |event| match event {
        Event::ListeningOn(address) => Some(address),
        _ => None,
    });
    let address = address.await;
    assert_eq!(swarm.peer_id().to_string(), identity.peer_id());
    Peer { id: swarm.peer_id(), swarm, events, address }
}

/// The first event that is what is wanted; those before it are dropped.
async fn until<T>(
    events: &mut UnboundedReceiver<Event>,
    mut wanted: impl FnMut(Event) -> Option<T>,
) -> T {
    let search = async {
        loop {
            let event = events.recv().await.expect("the swarm ended");
            if let Some(found) = wanted(event) {
                return found;
            }
        }
    };
    timeout(LONG, search).await.expect("the event did not come")
}

impl Peer {
    async fn dial(&self, other: &Peer) -> Result<(), DialError> {
        let dial = self.swarm.dial(other.id, vec![other.address.clone()]);
        timeout(LONG, dial).await.expect("the dial did not end")
    }

    async fn met(&mut self, other: PeerId) -> Vec<Multiaddr> {
        until(&mut self.events, |event| match event {
            Event::Connected { peer, addresses } if peer == other => Some(addresses),
            _ => None,
        })
        .await
    }

    async fn lost(&mut self, other: PeerId) {
        until(&mut self.events, |event| {
            matches!(event, Event::Disconnected { peer } if peer == other).then_some(())
        })
        .await;
    }

    async fn refused(&mut self) -> Refusal {
        until(&mut self.events, |event| match event {
            Event::Refused(refusal) => Some(refusal),
            _ => None,
        })
        .await
    }

    /// Answers every request with what `answer` makes of it, until the swarm ends.
    fn serve(self, answer: fn(Vec<u8>) -> Vec<u8>) -> (Swarm, PeerId) {
        let Peer { swarm, mut events, id, .. } = self;
        tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                if let Event::Request { bytes, answer: way, .. } = event {
                    // A test may send what is too long on purpose.
                    let _too_long = way.send(answer(bytes));
                }
            }
        });
        (swarm, id)
    }

    async fn ask(&self, other: PeerId, bytes: &[u8]) -> Result<Vec<u8>, RequestError> {
        let request = self.swarm.request(other, bytes.to_vec());
        timeout(LONG, request).await.expect("the request did not end")
    }
}

/// Until a question about a swarm has the wanted answer.
async fn eventually<F: Future<Output = bool>>(mut question: impl FnMut() -> F) {
    let asking = async {
        while !question().await {
            tokio::time::sleep(SHORT).await;
        }
    };
    timeout(LONG, asking).await.expect("it did not come to be");
}

fn reversed(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.reverse();
    bytes
}

#[tokio::test]
async fn two_peers_meet_and_exchange_a_thousand_requests_in_both_directions() {
    let key = key();
    let (mut one, mut other) = (start(&key, &alone()).await, start(&key, &alone()).await);
    one.dial(&other).await.unwrap();
    assert_eq!(one.met(other.id).await, [other.address.clone()]);
    other.met(one.id).await;
    let (there, other_id) = other.serve(reversed);
    let (here, one_id) = one.serve(reversed);
    let ask = |from: Swarm, to: PeerId, number: u32| async move {
        let question = vec![number.to_be_bytes().to_vec(); 64].concat();
        let answer = from.request(to, question.clone()).await.unwrap();
        assert_eq!(answer, reversed(question));
    };
    let all = async {
        for start in (0..1000).step_by(20) {
            let some = start..start + 20;
            let out = some.clone().map(|number| ask(here.clone(), other_id, number));
            let back = some.map(|number| ask(there.clone(), one_id, number));
            tokio::join!(join_all(out), join_all(back));
        }
    };
    timeout(LONG, all).await.expect("the requests did not end");
    let longest = vec![7; MAX_MESSAGE];
    assert_eq!(here.request(other_id, longest.clone()).await, Ok(longest));
    assert_eq!(here.request(other_id, Vec::new()).await, Ok(Vec::new()));
    let peers = here.peers().await;
    assert_eq!(peers.iter().map(|peer| peer.peer).collect::<Vec<_>>(), [other_id]);
    eventually(|| async { here.peers().await[0].round_trip.is_some() }).await;
}

#[tokio::test]
async fn a_wrong_key_is_refused_and_both_sides_are_told_what_to_compare() {
    let (mine, theirs) = (key(), key());
    let mut one = start(&mine, &alone()).await;
    let mut other = start(&theirs, &alone()).await;
    let refused = one.dial(&other).await.unwrap_err();
    assert_eq!(refused, DialError::Refused(Why::KeyMismatch(mine.fingerprint())));
    let text = refused.to_string();
    assert!(text.contains("possible swarm key mismatch"), "{text}");
    assert!(text.contains(&mine.fingerprint().to_string()), "{text}");
    let here = one.refused().await;
    assert_eq!((here.peer, here.address), (Some(other.id), Some(other.address.clone())));
    let there = other.refused().await;
    assert_eq!(there.why, Why::KeyMismatch(theirs.fingerprint()));
    assert_eq!(there.peer, None, "who it was never got through");
    assert!(one.swarm.peers().await.is_empty() && other.swarm.peers().await.is_empty());
}

/// Once every peer that joined was told of as one with another key: of the addresses that it dialled
/// at once, it kept one, and hung up on the others in mid-handshake.
#[tokio::test]
async fn a_peer_that_hangs_up_on_all_but_one_of_its_dials_is_no_peer_with_another_key() {
    let key = key();
    let everywhere = Options {
        listen: vec!["/ip4/0.0.0.0/tcp/0".parse().unwrap()],
        mdns: false,
        ..Options::default()
    };
    let other = start(&key, &everywhere).await;
    let port = other.address.to_string().rsplit('/').next().unwrap().to_owned();
    let addresses = (1..=8).map(|n| format!("/ip4/127.0.0.{n}/tcp/{port}").parse().unwrap());
    let addresses: Vec<Multiaddr> = addresses.collect();
    for _ in 0..10 {
        let one = start(&key, &alone()).await;
        one.swarm.dial(other.id, addresses.clone()).await.unwrap();
        assert!(one.swarm.refusals().await.is_empty());
        one.swarm.close().await;
    }
    assert_eq!(other.swarm.refusals().await, []);
}

#[tokio::test]
async fn nobody_answering_is_told_as_that_and_not_as_a_wrong_key() {
    let one = start(&key(), &alone()).await;
    let other = start(&key(), &alone()).await;
    other.swarm.close().await;
    let failed = one.dial(&other).await.unwrap_err();
    assert!(
        matches!(&failed, DialError::Unreachable(text) if text.contains("refused")),
        "{failed}"
    );
    assert!(one.swarm.refusals().await.is_empty());
    let nowhere = one.swarm.dial(other.id, vec!["/dns4/a.b/tcp/1".parse().unwrap()]);
    let nobody = one.swarm.dial(PeerId::random(), vec!["/dns4/a.b/tcp/1".parse().unwrap()]);
    assert!(nowhere.await.is_err());
    assert_eq!(nobody.await, Err(DialError::NoAddress));
}

#[tokio::test]
async fn another_peer_at_the_address_is_refused() {
    let key = key();
    let (one, other) = (start(&key, &alone()).await, start(&key, &alone()).await);
    let wrong = one.swarm.dial(PeerId::random(), vec![other.address.clone()]).await;
    assert_eq!(wrong, Err(DialError::Refused(Why::OtherPeer)));
}

/// A peer of libp2p's own making, with one behaviour, that has the key.
fn bare<B: libp2p::swarm::NetworkBehaviour>(key: &NetworkKey, behaviour: B) -> libp2p::Swarm<B> {
    let keypair = libp2p::identity::Keypair::generate_ed25519();
    let transport = behaviour::transport(&keypair, key, behaviour::Reached::default()).unwrap();
    let me = keypair.public().to_peer_id();
    let config = libp2p::swarm::Config::with_tokio_executor();
    libp2p::Swarm::new(transport, behaviour, me, config)
}

/// Once a command that was the node for a moment was told of, on each machine that it had dialled, as
/// a peer that may have refused that machine.
#[tokio::test]
async fn a_peer_that_dials_and_goes_away_without_a_word_is_no_peer_that_refuses_us() {
    let key = key();
    let one = start(&key, &alone()).await;
    for _ in 0..3 {
        // A ping is answered once the connection stands on both sides, and is no word of ours.
        let mut passing = bare(&key, libp2p::ping::Behaviour::default());
        passing.dial(one.address.clone()).unwrap();
        let both_ends = async {
            while !matches!(passing.select_next_some().await, SwarmEvent::Behaviour(_)) {}
            passing.disconnect_peer_id(one.id).unwrap();
            while !matches!(passing.select_next_some().await, SwarmEvent::ConnectionClosed { .. }) {
            }
        };
        timeout(LONG, both_ends).await.expect("the connection neither came nor went");
    }
    // By now those that went were seen to go.
    let mut last = start(&key, &alone()).await;
    last.dial(&one).await.unwrap();
    last.met(one.id).await;
    assert_eq!(one.swarm.refusals().await, []);
}

/// Announces a message of eight bytes, sends three, and ends the stream.
#[derive(Clone, Default)]
struct EndsEarly;

impl request_response::Codec for EndsEarly {
    type Protocol = libp2p::StreamProtocol;
    type Request = ();
    type Response = ();

    async fn read_request<T>(&mut self, _: &libp2p::StreamProtocol, _: &mut T) -> io::Result<()>
    where
        T: AsyncRead + Unpin + Send,
    {
        Ok(())
    }

    async fn read_response<T>(&mut self, _: &libp2p::StreamProtocol, io: &mut T) -> io::Result<()>
    where
        T: AsyncRead + Unpin + Send,
    {
        // Until the other side has given up as well.
        let mut rest = Vec::new();
        futures::AsyncReadExt::read_to_end(io, &mut rest).await.map(drop)
    }

    async fn write_request<T>(
        &mut self,
        _: &libp2p::StreamProtocol,
        io: &mut T,
        (): (),
    ) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        futures::AsyncWriteExt::write_all(io, b"\0\0\0\x08abc").await
    }

    async fn write_response<T>(
        &mut self,
        _: &libp2p::StreamProtocol,
        _: &mut T,
        (): (),
    ) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        Ok(())
    }
}

/// Once a peer whose connection ended in the middle of a message was counted as one that sends
/// malformed messages.
#[tokio::test]
async fn a_message_that_ends_early_is_lost_and_not_held_against_its_sender() {
    let key = key();
    let one = start(&key, &alone()).await;
    let protocols = [(codec::PROTOCOL, request_response::ProtocolSupport::Full)];
    let config = request_response::Config::default();
    let behaviour = request_response::Behaviour::with_codec(EndsEarly, protocols, config);
    let mut other = bare(&key, behaviour);
    other.add_peer_address(one.id, one.address.clone());
    other.behaviour_mut().send_request(&one.id, ());
    let is_over = |event: SwarmEvent<request_response::Event<(), ()>>| {
        use request_response::Event::{Message, OutboundFailure};
        matches!(event, SwarmEvent::Behaviour(Message { .. } | OutboundFailure { .. }))
    };
    let request = async { while !is_over(other.select_next_some().await) {} };
    timeout(LONG, request).await.expect("the request did not end");
    assert_eq!(one.swarm.refusals().await, []);
}

/// An IPFS node of the same private network, say.
#[tokio::test]
async fn a_peer_with_the_key_that_speaks_another_protocol_is_refused_with_that() {
    let key = key();
    let mut one = start(&key, &alone()).await;
    let keypair = libp2p::identity::Keypair::generate_ed25519();
    let transport = behaviour::transport(&keypair, &key, behaviour::Reached::default()).unwrap();
    let config = libp2p::identify::Config::new("ipfs/0.1.0".into(), keypair.public());
    let mut other = libp2p::Swarm::new(
        transport,
        libp2p::identify::Behaviour::new(config),
        keypair.public().to_peer_id(),
        libp2p::swarm::Config::with_tokio_executor(),
    );
    let id = *other.local_peer_id();
    other.listen_on("/ip4/127.0.0.1/tcp/0".parse().unwrap()).unwrap();
    let (tell, address) = oneshot::channel();
    let mut tell = Some(tell);
    let running = tokio::spawn(async move {
        loop {
            if let SwarmEvent::NewListenAddr { address, .. } = other.select_next_some().await {
                tell.take().unwrap().send(address).unwrap();
            }
        }
    });
    let address = timeout(LONG, address).await.unwrap().unwrap();
    let refused = one.swarm.dial(id, vec![address]).await;
    assert_eq!(refused, Err(DialError::Refused(Why::OtherProtocol)));
    let refusal = one.refused().await;
    assert_eq!((refusal.peer, refusal.why), (Some(id), Why::OtherProtocol));
    assert!(one.swarm.peers().await.is_empty());
    running.abort();
}

#[tokio::test]
async fn by_default_a_swarm_listens_on_every_address_and_a_fixed_port_serves_both_families() {
    let options = Options { mdns: false, ..Options::default() };
    let one = start(&key(), &options).await;
    let families = options.listen.len();
    eventually(|| async {
        let listening = one.swarm.listening().await;
        let first = |address: &Multiaddr| address.to_string().split('/').nth(1).map(str::to_owned);
        listening.iter().map(first).collect::<BTreeSet<_>>().len() == families
    })
    .await;
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let fixed =
        |address: &Multiaddr| address.to_string().replace("/tcp/0", &format!("/tcp/{port}"));
    let listen = options.listen.iter().map(|address| fixed(address).parse().unwrap()).collect();
    let other = start(&key(), &Options { listen, ..options }).await;
    assert!(other.address.to_string().contains(&port.to_string()));
}

#[tokio::test]
async fn a_blocked_peer_is_cut_off_kept_out_and_let_in_again() {
    let key = key();
    let (mut one, mut other) = (start(&key, &alone()).await, start(&key, &alone()).await);
    one.dial(&other).await.unwrap();
    // Both have heard the other's first word: a peer that is blocked before is never met.
    one.met(other.id).await;
    other.met(one.id).await;
    one.swarm.admit(Admission { blocked: [other.id].into(), ..Admission::default() }).await;
    one.lost(other.id).await;
    other.lost(one.id).await;
    let refused = other.dial(&one).await.unwrap_err();
    assert_eq!(refused, DialError::Refused(Why::ByPeer));
    let there = one.refused().await;
    assert_eq!((there.peer, there.why), (Some(other.id), Why::Blocked));
    // The peer does not take no for an answer, and is told of no more.
    let insisting = other.dial(&one).await;
    assert!(insisting.is_err());
    let times = async || {
        let refusals = one.swarm.refusals().await;
        assert_eq!(refusals.len(), 1, "{refusals:?}");
        refusals[0].times
    };
    assert!(times().await >= 2);
    one.swarm.admit(Admission::default()).await;
    eventually(|| async { one.swarm.peers().await.len() == 1 }).await;
    one.met(other.id).await;
}

#[tokio::test]
async fn only_who_is_on_the_allow_list_is_let_in() {
    let key = key();
    let friend = Identity::generate();
    let mut friend_peer = start_as(&friend, &key, &alone(), MAX_MESSAGE).await;
    let only = |peers: &[PeerId]| Admission {
        trusted: peers.iter().copied().collect(),
        ..Admission::default()
    };
    let options = Options { admission: only(&[friend_peer.id]), ..alone() };
    let mut guarded = start(&key, &options).await;
    let stranger = start(&key, &alone()).await;
    assert_eq!(stranger.dial(&guarded).await, Err(DialError::Refused(Why::ByPeer)));
    let refusal = guarded.refused().await;
    assert_eq!((refusal.peer, refusal.why), (Some(stranger.id), Why::NotAllowed));
    assert_eq!(guarded.dial(&stranger).await, Err(DialError::Refused(Why::NotAllowed)));
    friend_peer.dial(&guarded).await.unwrap();
    guarded.met(friend_peer.id).await;
    friend_peer.met(guarded.id).await;
    guarded.swarm.admit(only(&[friend_peer.id, stranger.id])).await;
    guarded.met(stranger.id).await;
    // From then on as well: who is no longer on the list is cut off, and who is there stays.
    guarded.swarm.admit(only(&[stranger.id])).await;
    guarded.lost(friend_peer.id).await;
    let connected: Vec<PeerId> =
        guarded.swarm.peers().await.into_iter().map(|info| info.peer).collect();
    assert_eq!(connected, [stranger.id]);
}

#[tokio::test]
async fn more_peers_than_are_taken_are_refused() {
    let key = key();
    let mut full = start(&key, &Options { max_incoming: 1, ..alone() }).await;
    let (first, second) = (start(&key, &alone()).await, start(&key, &alone()).await);
    first.dial(&full).await.unwrap();
    assert_eq!(second.dial(&full).await, Err(DialError::Refused(Why::ByPeer)));
    let refusal = full.refused().await;
    assert_eq!((refusal.peer, refusal.why), (Some(second.id), Why::Full));
    // Its place is for whoever comes next.
    first.swarm.close().await;
    full.met(second.id).await;
}

#[tokio::test]
async fn messages_over_the_cap_are_refused_on_either_side_and_the_connection_stays() {
    let key = key();
    let mut one = start(&key, &alone()).await;
    // This one keeps to no cap.
    let loose = start_as(&Identity::generate(), &key, &alone(), usize::MAX).await;
    one.dial(&loose).await.unwrap();
    one.met(loose.id).await;

    let too_long = RequestError::TooLong(TooLong { bytes: MAX_MESSAGE + 1 });
    assert_eq!(one.ask(loose.id, &vec![0; MAX_MESSAGE + 1]).await, Err(too_long));

    // The handle checks too, so what is over the cap goes past it.
    let Peer { swarm, events: mut there, id: loose_id, .. } = loose;
    let one_id = one.id;
    let (reply, _flood) = oneshot::channel();
    let bytes = vec![0; MAX_MESSAGE + 1];
    swarm.commands.send(Command::Request { peer: one_id, bytes, reply }).unwrap();
    let refusal = one.refused().await;
    assert_eq!((refusal.peer, refusal.why), (Some(loose_id), Why::Malformed));

    let (answer, ()) = tokio::join!(one.ask(loose_id, b"all of it"), async {
        let answer = until(&mut there, |event| match event {
            Event::Request { answer, .. } => Some(answer),
            _ => None,
        });
        let channel = answer.await.channel;
        let bytes = vec![0; MAX_MESSAGE + 1];
        swarm.commands.send(Command::Answer { channel, bytes }).unwrap();
    });
    assert!(matches!(answer, Err(RequestError::Malformed(_))), "{answer:?}");

    // A dropped answer, and then one that works, on the same connection.
    let (nothing, ()) = tokio::join!(one.ask(loose_id, b"?"), async {
        until(&mut there, |event| matches!(event, Event::Request { .. }).then_some(())).await;
    });
    assert!(matches!(nothing, Err(RequestError::NoAnswer(_))), "{nothing:?}");
    let (fine, ()) = tokio::join!(one.ask(loose_id, b"?"), async {
        let answer = until(&mut there, |event| match event {
            Event::Request { answer, .. } => Some(answer),
            _ => None,
        });
        answer.await.send(b"!".to_vec()).unwrap();
    });
    assert_eq!(fine, Ok(b"!".to_vec()));
    let refusals = one.swarm.refusals().await;
    assert_eq!(refusals.iter().map(|refusal| refusal.times).sum::<u64>(), 2, "{refusals:?}");
}

#[tokio::test]
async fn a_peer_that_does_not_answer_gets_no_more_than_a_bound_of_requests() {
    let key = key();
    let mut one = start(&key, &alone()).await;
    let other = start(&key, &alone()).await;
    assert_eq!(one.ask(other.id, b"?").await, Err(RequestError::NotConnected));
    one.dial(&other).await.unwrap();
    one.met(other.id).await;
    let asked: Vec<_> = (0..behaviour::MAX_IN_FLIGHT)
        .map(|_| {
            let (swarm, id) = (one.swarm.clone(), other.id);
            tokio::spawn(async move { swarm.request(id, vec![1]).await })
        })
        .collect();
    eventually(|| async { other.events.len() > behaviour::MAX_IN_FLIGHT }).await;
    assert_eq!(one.ask(other.id, b"?").await, Err(RequestError::Busy));
    other.swarm.close().await;
    for request in asked {
        let failed = timeout(LONG, request).await.unwrap().unwrap().unwrap_err();
        assert!(
            matches!(failed, RequestError::Disconnected | RequestError::NoAnswer(_)),
            "{failed}"
        );
    }
}

async fn connections(swarm: &Swarm) -> Vec<usize> {
    swarm.peers().await.iter().map(|peer| peer.connections).collect()
}

/// Where both dial at once, libp2p alone loses both connections in one of six tries.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_fifty_simultaneous_dials_each_leads_to_a_connection_that_stays_and_works() {
    let key = key();
    let one_try = async |number: u32| {
        let (mut one, mut other) = (start(&key, &alone()).await, start(&key, &alone()).await);
        let (there, back) = tokio::join!(one.dial(&other), other.dial(&one));
        assert_eq!((there, back), (Ok(()), Ok(())), "try {number}");
        one.met(other.id).await;
        other.met(one.id).await;
        // One connection is left, and nobody saw the other one go.
        eventually(|| async {
            connections(&one.swarm).await == [1] && connections(&other.swarm).await == [1]
        })
        .await;
        let (id, one_id) = (other.id, one.id);
        for peer in [&mut one, &mut other] {
            while let Ok(event) = peer.events.try_recv() {
                assert!(matches!(event, Event::Learned { .. }), "{event:?}");
            }
        }
        let (swarm, _) = other.serve(reversed);
        assert_eq!(one.ask(id, b"abc").await, Ok(b"cba".to_vec()), "try {number}");
        let (_one, _) = one.serve(reversed);
        assert_eq!(swarm.request(one_id, b"abc".to_vec()).await, Ok(b"cba".to_vec()));
    };
    for start in (0..50).step_by(10) {
        join_all((start..start + 10).map(one_try)).await;
    }
}

#[tokio::test]
async fn a_peer_that_goes_is_seen_to_go_and_is_redialled_when_it_is_back_at_the_same_address() {
    let key = key();
    let identity = Identity::generate();
    let mut one = start(&key, &alone()).await;
    let mut other = start_as(&identity, &key, &alone(), MAX_MESSAGE).await;
    one.dial(&other).await.unwrap();
    one.met(other.id).await;
    other.met(one.id).await;
    for round in 0..3 {
        let Peer { swarm, events, id, address } = other;
        if round % 2 == 0 {
            swarm.close().await;
        } else {
            // No leave taken: its runtime drops it.
            drop((swarm, events));
        }
        one.lost(id).await;
        let options = Options { listen: vec![address], ..alone() };
        other = start_as(&identity, &key, &options, MAX_MESSAGE).await;
        one.met(id).await;
        assert_eq!(one.swarm.peers().await.len(), 1);
    }
}

/// The system closes a killed process's sockets, without a word of its own; so does this.
#[tokio::test]
async fn a_peer_that_is_killed_is_seen_to_go_and_what_was_asked_of_it_ends() {
    let key = key();
    let mut one = start(&key, &alone()).await;
    let process = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let known = vec![(one.id, vec![one.address.clone()])];
    let options = Options { known, ..alone() };
    let other = process.spawn(async move { start(&key, &options).await });
    let other = timeout(LONG, other).await.unwrap().unwrap();
    one.met(other.id).await;
    let (swarm, id) = (one.swarm.clone(), other.id);
    let asked = tokio::spawn(async move { swarm.request(id, b"?".to_vec()).await });
    eventually(|| async { other.events.len() >= 2 }).await;
    process.shutdown_background();
    one.lost(other.id).await;
    let failed = timeout(LONG, asked).await.unwrap().unwrap().unwrap_err();
    assert_eq!(failed, RequestError::Disconnected);
}

#[tokio::test]
async fn addresses_that_were_kept_lead_back_into_the_swarm_and_each_peer_tells_its_own() {
    let key = key();
    let mut one = start(&key, &alone()).await;
    let known = vec![(one.id, vec![one.address.clone()])];
    let mut other = start(&key, &Options { known, ..alone() }).await;
    assert_eq!(other.met(one.id).await, [one.address.clone()]);
    assert_eq!(one.met(other.id).await, [other.address.clone()], "learned from the peer itself");
    // Once those that came by themselves were not kept, and after a restart nobody knew them.
    let learned = until(&mut one.events, |event| match event {
        Event::Learned { peer, addresses } if peer == other.id => Some(addresses),
        _ => None,
    });
    assert_eq!(learned.await, [other.address.clone()]);
    assert_eq!(one.swarm.listening().await, [one.address.clone()]);
}

#[tokio::test]
async fn no_more_peers_are_dialled_than_allowed_and_a_lost_one_is_replaced() {
    let key = key();
    let mut known = Vec::new();
    let mut others = Vec::new();
    for _ in 0..6 {
        let other = start(&key, &alone()).await;
        known.push((other.id, vec![other.address.clone()]));
        others.push(other);
    }
    let mut one = start(&key, &Options { known, max_outgoing: 2, ..alone() }).await;
    let mut first = BTreeSet::new();
    for _ in 0..2 {
        first.insert(
            until(&mut one.events, |event| match event {
                Event::Connected { peer, .. } => Some(peer),
                _ => None,
            })
            .await,
        );
    }
    assert_eq!(one.swarm.peers().await.len(), 2);
    let gone = *first.first().unwrap();
    others.iter().find(|other| other.id == gone).unwrap().swarm.close().await;
    one.lost(gone).await;
    let new = until(&mut one.events, |event| match event {
        Event::Connected { peer, .. } => Some(peer),
        _ => None,
    });
    assert!(!first.contains(&new.await));
    assert_eq!(one.swarm.peers().await.len(), 2);
}

#[tokio::test]
async fn on_suspicion_a_peer_is_disconnected_and_dialled_again() {
    let key = key();
    let (mut one, other) = (start(&key, &alone()).await, start(&key, &alone()).await);
    one.dial(&other).await.unwrap();
    one.met(other.id).await;
    one.swarm.disconnect(other.id);
    one.lost(other.id).await;
    one.met(other.id).await;
}

/// A cable that can be pulled: passes bytes on until it is, and then holds both ends.
async fn cable(to: &Multiaddr) -> (Multiaddr, oneshot::Sender<()>) {
    let port = |address: &Multiaddr| -> u16 {
        address.to_string().rsplit('/').next().unwrap().parse().unwrap()
    };
    let far_port = port(to);
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    // What it swallows after it was pulled is little.
    socket.set_recv_buffer_size(4096).unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let near_port = listener.local_addr().unwrap().port();
    let (pull, pulled) = oneshot::channel();
    tokio::spawn(async move {
        let (mut near, _) = listener.accept().await.unwrap();
        let mut far = TcpStream::connect(("127.0.0.1", far_port)).await.unwrap();
        tokio::select! {
            _ended = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
            _pulled = pulled => std::future::pending().await,
        }
    });
    (format!("/ip4/127.0.0.1/tcp/{near_port}").parse().unwrap(), pull)
}

#[tokio::test]
async fn a_peer_behind_a_pulled_cable_is_let_go_although_much_is_still_to_be_sent() {
    let key = key();
    let (mut one, other) = (start(&key, &alone()).await, start(&key, &alone()).await);
    let (address, pull) = cable(&other.address).await;
    one.swarm.dial(other.id, vec![address]).await.unwrap();
    one.met(other.id).await;
    pull.send(()).unwrap();
    let (swarm, id) = (one.swarm.clone(), other.id);
    let asked = (0..=behaviour::MAX_IN_FLIGHT).map(|_| {
        let swarm = swarm.clone();
        tokio::spawn(async move { swarm.request(id, vec![0; MAX_MESSAGE]).await })
    });
    // One is too many, and then all the others are under way.
    let (first, _, asked) = timeout(LONG, select_all(asked)).await.unwrap();
    assert_eq!(first.unwrap(), Err(RequestError::Busy));
    // Time for the buffers to fill; with less of it the test would be easier to pass, not harder.
    tokio::time::sleep(Duration::from_secs(2)).await;
    one.swarm.disconnect(id);
    one.lost(id).await;
    for request in asked {
        assert!(timeout(LONG, request).await.unwrap().unwrap().is_err());
    }
    // Its own address was learned from itself.
    one.met(id).await;
}

#[tokio::test]
async fn strangers_that_speak_garbage_are_counted_and_those_that_say_nothing_disturb_nobody() {
    let key = key();
    let mut one = start(&key, &alone()).await;
    let port = one.address.to_string().rsplit('/').next().unwrap().parse::<u16>().unwrap();
    let garbage: [&[u8]; 6] = [
        b"",
        // As long as what any two sides exchange before a word is said.
        &[0; 24],
        b"GET / HTTP/1.1\r\nHost: somebody\r\n\r\n",
        &[0; 25],
        &[0xff; 4096],
        b"\x13/multistream/1.0.0\n\x07/noise\n",
    ];
    for bytes in garbage {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut rest = Vec::new();
        // It hangs up, with or without ceremony.
        let _reset = timeout(LONG, stream.read_to_end(&mut rest)).await.expect("it keeps silent");
    }
    let refusal = one.refused().await;
    assert_eq!((refusal.peer, refusal.why), (None, Why::KeyMismatch(key.fingerprint())));
    let other = start(&key, &alone()).await;
    other.dial(&one).await.unwrap();
    assert_eq!(one.swarm.refusals().await[0].times, 4);
    one.met(other.id).await;
}

/// Over the LAN's multicast, on the first address of this machine that is not its loopback.
#[tokio::test]
async fn mdns_finds_the_peers_on_the_lan() {
    let lan = Options { listen: vec!["/ip4/0.0.0.0/tcp/0".parse().unwrap()], ..Options::default() };
    let key = key();
    let (mut one, mut other) = (start(&key, &lan).await, start(&key, &lan).await);
    if !multicast_works() {
        // Said on standard error past the test's capture, and not passed over in silence.
        let text = "\nNOT TESTED: no multicast on this machine, so mDNS cannot find anybody\n";
        std::io::Write::write_all(&mut std::io::stderr(), text.as_bytes()).unwrap();
        return;
    }
    let addresses = one.met(other.id).await;
    assert!(!addresses.is_empty());
    other.met(one.id).await;
    eventually(|| async { connections(&one.swarm).await == [1] }).await;
}

/// Whether a datagram to mDNS's group comes back on an interface that is not the loopback.
fn multicast_works() -> bool {
    use std::net::{IpAddr, Ipv4Addr, UdpSocket};
    let group = Ipv4Addr::new(224, 0, 0, 251);
    let try_it = || -> std::io::Result<bool> {
        // Nothing is sent by this; it finds the address that a packet to the group would leave by.
        let route = UdpSocket::bind("0.0.0.0:0")?;
        route.connect((group, 5353))?;
        let IpAddr::V4(mine) = route.local_addr()?.ip() else { return Ok(false) };
        let receiver = UdpSocket::bind("0.0.0.0:0")?;
        receiver.join_multicast_v4(&group, &mine)?;
        receiver.set_read_timeout(Some(Duration::from_secs(2)))?;
        let sender = UdpSocket::bind((mine, 0))?;
        sender.send_to(b"?", (group, receiver.local_addr()?.port()))?;
        Ok(!mine.is_loopback() && receiver.recv(&mut [0; 8]).is_ok())
    };
    try_it().unwrap_or(false)
}

#[tokio::test]
async fn an_address_that_is_taken_is_an_error_that_names_it() {
    let key = key();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let listen = vec![format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap()];
    let error = Swarm::start(&Identity::generate(), &key, &Options { listen, ..alone() });
    let text = error.err().unwrap().to_string();
    assert!(text.contains(&port.to_string()) && text.contains("in use"), "{text}");
    // Libp2p by itself shares a port among those who share.
    let one = start(&key, &alone()).await;
    let listen = vec![one.address.clone()];
    let error = Swarm::start(&Identity::generate(), &key, &Options { listen, ..alone() });
    assert!(error.err().unwrap().to_string().contains("in use"));
}

#[tokio::test]
async fn a_closed_swarm_answers_everything_with_that() {
    let key = key();
    let one = start(&key, &alone()).await;
    one.swarm.close().await;
    assert_eq!(one.ask(PeerId::random(), b"?").await, Err(RequestError::Closed));
    assert_eq!(one.swarm.dial(PeerId::random(), Vec::new()).await, Err(DialError::Closed));
    one.swarm.close().await;
    assert!(one.swarm.peers().await.is_empty());
}
