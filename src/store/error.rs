//! What can go wrong with the store, one enum per operation, each saying what to do.

use std::io;
use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;
use thiserror::Error;

/// Why a store could not be opened. The database file is as it was.
#[derive(Debug, Error)]
pub enum OpenError {
    /// Something else lies where the database should be.
    #[error(
        "{} is not a database of tasks: {found}. It was left as it is; move it away or choose \
         another data folder.", path.display()
    )]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        found: String,
    },
    /// A later version of this program wrote it.
    #[error(
        "{} was written by a newer version of this program (schema {found}; this one knows \
         {known}). It was left as it is; install the newer version.", path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema's version.
        found: u32,
        /// The newest that this program knows.
        known: u32,
    },
    /// The database is not whole.
    #[error(
        "{} is damaged: {what}. Put a backup in its place and start with --restored, or move it \
         away, with the files named {}-*, to start without tasks.", path.display(), path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        what: String,
    },
    /// A write-ahead log without the database it belongs to: commits that would be lost.
    #[error(
        "{} is missing, but {} is there and may hold its last commits. Put the database back \
         beside it, or move that file away to start without tasks.", path.display(), log.display()
    )]
    OnlyLog {
        /// Where the database should be.
        path: PathBuf,
        /// The log.
        log: PathBuf,
    },
    /// The tasks of another peer.
    #[error(
        "{} belongs to the peer {inside}, and this one is {given}: two data folders were mixed. \
         Put the identity and the database of one folder back together.", path.display()
    )]
    OtherPeer {
        /// The file.
        path: PathBuf,
        /// The peer written in it.
        inside: String,
        /// The peer that opens it.
        given: String,
    },
    /// The file system lacks the shared memory that a write-ahead log needs.
    #[error("{} lies on a file system without shared memory, a network folder perhaps. Choose a \
         data folder on a local disk.", path.display())]
    NoLog {
        /// The file.
        path: PathBuf,
    },
    /// SQLite before 3.51.3 can damage a file in WAL mode.
    #[error("SQLite {version} is too old; build with 3.51.3 or newer.")]
    OldSqlite {
        /// The version linked.
        version: &'static str,
    },
    /// The file system or the operating system refused.
    #[error("{}: {source}. Check that the folder exists and may be written to.", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// SQLite refused.
    #[error("{} could not be opened: {reason}.", path.display())]
    Failed {
        /// The file.
        path: PathBuf,
        /// Why, and what to do.
        reason: String,
        /// SQLite's own words.
        source: rusqlite::Error,
    },
}

/// Why a batch was not kept. None of it counts as kept, and all before it is.
#[derive(Debug, Error)]
pub enum CommitError {
    /// The write failed. Whether it reached the disk is only known after opening anew.
    #[error("{} could not be written: {reason}.", path.display())]
    Failed {
        /// The file.
        path: PathBuf,
        /// Why, and what to do.
        reason: String,
        /// SQLite's own words.
        source: rusqlite::Error,
    },
    /// An earlier commit failed, so what is in memory may be ahead of the disk.
    #[error("{} is closed to writing since a commit failed; it must be opened anew.", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
    },
}

/// Why tasks or texts could not be read. Nothing has changed.
#[derive(Debug, Error)]
pub enum ReadError {
    /// A row that cannot be what was written.
    #[error(
        "{} is damaged: in table {table}, row {row}: {what}. Put a backup in its place and start \
         with --restored.", path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The table.
        table: &'static str,
        /// The row's integer key.
        row: i64,
        /// What is wrong with it.
        what: &'static str,
    },
    /// SQLite refused.
    #[error("{} could not be read: {reason}.", path.display())]
    Failed {
        /// The file.
        path: PathBuf,
        /// Why, and what to do.
        reason: String,
        /// SQLite's own words.
        source: rusqlite::Error,
    },
}

impl OpenError {
    pub(super) fn failed(path: &Path) -> impl Fn(rusqlite::Error) -> Self + use<'_> {
        move |source| match source.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                OpenError::Damaged { path: path.into(), what: source.to_string() }
            }
            _ => OpenError::Failed { path: path.into(), reason: reason(&source), source },
        }
    }

    pub(super) fn io(path: &Path) -> impl Fn(io::Error) -> Self + use<'_> {
        move |source| OpenError::Io { path: path.into(), source }
    }
}

impl CommitError {
    pub(super) fn failed(path: &Path) -> impl Fn(rusqlite::Error) -> Self + use<'_> {
        move |source| CommitError::Failed { path: path.into(), reason: reason(&source), source }
    }
}

impl ReadError {
    pub(super) fn failed(path: &Path) -> impl Fn(rusqlite::Error) -> Self + use<'_> {
        move |source| ReadError::Failed { path: path.into(), reason: reason(&source), source }
    }
}

/// SQLite's reason in words, and what to do about it.
fn reason(error: &rusqlite::Error) -> String {
    let known = match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => "the disk is full; free some space",
        Some(ErrorCode::SystemIoFailure) => {
            "input/output error; check the disk and the system's log"
        }
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
            "it may not be written to; check the permissions of the file and its folder"
        }
        Some(ErrorCode::CannotOpen) => {
            "it cannot be opened; check that its folder exists and may be written to"
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            "another program is writing to it; close that program"
        }
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            "it is damaged; put a backup in its place and start with --restored"
        }
        _ => return error.to_string(),
    };
    format!("{known} ({error})")
}
