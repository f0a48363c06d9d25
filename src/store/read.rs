//! Reading: all tasks at the start, single texts while the node runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::{Connection, OpenFlags, OptionalExtension};

use crate::scheduler::{Dot, KeptTask};

use super::error::ReadError;
use super::names::{Interner, names};
use super::row::{self, COLUMNS};

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

fn tasks(
    connection: &Connection,
    path: &Path,
    actors: &[Arc<str>],
    each: &mut dyn FnMut(KeptTask),
) -> Result<u64, ReadError> {
    let failed = ReadError::failed(path);
    let mut statement = connection
        .prepare(&format!("SELECT key, {COLUMNS} FROM tasks ORDER BY key"))
        .map_err(&failed)?;
    let mut rows = statement.query([]).map_err(&failed)?;
    let mut texts = Interner::default();
    let mut next_key = 1;
    while let Some(row) = rows.next().map_err(&failed)? {
        let task = row::read(row, actors, &mut texts).map_err(|what| ReadError::Damaged {
            path: path.into(),
            table: "tasks",
            row: row.get(0).unwrap_or_default(),
            what,
        })?;
        next_key = task.key + 1;
        each(task);
    }
    Ok(next_key)
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
        let failed = ReadError::failed(path);
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(&failed)?;
        connection.busy_timeout(super::open::BUSY_TIMEOUT).map_err(&failed)?;
        Ok(Reader { connection, path: path.into() })
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
