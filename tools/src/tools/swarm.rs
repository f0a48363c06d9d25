//! People's commands on the swarm: they answer in the shape of a tool's result, over doors that only
//! this machine's user can open.

use p2p_workflow_scheduler::node::{Admit, CallError, Node, PeerId, SwarmError};
use p2p_workflow_scheduler::scheduler::{CatchUp, Liveness, Rejection};
use serde::{Deserialize, Serialize};

use super::Answer;
use super::fields::parse;
use super::update_peer_state::Order;

#[derive(Serialize)]
struct Here {
    peer_id: String,
    /// Of the node.
    process: u32,
    /// What may be shown of the swarm's key; null outside of a swarm.
    swarm: Option<String>,
    /// Where others reach this machine.
    addresses: Vec<String>,
}

#[derive(Serialize)]
struct Made {
    success: bool,
    /// What may be shown of the key.
    fingerprint: String,
}

#[derive(Serialize)]
struct Invited {
    success: bool,
    /// A secret.
    line: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Join {
    line: String,
}

#[derive(Serialize)]
struct Joined {
    success: bool,
    peer_id: String,
    reached: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

#[derive(Serialize)]
struct CaughtUp {
    /// Tasks that came from others since the machine joined.
    taken: u64,
    /// Those that are still to come, at most.
    remaining: u64,
    /// Whether all that another machine held is here, on disk.
    done: bool,
}

#[derive(Serialize)]
struct Left {
    success: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Trust {
    #[serde(default)]
    peers: Vec<String>,
    /// Trusts them no longer.
    #[serde(default)]
    remove: bool,
    /// Trusts nobody in particular.
    #[serde(default)]
    anyone: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Block {
    peers: Vec<String>,
    /// Blocks them no longer.
    #[serde(default)]
    remove: bool,
}

#[derive(Serialize)]
struct Admitted {
    success: bool,
    /// If there are any, only these are let in.
    trusted: Vec<String>,
    /// These are not, trusted or not.
    blocked: Vec<String>,
    /// Who was connected and is not let in any more.
    kept_out: Vec<String>,
}

#[derive(Serialize)]
struct Peers {
    /// This peer first.
    peers: Vec<Peer>,
    trusted: Vec<String>,
    blocked: Vec<String>,
    refusals: Vec<Refused>,
}

#[derive(Serialize)]
struct Peer {
    peer_id: String,
    this_peer: bool,
    /// Alive, suspect or down; null for a peer that sent no heartbeat yet.
    state: Option<&'static str>,
    connected: bool,
    /// Tasks that its workers hold.
    held: u64,
    /// To a tenth.
    #[serde(skip_serializing_if = "Option::is_none")]
    round_trip_ms: Option<f64>,
    /// When it was last heard of, in milliseconds since the Unix epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    heard_at: Option<u64>,
    /// How its clock stood to this peer's.
    #[serde(skip_serializing_if = "Option::is_none")]
    clock_order: Option<Order>,
    addresses: Vec<String>,
}

#[derive(Serialize)]
struct Refused {
    #[serde(skip_serializing_if = "Option::is_none")]
    peer_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    why: String,
    count: u64,
}

/// Which process the node is, and where it stands to its swarm.
pub(crate) async fn here(node: &Node) -> Result<Answer, CallError> {
    let here = node.swarm_here().await;
    let (peer_id, process) = (here.peer_id, std::process::id());
    let text = match &here.swarm {
        Some(swarm) => format!("Process {process} is peer {peer_id} in swarm {swarm}."),
        None => format!("Process {process} is peer {peer_id}, in no swarm."),
    };
    let swarm = here.swarm.map(|fingerprint| fingerprint.to_string());
    let addresses = texts(&here.addresses);
    Ok(Answer::new(&Here { peer_id, process, swarm, addresses }, text))
}

/// `swarm init`.
pub(crate) async fn init(node: &Node) -> Result<Answer, CallError> {
    let fingerprint = node.swarm_init().await.map_err(refused)?;
    let text = format!("This machine is in a swarm of its own, with key {fingerprint}.");
    Ok(Answer::new(&Made { success: true, fingerprint }, text))
}

/// `swarm invite`.
pub(crate) async fn invite(node: &Node) -> Result<Answer, CallError> {
    let line = node.swarm_invite().await.map_err(refused)?;
    let text = "The invitation holds the swarm's key: show it only to whom it is for.".to_owned();
    Ok(Answer::new(&Invited { success: true, line }, text))
}

/// `swarm join`.
pub(crate) async fn join(node: &Node, params: &str) -> Result<Answer, CallError> {
    let Join { line } = parse(params)?;
    let (peer, reached) = node.swarm_join(&line).await.map_err(refused)?;
    let reason = reached.err().map(|error| error.to_string());
    let text = match &reason {
        None => format!("Joined the swarm of {peer}."),
        Some(reason) => format!("Joined, and {peer} is not reached yet: {reason}"),
    };
    let (peer_id, reached) = (peer.to_string(), reason.is_none());
    Ok(Answer::new(&Joined { success: true, peer_id, reached, reason }, text))
}

/// How far `swarm join` is.
pub(crate) async fn catch_up(node: &Node) -> Result<Answer, CallError> {
    let CatchUp { taken, remaining, is_done: done } =
        node.swarm_catch_up().await.map_err(refused)?;
    let text = format!("{taken} tasks taken in, {remaining} at most to come.");
    Ok(Answer::new(&CaughtUp { taken, remaining, done }, text))
}

/// `swarm leave`.
pub(crate) async fn leave(node: &Node) -> Result<Answer, CallError> {
    node.swarm_leave().await.map_err(refused)?;
    Ok(Answer::new(&Left { success: true }, "This machine left its swarm.".to_owned()))
}

/// `swarm trust`.
pub(crate) async fn trust(node: &Node, params: &str) -> Result<Answer, CallError> {
    let Trust { peers, remove, anyone } = parse(params)?;
    let peers = node.other_peers(&peers).await.map_err(refused)?;
    let change = match (anyone, remove) {
        (true, _) => Admit::Anyone,
        (false, true) => Admit::Distrust(peers),
        (false, false) => Admit::Trust(peers),
    };
    admit(node, &change).await
}

/// `swarm block`.
pub(crate) async fn block(node: &Node, params: &str) -> Result<Answer, CallError> {
    let Block { peers, remove } = parse(params)?;
    let peers = node.other_peers(&peers).await.map_err(refused)?;
    let change = if remove { Admit::Unblock(peers) } else { Admit::Block(peers) };
    admit(node, &change).await
}

async fn admit(node: &Node, change: &Admit) -> Result<Answer, CallError> {
    let admitted = node.swarm_admit(change).await.map_err(refused)?;
    let trusted = texts(&admitted.admission.trusted);
    let blocked = texts(&admitted.admission.blocked);
    let kept_out = texts(&admitted.kept_out);
    let text = match trusted.len() {
        0 => "Everybody with the key is let in".to_owned(),
        count => format!("Only {count} trusted peers are let in"),
    };
    let text = format!("{text}; {} are blocked.", blocked.len());
    Ok(Answer::new(&Admitted { success: true, trusted, blocked, kept_out }, text))
}

/// `swarm peers`.
pub(crate) async fn peers(node: &Node) -> Result<Answer, CallError> {
    let seen = node.swarm_peers().await.map_err(refused)?;
    let mut peers = vec![Peer {
        this_peer: true,
        state: Some(Liveness::Alive.word()),
        addresses: texts(&seen.here.addresses),
        ..Peer::of(seen.here.peer_id)
    }];
    peers.extend(seen.members.into_iter().map(|member| Peer {
        state: member.state(),
        heard_at: member.heard_at,
        clock_order: member.clock_order.map(Order::from),
        ..Peer::of(member.peer_id.to_string())
    }));
    for info in seen.connected {
        let peer = of_peer(&mut peers, info.peer);
        peer.connected = true;
        peer.round_trip_ms = info.round_trip.map(|trip| (trip.as_secs_f64() * 1e4).round() / 10.0);
        peer.addresses = texts(&info.addresses);
    }
    if peers.len() == 1 {
        // It joined, and no node stayed until another machine was heard of.
        for peer in seen.remembered {
            of_peer(&mut peers, peer);
        }
    }
    for peer in &mut peers {
        peer.held = seen.holders.get(&*peer.peer_id).copied().unwrap_or_default();
    }
    let refusals = seen.refusals.into_iter().map(|refusal| Refused {
        why: refusal.reason(),
        peer_id: refusal.peer.map(|peer| peer.to_string()),
        address: refusal.address.map(|address| address.to_string()),
        count: refusal.times,
    });
    let text = format!("{} peers, this one among them.", peers.len());
    let (trusted, blocked) = (texts(&seen.admission.trusted), texts(&seen.admission.blocked));
    Ok(Answer::new(&Peers { peers, trusted, blocked, refusals: refusals.collect() }, text))
}

/// The entry of a peer, which is made where there is none.
fn of_peer(peers: &mut Vec<Peer>, peer: PeerId) -> &mut Peer {
    let id = peer.to_string();
    let at = peers.iter().position(|peer| peer.peer_id == id).unwrap_or_else(|| {
        peers.push(Peer::of(id));
        peers.len() - 1
    });
    &mut peers[at]
}

impl Peer {
    fn of(peer_id: String) -> Self {
        Peer {
            peer_id,
            this_peer: false,
            state: None,
            connected: false,
            held: 0,
            round_trip_ms: None,
            heard_at: None,
            clock_order: None,
            addresses: Vec::new(),
        }
    }
}

fn texts<T: ToString>(values: impl IntoIterator<Item = T>) -> Vec<String> {
    values.into_iter().map(|value| value.to_string()).collect()
}

fn refused(error: SwarmError) -> CallError {
    match error {
        SwarmError::Call(error) => error,
        error => Rejection::InvalidArgument { what: error.to_string() }.into(),
    }
}
