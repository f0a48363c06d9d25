//! What happened to each task, as this peer saw it: for people who ask why.
//!
//! A row is written with the record that it tells of, in the same transaction, and nothing is read
//! for it. It has the numbers by which records differ (epoch, failures, losses and so on); what they
//! mean shows beside the row before, and is worked out when somebody asks. How a task begins and how
//! it ends for good stand in its record anyway, and have no row: a task that is handed in, taken and
//! completed costs one, for the taking.
//!
//! Bounds: [`MAX_CHANGES`] for each task, and [`MAX_ROWS`] over all, beyond which the tasks that came
//! first lose theirs. A task that is stripped takes its history along.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

use crate::scheduler::{Changes, Class, Phase, Record};

use super::names::{Actors, Interner, names};
use super::row::{self, READ, integer};

/// Changes of one task that are kept: what a person reads of it.
pub(super) const MAX_CHANGES: usize = 50;
/// How often, in epochs or renewals, a task's rows are looked through for those beyond that.
const LOOK_EVERY: u32 = 16;
/// Rows of all tasks: about 60 MB. Fewer: less to tell of tasks that ended this week.
const MAX_ROWS: u64 = 1_000_000;
/// Rows that are removed at once where there are too many.
const REMOVE: u64 = 4_096;
/// Of an error or note: enough to know which it was. The last one is shown whole with the task.
const MAX_REASON_BYTES: usize = 256;

/// One change of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When, in milliseconds since the Unix epoch: on this peer's clock, but for the submission and
    /// the end, which their own peers date.
    pub at: u64,
    /// What happened.
    pub what: Happened,
    /// The peer at which it did.
    pub peer: String,
    /// The worker that held the task.
    pub worker: Option<String>,
    /// Which attempt it was, counted from 1.
    pub attempt: u32,
    /// The error, or what the worker said of its progress; its beginning where it is long.
    pub reason: Option<String>,
}

/// What can happen to a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happened {
    /// Handed in.
    Submitted,
    /// Given to a worker.
    Taken,
    /// Given to a worker while another's lease was in force: that one's peer was down.
    TakenOver,
    /// Its worker said how far it is.
    Progressed,
    /// An attempt failed, and another follows.
    AttemptFailed,
    /// The last attempt failed.
    Failed,
    /// Handed back.
    Released,
    /// Its worker went away without a word.
    WorkerLost,
    /// Put back into the queue by a person.
    Requeued,
    /// Given another priority.
    Reprioritized,
    /// Done.
    Completed,
    /// Called off.
    Cancelled,
}

impl Happened {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Happened::Submitted => "submitted",
            Happened::Taken => "taken",
            Happened::TakenOver => "taken_over",
            Happened::Progressed => "progressed",
            Happened::AttemptFailed => "attempt_failed",
            Happened::Failed => "failed",
            Happened::Released => "released",
            Happened::WorkerLost => "worker_lost",
            Happened::Requeued => "requeued",
            Happened::Reprioritized => "reprioritized",
            Happened::Completed => "completed",
            Happened::Cancelled => "cancelled",
        }
    }
}

/// The writing side.
#[derive(Debug)]
pub(super) struct History {
    rows: u64,
    last_id: u64,
    max_rows: u64,
}

impl History {
    pub(super) fn load(connection: &Connection) -> rusqlite::Result<Self> {
        let query = "SELECT count(*), coalesce(max(id), 0) FROM history";
        connection.query_row(query, [], |found| {
            let (rows, last_id) = (row::unsigned(found, 0)?, row::unsigned(found, 1)?);
            Ok(History { rows, last_id, max_rows: MAX_ROWS })
        })
    }

    #[cfg(test)]
    pub(super) fn limit_to(&mut self, rows: u64) {
        self.max_rows = rows;
    }

    /// Writes what the batch's changes tell, each of them: the tasks table keeps only the last.
    pub(super) fn write(
        &mut self,
        transaction: &Transaction<'_>,
        actors: &mut Actors,
        batch: &[Changes],
    ) -> rusqlite::Result<()> {
        let changes = batch.iter().flat_map(|changes| &changes.tasks);
        let mut told = changes.filter(|change| is_told(&change.record)).peekable();
        if told.peek().is_none() {
            return Ok(());
        }
        let at = now();
        let mut insert = transaction.prepare_cached(
            "INSERT INTO history (task, id, at, actor, phase, epoch, rev, failures, losses, \
             priority, worker, reason) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
        )?;
        for change in told {
            let record = &change.record;
            self.last_id += 1;
            self.rows += 1;
            insert.execute(params![
                integer(change.key),
                integer(self.last_id),
                integer(at),
                integer(actors.number(&record.dot.actor, transaction)?),
                record.phase as u8,
                record.epoch,
                record.rev,
                record.failures,
                record.losses,
                record.priority,
                record.held().map(|lease| &*lease.worker),
                reason(record),
            ])?;
            if record.epoch.max(record.rev) >= LOOK_EVERY
                && (record.epoch.is_multiple_of(LOOK_EVERY)
                    || record.rev.is_multiple_of(LOOK_EVERY))
            {
                self.thin(transaction, integer(change.key))?;
            }
        }
        self.bound(transaction)
    }

    /// Removes what a task has beyond its limit.
    fn thin(&mut self, transaction: &Transaction<'_>, task: i64) -> rusqlite::Result<()> {
        let removed = transaction
            .prepare_cached(
                "DELETE FROM history WHERE task = ?1 AND id <= \
                 (SELECT id FROM history WHERE task = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)",
            )?
            .execute(params![task, MAX_CHANGES as i64])?;
        self.removed(removed);
        Ok(())
    }

    /// Removes what there is too much of, from the tasks that came first.
    fn bound(&mut self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        if self.rows <= self.max_rows {
            return Ok(());
        }
        let surplus = self.rows - self.max_rows + REMOVE.min(self.max_rows / 2);
        let removed = transaction
            .prepare_cached(
                "DELETE FROM history WHERE (task, id) IN \
                 (SELECT task, id FROM history ORDER BY task, id LIMIT ?1)",
            )?
            .execute([integer(surplus)])?;
        self.removed(removed);
        Ok(())
    }

    /// Removes what is known of a task.
    pub(super) fn forget(
        &mut self,
        transaction: &Transaction<'_>,
        task: i64,
    ) -> rusqlite::Result<()> {
        let removed =
            transaction.prepare_cached("DELETE FROM history WHERE task = ?1")?.execute([task])?;
        self.removed(removed);
        Ok(())
    }

    fn removed(&mut self, rows: usize) {
        self.rows = self.rows.saturating_sub(rows as u64);
    }
}

/// Whether a change has a row: not where a task begins or ends for good, and not where a lease is
/// merely renewed.
fn is_told(record: &Record) -> bool {
    let is_first = record.rest.as_ref().is_none_or(|rest| rest.born.is_none());
    let says_more = note(record).is_some() || record.priority != record.spec.priority;
    match (record.class, record.phase) {
        (Class::Completed | Class::Cancelled, _) => false,
        (Class::Live, Phase::Pending) => !is_first,
        (Class::Live, Phase::Leased) => record.rev == 0 || says_more,
        (Class::Live, Phase::Failed) => true,
    }
}

fn note(record: &Record) -> Option<&str> {
    record.outcome.as_ref()?.note.as_deref()
}

fn error(record: &Record) -> Option<&str> {
    record.outcome.as_ref()?.error.as_deref()
}

/// The text that may be the reason of a change.
fn reason(record: &Record) -> Option<&str> {
    let text = if record.phase == Phase::Leased { note(record) } else { error(record) };
    text.map(beginning)
}

fn beginning(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_REASON_BYTES)]
}

/// Milliseconds since the Unix epoch; 0 on a machine whose clock stands before it.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Where a task stood at one time: what a change is told by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stood {
    phase: u8,
    epoch: u32,
    failures: u32,
    losses: u32,
    priority: u8,
}

const PENDING: u8 = Phase::Pending as u8;
const LEASED: u8 = Phase::Leased as u8;

/// One row, its actor by name.
struct Change {
    at: u64,
    actor: Arc<str>,
    stood: Stood,
    rev: u32,
    worker: Option<String>,
    reason: Option<String>,
}

/// What is known of the task under `key`, the oldest first; `None` where there is no such task.
pub(super) fn read(connection: &Connection, key: u64) -> rusqlite::Result<Option<Vec<Event>>> {
    let actors = names(connection)?;
    let Some(record) = record(connection, key, &actors)? else { return Ok(None) };
    let mut rows = connection.prepare_cached(
        "SELECT at, actor, phase, epoch, rev, failures, losses, priority, worker, reason \
         FROM history WHERE task = ?1 ORDER BY id DESC LIMIT ?2",
    )?;
    let rows =
        rows.query_map(params![integer(key), MAX_CHANGES as i64], |row| change(row, &actors))?;
    let mut changes: Vec<Change> = rows.collect::<rusqlite::Result<_>>()?;
    changes.reverse();
    Ok(Some(events(&record, changes)))
}

/// When the last worker that took each task did, where that is known.
pub(super) fn taken_at(
    connection: &Connection,
    keys: &[u64],
) -> rusqlite::Result<Vec<Option<u64>>> {
    let mut first_of_the_last_lease = connection.prepare_cached(
        "SELECT min(at) FROM history WHERE task = ?1 AND phase = 1 AND epoch = \
         (SELECT epoch FROM history WHERE task = ?1 AND phase = 1 ORDER BY id DESC LIMIT 1)",
    )?;
    let mut times = Vec::with_capacity(keys.len());
    for key in keys {
        let at: Option<i64> =
            first_of_the_last_lease.query_row([integer(*key)], |row| row.get(0))?;
        times.push(at.and_then(|at| u64::try_from(at).ok()));
    }
    Ok(times)
}

fn record(
    connection: &Connection,
    key: u64,
    actors: &[Arc<str>],
) -> rusqlite::Result<Option<Record>> {
    connection
        .prepare_cached(&format!("SELECT key, {READ} FROM tasks WHERE key = ?1"))?
        .query_row([integer(key)], |found| {
            let kept = row::read(found, actors, &mut Interner::default());
            let damaged = |what: &str| {
                rusqlite::Error::FromSqlConversionFailure(
                    4,
                    rusqlite::types::Type::Blob,
                    what.into(),
                )
            };
            kept.map(|kept| kept.record).map_err(damaged)
        })
        .optional()
}

fn change(row: &Row<'_>, actors: &[Arc<str>]) -> rusqlite::Result<Change> {
    let actor: u32 = row.get(1)?;
    let unknown = rusqlite::Error::IntegralValueOutOfRange(1, actor.into());
    Ok(Change {
        at: row::unsigned(row, 0)?,
        actor: actor
            .checked_sub(1)
            .and_then(|at| actors.get(at as usize))
            .cloned()
            .ok_or(unknown)?,
        stood: Stood {
            phase: row.get(2)?,
            epoch: row.get(3)?,
            failures: row.get(5)?,
            losses: row.get(6)?,
            priority: row.get(7)?,
        },
        rev: row.get(4)?,
        worker: row.get(8)?,
        reason: row.get(9)?,
    })
}

/// The changes with their meaning, the submission before them and the end after them.
fn events(record: &Record, changes: Vec<Change>) -> Vec<Event> {
    let mut events = vec![Event {
        at: record.spec.created_at,
        what: Happened::Submitted,
        peer: peer_of(&record.born().actor),
        worker: None,
        attempt: 1,
        reason: None,
    }];
    let mut before =
        Stood { phase: PENDING, epoch: 1, failures: 0, losses: 0, priority: record.spec.priority };
    let (mut worker, mut noted) = (None, None);
    for Change { at, actor, stood, rev, worker: taker, reason } in changes {
        let what = happened(before, stood, rev);
        let is_repeated = what == Happened::Progressed && reason == noted;
        let has_changed = stood.priority != before.priority;
        before = stood;
        if taker.is_some() {
            worker = taker;
        }
        if is_repeated && !has_changed {
            continue;
        }
        let failed = matches!(what, Happened::AttemptFailed | Happened::Failed);
        if what == Happened::Progressed {
            noted.clone_from(&reason);
        }
        events.push(Event {
            at,
            what,
            peer: peer_of(&actor),
            worker: match what {
                Happened::Requeued | Happened::Reprioritized => None,
                _ => worker.clone(),
            },
            attempt: stood.failures + u32::from(!failed),
            reason: match what {
                Happened::Reprioritized => Some(format!("priority {}", stood.priority)),
                _ => reason.filter(|_| failed || what == Happened::Progressed),
            },
        });
    }
    events.extend(end(record));
    events
}

/// What brought a task from one standing to the next. Where changes in between were not seen, or
/// were forgotten, the last of them.
fn happened(before: Stood, stood: Stood, rev: u32) -> Happened {
    let is_same = (before.phase, before.epoch) == (stood.phase, stood.epoch);
    if is_same && stood.priority != before.priority {
        return Happened::Reprioritized;
    }
    match stood.phase {
        LEASED if rev > 0 => Happened::Progressed,
        LEASED if before.phase == LEASED && !is_same => Happened::TakenOver,
        LEASED => Happened::Taken,
        PENDING if stood.failures > before.failures => Happened::AttemptFailed,
        PENDING if stood.losses > before.losses => Happened::WorkerLost,
        PENDING if before.phase != LEASED && before.phase != PENDING => Happened::Requeued,
        PENDING => Happened::Released,
        _ => Happened::Failed,
    }
}

fn end(record: &Record) -> Option<Event> {
    let at = record.ended_at()?;
    let lease = record.lease.as_deref().filter(|_| record.class == Class::Completed);
    Some(Event {
        at,
        what: match record.class {
            Class::Completed => Happened::Completed,
            _ => Happened::Cancelled,
        },
        peer: lease.map_or_else(|| peer_of(&record.dot.actor), |lease| lease.holder.to_string()),
        worker: lease.map(|lease| lease.worker.to_string()),
        attempt: record.attempt(),
        reason: error(record)
            .filter(|_| record.class == Class::Cancelled)
            .map(beginning)
            .map(str::to_owned),
    })
}

/// An actor is a peer and one life of its store.
fn peer_of(actor: &str) -> String {
    actor.rsplit_once('/').map_or(actor, |(peer, _)| peer).to_owned()
}
