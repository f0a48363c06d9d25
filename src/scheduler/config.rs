//! What an operator may tune, and what too little and too much of it do.

use super::limits::MAX_LIVE_TASKS;

/// In milliseconds.
const DAY: u64 = 24 * 3600 * 1000;

/// Durations of the scheduler, all in milliseconds, and how much it holds and tells.
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
    /// How long after a worker of a peer last asked for a task the peer counts as one that takes
    /// work.
    ///
    /// Too low: with each long task of its only worker a peer leaves the ranking and comes back. Too
    /// high: tasks wait a turn for machines whose workers are gone.
    pub works_for: u64,
    /// How long a member may be silent before it is suspect.
    ///
    /// Too low: a slow laptop is suspected all the time. Too high: see `down_after`.
    pub suspect_after: u64,
    /// How long a suspect member has to speak up before it is down and its tasks are free.
    ///
    /// Too low: a slow peer is robbed of its tasks. Too high: a dead peer's tasks wait.
    pub down_after: u64,
    /// How often connected peers are told that this one is alive.
    ///
    /// Too low: idle peers talk all the time. Too high: silence means nothing before `suspect_after`
    /// is over, which should be some of these intervals, for a heartbeat may come by way of others.
    pub heartbeat_interval: u64,
    /// How many connected peers a fresh record is pushed to.
    ///
    /// Too low: a record reaches many peers only by their next pull. Too high: each peer hears of
    /// each record from many others.
    pub push_fanout: usize,
    /// How long after a pull the next one comes, on average. A pull takes place only where roots
    /// differ.
    ///
    /// Too low: busy peers ask each other for what is on its way already. Too high: what a push
    /// lost is missing for long.
    pub pull_interval: u64,
    /// How long a node that starts or wakes in a swarm waits for a pull from a peer before it gives
    /// tasks out.
    ///
    /// Too low: it gives out what others did while it was away. Too high: a machine that finds no
    /// peer stands idle for long each time it starts.
    pub settle_after: u64,
    /// How long a task that ended is kept whole.
    ///
    /// Too low: results are gone before anyone reads them, and a submission that is repeated late
    /// runs again. Too high: memory and disk fill up.
    pub retention: u64,
    /// How long a member may be silent before nobody waits for it with what is to be forgotten.
    ///
    /// Too low: a machine that was away for long must be looked through before it may work. Too
    /// high: the ids of all tasks since a lost machine's last word are kept that long.
    pub forget_member_after: u64,
    /// How long a pull waits for its next page.
    ///
    /// Too low: a slow peer's pages are thrown away, and nothing ever arrives from it. Too high: a
    /// lost message stops all pulls for that long.
    pub pull_timeout: u64,
    /// How many tasks that have not ended may be here before submissions are turned down. Twice as
    /// many are taken in from peers: what they acknowledged while this one was cut off, or full
    /// already, is kept.
    ///
    /// Too low: submissions wait for work that runs. Too high: memory, 600 bytes a task.
    pub max_live_tasks: usize,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            turn: 10_000,
            session_grace: 5_000,
            reported_member_timeout: 300_000,
            works_for: 300_000,
            suspect_after: 5_000,
            down_after: 8_000,
            heartbeat_interval: 1_000,
            push_fanout: 3,
            pull_interval: 10_000,
            pull_timeout: 10_000,
            settle_after: 5_000,
            retention: 7 * DAY,
            forget_member_after: 180 * DAY,
            max_live_tasks: MAX_LIVE_TASKS,
        }
    }
}
