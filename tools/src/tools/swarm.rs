//! People's commands on the swarm: they answer in the shape of a tool's result, over doors that only
//! this machine's user can open.

use p2p_workflow_scheduler::node::{CallError, Node, SwarmError};
use p2p_workflow_scheduler::scheduler::{Liveness, Rejection};
use serde::{Deserialize, Serialize};

use super::Answer;
use super::fields::parse;

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
struct Left {
    success: bool,
}

#[derive(Serialize)]
struct Peers {
    peers: Vec<Peer>,
}

#[derive(Serialize)]
struct Peer {
    peer_id: String,
    /// Alive, suspect or down; null for a peer that sent no heartbeat yet.
    state: Option<&'static str>,
    connected: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    round_trip_ms: Option<f64>,
    /// When it was last heard of, in milliseconds since the Unix epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    heard_at: Option<u64>,
    addresses: Vec<String>,
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
    let addresses = here.addresses.iter().map(ToString::to_string).collect();
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

/// `swarm leave`.
pub(crate) async fn leave(node: &Node) -> Result<Answer, CallError> {
    node.swarm_leave().await.map_err(refused)?;
    Ok(Answer::new(&Left { success: true }, "This machine left its swarm.".to_owned()))
}

/// `swarm peers`.
pub(crate) async fn peers(node: &Node) -> Result<Answer, CallError> {
    let (connected, members) = node.swarm_peers().await.map_err(refused)?;
    let mut peers: Vec<Peer> = members
        .into_iter()
        .map(|member| Peer {
            peer_id: member.peer_id.to_string(),
            state: member.liveness.map(word),
            connected: false,
            round_trip_ms: None,
            heard_at: member.heard_at,
            addresses: Vec::new(),
        })
        .collect();
    for info in connected {
        let peer_id = info.peer.to_string();
        let at = peers.iter().position(|peer| peer.peer_id == peer_id).unwrap_or_else(|| {
            peers.push(Peer {
                peer_id,
                state: None,
                connected: true,
                round_trip_ms: None,
                heard_at: None,
                addresses: Vec::new(),
            });
            peers.len() - 1
        });
        peers[at].connected = true;
        peers[at].round_trip_ms = info.round_trip.map(|trip| trip.as_secs_f64() * 1000.0);
        peers[at].addresses = info.addresses.iter().map(ToString::to_string).collect();
    }
    let text = format!("{} peers.", peers.len());
    Ok(Answer::new(&Peers { peers }, text))
}

fn word(liveness: Liveness) -> &'static str {
    match liveness {
        Liveness::Alive => "alive",
        Liveness::Suspect => "suspect",
        Liveness::Down => "down",
    }
}

fn refused(error: SwarmError) -> CallError {
    match error {
        SwarmError::Call(error) => error,
        error => Rejection::InvalidArgument { what: error.to_string() }.into(),
    }
}
