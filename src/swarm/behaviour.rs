//! How libp2p is put together: TCP, the network key, noise, yamux, and six behaviours.
//!
//! The transport is built by hand: there is no other way in beside the one under the key.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use libp2p::allow_block_list::{AllowedPeers, BlockedPeers};
use libp2p::connection_limits::ConnectionLimits;
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::Boxed;
use libp2p::core::upgrade::Version;
use libp2p::futures::TryFutureExt;
use libp2p::identity::Keypair;
use libp2p::multiaddr::Protocol;
use libp2p::pnet::PnetConfig;
use libp2p::request_response::{self, ProtocolSupport};
use libp2p::swarm::NetworkBehaviour;
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::{
    Multiaddr, PeerId, Transport, allow_block_list, connection_limits, core::ConnectedPoint,
    identify, mdns, noise, ping, tcp, yamux,
};

use super::codec::{Codec, PROTOCOL};
use super::greeting::Greeted;
use super::handle::Options;
use super::invitation::without_peer;
use super::key::NetworkKey;

/// How long a connection may take to come up, on both sides.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// A connection without a word stays this long. Libp2p's ten seconds would close those of a swarm
/// that has nothing to do.
const IDLE: Duration = Duration::from_secs(24 * 3600);
/// How long a request may take, answer included.
pub(super) const REQUEST: Duration = Duration::from_secs(30);
/// How many of our requests one peer may have open; as many of its own may come the other way.
pub(super) const MAX_IN_FLIGHT: usize = 32;
/// Requests both ways, and as many again that are ending.
const MAX_REQUEST_STREAMS: usize = 4 * MAX_IN_FLIGHT;
/// All streams of a connection, with ping and identify. This is what bounds yamux's memory: a
/// stream's window begins at 256 KiB and grows with what is read from it, at most a message.
/// Libp2p hides the window of the whole connection (1 GiB), which is why it is not set.
const MAX_STREAMS: usize = 2 * MAX_REQUEST_STREAMS;
/// Connections to one peer: two where both dialled at once, and two of a former run.
const MAX_CONNECTIONS_TO_PEER: u32 = 4;
/// Connections that are coming up. A stranger that holds them all keeps others out for 10 s.
const MAX_PENDING_IN: u32 = 64;
const MAX_PENDING_OUT: u32 = 64;

#[derive(NetworkBehaviour)]
pub(super) struct Behaviour {
    pub(super) blocked: allow_block_list::Behaviour<BlockedPeers>,
    pub(super) allowed: Toggle<allow_block_list::Behaviour<AllowedPeers>>,
    limits: connection_limits::Behaviour,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    mdns: Toggle<mdns::tokio::Behaviour>,
    pub(super) messages: request_response::Behaviour<Codec>,
}

/// The addresses at which somebody answered the dial, until the dial's outcome is known. After
/// that, what fails is the handshake, and the error does not say so.
#[derive(Clone, Default)]
pub(super) struct Reached(Arc<Mutex<BTreeSet<Multiaddr>>>);

impl Reached {
    /// Whether somebody answered there; forgets it.
    pub(super) fn take(&self, address: &Multiaddr) -> bool {
        self.lock().remove(&without_peer(address))
    }

    fn note(&self, address: &Multiaddr) {
        self.lock().insert(without_peer(address));
    }

    /// Nothing that panics runs under this lock.
    fn lock(&self) -> MutexGuard<'_, BTreeSet<Multiaddr>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Puts it together. Nothing listens yet.
pub(super) fn build(
    keypair: &Keypair,
    key: &NetworkKey,
    options: &Options,
    reached: Reached,
    longest: usize,
) -> io::Result<libp2p::Swarm<Behaviour>> {
    let me = keypair.public().to_peer_id();
    let transport = transport(keypair, key, reached)?;
    let behaviour = behaviour(keypair, options, longest)?;
    let config = libp2p::swarm::Config::with_tokio_executor().with_idle_connection_timeout(IDLE);
    Ok(libp2p::Swarm::new(transport, behaviour, me, config))
}

/// Whether a port is free. Libp2p shares a port with whoever shares too: a second node with the same
/// settings would take half of the first one's connections, and neither would notice.
pub(super) fn check_free(address: &Multiaddr) -> io::Result<()> {
    let mut parts = address.iter();
    let machine = match parts.next() {
        Some(Protocol::Ip4(ip)) => IpAddr::V4(ip),
        Some(Protocol::Ip6(ip)) => IpAddr::V6(ip),
        _ => return Ok(()),
    };
    match parts.next() {
        Some(Protocol::Tcp(port)) if port != 0 => TcpListener::bind((machine, port)).map(drop),
        _ => Ok(()),
    }
}

pub(super) fn transport(
    keypair: &Keypair,
    key: &NetworkKey,
    reached: Reached,
) -> io::Result<Boxed<(PeerId, StreamMuxerBox)>> {
    let key = PnetConfig::new(key.pre_shared());
    let mut streams = yamux::Config::default();
    streams.set_max_num_streams(MAX_STREAMS);
    let noise = noise::Config::new(keypair).map_err(io::Error::other)?;
    let keyed = tcp::tokio::Transport::new(tcp::Config::default()).and_then(
        move |socket, endpoint: ConnectedPoint| {
            if let ConnectedPoint::Dialer { address, .. } = &endpoint {
                reached.note(address);
            }
            key.handshake(socket).map_ok(Greeted::new)
        },
    );
    let upgraded = keyed.upgrade(Version::V1Lazy).authenticate(noise).multiplex(streams);
    Ok(upgraded.timeout(HANDSHAKE).boxed())
}

fn behaviour(keypair: &Keypair, options: &Options, longest: usize) -> io::Result<Behaviour> {
    let me = keypair.public();
    let limits = ConnectionLimits::default()
        .with_max_pending_incoming(Some(MAX_PENDING_IN))
        .with_max_pending_outgoing(Some(MAX_PENDING_OUT))
        .with_max_established_incoming(Some(options.max_incoming))
        .with_max_established_outgoing(Some(options.max_outgoing))
        .with_max_established_per_peer(Some(MAX_CONNECTIONS_TO_PEER));
    let identify = identify::Config::new(PROTOCOL.to_string(), me.clone())
        .with_agent_version(concat!("ipfs-accelerate/", env!("CARGO_PKG_VERSION")).to_owned())
        .with_push_listen_addr_updates(true);
    let mdns = if options.mdns {
        Some(mdns::tokio::Behaviour::new(mdns::Config::default(), me.to_peer_id())?)
    } else {
        None
    };
    let messages = request_response::Config::default()
        .with_request_timeout(REQUEST)
        .with_max_concurrent_streams(MAX_REQUEST_STREAMS);
    Ok(Behaviour {
        blocked: options.admission.blocking(),
        allowed: options.admission.trusting().into(),
        limits: connection_limits::Behaviour::new(limits),
        identify: identify::Behaviour::new(identify),
        ping: ping::Behaviour::default(),
        mdns: mdns.into(),
        messages: request_response::Behaviour::with_codec(
            Codec { longest },
            [(PROTOCOL, ProtocolSupport::Full)],
            messages,
        ),
    })
}
