//! What a peer says of itself, and how members are shown to people.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::clock::ClockOrder;

/// What a peer says of itself, again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Rises each time the peer starts, or refutes a suspicion.
    pub incarnation: u64,
    /// Rises with each heartbeat of an incarnation.
    pub counter: u64,
    /// What it does in the swarm.
    pub presence: Presence,
}

/// What a peer does in the swarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Presence {
    /// It runs tasks.
    Works,
    /// It runs none, and is never an owner.
    Watches,
    /// It left for good, and says so with its last heartbeat: what it held is free, and it counts
    /// neither as known nor as out of reach.
    Left,
}

/// A member's liveness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Liveness {
    /// Heard of lately.
    Alive,
    /// Silent, or its connection dropped. Still an owner.
    Suspect,
    /// Silent for too long. What it held is free.
    Down,
}

/// A member as people see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberView {
    /// The peer's id.
    pub peer_id: Arc<str>,
    /// By its heartbeats; `None` for a peer that only a reported clock tells of.
    pub liveness: Option<Liveness>,
    /// Whether it left the swarm for good.
    pub has_left: bool,
    /// Whether it counts as alive, by either.
    pub alive: bool,
    /// Whether tasks may go to it now.
    pub takes_work: bool,
    /// When it was last heard of, in milliseconds since the Unix epoch.
    pub heard_at: Option<u64>,
    /// How its clock stood to this peer's when it was last known, before they were merged.
    pub clock_order: Option<ClockOrder>,
}

impl MemberView {
    /// How it is, in the words that people are shown; `None` for a peer that only a reported clock
    /// tells of.
    #[must_use]
    pub fn state(&self) -> Option<&'static str> {
        let liveness = self.liveness?;
        Some(if self.has_left { "left" } else { liveness.word() })
    }
}

impl Liveness {
    /// The word that people are shown.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Liveness::Alive => "alive",
            Liveness::Suspect => "suspect",
            Liveness::Down => "down",
        }
    }
}
