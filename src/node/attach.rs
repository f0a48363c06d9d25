//! Becoming the node of a data folder, or finding the one that is.
//!
//! A lock file decides: the operating system gives it to one process and takes it back when that
//! process ends, however it ends. Whoever has it removes a socket that was left behind, opens the
//! store and listens. Whoever does not connects; a node that is about to end answers neither, so
//! both are tried in turn for a while.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::store::{self, Durability, OpenError, Origin, ReadError, Store};
use crate::swarm::Identity;

use super::Node;
use super::local::{self, Listener, LocalStream, NodeLock};
use super::place::Place;

/// How long a folder that is neither free nor answers is tried.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long to wait between two tries.
const BETWEEN_TRIES: Duration = Duration::from_millis(5);

/// The key's file in the data folder.
const KEY_FILE: &str = "identity.key";

/// Which node to attach to.
#[derive(Clone, Debug)]
pub struct Options {
    /// The data folder. Made if it is not there.
    pub folder: PathBuf,
    /// What an answer survives, if this process becomes the node.
    pub durability: Durability,
    /// Whether the folder is a backup that was put back: then its writes get a new name.
    pub restored: bool,
}

impl Options {
    /// The node of `folder`, with full durability.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Options { folder: folder.into(), durability: Durability::Full, restored: false }
    }
}

/// The node of a folder.
#[derive(Debug)]
pub enum Attached {
    /// This process is it now.
    Node(Node),
    /// Another process is it, and this stream speaks MCP with it, line by line.
    Peer(LocalStream),
}

/// Why there is no node to speak to.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// No data folder is known for this platform.
    #[error("no home folder is known. Name a data folder with --data-dir or IPFS_ACCELERATE_HOME.")]
    NoFolder,
    /// The file system refused.
    #[error("{}: {source}. Check that the data folder exists and may be written to, or name another with --data-dir.", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The key's file holds something else.
    #[error("{} is not an ed25519 key: {reason}. Put the right file back; moving it away makes this folder a new peer, which its tasks do not belong to.", path.display())]
    Identity {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The store could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The store could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A thread could not be started.
    #[error("the committer's thread could not be started: {0}. Check the limits on processes.")]
    Thread(io::Error),
    /// Another process holds the folder and does not answer.
    #[error("another process holds {} and does not answer. Stop it (process {}), then try again.", folder.display(), holder.as_deref().unwrap_or("unknown"))]
    NoAnswer {
        /// The data folder.
        folder: PathBuf,
        /// The process id it wrote.
        holder: Option<String>,
    },
}

/// The platform's data folder for this program.
///
/// # Errors
/// [`AttachError::NoFolder`] where the platform names none.
pub fn default_folder() -> Result<PathBuf, AttachError> {
    let folders = directories::ProjectDirs::from("", "", "ipfs-accelerate");
    Ok(folders.ok_or(AttachError::NoFolder)?.data_dir().to_owned())
}

/// Becomes the node of a folder, or connects to the one that is.
///
/// # Errors
/// See [`AttachError`]. A store that is refused is left as it was.
pub async fn attach(options: &Options) -> Result<Attached, AttachError> {
    let folder = &options.folder;
    local::make_private_folder(folder).map_err(io_error(folder))?;
    let started = Instant::now();
    loop {
        if let Some(lock) = NodeLock::try_take(folder).map_err(io_error(folder))? {
            return start(options, lock).await.map(Attached::Node);
        }
        if let Ok(stream) = local::connect(folder).await {
            return Ok(Attached::Peer(stream));
        }
        if started.elapsed() > PATIENCE {
            let (folder, holder) = (folder.clone(), NodeLock::holder(folder));
            return Err(AttachError::NoAnswer { folder, holder });
        }
        tokio::time::sleep(BETWEEN_TRIES).await;
    }
}

/// Connects to the node of a folder, if one is running.
pub async fn find(options: &Options) -> Option<LocalStream> {
    local::connect(&options.folder).await.ok()
}

/// A folder's node, as it is before it is asked to stop.
#[derive(Debug)]
pub struct Leaving {
    folder: PathBuf,
    holder: Option<String>,
}

impl Leaving {
    /// Looks who is the node now.
    #[must_use]
    pub fn of(folder: PathBuf) -> Self {
        let holder = NodeLock::holder(&folder);
        Leaving { folder, holder }
    }

    /// Waits until that node has closed its store and given the folder back: until then, what is
    /// put there is overwritten. Whether it did within reasonable time.
    pub async fn is_gone(&self) -> bool {
        let started = Instant::now();
        while NodeLock::is_held(&self.folder) && !self.was_replaced() {
            if started.elapsed() > PATIENCE {
                return false;
            }
            tokio::time::sleep(BETWEEN_TRIES).await;
        }
        true
    }

    /// The holder writes its process id while it has the lock.
    fn was_replaced(&self) -> bool {
        let holder = NodeLock::holder(&self.folder);
        holder != self.holder && !NodeLock::was_stopped(&self.folder)
    }
}

/// Whether the folder's last node was stopped by a person, who does not want another in its place.
#[must_use]
pub fn was_stopped(options: &Options) -> bool {
    NodeLock::was_stopped(&options.folder)
}

/// Opens the store and listens. The listener comes last: whoever connects is served.
async fn start(options: &Options, lock: NodeLock) -> Result<Node, AttachError> {
    let opening = options.clone();
    let runtime = tokio::runtime::Handle::current();
    let opened = tokio::task::spawn_blocking(move || {
        let _runtime = runtime.enter();
        let folder = &opening.folder;
        let identity = identity(folder)?;
        let peer_id = identity.peer_id();
        let Options { durability, restored, .. } = opening;
        let store =
            Store::open(folder, store::Options { durability, peer_id: &peer_id, restored })?;
        if let Origin::Restored(sign) = store.origin() {
            tracing::warn!(
                "the store may have been put back ({sign}); its writes have a new name from now on"
            );
        }
        let listener = Listener::open(folder, lock).map_err(io_error(folder))?;
        Node::start(store, listener, Place::new(folder.clone(), identity))
    });
    let node = match opened.await {
        Ok(node) => node?,
        Err(panicked) => return Err(AttachError::Thread(io::Error::other(panicked))),
    };
    // Its own tasks are served all the same.
    if let Err(error) = node.enter_swarm().await {
        tracing::error!("this node is not in its swarm: {error}");
    }
    Ok(node)
}

/// The folder's key, made if there is none.
fn identity(folder: &Path) -> Result<Identity, AttachError> {
    let path = folder.join(KEY_FILE);
    match fs::read(&path) {
        Ok(bytes) => Identity::from_bytes(&bytes)
            .map_err(|error| AttachError::Identity { path, reason: error.to_string() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let identity = Identity::generate();
            local::write_private(&path, &identity.to_bytes()).map_err(io_error(&path))?;
            Ok(identity)
        }
        Err(error) => Err(io_error(&path)(error)),
    }
}

fn io_error(path: &Path) -> impl Fn(io::Error) -> AttachError {
    let path = path.to_owned();
    move |source| AttachError::Io { path: path.clone(), source }
}
