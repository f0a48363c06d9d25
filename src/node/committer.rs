//! The committer: one thread that owns the store and writes whatever waits in one transaction.
//!
//! Batches are numbered as they are handed over, under the core's lock, so that the disk has the
//! core's order. While one sync runs, the next group gathers: the more callers, the fewer syncs
//! each of them costs.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::scheduler::Changes;
use crate::store::{CommitError, Store};

use super::CallError;

/// How long nothing must come before the log is moved into the database.
const IDLE: Duration = Duration::from_millis(200);

/// The number of a batch; a batch is on disk once the committed number has reached it.
pub(super) type Ticket = u64;

type Kept = Result<(), CallError>;

/// What the committer asks of the node when the disk refuses.
pub(super) trait Fallback: Send {
    /// A commit failed. Nothing may be answered before the core is what the store has: take the
    /// core's lock, then call `refuse` (which drops what is queued), then take the core up anew.
    fn commit_failed(&self, store: &Store, error: &CommitError, refuse: &mut dyn FnMut());
    /// The disk takes writes again, and this is the store, opened anew.
    fn recovered(&self, store: &Store);
}

#[derive(Default)]
struct Queue {
    batches: Vec<Changes>,
    waiting: Vec<(Ticket, oneshot::Sender<Kept>)>,
    probes: Vec<oneshot::Sender<Kept>>,
    handed_over: Ticket,
    stop: bool,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    came: Condvar,
    committed: AtomicU64,
    commits: AtomicU64,
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        // Nothing that panics runs under this lock.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The node's side of the thread.
pub(super) struct Committer {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Committer {
    pub(super) fn start(store: Store, fallback: Box<dyn Fallback>) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let thread = std::thread::Builder::new().name("committer".into()).spawn({
            let shared = shared.clone();
            move || run(store, &shared, &*fallback)
        })?;
        Ok(Committer { shared, thread: Mutex::new(Some(thread)) })
    }

    /// Queues what changed, behind all that was queued before, and returns the number to wait for.
    pub(super) fn hand_over(&self, changes: Changes) -> Ticket {
        let mut queue = self.shared.queue();
        if changes.is_empty() {
            return queue.handed_over;
        }
        queue.handed_over += 1;
        queue.batches.push(changes);
        let ticket = queue.handed_over;
        drop(queue);
        self.shared.came.notify_one();
        ticket
    }

    /// Waits until everything up to `ticket` is on disk.
    pub(super) async fn kept(&self, ticket: Ticket) -> Kept {
        if self.shared.committed.load(Ordering::Acquire) >= ticket {
            return Ok(());
        }
        let (done, kept) = oneshot::channel();
        {
            let mut queue = self.shared.queue();
            if self.shared.committed.load(Ordering::Acquire) >= ticket {
                return Ok(());
            }
            queue.waiting.push((ticket, done));
        }
        kept.await.unwrap_or(Err(CallError::Stopping))
    }

    /// Finds out whether the disk takes writes again; if so, the core has been taken up anew.
    pub(super) async fn probe(&self) -> Kept {
        let (done, kept) = oneshot::channel();
        self.shared.queue().probes.push(done);
        self.shared.came.notify_one();
        kept.await.unwrap_or(Err(CallError::Stopping))
    }

    /// Syncs since the node started, one for each group of calls.
    pub(super) fn commits(&self) -> u64 {
        self.shared.commits.load(Ordering::Relaxed)
    }

    /// Commits what is queued, closes the store and ends the thread. Blocks.
    pub(super) fn stop(&self) {
        self.shared.queue().stop = true;
        self.shared.came.notify_one();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("the committer panicked; what it had not committed was not answered");
        }
    }
}

fn run(mut store: Store, shared: &Shared, fallback: &dyn Fallback) {
    while let Some(mut group) = next_group(shared, &mut store) {
        if !group.probes.is_empty() {
            let kept = probe(&mut store, fallback);
            for done in group.probes.drain(..) {
                let _gone = done.send(kept.clone());
            }
        }
        if group.batches.is_empty() {
            answer(&mut group.waiting, &Ok(()));
            continue;
        }
        match store.commit(&group.batches) {
            Ok(()) => {
                shared.commits.store(store.commits(), Ordering::Relaxed);
                shared.committed.store(group.handed_over, Ordering::Release);
                answer(&mut group.waiting, &Ok(()));
            }
            Err(error) => refuse_all(&store, shared, fallback, group, &error),
        }
    }
    if let Err(error) = store.close() {
        tracing::warn!("the store was not closed cleanly, nothing is lost: {error}");
    }
}

/// Waits for work and takes all of it. `None`: stop.
fn next_group(shared: &Shared, store: &mut Store) -> Option<Queue> {
    let mut queue = shared.queue();
    loop {
        if !queue.batches.is_empty() || !queue.probes.is_empty() || !queue.waiting.is_empty() {
            let group = Queue { handed_over: queue.handed_over, ..Queue::default() };
            let stop = queue.stop;
            let mut taken = std::mem::replace(&mut *queue, group);
            (queue.stop, taken.stop) = (stop, false);
            return Some(taken);
        }
        if queue.stop {
            return None;
        }
        let (again, timeout) =
            shared.came.wait_timeout(queue, IDLE).unwrap_or_else(PoisonError::into_inner);
        queue = again;
        if timeout.timed_out() && queue.batches.is_empty() {
            drop(queue);
            if let Err(error) = store.checkpoint_if_idle() {
                tracing::warn!("the log could not be moved into the database: {error}");
            }
            queue = shared.queue();
        }
    }
}

fn answer(waiting: &mut Vec<(Ticket, oneshot::Sender<Kept>)>, kept: &Kept) {
    for (_, done) in waiting.drain(..) {
        // A caller that went away does not want to know.
        let _gone = done.send(kept.clone());
    }
}

fn refuse_all(
    store: &Store,
    shared: &Shared,
    fallback: &dyn Fallback,
    mut group: Queue,
    error: &CommitError,
) {
    tracing::error!("writing is refused from now on: {error}");
    let refused = Err(CallError::StoreFailed { reason: error.to_string() });
    let mut later = Vec::new();
    fallback.commit_failed(store, error, &mut || {
        // Under the core's lock: nobody hands anything over now.
        let mut queue = shared.queue();
        queue.batches.clear();
        later.append(&mut queue.waiting);
        shared.committed.store(queue.handed_over, Ordering::Release);
    });
    answer(&mut group.waiting, &refused);
    answer(&mut later, &refused);
}

fn probe(store: &mut Store, fallback: &dyn Fallback) -> Kept {
    let failed = |reason: String| Err(CallError::StoreFailed { reason });
    if let Err(error) = store.probe() {
        return failed(error.to_string());
    }
    if let Err(error) = store.reopen() {
        return failed(error.to_string());
    }
    fallback.recovered(store);
    tracing::info!("the store can be written again");
    Ok(())
}
