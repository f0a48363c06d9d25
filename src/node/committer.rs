//! The committer: one thread that owns the store and writes whatever waits in one transaction.
//!
//! Batches are numbered as they are handed over, under the core's lock, so that the disk has the
//! core's order. While one sync runs, the next group gathers: the more callers, the fewer syncs
//! each of them costs.
//!
//! What was handed over and not yet committed when a commit fails is dropped, with the core that it
//! came from: its *era* is over. A ticket knows its era, so that whoever asks for it late is told
//! that it failed, and does not take the commits of the next era for its own.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::scheduler::Changes;
use crate::store::{CommitError, Store};

use super::CallError;

/// How long nothing must come before the log is moved into the database.
const IDLE: Duration = Duration::from_millis(200);

/// A place in the order of the batches.
#[derive(Clone)]
pub(super) struct Ticket {
    number: u64,
    era: Arc<Era>,
}

/// The time from one taking up of the core to the next.
#[derive(Default)]
struct Era {
    /// The number of the last batch on disk.
    committed: AtomicU64,
    /// Why no batch after that will be.
    failed: OnceLock<CallError>,
}

impl Ticket {
    /// Whether everything up to it is on disk; `None`: not yet.
    fn kept(&self) -> Option<Kept> {
        if self.era.committed.load(Ordering::Acquire) >= self.number {
            return Some(Ok(()));
        }
        self.era.failed.get().cloned().map(Err)
    }
}

type Kept = Result<(), CallError>;

/// What the committer asks of the node when the disk refuses.
pub(super) trait Fallback: Send {
    /// A commit failed. Nothing may be answered before the core is what the store has: take the
    /// core's lock, then call `refuse` (which drops what is queued), then take the core up anew.
    fn commit_failed(&self, store: &Store, error: &CommitError, refuse: &mut dyn FnMut());
    /// The disk takes writes again, and this is the store, opened anew. Takes the core up anew in
    /// the same way. Returns whether it could be read.
    fn recovered(&self, store: &Store, refuse: &mut dyn FnMut()) -> bool;
}

#[derive(Default)]
struct Queue {
    batches: Vec<Changes>,
    waiting: Vec<oneshot::Sender<Kept>>,
    probes: Vec<oneshot::Sender<Kept>>,
    /// The number of the last batch.
    handed_over: u64,
    era: Arc<Era>,
    stop: bool,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    came: Condvar,
    commits: AtomicU64,
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        // Nothing that panics runs under this lock.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Drops what is queued, and moves those who wait for it to `waiting`. Only under the core's
    /// lock: nobody hands anything over then.
    fn end_era(&self, why: &CallError, waiting: &mut Vec<oneshot::Sender<Kept>>) {
        let mut queue = self.queue();
        queue.batches.clear();
        waiting.append(&mut queue.waiting);
        let next = Era { committed: queue.handed_over.into(), failed: OnceLock::new() };
        let over = std::mem::replace(&mut queue.era, Arc::new(next));
        // Only this thread ends eras, each of them once.
        let _first = over.failed.set(why.clone());
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

    /// Queues what changed, behind all that was queued before, and returns what to wait for.
    pub(super) fn hand_over(&self, changes: Changes) -> Ticket {
        let mut queue = self.shared.queue();
        let came = !changes.is_empty();
        if came {
            queue.handed_over += 1;
            queue.batches.push(changes);
        }
        let ticket = Ticket { number: queue.handed_over, era: queue.era.clone() };
        drop(queue);
        if came {
            self.shared.came.notify_one();
        }
        ticket
    }

    /// Waits until everything up to `ticket` is on disk.
    pub(super) async fn kept(&self, ticket: Ticket) -> Kept {
        if let Some(kept) = ticket.kept() {
            return kept;
        }
        let (done, kept) = oneshot::channel();
        {
            let mut queue = self.shared.queue();
            if let Some(kept) = ticket.kept() {
                return kept;
            }
            queue.waiting.push(done);
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
    let mut refusing = false;
    while let Some(mut group) = next_group(shared, &mut store) {
        if group.batches.is_empty() {
            answer(&mut group.waiting, &Ok(()));
        } else if let Err(error) = store.commit(&group.batches) {
            refusing = true;
            refuse_all(&store, shared, fallback, group.waiting, &error);
        } else {
            shared.commits.store(store.commits(), Ordering::Relaxed);
            group.era.committed.store(group.handed_over, Ordering::Release);
            answer(&mut group.waiting, &Ok(()));
        }
        if !group.probes.is_empty() {
            // Several callers may have asked before the first was answered.
            let kept = if refusing { probe(&mut store, shared, fallback) } else { Ok(()) };
            refusing = kept.is_err();
            answer(&mut group.probes, &kept);
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
            let (handed_over, era, stop) = (queue.handed_over, queue.era.clone(), queue.stop);
            let empty = Queue { handed_over, era, stop, ..Queue::default() };
            return Some(std::mem::replace(&mut *queue, empty));
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

fn answer(waiting: &mut Vec<oneshot::Sender<Kept>>, kept: &Kept) {
    for done in waiting.drain(..) {
        // A caller that went away does not want to know.
        let _gone = done.send(kept.clone());
    }
}

fn refuse_all(
    store: &Store,
    shared: &Shared,
    fallback: &dyn Fallback,
    mut waiting: Vec<oneshot::Sender<Kept>>,
    error: &CommitError,
) {
    tracing::error!("writing is refused from now on: {error}");
    let refused = CallError::StoreFailed { reason: error.to_string() };
    let mut end = || shared.end_era(&refused, &mut waiting);
    fallback.commit_failed(store, error, &mut end);
    answer(&mut waiting, &Err(refused));
}

fn probe(store: &mut Store, shared: &Shared, fallback: &dyn Fallback) -> Kept {
    let failed = |reason: String| CallError::StoreFailed { reason };
    store.probe().map_err(|error| failed(error.to_string()))?;
    store.reopen().map_err(|error| failed(error.to_string()))?;
    let refused = failed("it was opened anew just now.".into());
    let mut waiting = Vec::new();
    let could_be_read = fallback.recovered(store, &mut || shared.end_era(&refused, &mut waiting));
    answer(&mut waiting, &Err(refused));
    match could_be_read {
        true => {
            tracing::info!("the store can be written again");
            Ok(())
        }
        false => Err(failed("its tasks could not be read again; see the log.".into())),
    }
}
