//! Every limit, with its reason, and the checks that hold callers to them.

use super::rejection::Rejection;

/// Ids and names: long enough for a repository path and a matrix cell, short enough for a table.
pub const MAX_ID_CHARS: usize = 256;
/// Tags or capabilities in one list: more than anyone names by hand.
pub const MAX_LABELS: usize = 64;
/// Dependencies of one task: a wide join; wider ones go through a task in between.
pub const MAX_DEPENDENCIES: usize = 256;
/// A payload or result: what an agent can read. Larger things belong in IPFS, and their address here.
pub const MAX_PAYLOAD_BYTES: usize = 256 * 1024;
/// An error or note: what a person reads of it, and small enough to stay in memory.
pub const MAX_ERROR_BYTES: usize = 4 * 1024;
/// Peers in one clock: its root is hashed anew at every submission.
pub const MAX_CLOCK_ENTRIES: usize = 10_000;
/// A counter: the largest integer that JSON readers keep exactly.
pub const MAX_COUNTER: u64 = (1 << 53) - 1;
/// A counter in a message of a peer: what is left up to [`MAX_COUNTER`] is for writes to come.
pub const MAX_FOREIGN_COUNTER: u64 = MAX_COUNTER - (1 << 32);
/// Epochs, renewals and failures in a record of a peer: each can still be counted on for ever, and
/// fences stay below 2^53.
pub const MAX_FOREIGN_COUNT: u32 = 1 << 31;
/// Bytes of what a later version adds to a record: it stays in memory, unread.
pub const MAX_MORE_BYTES: usize = 4 * 1024;
/// Records in one message: small enough that merging them holds the lock for a few milliseconds.
pub const MAX_CARRIED: usize = 500;
/// Bytes in one message of records, as estimated; a single larger record goes alone.
pub const MAX_CARRIED_BYTES: usize = 1024 * 1024;
/// Tasks looked at for one page of a pull: most are known to the other peer already.
pub const MAX_PULL_SCAN: usize = 20_000;
/// Heartbeats in one message: the sender's own, and what it heard of others lately.
pub const MAX_BEATS: usize = 128;
/// Counters of members' vectors that are remembered, of all members together: 30 MB. Where a swarm has
/// more, tombstones stay longer.
pub const MAX_HELD_COUNTERS: usize = 1_000_000;
/// Records that wait to be pushed while the driver is busy; what is more comes by a pull.
pub const MAX_FRESH: usize = 5_000;
/// Peers that a push says were told already: more than are told at a time, and few beside the records.
pub const MAX_TOLD: usize = 16;
/// Tasks of a node that have not ended: 1.2 GB of memory at 600 bytes each.
pub const MAX_LIVE_TASKS: usize = 2_000_000;
/// Tasks in one page of a list: what a model reads at once.
pub const MAX_PAGE: usize = 100;
/// Tasks in a page that asks for no number.
pub const DEFAULT_PAGE: usize = 20;
/// Tasks looked at for one page, so that a rare match cannot hold the lock.
pub const MAX_PAGE_SCAN: usize = 10_000;
/// Workflows in the list of those that came last: what a person looks through.
pub const MAX_NEWEST_WORKFLOWS: usize = 100;
/// Ids offered at once for one that was begun: the protocol's own limit.
pub const MAX_OFFERED: usize = 100;
/// Turns that come with a task: enough to see why this peer has it, little to read.
pub const MAX_TURNS_GIVEN: usize = 3;
/// Turns shown to a person who asks why.
pub const MAX_TURNS_SHOWN: usize = 100;
/// Ids named in one answer to a completion; the tasks are ready all the same.
pub const MAX_UNBLOCKED_SHOWN: usize = 100;
/// A delay: a year, beyond which it is a mistake of units.
pub const MAX_DELAY: u64 = 366 * 24 * 3600 * 1000;
/// A lease on time: below a second it would expire on the way to the caller.
pub const MIN_LEASE: u64 = 1000;
/// A lease on time: a week, beyond which nobody notices that the worker is gone.
pub const MAX_LEASE: u64 = 7 * 24 * 3600 * 1000;
/// A lease on time whose taker and task say nothing.
pub const DEFAULT_LEASE: u64 = 3600 * 1000;
/// Times that a task may lose its worker without a word before it counts as failed: generous,
/// since a closed laptop is not the task's fault, but a task that kills its node must end.
pub const MAX_LOSSES: u8 = 16;
/// The first wait before a failed task is tried again, in milliseconds; it doubles each time.
pub const BACKOFF_FIRST: u64 = 1000;
/// The longest wait before a failed task is tried again, in milliseconds.
pub const BACKOFF_LONGEST: u64 = 5 * 60 * 1000;

pub(crate) fn check_name(field: &str, text: &str) -> Result<(), Rejection> {
    let chars = text.chars().count();
    if chars == 0 {
        return Err(invalid(format!("{field} is empty. Give 1 to {MAX_ID_CHARS} characters.")));
    }
    if chars > MAX_ID_CHARS {
        return Err(too_large(format!("{field} (in characters)"), chars, MAX_ID_CHARS));
    }
    match text.chars().find(|c| c.is_control()) {
        None => Ok(()),
        Some(c) => Err(invalid(format!(
            "{field} contains the control character U+{:04X}. Use printable characters only.",
            u32::from(c)
        ))),
    }
}

pub(crate) fn check_priority(priority: u8) -> Result<(), Rejection> {
    match priority {
        1..=10 => Ok(()),
        _ => Err(invalid(format!(
            "priority {priority} is out of range. Give 1 (last) to 10 (first)."
        ))),
    }
}

pub(crate) fn check_count(field: &str, count: usize, limit: usize) -> Result<(), Rejection> {
    match count <= limit {
        true => Ok(()),
        false => Err(too_large(format!("{field} (in entries)"), count, limit)),
    }
}

pub(crate) fn check_size(field: &str, bytes: usize, limit: usize) -> Result<(), Rejection> {
    match bytes <= limit {
        true => Ok(()),
        false => Err(too_large(format!("{field} (in bytes)"), bytes, limit)),
    }
}

pub(crate) fn check_duration(field: &str, millis: u64, limit: u64) -> Result<(), Rejection> {
    match millis <= limit {
        true => Ok(()),
        false => {
            Err(invalid(format!("{field} is too long. Give at most {} seconds.", limit / 1000)))
        }
    }
}

pub(crate) fn check_lease(millis: u64) -> Result<(), Rejection> {
    match millis {
        0 | MIN_LEASE..=MAX_LEASE => Ok(()),
        _ => Err(invalid(format!(
            "lease_seconds is out of range. Give {} to {}.",
            MIN_LEASE / 1000,
            MAX_LEASE / 1000
        ))),
    }
}

pub(crate) fn invalid(what: String) -> Rejection {
    Rejection::InvalidArgument { what }
}

fn too_large(what: String, size: usize, limit: usize) -> Rejection {
    Rejection::TooLarge { what, size: size as u64, limit: limit as u64 }
}
