//! The durable home of tasks: an SQLite file that one process writes and anyone may read.
//!
//! ```text
//! scheduler ── Changes ──▶ Store::commit ──▶ tasks.sqlite3 ──▶ Store::load ── Kept ──▶ scheduler
//!                                                 └──────────▶ Reader (payloads, results)
//! ```
//!
//! *Commits.* A batch of [`Changes`] is one transaction with one sync of the write-ahead log
//! (group commit), however many calls it answers. Tasks are keyed by an integer that rises in the
//! order of arrival; ids are resolved by the scheduler, in memory, so no index of random texts is
//! kept. The log is moved into the database when nothing waits ([`Store::checkpoint_if_idle`]).
//!
//! *People.* `sqlite3 tasks.sqlite3 'SELECT * FROM tasks_readable'` works while the node runs.
//! What is readable is written by the same statement as what the scheduler reads.
//!
//! *History.* What happened to a task is written beside its record, bounded, and read by people
//! only: see `history`.
//!
//! *Actors.* Writes are named by an actor, peer id and epoch. A store that may have been put back
//! to an earlier state takes a new epoch when it is opened: see [`Origin`].
//!
//! Invariants: after [`Store::commit`] returned `Ok` the batch survives a kill, and in
//! [`Durability::Full`] a power cut; after it returned an error nothing is written until the store
//! is opened anew; the text kept under a key is the one that the record names by a hash.

mod error;
mod history;
mod names;
mod open;
mod read;
mod row;
mod write;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::Connection;

use crate::scheduler::{Changes, Kept};

use history::History;
use names::Actors;

pub use error::{CommitError, OpenError, ReadError};
pub use history::{Event, Happened};
pub use open::{Origin, Sign};
pub use read::{BackupError, LostRun, LostSpec, Reader};

/// Pages of the log that are moved into the database once nothing waits. Fewer: more syncs for the
/// same pages; more: a longer log to read after a crash.
const IDLE_LOG_PAGES: u64 = 2048;
/// Pages of the log that a store under unbroken load moves before it goes on: 64 MiB, which take
/// about a tenth of a second to read after a crash.
const LONGEST_LOG_PAGES: u64 = 16_384;

/// What a commit survives. A killed process loses nothing in either.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// A power cut as well: every commit waits for the disk.
    #[default]
    Full,
    /// A power cut may cost the last commits, never the file: the disk is waited for only when the
    /// log is moved into the database. If the machine stops before [`Store::close`], the next
    /// opening takes a new actor.
    Relaxed,
}

/// How to open a store.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// What a commit survives.
    pub durability: Durability,
    /// Whose tasks these are.
    pub peer_id: &'a str,
    /// Whether the folder is known to be a backup that was put back.
    pub restored: bool,
}

/// The open store. One at a time writes to a folder; whoever opens it sees to that.
#[derive(Debug)]
pub struct Store {
    connection: Connection,
    path: PathBuf,
    actor: Arc<str>,
    origin: Origin,
    durability: Durability,
    peer_id: Box<str>,
    actors: Actors,
    history: History,
    /// Tasks from this key on are not in the database yet.
    next_key: u64,
    commits: u64,
    usable: bool,
}

impl Store {
    /// Opens the store in `folder`, which must exist, or makes an empty one.
    ///
    /// # Errors
    /// See [`OpenError`]. A file that is refused is left byte for byte as it was.
    pub fn open(folder: &Path, options: Options<'_>) -> Result<Self, OpenError> {
        let opened = open::open(folder, &options)?;
        let (connection, path) = (opened.connection, opened.path);
        let failed = OpenError::failed(&path);
        let actors = Actors::load(&connection).map_err(&failed)?;
        let history = History::load(&connection).map_err(&failed)?;
        let last_key = read::last_key(&connection).map_err(&failed)?;
        drop(failed);
        Ok(Store {
            connection,
            path,
            actor: opened.actor.into(),
            origin: opened.origin,
            durability: options.durability,
            peer_id: options.peer_id.into(),
            actors,
            history,
            next_key: last_key + 1,
            commits: 0,
            usable: true,
        })
    }

    /// The actor under which this store's writes are named: peer id, `/`, epoch.
    #[must_use]
    pub fn actor(&self) -> &Arc<str> {
        &self.actor
    }

    /// How this store relates to the one that was closed.
    #[must_use]
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// How many batches were committed since the store was opened.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.commits
    }

    /// Everything that a scheduler is taken up from.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn load(&self) -> Result<Kept, ReadError> {
        read::load(&self.connection, &self.path)
    }

    /// A connection to read texts with, for another thread.
    ///
    /// # Errors
    /// The file cannot be opened again.
    pub fn reader(&self) -> Result<Reader, ReadError> {
        Reader::open(&self.path)
    }

    /// Keeps a batch, all of it or nothing, in one transaction.
    ///
    /// # Errors
    /// After an error the store takes no more commits: what the scheduler holds may be ahead of
    /// the disk, or behind it where only the last sync failed. Drop the scheduler, [reopen] the
    /// store and load from it before anyone is answered.
    ///
    /// [reopen]: Store::reopen
    pub fn commit(&mut self, batch: &[Changes]) -> Result<(), CommitError> {
        if !self.usable {
            let path = self.path.clone();
            return Err(CommitError::Unusable { path });
        }
        let next_key = batch
            .iter()
            .flat_map(|changes| &changes.tasks)
            .map(|task| task.key + 1)
            .fold(self.next_key, u64::max);
        self.usable = false;
        self.checkpoint_from(LONGEST_LOG_PAGES)?;
        let memory = write::Memory {
            actors: &mut self.actors,
            history: &mut self.history,
            next_key: self.next_key,
        };
        write::batch(&self.connection, memory, batch).map_err(CommitError::failed(&self.path))?;
        self.usable = true;
        if let Some(actor) = batch.iter().rev().find_map(|changes| changes.actor.as_ref()) {
            self.actor = actor.clone();
        }
        self.next_key = next_key;
        self.commits += 1;
        Ok(())
    }

    /// Moves the log into the database if it has grown enough: for when nothing waits.
    ///
    /// # Errors
    /// The disk refused. Nothing is lost, and commits may go on.
    pub fn checkpoint_if_idle(&mut self) -> Result<(), CommitError> {
        self.checkpoint_from(IDLE_LOG_PAGES)
    }

    /// Moves the log into the database, as far as no reader needs it.
    ///
    /// # Errors
    /// The disk refused. Nothing is lost, and commits may go on.
    pub fn checkpoint(&mut self) -> Result<(), CommitError> {
        open::checkpoint(&self.connection, "PASSIVE").map_err(CommitError::failed(&self.path))
    }

    fn checkpoint_from(&mut self, pages: u64) -> Result<(), CommitError> {
        let waiting = open::log_pages(&self.connection).map_err(CommitError::failed(&self.path))?;
        match waiting < pages {
            true => Ok(()),
            false => self.checkpoint(),
        }
    }

    /// Tries a tiny durable write, also after a failed commit: whether opening anew is worth it.
    ///
    /// # Errors
    /// The disk still refuses.
    pub fn probe(&mut self) -> Result<(), CommitError> {
        self.connection
            .execute("UPDATE store SET probes = probes + 1", [])
            .map(drop)
            .map_err(CommitError::failed(&self.path))
    }

    /// Opens the store anew, as must be done after a failed commit.
    ///
    /// # Errors
    /// See [`OpenError`]; the store is as it was, and this may be tried again.
    pub fn reopen(&mut self) -> Result<(), OpenError> {
        let folder = self.path.parent().unwrap_or(Path::new(""));
        let options =
            Options { durability: self.durability, peer_id: &self.peer_id, restored: false };
        let commits = self.commits;
        *self = Store::open(folder, options)?;
        self.commits = commits;
        Ok(())
    }

    /// Whose tasks these are.
    #[must_use]
    pub fn peer_id(&self) -> &str {
        &self.peer_id
    }

    /// Moves the log into the database, removes it, and notes that nothing is missing.
    ///
    /// # Errors
    /// The disk refused. Commits are kept all the same; in [`Durability::Relaxed`] the next
    /// opening takes a new actor.
    pub fn close(self) -> Result<(), CommitError> {
        let failed = CommitError::failed(&self.path);
        if self.durability == Durability::Relaxed {
            // This commit's sync covers all of the log before it.
            self.connection
                .execute_batch("PRAGMA synchronous = FULL; UPDATE store SET unclean = 0;")
                .map_err(&failed)?;
        }
        open::checkpoint(&self.connection, "TRUNCATE").map_err(&failed)?;
        self.connection.close().map_err(|(_, error)| failed(error))
    }
}
