//! Reading: all tasks at the start, single texts while the node runs.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use rusqlite::{Connection, OpenFlags, OptionalExtension};

use crate::scheduler::{Dot, KeptTask};

use super::error::ReadError;
use super::names::{Interner, names};
use super::open::BUSY_TIMEOUT;
use super::row::{self, READ};

/// Tasks for which another thread is worth starting.
const LEAST_PART: u64 = 16_384;

/// Everything kept beside the tasks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The actor under which this store's writes are named.
    pub actor: Arc<str>,
    /// The shown clock: peer, counter; in the order of the peers.
    pub clock: Vec<(Arc<str>, u64)>,
    /// The replication vector, in the order in which its actors were first met.
    pub have: Vec<Dot>,
    /// How many specs lost against another under the same id.
    pub conflicts: u64,
    /// How many second runs were found.
    pub duplicates: u64,
    /// The first key that no task has had.
    pub next_key: u64,
}

/// Reads all tasks in the order of their keys, then the rest.
pub(super) fn load(
    connection: &Connection,
    path: &Path,
    actor: &Arc<str>,
    each: &mut dyn FnMut(KeptTask),
) -> Result<Kept, ReadError> {
    let failed = ReadError::failed(path);
    let actors = names(connection).map_err(&failed)?;
    let next_key = tasks(connection, path, &actors, each)?;
    let count = |table| {
        connection
            .query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row::unsigned(row, 0))
    };
    Ok(Kept {
        actor: actor.clone(),
        clock: clock(connection).map_err(&failed)?,
        have: have(connection).map_err(&failed)?,
        conflicts: count("conflicts").map_err(&failed)?,
        duplicates: count("duplicates").map_err(&failed)?,
        next_key,
    })
}

/// Reads the tasks, a range of keys on each core: taking rows apart is what takes the time.
///
/// The first range is handed over as it is read, the others when those before them are.
fn tasks(
    connection: &Connection,
    path: &Path,
    actors: &[Arc<str>],
    each: &mut dyn FnMut(KeptTask),
) -> Result<u64, ReadError> {
    let last = last_key(connection).map_err(ReadError::failed(path))?;
    let cores = thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
    let parts = cores.min(last / LEAST_PART + 1);
    let keys = last / parts + 1;
    thread::scope(|scope| {
        let others: Vec<_> = (1..parts)
            .map(|part| {
                scope.spawn(move || {
                    let connection = connect(path)?;
                    let mut tasks = Vec::new();
                    let range = part * keys..(part + 1) * keys;
                    tasks_in(&connection, path, range, actors, &mut |task| tasks.push(task))?;
                    Ok(tasks)
                })
            })
            .collect();
        tasks_in(connection, path, 0..keys, actors, each)?;
        for other in others {
            let tasks: Result<Vec<KeptTask>, ReadError> =
                other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            tasks?.into_iter().for_each(&mut *each);
        }
        Ok(last + 1)
    })
}

fn tasks_in(
    connection: &Connection,
    path: &Path,
    keys: Range<u64>,
    actors: &[Arc<str>],
    each: &mut dyn FnMut(KeptTask),
) -> Result<(), ReadError> {
    let failed = ReadError::failed(path);
    let mut statement = connection
        .prepare(&format!(
            "SELECT key, {READ} FROM tasks WHERE key >= ?1 AND key < ?2 ORDER BY key"
        ))
        .map_err(&failed)?;
    let range = [row::integer(keys.start), row::integer(keys.end)];
    let mut rows = statement.query(range).map_err(&failed)?;
    let mut texts = Interner::default();
    while let Some(row) = rows.next().map_err(&failed)? {
        each(row::read(row, actors, &mut texts).map_err(|what| ReadError::Damaged {
            path: path.into(),
            table: "tasks",
            row: row.get(0).unwrap_or_default(),
            what,
        })?);
    }
    Ok(())
}

/// The key of the task that came last, 0 without any.
pub(super) fn last_key(connection: &Connection) -> rusqlite::Result<u64> {
    let query = "SELECT coalesce(max(key), 0) FROM tasks";
    connection.query_row(query, [], |row| row::unsigned(row, 0))
}

fn clock(connection: &Connection) -> rusqlite::Result<Vec<(Arc<str>, u64)>> {
    connection
        .prepare("SELECT peer, counter FROM clock ORDER BY peer")?
        .query_map([], |row| Ok((row.get(0)?, row::unsigned(row, 1)?)))?
        .collect()
}

fn have(connection: &Connection) -> rusqlite::Result<Vec<Dot>> {
    connection
        .prepare("SELECT actor, have FROM actors WHERE have IS NOT NULL ORDER BY id")?
        .query_map([], |row| Ok(Dot { actor: row.get(0)?, counter: row::unsigned(row, 1)? }))?
        .collect()
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
