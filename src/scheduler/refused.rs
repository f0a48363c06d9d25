//! What is asked of every message before it may touch anything: sizes, names, counters, and whether
//! it knows of more writes by this node than the node itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::foreign::{Carried, RecordError};
use super::limits::{self, MAX_CARRIED, MAX_CLOCK_ENTRIES, MAX_COUNTER, MAX_FOREIGN_COUNTER};
use super::machine::P2PWorkflowScheduler;
use super::messages::VERSION;
use super::record::{Dot, Record};
use super::tombstones::Tombstone;

/// Why a message is refused. Nothing of a refused message but the records before the one that is
/// named, each good by itself, was taken in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Written by another version of this program.
    #[error("it speaks version {theirs} of the protocol, and this node version {VERSION}")]
    Version {
        /// Of the message.
        theirs: u16,
    },
    /// This peer is not connected, or this node does not replicate.
    #[error("there is no connection to that peer")]
    NotConnected,
    /// A list in the message is longer than any peer makes it.
    #[error("it has too many {what}: {count}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many.
        count: usize,
    },
    /// A name or counter in a vector or heartbeat that no peer can have.
    #[error("its {what} holds what no peer can have written")]
    Malformed {
        /// Where.
        what: &'static str,
    },
    /// A record that no scheduler can have written.
    #[error("its record of task {task_id:?} is refused: {error}")]
    Record {
        /// The record's task.
        task_id: Arc<str>,
        /// What is wrong.
        error: RecordError,
    },
    /// A record in a page without the text of its payload or result.
    #[error("its record of task {task_id:?} came without its texts")]
    TextMissing {
        /// The record's task.
        task_id: Arc<str>,
    },
    /// This node holds as many tasks as it can.
    #[error("this node already holds {most} tasks that have not ended")]
    Full {
        /// Twice [`Config::max_live_tasks`](super::Config::max_live_tasks).
        most: usize,
    },
    /// The peer knows of a write by this node's actor that this node does not know of: its store
    /// was put back to an older state. From now on it writes under a new actor (protocol rule 5), and
    /// what the peer said comes again by a pull.
    #[error(
        "it knows of write {counter} of this node, which knows of {known}: this node's store was put back to an older state"
    )]
    OwnWrites {
        /// The largest counter that the peer knows.
        counter: u64,
        /// The largest that this node knows.
        known: u64,
    },
}

impl Refused {
    pub(super) fn record(record: &Record, error: RecordError) -> Self {
        Refused::Record { task_id: record.spec.task_id.clone(), error }
    }
}

impl P2PWorkflowScheduler {
    /// Checks all records of a message, so that a bad one keeps them all out.
    pub(super) fn check_records(&self, records: &[Carried]) -> Result<(), Refused> {
        if records.len() > MAX_CARRIED {
            return Err(Refused::TooMany { what: "records", count: records.len() });
        }
        for carried in records {
            carried.check().map_err(|error| Refused::record(&carried.record, error))?;
            let record = &carried.record;
            let lease = record.lease.as_ref().map(|lease| &lease.dot);
            let dots = [Some(&record.dot), Some(record.born()), lease];
            for Dot { actor, counter } in dots.into_iter().flatten() {
                self.check_own(actor, *counter)?;
            }
        }
        Ok(())
    }

    /// Checks all tombstones of a page.
    pub(super) fn check_tombstones(&self, tombstones: &[Tombstone]) -> Result<(), Refused> {
        if tombstones.len() > MAX_CARRIED {
            return Err(Refused::TooMany { what: "tombstones", count: tombstones.len() });
        }
        for tombstone in tombstones {
            let refused = |error| Refused::Record { task_id: tombstone.task_id.clone(), error };
            tombstone.check().map_err(refused)?;
            self.check_own(&tombstone.dot().actor, tombstone.dot().counter)?;
        }
        Ok(())
    }

    /// Checks a replication vector of another peer.
    pub(super) fn check_have(&self, have: &BTreeMap<Arc<str>, u64>) -> Result<(), Refused> {
        if have.len() > MAX_CLOCK_ENTRIES {
            return Err(Refused::TooMany { what: "actors", count: have.len() });
        }
        for (actor, counter) in have {
            if !is_name(actor) || *counter > MAX_FOREIGN_COUNTER {
                return Err(Refused::Malformed { what: "replication vector" });
            }
            self.check_own(actor, *counter)?;
        }
        Ok(())
    }

    /// Checks another peer's list of the members of the swarm.
    pub(super) fn check_members(&self, members: &BTreeMap<Arc<str>, u64>) -> Result<(), Refused> {
        if members.len() > MAX_CLOCK_ENTRIES {
            return Err(Refused::TooMany { what: "members", count: members.len() });
        }
        match members.keys().all(|peer| is_name(peer)) {
            true => Ok(()),
            false => Err(Refused::Malformed { what: "list of members" }),
        }
    }

    /// Checks a shown clock, or a part of it, of another peer.
    pub(super) fn check_clock_of(&self, clock: &BTreeMap<String, u64>) -> Result<(), Refused> {
        let new = clock.keys().filter(|peer| !self.clock.vector().contains_key(*peer)).count();
        let count = self.clock.vector().len() + new;
        if count > MAX_CLOCK_ENTRIES {
            return Err(Refused::TooMany { what: "peers in the clock", count });
        }
        match clock.iter().all(|(peer, counter)| is_name(peer) && *counter <= MAX_COUNTER) {
            true => Ok(()),
            false => Err(Refused::Malformed { what: "clock" }),
        }
    }

    /// Nobody can know of a write of this node that it does not know of itself (rule 5).
    fn check_own(&self, actor: &Arc<str>, counter: u64) -> Result<(), Refused> {
        let known = self.have.get(actor).copied().unwrap_or(0);
        match *actor == self.actor && counter > known {
            true => Err(Refused::OwnWrites { counter, known }),
            false => Ok(()),
        }
    }
}

/// Whether it can be the name of a peer or an actor.
pub(super) fn is_name(text: &str) -> bool {
    limits::check_name("", text).is_ok()
}
