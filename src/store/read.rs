//! Reading: all tasks at the start, single texts while the node runs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::ErrorKind;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use rusqlite::{Connection, OpenFlags, OptionalExtension, Row};

use crate::scheduler::{Dot, Heard, Kept, KeptTask, Tombstone};

use super::error::ReadError;
use super::history::{self, Event};
use super::names::{Interner, names};
use super::open::{BUSY_TIMEOUT, private_file};
use super::row::{self, READ};

/// Tasks for which another thread is worth starting.
const LEAST_PART: u64 = 16_384;

/// Reads everything that a scheduler is taken up from, the tasks in the order of their keys.
pub(super) fn load(connection: &Connection, path: &Path) -> Result<Kept, ReadError> {
    let failed = ReadError::failed(path);
    let actors = names(connection).map_err(&failed)?;
    let (tasks, next_key) = tasks(connection, path, &actors)?;
    Ok(Kept {
        clock: clock(connection).map_err(&failed)?,
        have: have(connection).map_err(&failed)?,
        tasks,
        tombstones: tombstones(connection, path, &actors)?,
        members: members(connection, path)?,
        doubtful: connection
            .query_row("SELECT doubtful FROM store", [], |row| row.get(0))
            .map_err(&failed)?,
        conflicts: connection
            .query_row("SELECT count(*) FROM conflicts", [], |row| row::unsigned(row, 0))
            .map_err(&failed)?,
        lost_runs: lost_runs(connection, &actors).map_err(&failed)?,
        next_key,
    })
}

fn lost_runs(connection: &Connection, actors: &[Arc<str>]) -> rusqlite::Result<BTreeSet<Dot>> {
    // One copy of each name in memory.
    let actors: BTreeSet<Arc<str>> = actors.iter().cloned().collect();
    let mut statement = connection.prepare("SELECT actor, counter FROM duplicates")?;
    let runs = statement.query_map([], |row| {
        let actor: String = row.get(0)?;
        let actor = actors.get(&*actor).cloned().unwrap_or_else(|| actor.into());
        Ok(Dot { actor, counter: row::unsigned(row, 1)? })
    })?;
    runs.collect()
}

/// Reads the tasks, a range of keys on each core: taking rows apart is what takes the time. Returns
/// the first key that no task has had as well.
fn tasks(
    connection: &Connection,
    path: &Path,
    actors: &[Arc<str>],
) -> Result<(Vec<KeptTask>, u64), ReadError> {
    let last = last_key(connection).map_err(ReadError::failed(path))?;
    let cores = thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
    let parts = cores.min(last / LEAST_PART + 1);
    let keys = last / parts + 1;
    thread::scope(|scope| {
        let others: Vec<_> = (1..parts)
            .map(|part| {
                scope.spawn(move || {
                    let range = part * keys..(part + 1) * keys;
                    tasks_in(&connect(path)?, path, range, actors)
                })
            })
            .collect();
        let mut tasks = tasks_in(connection, path, 0..keys, actors)?;
        for other in others {
            let part = other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            tasks.append(&mut part?);
        }
        Ok((tasks, last + 1))
    })
}

fn tasks_in(
    connection: &Connection,
    path: &Path,
    keys: Range<u64>,
    actors: &[Arc<str>],
) -> Result<Vec<KeptTask>, ReadError> {
    let failed = ReadError::failed(path);
    let mut statement = connection
        .prepare(&format!(
            "SELECT key, {READ} FROM tasks WHERE key >= ?1 AND key < ?2 ORDER BY key"
        ))
        .map_err(&failed)?;
    let range = [row::integer(keys.start), row::integer(keys.end)];
    let mut rows = statement.query(range).map_err(&failed)?;
    let mut texts = Interner::default();
    let mut tasks = Vec::new();
    while let Some(row) = rows.next().map_err(&failed)? {
        tasks.push(row::read(row, actors, &mut texts).map_err(|what| ReadError::Damaged {
            path: path.into(),
            table: "tasks",
            row: row.get(0).unwrap_or_default(),
            what,
        })?);
    }
    Ok(tasks)
}

fn tombstones(
    connection: &Connection,
    path: &Path,
    actors: &[Arc<str>],
) -> Result<Vec<(u64, Tombstone)>, ReadError> {
    let failed = ReadError::failed(path);
    let query = "SELECT key, task_id, standing FROM tombstones ORDER BY key";
    let mut statement = connection.prepare(query).map_err(&failed)?;
    let mut rows = statement.query([]).map_err(&failed)?;
    let mut tombstones = Vec::new();
    while let Some(row) = rows.next().map_err(&failed)? {
        tombstones.push(row::read_tombstone(row, actors).map_err(|what| ReadError::Damaged {
            path: path.into(),
            table: "tombstones",
            row: row.get(0).unwrap_or_default(),
            what,
        })?);
    }
    Ok(tombstones)
}

fn members(connection: &Connection, path: &Path) -> Result<BTreeMap<Arc<str>, Heard>, ReadError> {
    let failed = ReadError::failed(path);
    let query = "SELECT peer, heard_at, have FROM members";
    let mut statement = connection.prepare(query).map_err(&failed)?;
    let member = |row: &Row<'_>| {
        let (peer, have): (Arc<str>, Option<String>) = (row.get(0)?, row.get(2)?);
        // What cannot be read is told again by the member itself.
        let have = have.and_then(|text| serde_json::from_str(&text).ok()).map(Arc::new);
        Ok((peer, Heard { at: row::unsigned(row, 1)?, have }))
    };
    let members = statement.query_map([], member).map_err(&failed)?;
    members.collect::<rusqlite::Result<_>>().map_err(&failed)
}

/// The key of the task that came last, 0 without any.
pub(super) fn last_key(connection: &Connection) -> rusqlite::Result<u64> {
    let query = "SELECT max(coalesce((SELECT max(key) FROM tasks), 0), \
                            coalesce((SELECT max(key) FROM tombstones), 0))";
    connection.query_row(query, [], |row| row::unsigned(row, 0))
}

fn clock(connection: &Connection) -> rusqlite::Result<BTreeMap<String, u64>> {
    connection
        .prepare("SELECT peer, counter FROM clock")?
        .query_map([], |row| Ok((row.get(0)?, row::unsigned(row, 1)?)))?
        .collect()
}

fn have(connection: &Connection) -> rusqlite::Result<BTreeMap<Arc<str>, u64>> {
    connection
        .prepare("SELECT actor, have FROM actors WHERE have IS NOT NULL")?
        .query_map([], |row| Ok((row.get(0)?, row::unsigned(row, 1)?)))?
        .collect()
}

/// A run of a task beside the one that counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostRun {
    /// The peer that ran it.
    pub peer: String,
    /// The worker at that peer.
    pub worker: String,
}

/// What was submitted under a task's id, and lost against what was submitted elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostSpec {
    /// The group that it belongs to.
    pub workflow_id: String,
    /// What a person reads.
    pub name: String,
    /// When it was submitted, in milliseconds since the Unix epoch.
    pub created_at: u64,
    /// Its input, a JSON text, where it came along.
    pub payload: Option<String>,
}

/// Why there is no backup.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no backup at {}: {reason}", path.display())]
pub struct BackupError {
    /// The file.
    pub path: PathBuf,
    /// Why.
    pub reason: String,
}

/// Reads payloads and results on a connection of its own, while another thread writes.
///
/// It sees what was committed when the call began, never a commit's parts.
#[derive(Debug)]
pub struct Reader {
    connection: Connection,
    path: PathBuf,
}

impl Reader {
    pub(super) fn open(path: &Path) -> Result<Self, ReadError> {
        Ok(Reader { connection: connect(path)?, path: path.into() })
    }

    /// Reads several texts in one transaction, which costs the locks of one.
    ///
    /// # Errors
    /// SQLite's refusal. Nothing has changed.
    pub fn at_once<T>(&self, read: impl FnOnce(&Self) -> T) -> Result<T, ReadError> {
        let failed = ReadError::failed(&self.path);
        let transaction = self.connection.unchecked_transaction().map_err(&failed)?;
        let read = read(self);
        transaction.finish().map_err(&failed)?;
        Ok(read)
    }

    /// The payload of the task under `key`, a JSON text; `None` where none is kept.
    ///
    /// # Errors
    /// SQLite's refusal. Nothing has changed.
    pub fn payload(&self, key: u64) -> Result<Option<String>, ReadError> {
        self.body("SELECT body FROM payloads WHERE task = ?1", key)
    }

    /// The result of the task under `key`, a JSON text; `None` where none is kept.
    ///
    /// # Errors
    /// SQLite's refusal. Nothing has changed.
    pub fn result(&self, key: u64) -> Result<Option<String>, ReadError> {
        self.body("SELECT body FROM results WHERE task = ?1", key)
    }

    /// The runs of a task beside the one that counts, in the order in which they were found.
    ///
    /// # Errors
    /// SQLite's refusal. Nothing has changed.
    pub fn duplicates(&self, task_id: &str) -> Result<Vec<LostRun>, ReadError> {
        let query = "SELECT peer, worker FROM duplicates WHERE task_id = ?1 ORDER BY id";
        self.all(query, task_id, |row| Ok(LostRun { peer: row.get(0)?, worker: row.get(1)? }))
    }

    /// The specs that lost against the one under a task's id, in the order in which they were found.
    ///
    /// # Errors
    /// SQLite's refusal. Nothing has changed.
    pub fn conflicts(&self, task_id: &str) -> Result<Vec<LostSpec>, ReadError> {
        let query = "SELECT workflow_id, name, created_at, payload FROM conflicts \
                     WHERE task_id = ?1 ORDER BY id";
        self.all(query, task_id, |row| {
            Ok(LostSpec {
                workflow_id: row.get(0)?,
                name: row.get(1)?,
                created_at: row::unsigned(row, 2)?,
                payload: row.get(3)?,
            })
        })
    }

    /// What happened to the task under `key`, the oldest first; `None` where there is no such task.
    ///
    /// # Errors
    /// SQLite's refusal. Nothing has changed.
    pub fn history(&self, key: u64) -> Result<Option<Vec<Event>>, ReadError> {
        history::read(&self.connection, key).map_err(ReadError::failed(&self.path))
    }

    /// When each of these tasks was taken by the worker that has it, or had it last, in
    /// milliseconds since the Unix epoch on this peer's clock; `None` where that is not known any more.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn taken_at(&self, keys: &[u64]) -> Result<Vec<Option<u64>>, ReadError> {
        history::taken_at(&self.connection, keys).map_err(ReadError::failed(&self.path))
    }

    fn all<T>(
        &self,
        query: &str,
        task_id: &str,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, ReadError> {
        self.connection
            .prepare_cached(query)
            .and_then(|mut query| query.query_map([task_id], read)?.collect())
            .map_err(ReadError::failed(&self.path))
    }

    /// Writes all that was committed when the call began into a new file, by SQLite's own means, and
    /// returns its length in bytes.
    ///
    /// # Errors
    /// The file is there already, or cannot be written; then nothing is left of it.
    pub fn backup(&self, file: &Path) -> Result<u64, BackupError> {
        let refused = |reason: String| BackupError { path: file.into(), reason };
        // Payloads can be confidential: the file is there, for its owner alone, before it is filled.
        private_file(file).map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => {
                refused("a file is there already. Choose another name, or remove it.".into())
            }
            _ => refused(error.to_string()),
        })?;
        let copied = self.connection.execute("VACUUM INTO ?1", [file.to_string_lossy()]);
        let copied = copied.map_err(|error| error.to_string()).and_then(|_| {
            let synced = File::open(file).and_then(|file| {
                file.sync_all()?;
                Ok(file.metadata()?.len())
            });
            synced.map_err(|error| error.to_string())
        });
        if copied.is_err() {
            // What is there is of no use to anybody.
            drop(fs::remove_file(file));
        }
        copied.map_err(refused)
    }

    fn body(&self, query: &str, key: u64) -> Result<Option<String>, ReadError> {
        self.connection
            .prepare_cached(query)
            .and_then(|mut query| query.query_row([row::integer(key)], |row| row.get(0)).optional())
            .map_err(ReadError::failed(&self.path))
    }
}

/// A connection that can only read.
fn connect(path: &Path) -> Result<Connection, ReadError> {
    let failed = ReadError::failed(path);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(&failed)?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(&failed)?;
    Ok(connection)
}
