//! One batch of changes as one transaction.

use std::collections::BTreeMap;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

use crate::scheduler::{
    Body, Burial, Changes, Class, Conflict, Dot, Duplicate, Hash256, Heard, TaskChange, Tombstone,
};

use super::history::History;
use super::names::Actors;
use super::row::{self, Packer, WRITTEN};

/// What a batch leaves of its tasks and counters: each once, as it was last.
#[derive(Default)]
struct Coalesced<'a> {
    tasks: BTreeMap<u64, TaskWrite<'a>>,
    buried: BTreeMap<u64, Option<&'a Tombstone>>,
    clock: BTreeMap<&'a Arc<str>, u64>,
    have: BTreeMap<&'a Arc<str>, u64>,
}

/// The last of a task's changes, and the texts that the earlier ones brought.
struct TaskWrite<'a> {
    last: &'a TaskChange,
    spec_is_new: bool,
    payload: Option<&'a str>,
    result: Option<&'a str>,
}

impl<'a> TaskWrite<'a> {
    fn new(change: &'a TaskChange) -> Self {
        TaskWrite {
            last: change,
            spec_is_new: change.spec_is_new,
            payload: change.payload.as_deref(),
            result: change.result.as_deref(),
        }
    }

    fn follow(&mut self, change: &'a TaskChange) {
        let next = TaskWrite::new(change);
        if next.spec_is_new || next.payload.is_some() {
            self.payload = next.payload;
        }
        if next.result.is_some() || result_of(next.last) != result_of(self.last) {
            self.result = next.result;
        }
        self.spec_is_new |= next.spec_is_new;
        self.last = change;
    }
}

fn result_of(change: &TaskChange) -> Option<Body> {
    change.record.outcome.as_ref().and_then(|outcome| outcome.result)
}

fn coalesce(batch: &[Changes]) -> Coalesced<'_> {
    let mut all = Coalesced::default();
    for change in batch.iter().flat_map(|changes| &changes.tasks) {
        all.tasks
            .entry(change.key)
            .and_modify(|write| write.follow(change))
            .or_insert_with(|| TaskWrite::new(change));
    }
    for Burial { key, tombstone } in batch.iter().flat_map(|changes| &changes.buried) {
        // Nothing comes after it under its key.
        all.tasks.remove(key);
        all.buried.insert(*key, tombstone.as_ref());
    }
    for (peer, counter) in batch.iter().flat_map(|changes| &changes.clock) {
        let highest = all.clock.entry(peer).or_default();
        *highest = (*highest).max(*counter);
    }
    for Dot { actor, counter } in batch.iter().flat_map(|changes| &changes.have) {
        // The last one stands: it is lower where a restored store found that it lost writes.
        all.have.insert(actor, *counter);
    }
    all
}

/// What is known of the database without reading it.
pub(super) struct Memory<'a> {
    pub(super) actors: &'a mut Actors,
    pub(super) history: &'a mut History,
    /// Tasks from this key on are new.
    pub(super) next_key: u64,
}

/// Writes `batch`.
pub(super) fn batch(
    connection: &Connection,
    Memory { actors, history, next_key }: Memory<'_>,
    batch: &[Changes],
) -> rusqlite::Result<()> {
    let all = coalesce(batch);
    let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
    // Before the tasks, whose payloads take the place of those that lost.
    for changes in batch {
        conflicts(&transaction, actors, batch, &changes.conflicts)?;
    }
    tasks(&transaction, actors, next_key, &all.tasks)?;
    history.write(&transaction, actors, batch)?;
    burials(&transaction, actors, history, &all.buried)?;
    vectors(&transaction, actors, &all)?;
    for (peer, heard) in batch.iter().flat_map(|changes| &changes.members) {
        member(&transaction, peer, heard.as_ref())?;
    }
    if let Some(doubtful) = batch.iter().rev().find_map(|changes| changes.doubtful) {
        transaction.execute("UPDATE store SET doubtful = ?1", [doubtful])?;
    }
    if let Some(actor) = batch.iter().rev().find_map(|changes| changes.actor.as_ref()) {
        let (_, epoch) = actor.rsplit_once('/').unwrap_or_default();
        transaction.execute("UPDATE store SET epoch = ?1", [epoch])?;
    }
    for changes in batch {
        duplicates(&transaction, &changes.duplicates)?;
        not_lost(&transaction, &changes.not_lost)?;
    }
    transaction.commit()
}

fn tasks(
    transaction: &Transaction<'_>,
    actors: &mut Actors,
    next_key: u64,
    tasks: &BTreeMap<u64, TaskWrite<'_>>,
) -> rusqlite::Result<()> {
    let mut statement = transaction.prepare_cached(&format!(
        "REPLACE INTO tasks (key, {WRITTEN}) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17)"
    ))?;
    let mut packer = Packer::new(actors, transaction);
    for (&key, write) in tasks {
        let (id, last) = (row::integer(key), write.last);
        let packed = packer.pack(&last.record, last.leases_here)?;
        row::write(&mut statement, Some(id), &last.record, packed, None)?;
        let may_have_texts = key < next_key;
        let spec = &last.record.spec;
        let payload = (spec.payload_size > 0).then_some(spec.hash);
        if write.payload.is_some() || (write.spec_is_new && may_have_texts) {
            PAYLOADS.keep(transaction, id, payload, write.payload)?;
        }
        if write.result.is_some() || may_have_texts {
            let result = result_of(last).map(|body| body.hash);
            RESULTS.keep(transaction, id, result, write.result)?;
        }
    }
    Ok(())
}

/// A table of texts, apart from the tasks so that a changed task does not write them again.
struct TextTable {
    replace: &'static str,
    remove_others: &'static str,
}

const PAYLOADS: TextTable = TextTable {
    replace: "REPLACE INTO payloads (task, hash, body) VALUES (?1, ?2, ?3)",
    remove_others: "DELETE FROM payloads WHERE task = ?1 AND hash IS NOT ?2",
};

const RESULTS: TextTable = TextTable {
    replace: "REPLACE INTO results (task, hash, body) VALUES (?1, ?2, ?3)",
    remove_others: "DELETE FROM results WHERE task = ?1 AND hash IS NOT ?2",
};

impl TextTable {
    /// Leaves no text under the key but the one that the record names by a hash.
    fn keep(
        &self,
        transaction: &Transaction<'_>,
        key: i64,
        named: Option<Hash256>,
        text: Option<&str>,
    ) -> rusqlite::Result<()> {
        let hash = named.map(|hash| hash.to_bytes());
        match (hash, text) {
            (Some(hash), Some(text)) => {
                transaction.prepare_cached(self.replace)?.execute(params![key, hash, text])?
            }
            _ => transaction.prepare_cached(self.remove_others)?.execute(params![key, hash])?,
        };
        Ok(())
    }
}

/// Removes tasks that were stripped, and tombstones that nobody needs any more.
fn burials(
    transaction: &Transaction<'_>,
    actors: &mut Actors,
    history: &mut History,
    buried: &BTreeMap<u64, Option<&Tombstone>>,
) -> rusqlite::Result<()> {
    let mut packer = Packer::new(actors, transaction);
    for (&key, tombstone) in buried {
        let id = row::integer(key);
        for remove in [
            "DELETE FROM tasks WHERE key = ?1",
            "DELETE FROM payloads WHERE task = ?1",
            "DELETE FROM results WHERE task = ?1",
        ] {
            transaction.prepare_cached(remove)?.execute([id])?;
        }
        history.forget(transaction, id)?;
        match tombstone {
            None => {
                let remove = "DELETE FROM tombstones WHERE key = ?1";
                transaction.prepare_cached(remove)?.execute([id])?
            }
            Some(tombstone) => {
                let state = if tombstone.standing.class == Class::Completed {
                    "completed"
                } else {
                    "cancelled"
                };
                let packed = packer.pack_tombstone(tombstone)?;
                transaction
                    .prepare_cached(
                        "REPLACE INTO tombstones (key, task_id, state, standing) \
                         VALUES (?1, ?2, ?3, ?4)",
                    )?
                    .execute(params![id, &*tombstone.task_id, state, packed])?
            }
        };
    }
    Ok(())
}

fn member(
    transaction: &Transaction<'_>,
    peer: &str,
    heard: Option<&Heard>,
) -> rusqlite::Result<()> {
    let Some(Heard { at, have }) = heard else {
        let remove = "DELETE FROM members WHERE peer = ?1";
        return transaction.prepare_cached(remove)?.execute([peer]).map(drop);
    };
    let have = have.as_ref().map(|have| serde_json::json!(**have).to_string());
    transaction
        .prepare_cached(
            "INSERT INTO members (peer, heard_at, have) VALUES (?1, ?2, ?3) \
             ON CONFLICT (peer) DO UPDATE SET \
             heard_at = excluded.heard_at, have = coalesce(excluded.have, have)",
        )?
        .execute(params![peer, row::integer(*at), have])
        .map(drop)
}

fn vectors(
    transaction: &Transaction<'_>,
    actors: &mut Actors,
    all: &Coalesced<'_>,
) -> rusqlite::Result<()> {
    let mut clock =
        transaction.prepare_cached("REPLACE INTO clock (peer, counter) VALUES (?1, ?2)")?;
    for (peer, &counter) in &all.clock {
        clock.execute(params![&***peer, row::integer(counter)])?;
    }
    let mut have = transaction.prepare_cached("UPDATE actors SET have = ?2 WHERE id = ?1")?;
    for (actor, &counter) in &all.have {
        let number = actors.number(actor, transaction)?;
        have.execute(params![row::integer(number), row::integer(counter)])?;
    }
    Ok(())
}

fn conflicts(
    transaction: &Transaction<'_>,
    actors: &mut Actors,
    batch: &[Changes],
    conflicts: &[Conflict],
) -> rusqlite::Result<()> {
    for conflict in conflicts {
        let mut statement = transaction.prepare_cached(&format!(
            "INSERT INTO conflicts (id, {WRITTEN}, payload) VALUES \
             (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18)"
        ))?;
        let mut packer = Packer::new(actors, transaction);
        let packed = packer.pack(&conflict.record, 0)?;
        let kept = lost_payload(transaction, batch, conflict)?;
        let payload = conflict.payload.as_deref().or(kept.as_deref());
        row::write(&mut statement, None, &conflict.record, packed, Some(payload))?;
    }
    Ok(())
}

/// The payload of a spec that lost, where it was under the task's key: on disk, or on its way there in
/// the same batch.
fn lost_payload(
    transaction: &Transaction<'_>,
    batch: &[Changes],
    conflict: &Conflict,
) -> rusqlite::Result<Option<String>> {
    let hash = conflict.record.spec.hash;
    let lost = |task: &&TaskChange| task.key == conflict.key && task.record.spec.hash == hash;
    let in_batch = batch.iter().flat_map(|changes| &changes.tasks).filter(lost);
    if let Some(payload) = in_batch.filter_map(|task| task.payload.as_deref()).next() {
        return Ok(Some(payload.to_owned()));
    }
    transaction
        .prepare_cached("SELECT body FROM payloads WHERE task = ?1 AND hash = ?2")?
        .query_row(params![row::integer(conflict.key), hash.to_bytes()], |row| row.get(0))
        .optional()
}

fn not_lost(transaction: &Transaction<'_>, runs: &[Duplicate]) -> rusqlite::Result<()> {
    for Duplicate { task_id, dot, .. } in runs {
        transaction
            .prepare_cached(
                "DELETE FROM duplicates WHERE task_id = ?1 AND actor = ?2 AND counter = ?3",
            )?
            .execute(params![&**task_id, &*dot.actor, row::integer(dot.counter)])?;
    }
    Ok(())
}

fn duplicates(transaction: &Transaction<'_>, duplicates: &[Duplicate]) -> rusqlite::Result<()> {
    for Duplicate { task_id, peer, worker, dot } in duplicates {
        transaction
            .prepare_cached(
                "INSERT INTO duplicates (task_id, peer, worker, actor, counter) \
                 VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute(params![
                &**task_id,
                &**peer,
                &**worker,
                &*dot.actor,
                row::integer(dot.counter)
            ])?;
    }
    Ok(())
}
