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
    Ok(match try_attach(options).await? {
        Access::Free(lock) => Attached::Node(start(options, lock).await?),
        Access::Taken(stream) => Attached::Peer(stream),
    })
}

/// The same for a process whose node went away. `None` if a person stopped that one, who does not
/// want another in its place.
///
/// # Errors
/// See [`AttachError`].
pub async fn attach_again(options: &Options) -> Result<Option<Attached>, AttachError> {
    let mut lock = match try_attach(options).await? {
        Access::Free(lock) => lock,
        Access::Taken(stream) => return Ok(Some(Attached::Peer(stream))),
    };
    // Asked of the lock that was taken: until then the last node may be about to say so.
    match lock.was_stopped().map_err(io_error(&options.folder))? {
        true => Ok(None),
        false => Ok(Some(Attached::Node(start(options, lock).await?))),
    }
}

/// What a folder has for who comes to it.
enum Access {
    /// It has no node.
    Free(NodeLock),
    Taken(LocalStream),
}

async fn try_attach(options: &Options) -> Result<Access, AttachError> {
    let folder = &options.folder;
    local::make_private_folder(folder).map_err(io_error(folder))?;
    let started = Instant::now();
    loop {
        if let Some(lock) = NodeLock::try_take(folder).map_err(io_error(folder))? {
            return Ok(Access::Free(lock));
        }
        if let Ok(stream) = local::connect(folder).await {
            return Ok(Access::Taken(stream));
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

    /// Whether a later node has signed the lock with its process id already.
    fn was_replaced(&self) -> bool {
        let holder = NodeLock::holder(&self.folder).filter(|text| text.parse::<u32>().is_ok());
        holder.is_some() && holder != self.holder
    }
}

/// Opens the store and listens. The listener comes last: whoever connects is served.
async fn start(options: &Options, mut lock: NodeLock) -> Result<Node, AttachError> {
    lock.sign().map_err(io_error(&options.folder))?;
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A relay asked whether its node had been stopped a moment before the node said so, waited for
    /// the lock, and became the node that nobody wanted.
    #[tokio::test]
    async fn who_waits_for_a_node_that_is_being_stopped_does_not_take_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let options = Options::new(folder.path());
        let Attached::Node(node) = attach(&options).await.unwrap() else {
            panic!("the folder is new");
        };
        // The socket goes first, so that whoever comes now waits for the lock.
        fs::remove_file(folder.path().join("node.sock")).unwrap();
        let waiting = tokio::spawn({
            let options = options.clone();
            async move { attach_again(&options).await.unwrap().is_none() }
        });
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        node.request_stop();
        node.close().await;
        assert!(waiting.await.unwrap(), "it took the stopped node's place");
        let Attached::Node(next) = attach(&options).await.unwrap() else {
            panic!("a person may start another");
        };
        next.close().await;
        assert!(attach_again(&options).await.unwrap().is_some(), "one that went away is replaced");
    }
}
