//! The node: the scheduler behind one lock, its committer, its clock, and who waits for a task.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::{Mutex, MutexGuard, Notify, oneshot, watch};

use crate::scheduler::{
    Caller, Changes, Claimed, Config, Conflict, Duplicate, Jitter, Now, Outgoing,
    P2PWorkflowScheduler, Rejection, Want,
};
use crate::store::{BackupError, CommitError, ReadError, Reader, Store};

use super::CallError;
use super::attach::AttachError;
use super::committer::{Committer, Fallback, Ticket};
use super::local::Listener;
use super::network::Joined;
use super::place::Place;
use super::session::{Hello, Session};
use super::texts::Texts;
use super::watch::{Watch, Watches};

/// How often a disk that refused is tried again, at most.
const PROBE_INTERVAL: Duration = Duration::from_millis(500);

/// What one worker is given, once it is on disk.
pub(super) struct Gift {
    pub(super) claimed: Box<Claimed>,
    pub(super) ticket: Ticket,
    /// The payload's text, where it came lately.
    pub(super) payload: Option<Arc<str>>,
}

/// A worker that waits for a task.
pub(super) struct Waiter {
    pub(super) number: u64,
    pub(super) caller: Caller,
    pub(super) want: Want,
    pub(super) give: oneshot::Sender<Gift>,
}

/// Everything behind the lock.
pub(super) struct Core {
    pub(super) scheduler: P2PWorkflowScheduler,
    /// First come, first served.
    pub(super) waiters: VecDeque<Waiter>,
    pub(super) next_waiter: u64,
    pub(super) texts: Texts,
    /// While this node is in a swarm.
    pub(super) joined: Option<Joined>,
    /// Sessions that are attached, to attach them again if the core is taken up anew.
    pub(super) sessions: BTreeMap<Arc<str>, usize>,
    /// While the disk refuses.
    failed: Option<Failed>,
    /// What the alarm is set to, on the monotonic clock.
    alarm: Option<u64>,
}

struct Failed {
    /// Why, and what to do.
    reason: String,
    /// When it was last tried.
    tried: Instant,
    /// Whether the tasks could not even be read again: then nothing is shown.
    unreadable: bool,
}

struct Inner {
    core: Mutex<Core>,
    committer: std::sync::OnceLock<Committer>,
    reader: Arc<std::sync::Mutex<Reader>>,
    alarm: Notify,
    started: Instant,
    /// Whether a person asked the node to stop.
    stop: watch::Sender<bool>,
    /// Set under the core's lock: nothing is handed over any more.
    closed: AtomicBool,
    /// Whether [`Core::failed`] is set, to be asked without the lock.
    failing: AtomicBool,
    listener: Listener,
    place: Place,
    watches: Arc<Watches>,
}

/// The running node. Clones are the same node.
#[derive(Clone)]
pub struct Node(Arc<Inner>);

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node").finish_non_exhaustive()
    }
}

impl Node {
    /// Takes up what the store has. Blocks while it reads.
    pub(super) fn start(
        store: Store,
        listener: Listener,
        place: Place,
    ) -> Result<Self, AttachError> {
        let started = Instant::now();
        let reader = store.reader()?;
        let scheduler = take_up(&store, now_since(started))?;
        let core = Core {
            scheduler,
            waiters: VecDeque::new(),
            next_waiter: 0,
            texts: Texts::default(),
            sessions: BTreeMap::new(),
            joined: None,
            failed: None,
            alarm: None,
        };
        let node = Node(Arc::new(Inner {
            core: Mutex::new(core),
            committer: std::sync::OnceLock::new(),
            reader: Arc::new(std::sync::Mutex::new(reader)),
            alarm: Notify::new(),
            started,
            stop: watch::Sender::new(false),
            closed: AtomicBool::new(false),
            failing: AtomicBool::new(false),
            listener,
            watches: Arc::default(),
            place,
        }));
        let fallback = Box::new(Anew(Arc::downgrade(&node.0)));
        let committer = Committer::start(store, fallback).map_err(AttachError::Thread)?;
        let _first = node.0.committer.set(committer);
        tokio::spawn(keep_time(node.clone()));
        Ok(node)
    }

    /// A session of a worker. It is attached from now on; [`Session::end`] lets it go.
    #[must_use]
    pub fn session(&self, hello: Hello) -> Session {
        Session::new(self.clone(), hello)
    }

    /// Waits for the next process that wants to speak to this node.
    ///
    /// # Errors
    /// The operating system's; the next call may succeed.
    pub async fn accept(&self) -> io::Result<super::LocalStream> {
        self.0.listener.accept().await
    }

    /// Asks the node to stop, as `node stop` does. Whoever runs it sees [`Node::stop_requested`].
    pub fn request_stop(&self) {
        self.0.stop.send_replace(true);
    }

    /// Waits until somebody asked the node to stop.
    pub async fn stop_requested(&self) {
        let mut stop = self.0.stop.subscribe();
        // The sender lives as long as the node does.
        let _closed = stop.wait_for(|stop| *stop).await;
    }

    /// Commits what is under way, closes the store, and gives the folder back. Calls that come
    /// later are not served. If a person asked for it, processes that were connected see that, and
    /// do not take over.
    pub async fn close(&self) {
        self.close_swarm().await;
        {
            let _core = self.0.core.lock().await;
            self.0.closed.store(true, Ordering::Release);
        }
        let node = self.clone();
        let stopped = tokio::task::spawn_blocking(move || node.committer().stop()).await;
        if let Err(error) = stopped {
            tracing::error!("closing the store failed: {error}");
        }
        let asked = *self.0.stop.borrow();
        self.0.listener.close(asked);
        self.0.alarm.notify_one();
    }

    pub(super) fn place(&self) -> &Place {
        &self.0.place
    }

    /// Writes all tasks, as they are on disk, into a new file that only its owner may read. Returns
    /// how many bytes it has.
    ///
    /// # Errors
    /// [`CallError::Rejected`] where the file is there already or cannot be written.
    pub async fn backup(&self, file: PathBuf) -> Result<u64, CallError> {
        let backup = self.read(move |reader| Ok(reader.backup(&file))).await?;
        let refused = |error: BackupError| Rejection::InvalidArgument { what: error.to_string() };
        Ok(backup.map_err(refused)?)
    }

    /// Syncs since the node started.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.committer().commits()
    }

    /// Topics that are watched now, over all sessions.
    #[must_use]
    pub fn watched(&self) -> usize {
        self.0.watches.count()
    }

    pub(super) fn watch(&self) -> Watch {
        self.0.watches.watch()
    }

    fn committer(&self) -> &Committer {
        self.0.committer.get().expect("set when the node is made")
    }

    /// Applies a call that reads or writes, and waits until all that its answer shows is on disk.
    pub(super) async fn call<T>(
        &self,
        apply: impl FnOnce(&mut P2PWorkflowScheduler, Now) -> T,
    ) -> Result<T, CallError> {
        let (answer, ticket) = self.apply(|core, now| apply(&mut core.scheduler, now)).await?;
        self.kept(ticket).await?;
        Ok(answer)
    }

    /// Waits until everything up to `ticket` is on disk.
    pub(super) async fn kept(&self, ticket: Ticket) -> Result<(), CallError> {
        self.committer().kept(ticket).await
    }

    /// Applies a call to the core and hands over what it changed.
    pub(super) async fn apply<T>(
        &self,
        apply: impl FnOnce(&mut Core, Now) -> T,
    ) -> Result<(T, Ticket), CallError> {
        let mut core = self.0.core.lock().await;
        if self.0.closed.load(Ordering::Acquire) {
            return Err(CallError::Stopping);
        }
        let now = now_since(self.0.started);
        match &core.failed {
            None => core.scheduler.advance(now),
            Some(failed) if failed.unreadable => {
                return Err(CallError::StoreFailed { reason: failed.reason.clone() });
            }
            Some(_) => {}
        }
        let answer = apply(&mut core, now);
        let ticket = self.settle(core, now);
        Ok((answer, ticket))
    }

    /// Makes sure that the disk takes writes; if it refused lately, finds out whether it does now.
    pub(super) async fn writable(&self) -> Result<(), CallError> {
        if !self.0.failing.load(Ordering::Acquire) {
            return Ok(());
        }
        {
            let mut core = self.0.core.lock().await;
            match &mut core.failed {
                None => return Ok(()),
                Some(failed) if failed.tried.elapsed() < PROBE_INTERVAL => {
                    return Err(CallError::StoreFailed { reason: failed.reason.clone() });
                }
                Some(failed) => failed.tried = Instant::now(),
            }
        }
        self.committer().probe().await
    }

    /// Hands over what changed, and lets the core go.
    fn settle(&self, mut core: MutexGuard<'_, Core>, now: Now) -> Ticket {
        let ticket = self.hand_over(&mut core, now);
        if core.joined.is_some()
            && let Some(network) = &*self.place().network()
        {
            network.tell(&core.scheduler);
        }
        ticket
    }

    /// Takes out what the core has to say to its peers, and the ticket of all that it shows.
    pub(super) async fn take_messages(
        &self,
        take: impl FnOnce(&mut P2PWorkflowScheduler) -> Vec<Outgoing>,
    ) -> Result<(Vec<Outgoing>, Ticket), CallError> {
        let mut core = self.0.core.lock().await;
        if self.0.closed.load(Ordering::Acquire) {
            return Err(CallError::Stopping);
        }
        let ticket = self.hand_over(&mut core, now_since(self.0.started));
        Ok((take(&mut core.scheduler), ticket))
    }

    /// Serves those who wait, tells those who watch, hands over what changed and sets the alarm.
    fn hand_over(&self, core: &mut Core, now: Now) -> Ticket {
        let gifts = core.serve_waiters(now);
        self.0.watches.tell(&core.scheduler);
        let changes = core.scheduler.take_changes();
        log_what_was_lost(&changes);
        for change in &changes.tasks {
            core.texts.follow(change);
        }
        let ticket = self.committer().hand_over(changes);
        if core.joined.is_some() {
            self.disconnect(core.scheduler.take_silent());
        }
        for (give, claimed) in gifts {
            let payload = core.texts.payload(claimed.task.key);
            // A worker that went away in this very moment keeps the lease until its session ends.
            let _gone = give.send(Gift { claimed, ticket: ticket.clone(), payload });
        }
        let alarm = core.scheduler.next_deadline();
        if alarm.is_some_and(|at| core.alarm.is_none_or(|set| at < set)) {
            self.0.alarm.notify_one();
        }
        core.alarm = alarm;
        ticket
    }

    /// Reads texts from the store, off the runtime's threads.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Reader) -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T, CallError> {
        let reader = self.0.reader.clone();
        let read = move || {
            let reader = reader.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            read(&reader)
        };
        let failed = |reason: String| CallError::StoreFailed { reason };
        match tokio::task::spawn_blocking(read).await {
            Ok(text) => text.map_err(|error| failed(error.to_string())),
            Err(panicked) => Err(failed(panicked.to_string())),
        }
    }
}

impl Core {
    /// Claims for those who wait, in the order in which they came, what became ready.
    fn serve_waiters(&mut self, now: Now) -> Vec<(oneshot::Sender<Gift>, Box<Claimed>)> {
        let mut gifts = Vec::new();
        if self.failed.is_some() || !self.scheduler.take_became_ready() {
            return gifts;
        }
        let mut still = VecDeque::new();
        for waiter in self.waiters.drain(..) {
            if waiter.give.is_closed() {
                continue;
            }
            match self.scheduler.claim(now, &waiter.caller, &waiter.want) {
                Ok(claimed) => gifts.push((waiter.give, Box::new(claimed))),
                Err(_) => still.push_back(waiter),
            }
        }
        self.waiters = still;
        gifts
    }

    fn take_up_anew(&mut self, store: &Store, now: Now) -> Result<(), AttachError> {
        self.texts = Texts::default();
        self.scheduler = take_up(store, now)?;
        for worker in self.sessions.keys() {
            self.scheduler.attach(now, worker, None);
        }
        if let Some(joined) = &self.joined {
            joined.begin(&mut self.scheduler, now);
        }
        Ok(())
    }
}

/// People are told what peers did while they could not see each other.
fn log_what_was_lost(changes: &Changes) {
    for Duplicate { task_id, peer, worker, .. } in &changes.duplicates {
        tracing::warn!("task {task_id:?} ran twice: the run of worker {worker} at {peer} lost");
    }
    for id in &changes.forgotten {
        tracing::warn!(
            "task {id:?} ended elsewhere long ago, and is forgotten there: dropped here"
        );
    }
    for Duplicate { task_id, peer, worker, .. } in &changes.not_lost {
        tracing::warn!("task {task_id:?}: the run of worker {worker} at {peer} counts after all");
    }
    for Conflict { record, .. } in &changes.conflicts {
        let id = &record.spec.task_id;
        tracing::warn!("two different tasks were submitted as {id:?}; `show` tells of the other");
    }
}

/// Reads everything that was kept into a scheduler.
fn take_up(store: &Store, now: Now) -> Result<P2PWorkflowScheduler, AttachError> {
    let jitter: Jitter = Box::new(|| getrandom::u64().unwrap_or_default());
    let (peer, actor, config) = (store.peer_id(), store.actor(), Config::default());
    Ok(P2PWorkflowScheduler::restore(peer, actor, config, jitter, now, store.load()?))
}

fn now_since(started: Instant) -> Now {
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Now { wall: millis(wall), monotonic: millis(started.elapsed()) }
}

/// Calls the scheduler whenever time alone changes something, until the node is closed.
async fn keep_time(node: Node) {
    loop {
        let next = |core: &mut Core, now: Now| {
            let deadline = core.scheduler.next_deadline().filter(|_| core.failed.is_none());
            deadline.map(|at| Duration::from_millis(at.saturating_sub(now.monotonic).max(1)))
        };
        let wait = match node.apply(next).await {
            Ok((wait, ticket)) => match node.kept(ticket).await {
                Ok(()) => wait,
                Err(_) => None,
            },
            Err(CallError::Stopping) => return,
            Err(_) => None,
        };
        tokio::select! {
            () = node.0.alarm.notified() => {}
            () = sleep(wait) => {}
        }
    }
}

async fn sleep(wait: Option<Duration>) {
    match wait {
        Some(wait) => tokio::time::sleep(wait).await,
        None => std::future::pending().await,
    }
}

/// What to do when the disk refuses: see the module's page.
struct Anew(Weak<Inner>);

impl Anew {
    fn with_core(&self, then: impl FnOnce(&mut Core, Now)) {
        if let Some(inner) = self.0.upgrade() {
            let mut core = inner.core.blocking_lock();
            then(&mut core, now_since(inner.started));
            inner.failing.store(core.failed.is_some(), Ordering::Release);
            // What was told of may never have been kept.
            inner.watches.tell_all();
        }
    }
}

impl Fallback for Anew {
    fn commit_failed(&self, store: &Store, error: &CommitError, refuse: &mut dyn FnMut()) {
        self.with_core(|core, now| {
            refuse();
            let anew = core.take_up_anew(store, now);
            if let Err(error) = &anew {
                tracing::error!("the tasks could not be read again: {error}");
            }
            // What failed first says more than that the store was closed since.
            let first = core.failed.take().map(|failed| failed.reason);
            let (reason, unreadable) = (first.unwrap_or(error.to_string()), anew.is_err());
            core.failed = Some(Failed { reason, tried: Instant::now(), unreadable });
        });
    }

    fn recovered(&self, store: &Store, refuse: &mut dyn FnMut()) -> bool {
        let mut could_be_read = false;
        self.with_core(|core, now| {
            refuse();
            match core.take_up_anew(store, now) {
                Ok(()) => (core.failed, could_be_read) = (None, true),
                Err(error) => tracing::error!("the tasks could not be read again: {error}"),
            }
        });
        if let Some(inner) = self.0.upgrade() {
            inner.alarm.notify_one();
        }
        could_be_read
    }
}
