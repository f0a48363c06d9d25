//! The committer: one thread that owns the store and writes whatever waits in one transaction.
//!
//! Batches are numbered as they are handed over, under the core's lock, so that the disk has the
//! core's order. While one sync runs, the next group gathers: the more callers, the fewer syncs
//! each of them costs.
//!
//! What was handed over and not yet committed when a commit fails is dropped, with the core that it
//! came from: its *era* is over. A ticket knows its era, so that whoever asks for it late is told
//! that it failed, and does not take the commits of the next era for its own.
//!
//! Two things keep the two sides from waking each other more often than they must. A caller lets
//! whoever else is ready hand its changes over before it wakes the committer. And the committer
//! wakes one task of the runtime, the herald, which answers all callers of the group.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{Notify, oneshot};

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
    /// A commit failed. Nothing may be shown before the core is what the store has: take the
    /// core's lock, then call `refuse` (which drops what is queued), then take the core up anew.
    fn commit_failed(&self, store: &Store, error: &CommitError, refuse: &mut dyn FnMut());
    /// The disk takes writes again, and this is the store, opened anew. Takes the core up anew in
    /// the same way. Returns whether it could be read.
    fn recovered(&self, store: &Store, refuse: &mut dyn FnMut()) -> bool;
}

#[derive(Default)]
struct Queue {
    batches: Vec<Changes>,
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
    waiting: Mutex<Vec<(Ticket, oneshot::Sender<Kept>)>>,
    news: Notify,
    ended: AtomicBool,
    commits: AtomicU64,
}

/// Nothing that panics runs under these locks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// What came of everything up to `ticket`; `None` while it is under way.
    fn outcome(&self, ticket: &Ticket) -> Option<Kept> {
        let ended = || self.ended.load(Ordering::Acquire).then_some(Err(CallError::Stopping));
        ticket.kept().or_else(ended)
    }

    /// Drops what is queued, and tells those who wait for it why. Only under the core's lock:
    /// nobody hands anything over then.
    fn end_era(&self, why: &CallError) {
        let mut queue = lock(&self.queue);
        queue.batches.clear();
        let next = Era { committed: queue.handed_over.into(), failed: OnceLock::new() };
        let over = std::mem::replace(&mut queue.era, Arc::new(next));
        // Only the committer ends eras, each of them once.
        let _first = over.failed.set(why.clone());
    }
}

/// The node's side of the thread.
pub(super) struct Committer {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Committer {
    /// Starts the thread, and the herald on the current runtime.
    pub(super) fn start(store: Store, fallback: Box<dyn Fallback>) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let thread = std::thread::Builder::new().name("committer".into()).spawn({
            let shared = shared.clone();
            move || {
                run(store, &shared, &*fallback);
                shared.ended.store(true, Ordering::Release);
                shared.news.notify_one();
            }
        })?;
        tokio::spawn(herald(shared.clone()));
        Ok(Committer { shared, thread: Mutex::new(Some(thread)) })
    }

    /// Queues what changed, behind all that was queued before, and returns what to wait for. The
    /// committer is woken by whoever waits, or finds it by itself a little later.
    pub(super) fn hand_over(&self, changes: Changes) -> Ticket {
        let mut queue = lock(&self.shared.queue);
        if !changes.is_empty() {
            queue.handed_over += 1;
            queue.batches.push(changes);
        }
        Ticket { number: queue.handed_over, era: queue.era.clone() }
    }

    /// Waits until everything up to `ticket` is on disk.
    pub(super) async fn kept(&self, ticket: Ticket) -> Kept {
        if let Some(kept) = self.shared.outcome(&ticket) {
            return kept;
        }
        // Whoever else is ready hands its changes over first, into the same group.
        tokio::task::yield_now().await;
        self.shared.came.notify_one();
        let (done, kept) = oneshot::channel();
        {
            let mut waiting = lock(&self.shared.waiting);
            if let Some(kept) = self.shared.outcome(&ticket) {
                return kept;
            }
            waiting.push((ticket, done));
        }
        kept.await.unwrap_or(Err(CallError::Stopping))
    }

    /// Finds out whether the disk takes writes again; if so, the core has been taken up anew.
    pub(super) async fn probe(&self) -> Kept {
        let (done, kept) = oneshot::channel();
        lock(&self.shared.queue).probes.push(done);
        self.shared.came.notify_one();
        kept.await.unwrap_or(Err(CallError::Stopping))
    }

    /// Syncs since the node started, one for each group of calls.
    pub(super) fn commits(&self) -> u64 {
        self.shared.commits.load(Ordering::Relaxed)
    }

    /// Commits what is queued, closes the store and ends the thread. Blocks.
    pub(super) fn stop(&self) {
        lock(&self.shared.queue).stop = true;
        self.shared.came.notify_one();
        let thread = lock(&self.thread).take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("the committer panicked; what it had not committed was not answered");
        }
    }
}

/// Answers the callers of each group that was settled, until the committer has ended.
async fn herald(shared: Arc<Shared>) {
    loop {
        shared.news.notified().await;
        lock(&shared.waiting).retain_mut(|(ticket, done)| match shared.outcome(ticket) {
            None => true,
            Some(kept) => {
                let (nobody, _) = oneshot::channel();
                // A caller that went away does not want to know.
                let _gone = std::mem::replace(done, nobody).send(kept);
                false
            }
        });
        if shared.ended.load(Ordering::Acquire) {
            return;
        }
    }
}

fn run(mut store: Store, shared: &Shared, fallback: &dyn Fallback) {
    let mut refusing = false;
    while let Some(group) = next_group(shared, &mut store) {
        if !group.batches.is_empty() {
            match store.commit(&group.batches) {
                Ok(()) => {
                    shared.commits.store(store.commits(), Ordering::Relaxed);
                    group.era.committed.store(group.handed_over, Ordering::Release);
                }
                Err(error) => {
                    refusing = true;
                    tracing::error!("writing is refused from now on: {error}");
                    let why = CallError::StoreFailed { reason: error.to_string() };
                    fallback.commit_failed(&store, &error, &mut || shared.end_era(&why));
                }
            }
            shared.news.notify_one();
        }
        if !group.probes.is_empty() {
            // Several callers may have asked before the first was answered.
            let kept = if refusing { probe(&mut store, shared, fallback) } else { Ok(()) };
            refusing = kept.is_err();
            for done in group.probes {
                // A caller that went away does not want to know.
                let _gone = done.send(kept.clone());
            }
        }
    }
    if let Err(error) = store.close() {
        tracing::warn!("the store was not closed cleanly, nothing is lost: {error}");
    }
}

/// Waits for work and takes all of it. `None`: stop.
fn next_group(shared: &Shared, store: &mut Store) -> Option<Queue> {
    let mut queue = lock(&shared.queue);
    loop {
        if !queue.batches.is_empty() || !queue.probes.is_empty() {
            let batches = std::mem::take(&mut queue.batches);
            let probes = std::mem::take(&mut queue.probes);
            let (handed_over, era) = (queue.handed_over, queue.era.clone());
            return Some(Queue { batches, probes, handed_over, era, stop: false });
        }
        if queue.stop {
            return None;
        }
        let waited = shared.came.wait_timeout(queue, IDLE);
        let (again, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        queue = again;
        if timeout.timed_out() && queue.batches.is_empty() {
            drop(queue);
            if let Err(error) = store.checkpoint_if_idle() {
                tracing::warn!("the log could not be moved into the database: {error}");
            }
            queue = lock(&shared.queue);
        }
    }
}

fn probe(store: &mut Store, shared: &Shared, fallback: &dyn Fallback) -> Kept {
    let failed = |reason: String| CallError::StoreFailed { reason };
    store.probe().map_err(|error| failed(error.to_string()))?;
    store.reopen().map_err(|error| failed(error.to_string()))?;
    let why = failed("it was opened anew just now.".into());
    let could_be_read = fallback.recovered(store, &mut || shared.end_era(&why));
    shared.news.notify_one();
    match could_be_read {
        true => {
            tracing::info!("the store can be written again");
            Ok(())
        }
        false => Err(failed("its tasks could not be read again; see the log.".into())),
    }
}
