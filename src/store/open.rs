//! Opening: what lies in the folder is judged before SQLite touches it, then made current.
//!
//! The file's header is read without SQLite, so that a file that is refused stays as it is and
//! gets no `-wal` and `-shm` beside it. A new database is made under another name and renamed when
//! it is whole, so that a crash never leaves half of one.

use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior, params};

use super::error::OpenError;
use super::{Durability, Options};

/// The database's name in its folder.
pub(super) const FILE: &str = "tasks.sqlite3";
/// How long to wait for a person's `sqlite3` that writes to the file.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Marks our files: "p2pw".
const APPLICATION_ID: u32 = u32::from_be_bytes(*b"p2pw");
/// Pages held in memory, in KiB: the end of every table, where the work is.
const CACHE_KIB: u32 = 16 * 1024;
/// Statements that are kept ready: more than there are.
const STATEMENTS: usize = 48;
/// The first version without a bug in WAL mode that can damage a file.
const OLDEST_SQLITE: i32 = 3_051_003;

/// The schema's steps: the one at index n brings version n to version n + 1.
const STEPS: &[&str] =
    &[include_str!("schema.sql"), include_str!("schema_2.sql"), include_str!("schema_3.sql")];

/// How the store that was opened relates to the one that was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It was made just now.
    New,
    /// It goes on as it was left, under the same actor.
    Continued,
    /// It may be older than what other peers have seen of it: it writes under a new actor.
    Restored(Sign),
}

/// Why a store counts as restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// The one who opened it said so.
    Told,
    /// The file is not the one in which the actor was written: a copy, or a backup put back.
    OtherFile,
    /// It was not closed in relaxed mode: a power cut may have cost commits.
    UncleanStop,
}

impl fmt::Display for Sign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Sign::Told => "it was opened as restored",
            Sign::OtherFile => "the file is a copy",
            Sign::UncleanStop => "it was not closed in relaxed mode",
        })
    }
}

/// An open database and what its row in the table `store` says.
pub(super) struct Opened {
    pub(super) connection: Connection,
    pub(super) path: PathBuf,
    pub(super) actor: String,
    pub(super) origin: Origin,
}

pub(super) fn open(folder: &Path, options: &Options<'_>) -> Result<Opened, OpenError> {
    if rusqlite::version_number() < OLDEST_SQLITE {
        let version = rusqlite::version();
        return Err(OpenError::OldSqlite { version });
    }
    let path = folder.join(FILE);
    let new = match File::open(&path) {
        Ok(file) => judge(file, &path).map(|()| false)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            create(folder, &path, options.peer_id).map(|()| true)?
        }
        Err(error) => return Err(OpenError::io(&path)(error)),
    };
    let connection = connect(&path)?;
    migrate(&connection, &path, STEPS)?;
    let (actor, sign) = take_up(&connection, &path, options)?;
    if options.durability == Durability::Relaxed {
        let relaxed = connection.pragma_update(None, "synchronous", "NORMAL");
        relaxed.map_err(OpenError::failed(&path))?;
    }
    Ok(Opened {
        connection,
        path,
        actor,
        origin: match sign {
            _ if new => Origin::New,
            None => Origin::Continued,
            Some(sign) => Origin::Restored(sign),
        },
    })
}

/// Refuses a file that is not ours, not whole, or newer than this program; only reads it.
///
/// The fields are those of <https://www.sqlite.org/fileformat.html#the_database_header>.
fn judge(mut file: File, path: &Path) -> Result<(), OpenError> {
    let foreign = |found: &str| OpenError::Foreign { path: path.into(), found: found.into() };
    let mut header = Vec::with_capacity(100);
    let size = file.metadata().map_err(OpenError::io(path))?.len();
    Read::by_ref(&mut file).take(100).read_to_end(&mut header).map_err(OpenError::io(path))?;
    if header.is_empty() {
        return Err(foreign("it is empty"));
    }
    if !header.starts_with(b"SQLite format 3\0") {
        return Err(foreign("it is not an SQLite file"));
    }
    let damaged = |what: String| OpenError::Damaged { path: path.into(), what };
    let Some(header) = header.first_chunk::<100>() else {
        return Err(damaged(format!("it ends after {size} bytes")));
    };
    let number = |at: usize| u32::from_be_bytes([0, 1, 2, 3].map(|offset| header[at + offset]));
    if number(68) != APPLICATION_ID {
        return Err(foreign("it is the SQLite file of another program"));
    }
    let known = STEPS.len() as u32;
    if number(60) > known {
        return Err(OpenError::Newer { path: path.into(), found: number(60), known });
    }
    // With a log beside it the file may rightly be short: a checkpoint was cut off.
    let page_size = match u16::from_be_bytes([header[16], header[17]]) {
        1 => 65_536,
        size => u64::from(size),
    };
    let expected = page_size * u64::from(number(28));
    let log = fs::metadata(beside(path, "-wal")).map_or(0, |log| log.len());
    if size < expected && log == 0 {
        return Err(damaged(format!("it has {size} of its {expected} bytes")));
    }
    Ok(())
}

/// Makes an empty database under another name, then gives it its own.
fn create(folder: &Path, path: &Path, peer_id: &str) -> Result<(), OpenError> {
    let log = beside(path, "-wal");
    if log.exists() {
        return Err(OpenError::OnlyLog { path: path.into(), log });
    }
    let draft = beside(path, ".new");
    for leftover in [draft.clone(), beside(&draft, "-journal"), beside(&draft, "-wal")] {
        match fs::remove_file(&leftover) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(OpenError::io(&leftover)(error));
            }
            _ => {}
        }
    }
    private_file(&draft).map_err(OpenError::io(&draft))?;
    let connection = connect(&draft)?;
    migrate(&connection, &draft, STEPS)?;
    let identity = identity(&draft).map_err(OpenError::io(&draft))?;
    let epoch = mint().map_err(OpenError::io(&draft))?;
    connection
        .execute(
            "INSERT INTO store (id, peer_id, epoch, file, unclean, probes) \
             VALUES (1, ?1, ?2, ?3, 0, 0)",
            params![peer_id, epoch, identity],
        )
        .and_then(|_| connection.close().map_err(|(_, error)| error))
        .map_err(OpenError::failed(&draft))?;
    fs::rename(&draft, path).map_err(OpenError::io(path))?;
    sync_folder(folder).map_err(OpenError::io(folder))
}

/// Opens a file that exists, durable and in WAL mode.
fn connect(path: &Path) -> Result<Connection, OpenError> {
    let failed = OpenError::failed(path);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(&failed)?;
    let journal_mode: String = configure(&connection).map_err(failed)?;
    match journal_mode.as_str() {
        "wal" => Ok(connection),
        _ => Err(OpenError::NoLog { path: path.into() }),
    }
}

/// Returns the journal mode, which is what it was where the file system cannot do WAL.
fn configure(connection: &Connection) -> rusqlite::Result<String> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    // fullfsync matters on macOS alone, where a plain fsync stops at the disk's cache.
    connection.execute_batch(&format!(
        "PRAGMA fullfsync = ON;
         PRAGMA checkpoint_fullfsync = ON;
         PRAGMA synchronous = FULL;
         PRAGMA wal_autocheckpoint = 0;
         PRAGMA temp_store = MEMORY;
         PRAGMA cache_size = -{CACHE_KIB};"
    ))?;
    connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))
}

/// Brings the schema to the newest version, in one transaction.
pub(super) fn migrate(
    connection: &Connection,
    path: &Path,
    steps: &[&str],
) -> Result<(), OpenError> {
    let failed = OpenError::failed(path);
    let query = |row: &rusqlite::Row<'_>| row.get::<_, u32>(0);
    let found = connection.query_row("PRAGMA user_version", [], query).map_err(&failed)?;
    let known = steps.len() as u32;
    if found > known {
        return Err(OpenError::Newer { path: path.into(), found, known });
    }
    if found == known {
        return Ok(());
    }
    let missing = &steps[found as usize..];
    Transaction::new_unchecked(connection, TransactionBehavior::Immediate)
        .and_then(|transaction| {
            for step in missing {
                transaction.execute_batch(step)?;
            }
            transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
            transaction.pragma_update(None, "user_version", known)?;
            transaction.commit()
        })
        .map_err(failed)
}

/// Reads whose store this is and decides whether it goes on under the same actor.
///
/// Protocol, rule 5: a store that may have been put back to an earlier state takes a new epoch, so
/// that it never names two writes alike.
fn take_up(
    connection: &Connection,
    path: &Path,
    options: &Options<'_>,
) -> Result<(String, Option<Sign>), OpenError> {
    let failed = OpenError::failed(path);
    let (peer_id, mut epoch, file, unclean): (String, String, String, bool) = connection
        .query_row("SELECT peer_id, epoch, file, unclean FROM store", [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
        })
        .map_err(&failed)?;
    if peer_id != options.peer_id {
        return Err(OpenError::OtherPeer {
            path: path.into(),
            inside: peer_id,
            given: options.peer_id.into(),
        });
    }
    let here = identity(path).map_err(OpenError::io(path))?;
    let sign = match () {
        () if options.restored => Some(Sign::Told),
        () if file != here => Some(Sign::OtherFile),
        () if unclean => Some(Sign::UncleanStop),
        () => None,
    };
    let relaxed = options.durability == Durability::Relaxed;
    if sign.is_some() {
        epoch = mint().map_err(OpenError::io(path))?;
    }
    // A power cut costs moments, not what others may have forgotten since.
    let put_back = matches!(sign, Some(Sign::Told | Sign::OtherFile));
    if sign.is_some() || relaxed {
        connection
            .execute(
                "UPDATE store SET epoch = ?1, file = ?2, unclean = ?3, doubtful = doubtful OR ?4",
                params![epoch, here, relaxed, put_back],
            )
            .map_err(&failed)?;
    }
    // Writes the log's pages anew: where a sync had failed, the log may be whole in the system's
    // cache alone, and what is appended to it would be lost with it.
    checkpoint(connection, "PASSIVE").map_err(&failed)?;
    Ok((format!("{peer_id}/{epoch}"), sign))
}

/// Moves the log's pages into the database. A reader that still needs the log keeps it.
pub(super) fn checkpoint(connection: &Connection, mode: &str) -> rusqlite::Result<()> {
    connection.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |_| Ok(()))
}

/// How many pages of the log are not in the database yet.
pub(super) fn log_pages(connection: &Connection) -> rusqlite::Result<u64> {
    connection.prepare_cached("PRAGMA wal_checkpoint(NOOP)")?.query_row([], |row| {
        let (log, moved): (i64, i64) = (row.get(1)?, row.get(2)?);
        Ok(u64::try_from(log - moved).unwrap_or(0))
    })
}

/// Eight random bytes in hexadecimal: no two lives of a store share them.
fn mint() -> io::Result<String> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(format!("{:016x}", u64::from_be_bytes(bytes)))
}

/// What tells this file from its copies: its number in the file system and its time of birth.
///
/// Numbers are given anew when a file is removed, times can be equal where a copy is fast: a copy
/// that has both is not to be expected. The device's number would change when a disk is plugged
/// in elsewhere, so it counts only where there is no time of birth.
fn identity(path: &Path) -> io::Result<String> {
    let metadata = fs::metadata(path)?;
    let born = metadata.created().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let (device, number) = place(&metadata);
    Ok(match born {
        Some(born) => format!("{number}@{}", born.as_nanos()),
        None => format!("{number}/{device}"),
    })
}

#[cfg(unix)]
fn place(metadata: &Metadata) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt;
    (metadata.dev(), metadata.ino())
}

#[cfg(not(unix))]
fn place(_: &Metadata) -> (u64, u64) {
    (0, 0)
}

/// An empty file that nobody else may read: payloads can be confidential. SQLite gives the files
/// beside it the same permissions.
pub(super) fn private_file(path: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map(drop)
}

/// Makes the new name last. Elsewhere than on Unix, folders cannot be synced.
fn sync_folder(folder: &Path) -> io::Result<()> {
    match cfg!(unix) {
        true => File::open(folder)?.sync_all(),
        false => Ok(()),
    }
}

pub(super) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(ending);
    name.into()
}
