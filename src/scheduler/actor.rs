//! A new name for this peer's writes, where its store turns out to be an older one than its peers
//! know (protocol rule 5).
//!
//! The store wrote on under an actor whose next dots were taken before, so each of them may name two
//! writes. What it wrote since it was opened gets new dots, under the new actor; of the old actor it
//! then holds what it held when it was opened, and the writes that it lost come in as any others.

use std::sync::Arc;

use super::calls::Now;
use super::machine::P2PWorkflowScheduler;
use super::record::{Dot, Record, Standing};

impl P2PWorkflowScheduler {
    /// Names this peer's writes by an actor that never wrote, from now on, and also those since this
    /// scheduler was made: a peer knows of writes by the actor so far that are not here.
    ///
    /// It is a change like any other: on disk before anything else leaves.
    pub(super) fn take_new_actor(&mut self, now: Now) {
        let new: Arc<str> = format!("{}/{:016x}", self.peer, (self.jitter)()).into();
        let old = std::mem::replace(&mut self.actor, new.clone());
        self.changes.actor = Some(new);
        self.doubt();
        let opened_at = std::mem::take(&mut self.opened_at);
        let is_doubtful = |dot: &Dot| dot.actor == old && dot.counter > opened_at;
        let tasks = self.table.keys_after(None).map(|key| (&self.table.entry(key).record.dot, key));
        let tombstones = self.table.tombstones.keys_from(0);
        let tombstones =
            tombstones.filter_map(|key| Some((self.table.tombstones.get(key)?.dot(), key)));
        let mut written: Vec<(u64, u64)> = tasks
            .chain(tombstones)
            .filter(|(dot, _)| is_doubtful(dot))
            .map(|(dot, key)| (dot.counter, key))
            .collect();
        written.sort_unstable();
        self.forget_peers_progress(now);
        self.have.insert(old.clone(), opened_at);
        self.changes.have.push(Dot { actor: old.clone(), counter: opened_at });
        for (_, key) in written {
            let dot = self.next_dot();
            if let Some(tombstone) = self.table.tombstones.get(key) {
                let standing = Standing { dot, ..tombstone.standing.clone() };
                self.write_tombstone_again(key, standing);
                continue;
            }
            let before = &self.table.entry(key).record;
            let mut lease = before.lease.clone();
            if let Some(lease) = lease.as_mut().filter(|lease| is_doubtful(&lease.dot)) {
                Arc::make_mut(lease).dot = dot.clone();
            }
            // Not greater than what it replaces, but no peer holds that by a name to rely on.
            let record = Record { dot, lease, ..before.clone() };
            self.keep(key, &record, None, None);
            self.replace(now, key, record);
        }
    }
}
