//! Where this machine stands to its swarm, and the calls that change it: what the `swarm` commands
//! do. What goes over the connections is in `network`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc::UnboundedReceiver;

use crate::scheduler::{CatchUp, MemberView, P2PWorkflowScheduler};
use crate::swarm::{
    self, Admission, DialError, Event, Fingerprint, Identity, Invitation, Multiaddr, PeerId,
    PeerInfo, Refusal, StartError, Swarm,
};

use super::CallError;
use super::network::{Joined, follow, name};
use super::outbox::{Network, pump};
use super::pairing::{Admit, Pairing, PairingError};
use super::running::{Core, Node};

/// What stands for the middle of an id in its short form.
const SHORTENED: char = '…';

/// Why a node does not enter, or leave, a swarm.
#[derive(Debug, thiserror::Error)]
pub enum SwarmError {
    /// What is kept of the swarm cannot be read, or says otherwise.
    #[error(transparent)]
    Pairing(#[from] PairingError),
    /// The swarm's engine did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The node is on its way out, or its disk fails.
    #[error(transparent)]
    Call(#[from] CallError),
}

/// Where this machine stands to its swarm.
#[derive(Clone, Debug)]
pub struct Here {
    /// This peer.
    pub peer_id: String,
    /// What may be shown of the swarm's key; `None` outside of a swarm.
    pub swarm: Option<Fingerprint>,
    /// Where others reach this machine.
    pub addresses: Vec<Multiaddr>,
}

/// The machines of a swarm, as one of them sees them.
#[derive(Clone, Debug)]
pub struct Peers {
    /// This one.
    pub here: Here,
    /// Those that are connected.
    pub connected: Vec<PeerInfo>,
    /// All others that were heard of.
    pub members: Vec<MemberView>,
    /// Those whose addresses are kept and who are let in, heard of or not.
    pub remembered: Vec<PeerId>,
    /// How many tasks each holds that holds any.
    pub holders: BTreeMap<Arc<str>, u64>,
    /// Who is let in.
    pub admission: Admission,
    /// Who was refused, and why.
    pub refusals: Vec<Refusal>,
}

/// Who is let in, after a change of it.
#[derive(Clone, Debug)]
pub struct Admitted {
    /// Who is.
    pub admission: Admission,
    /// Who was connected, and is no longer let in.
    pub kept_out: Vec<PeerId>,
}

/// What a node needs to enter a swarm, and the swarm that it is in.
pub(super) struct Place {
    pub(super) folder: PathBuf,
    identity: Identity,
    network: Mutex<Option<Arc<Network>>>,
    /// Held while what is kept of the swarm changes.
    pub(super) changing: tokio::sync::Mutex<()>,
}

impl Place {
    pub(super) fn new(folder: PathBuf, identity: Identity) -> Self {
        Place { folder, identity, network: Mutex::default(), changing: Default::default() }
    }

    pub(super) fn network(&self) -> MutexGuard<'_, Option<Arc<Network>>> {
        self.network.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The swarm, as long as this node is in one.
    pub(super) fn swarm(&self) -> Option<Swarm> {
        Some(self.network().as_ref()?.swarm.clone())
    }
}

impl Node {
    /// Enters the swarm that the data folder names, if it names one.
    pub(super) async fn enter_swarm(&self) -> Result<(), SwarmError> {
        let place = self.place();
        let Some(pairing) = Pairing::read(&place.folder)? else { return Ok(()) };
        let admission = pairing.admission.clone();
        let (swarm, events) = start(&place.identity, pairing)?;
        let excluded = admission.blocked.iter().map(|peer| name(*peer)).collect();
        let begin = |core: &mut Core, now| {
            let joined = core.joined.insert(Joined::new(excluded));
            joined.begin(&mut core.scheduler, now);
        };
        self.apply(begin).await?;
        let network = Arc::new(Network::new(swarm));
        *place.network() = Some(network.clone());
        tokio::spawn(pump(self.clone(), network));
        tokio::spawn(follow(self.clone(), events));
        Ok(())
    }

    /// Where this machine stands to its swarm.
    pub async fn swarm_here(&self) -> Here {
        let peer_id = self.place().identity.peer_id();
        let Some(swarm) = self.place().swarm() else {
            return Here { peer_id, swarm: None, addresses: Vec::new() };
        };
        Here { peer_id, swarm: Some(swarm.fingerprint()), addresses: swarm.reached_at().await }
    }

    /// Makes a swarm of this machine alone, and enters it. Returns what may be shown of its key.
    ///
    /// # Errors
    /// [`SwarmError`].
    pub async fn swarm_init(&self) -> Result<String, SwarmError> {
        let _changing = self.place().changing.lock().await;
        let fingerprint = Pairing::init(&self.place().folder)?;
        self.enter_swarm().await?;
        Ok(fingerprint.to_string())
    }

    /// The line that lets another machine join. A secret.
    ///
    /// # Errors
    /// [`SwarmError`].
    pub async fn swarm_invite(&self) -> Result<String, SwarmError> {
        let pairing = Pairing::read(&self.place().folder)?.ok_or(PairingError::NotJoined)?;
        let swarm = self.place().swarm().ok_or(PairingError::NotJoined)?;
        let addresses = swarm.reached_at().await;
        let invitation = Invitation { key: pairing.key, peer: swarm.peer_id(), addresses };
        Ok(invitation.to_secret_line())
    }

    /// Joins the swarm of an invitation. Returns who invited, and whether it was reached.
    ///
    /// # Errors
    /// [`SwarmError`].
    pub async fn swarm_join(
        &self,
        line: &str,
    ) -> Result<(PeerId, Result<(), DialError>), SwarmError> {
        let invitation = {
            let _changing = self.place().changing.lock().await;
            let invitation = Pairing::join(&self.place().folder, line)?;
            self.enter_swarm().await?;
            invitation
        };
        let swarm = self.place().swarm().ok_or(PairingError::NotJoined)?;
        let reached = swarm.dial(invitation.peer, invitation.addresses).await;
        Ok((invitation.peer, reached))
    }

    /// How far this machine is with taking in the tasks of the others, as it is on disk.
    ///
    /// # Errors
    /// [`SwarmError`].
    pub async fn swarm_catch_up(&self) -> Result<CatchUp, SwarmError> {
        self.place().swarm().ok_or(PairingError::NotJoined)?;
        Ok(self.call(|scheduler, _| scheduler.catch_up()).await?)
    }

    /// Leaves the swarm. The tasks stay.
    ///
    /// # Errors
    /// [`SwarmError`].
    pub async fn swarm_leave(&self) -> Result<(), SwarmError> {
        let _changing = self.place().changing.lock().await;
        Pairing::leave(&self.place().folder)?;
        // The others need not wait for this machine as for one that may come back.
        self.say_farewell().await?;
        self.close_swarm().await;
        let depart = |core: &mut Core, now| {
            core.joined = None;
            core.scheduler.depart(now);
        };
        self.apply(depart).await?;
        Ok(())
    }

    /// Changes who is let in, now and after a restart. Returns who is, and who was connected and is
    /// no longer let in.
    ///
    /// # Errors
    /// [`SwarmError`]; nothing was changed.
    pub async fn swarm_admit(&self, change: &Admit) -> Result<Admitted, SwarmError> {
        let place = self.place();
        let _changing = place.changing.lock().await;
        let network = place.network().clone().ok_or(PairingError::NotJoined)?;
        let admission = Pairing::admit(&place.folder, change)?;
        let connected = network.swarm.peers().await.into_iter().map(|info| info.peer);
        let kept_out: Vec<PeerId> = connected.filter(|peer| !admission.lets_in(peer)).collect();
        network.swarm.admit(admission.clone()).await;
        let blocked = admission.blocked.iter().map(|peer| name(*peer)).collect();
        let exclude = |core: &mut Core, now| {
            if let Some(joined) = &mut core.joined {
                joined.exclude(&mut core.scheduler, now, blocked);
            }
        };
        self.apply(exclude).await?;
        Ok(Admitted { admission, kept_out })
    }

    /// Peers by what people write: a whole id, or the short form of a known peer's, such as
    /// `12D3KooW…9bQKWJ9W`. None of them is this peer.
    ///
    /// # Errors
    /// [`SwarmError`], for the first that is none.
    pub async fn other_peers(&self, texts: &[String]) -> Result<Vec<PeerId>, SwarmError> {
        let me = self.place().identity.peer_id();
        let known = match texts.iter().any(|text| text.contains(SHORTENED)) {
            true => self.known_peers().await?,
            false => BTreeMap::new(),
        };
        let other = |text: &String| match meant_by(text, &known)? {
            peer if peer.to_string() == me => Err(PairingError::Oneself(peer).into()),
            peer => Ok(peer),
        };
        texts.iter().map(other).collect()
    }

    /// All that this machine has heard of, by id.
    async fn known_peers(&self) -> Result<BTreeMap<String, PeerId>, SwarmError> {
        let Peers { here, connected, members, remembered, admission, refusals, .. } =
            self.swarm_peers().await?;
        let members = members.iter().map(|member| &*member.peer_id).chain([&*here.peer_id]);
        let members = members.filter_map(|id| id.parse().ok());
        let connected = connected.into_iter().map(|info| info.peer).chain(remembered);
        let refused = refusals.into_iter().filter_map(|refusal| refusal.peer);
        let Admission { trusted, blocked } = admission;
        let all = members.chain(connected).chain(refused).chain(trusted).chain(blocked);
        Ok(all.map(|peer| (peer.to_string(), peer)).collect())
    }

    /// The machines of the swarm, as this one sees them.
    ///
    /// # Errors
    /// [`SwarmError`].
    pub async fn swarm_peers(&self) -> Result<Peers, SwarmError> {
        let place = self.place();
        let swarm = place.swarm().ok_or(PairingError::NotJoined)?;
        let pairing = Pairing::read(&place.folder)?.ok_or(PairingError::NotJoined)?;
        let look = |scheduler: &mut P2PWorkflowScheduler, now| {
            (scheduler.members(now), scheduler.holders())
        };
        let (members, holders) = self.call(look).await?;
        let remembered = pairing.known.iter().map(|(peer, _)| *peer);
        let remembered = remembered.filter(|peer| pairing.admission.lets_in(peer)).collect();
        Ok(Peers {
            here: self.swarm_here().await,
            connected: swarm.peers().await,
            members,
            remembered,
            holders,
            admission: pairing.admission,
            refusals: swarm.refusals().await,
        })
    }
}

/// The peer that a whole id, or the short form of a known one, stands for.
fn meant_by(text: &str, known: &BTreeMap<String, PeerId>) -> Result<PeerId, PairingError> {
    let Some((start, end)) = text.split_once(SHORTENED) else {
        return text.parse().map_err(|_| PairingError::NotAPeer(text.to_owned()));
    };
    let mut fitting = known.iter().filter(|(id, _)| id.starts_with(start) && id.ends_with(end));
    match (fitting.next(), fitting.next()) {
        (Some((_, peer)), None) => Ok(*peer),
        (None, _) => Err(PairingError::NotAPeer(text.to_owned())),
        (Some(_), Some(_)) => Err(PairingError::SeveralPeers(text.to_owned())),
    }
}

/// Listens at the port that the others know, or at another if that is taken.
fn start(
    identity: &Identity,
    pairing: Pairing,
) -> Result<(Swarm, UnboundedReceiver<Event>), StartError> {
    let Pairing { key, port, known, admission } = pairing;
    let listen = swarm::Options::everywhere(port);
    let options = swarm::Options { listen, known, admission, ..swarm::Options::default() };
    match Swarm::start(identity, &key, &options) {
        Err(error) if port != 0 => {
            tracing::warn!("{error} The swarm is reached at another port until the next start.");
            Swarm::start(
                identity,
                &key,
                &swarm::Options { listen: swarm::Options::everywhere(0), ..options },
            )
        }
        started => started,
    }
}
