//! What an operator may tune, and what too little and too much of it do.

/// Durations of the scheduler, all in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// How long each peer before this one in a task's ranking may leave it unclaimed.
    ///
    /// Too low: peers race for tasks whose owner is merely busy, and claims cross. Too high: a
    /// task whose owner has no free worker waits long for the next peer.
    pub turn: u64,
    /// How long a session's leases outlive it.
    ///
    /// Too low: a node that is replaced in mid-call loses its sessions' leases before they are
    /// back. Too high: the task of a crashed agent waits for nobody.
    pub session_grace: u64,
    /// How long a peer known only by its reported clock counts as a candidate.
    ///
    /// Too low: reported peers never get a turn. Too high: tasks wait for peers that are gone.
    pub reported_member_timeout: u64,
    /// How long a member may be silent before it is suspect.
    ///
    /// Too low: a slow laptop is suspected all the time. Too high: see `down_after`.
    pub suspect_after: u64,
    /// How long a suspect member has to speak up before it is down and its tasks are free.
    ///
    /// Too low: a slow peer is robbed of its tasks. Too high: a dead peer's tasks wait.
    pub down_after: u64,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            turn: 10_000,
            session_grace: 5_000,
            reported_member_timeout: 300_000,
            suspect_after: 5_000,
            down_after: 10_000,
        }
    }
}
