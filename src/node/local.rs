//! What differs between operating systems: the lock, the socket, private files, signals.
//!
//! On Unix the socket lies in the data folder with mode 0600. Where that path is too long for a
//! socket's address, it lies under the user's runtime or temporary folder, in a folder that only
//! the user may enter, named by a hash of the data folder.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};
use tokio::signal::unix::{SignalKind, signal};

use crate::scheduler::Hash256;

/// A connection between two processes of one machine.
pub type LocalStream = UnixStream;

const LOCK_FILE: &str = "node.lock";
/// What stands in the lock file, in place of a process id, after a person stopped the node.
const STOPPED: &str = "stopped";
const SOCKET_FILE: &str = "node.sock";
/// The longest path that every Unix takes as a socket's address.
const MAX_SOCKET_PATH: usize = 100;

/// The right to be the node of a folder. Ends with the process, however it ends.
#[derive(Debug)]
pub(super) struct NodeLock {
    file: File,
}

impl NodeLock {
    /// Takes the lock, if nobody has it.
    pub(super) fn try_take(folder: &Path) -> io::Result<Option<Self>> {
        let mut options = OpenOptions::new();
        let path = folder.join(LOCK_FILE);
        let file =
            options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        Ok(Some(NodeLock { file }))
    }

    /// Whether the last holder was stopped by a person, who does not want another in its place.
    pub(super) fn was_stopped(&mut self) -> io::Result<bool> {
        let mut text = String::new();
        self.file.rewind()?;
        self.file.read_to_string(&mut text)?;
        Ok(text.trim() == STOPPED)
    }

    /// Writes this process's id into it for people.
    pub(super) fn sign(&mut self) -> io::Result<()> {
        self.write(&std::process::id().to_string())
    }

    /// Whether somebody has it.
    pub(super) fn is_held(folder: &Path) -> bool {
        let file = OpenOptions::new().read(true).write(true).open(folder.join(LOCK_FILE));
        // Had for a moment where it was free: whoever wants it meanwhile tries again.
        file.is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
    }

    fn write(&mut self, text: &str) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.rewind()?;
        writeln!(self.file, "{text}")
    }

    /// The process id that the lock's holder wrote.
    pub(super) fn holder(folder: &Path) -> Option<String> {
        let mut text = String::new();
        File::open(folder.join(LOCK_FILE)).ok()?.read_to_string(&mut text).ok()?;
        Some(text.trim().to_owned()).filter(|text| !text.is_empty())
    }
}

/// The node's socket. Closing it removes it and gives the lock back.
#[derive(Debug)]
pub(super) struct Listener {
    listener: UnixListener,
    path: PathBuf,
    lock: std::sync::Mutex<Option<NodeLock>>,
}

impl Listener {
    /// Listens for the processes that speak to this node. Only the lock's holder may.
    pub(super) fn open(folder: &Path, lock: NodeLock) -> io::Result<Self> {
        let path = socket_path(folder)?;
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        let lock = std::sync::Mutex::new(Some(lock));
        Ok(Listener { listener, path, lock })
    }

    pub(super) async fn accept(&self) -> io::Result<LocalStream> {
        Ok(self.listener.accept().await?.0)
    }

    /// Removes the socket, then gives the lock back. `for_good`: nobody is to take over.
    pub(super) fn close(&self, for_good: bool) {
        let lock = self.lock.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        let Some(mut lock) = lock else { return };
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!("{}: {error}", self.path.display());
        }
        if for_good && let Err(error) = lock.write(STOPPED) {
            tracing::warn!("another process may take over: {error}");
        }
    }
}

/// Connects to the node of a folder.
pub(super) async fn connect(folder: &Path) -> io::Result<LocalStream> {
    UnixStream::connect(socket_path(folder)?).await
}

fn socket_path(folder: &Path) -> io::Result<PathBuf> {
    let path = folder.join(SOCKET_FILE);
    if path.as_os_str().len() <= MAX_SOCKET_PATH {
        return Ok(path);
    }
    let user = rustix::process::getuid().as_raw();
    let base = std::env::var_os("XDG_RUNTIME_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    let private = base.join(format!("ipfs-accelerate-{user}"));
    make_private_folder(&private)?;
    let metadata = fs::symlink_metadata(&private)?;
    if !metadata.is_dir() || metadata.uid() != user || metadata.mode() & 0o077 != 0 {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("{} must be a folder that only you may enter", private.display()),
        ));
    }
    let name = Hash256::of(fs::canonicalize(folder)?.as_os_str().as_encoded_bytes()).to_hex();
    Ok(private.join(format!("{}.sock", &name[..16])))
}

/// Makes a folder that only its owner may enter, if there is none.
pub(super) fn make_private_folder(folder: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// Writes a file that only its owner may read: whole, or not at all.
pub(super) fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_added_extension("new");
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    let folder = path.parent().unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

/// Reads a text that is its owner's alone.
///
/// # Errors
/// There is none, it is not UTF-8, or other users may read or change it, and then how to end that.
pub fn read_private(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    if file.metadata()?.mode() & 0o077 != 0 {
        let path = path.display();
        let text = format!("other users may read or change it. End that with `chmod 600 {path}`");
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
    }
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    Ok(text)
}

/// Reads a text that is its owner's alone, and first puts it there if there is none. Processes that
/// do so at once read the same.
///
/// # Errors
/// As of [`read_private`], or it cannot be put there.
pub fn read_or_make_private(path: &Path, make: impl FnOnce() -> String) -> io::Result<String> {
    match read_private(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        read => return read,
    }
    make_private_folder(path.parent().unwrap_or(Path::new(".")))?;
    // Whole, under a name of its own; a link, unlike a new name, replaces no file.
    let own = path.with_extension(getrandom::u64().map_err(io::Error::other)?.to_string());
    write_private(&own, make().as_bytes())?;
    let linked = fs::hard_link(&own, path);
    fs::remove_file(&own)?;
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => read_private(path),
    }
}

/// Waits until the operating system asks this process to end (SIGTERM, SIGINT or SIGHUP).
///
/// # Errors
/// The signals cannot be watched.
pub async fn terminated() -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        _ = hangup.recv() => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_text_is_made_once_and_read_from_then_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/secret");
        let threads: Vec<_> = ["one", "two"]
            .map(|text| {
                let path = path.clone();
                std::thread::spawn(move || read_or_make_private(&path, || text.into()).unwrap())
            })
            .into();
        let read: Vec<String> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        assert_eq!(read[0], read[1]);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let again = read_or_make_private(&path, || panic!("it is there already"));
        assert_eq!(again.unwrap(), read[0]);
        let files = fs::read_dir(path.parent().unwrap()).unwrap().count();
        assert_eq!(files, 1, "nothing else is left behind");
    }

    #[test]
    fn a_text_that_others_may_read_or_change_is_refused_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        fs::write(&path, "text").unwrap();
        for mode in [0o604, 0o640, 0o620, 0o601, 0o644] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            for read in [read_private(&path), read_or_make_private(&path, String::new)] {
                let error = read.unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{mode:o}");
                let remedy = format!("chmod 600 {}", path.display());
                assert!(error.to_string().contains(&remedy), "{error}");
            }
        }
        for mode in [0o600, 0o400] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(read_private(&path).unwrap(), "text");
        }
    }
}
