//! The sessions of the protocols before 2026-07-28, each one connection to the node.
//!
//! A session is a worker. It lasts until its client deletes it, or is given up on:
//!
//! | session | given up on after |
//! |---|---|
//! | with an open stream, or a request under way | never |
//! | that asked for tasks | [`WORKER_IDLE`] without a request |
//! | that did not | [`IDLE`] without a request |
//!
//! There are [`MAX_SESSIONS`] at most. Where that many are open, one that did not ask for tasks
//! makes room, the longest idle first, if it was idle for [`EVICTABLE`]; otherwise the newcomer is
//! told to come again. So abandoned sessions cost neither memory nor, for long, a place.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::future::join_all;
use tokio::io::DuplexStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::link::Link;

/// Sessions at most, the older door's included.
pub const MAX_SESSIONS: usize = 64;
/// How long a session that did not ask for tasks may be silent: a person's pause.
const IDLE: Duration = Duration::from_secs(5 * 60);
/// How long a session that asked for tasks may be silent: the lease of a command.
const WORKER_IDLE: Duration = Duration::from_secs(60 * 60);
/// How long a session must have been silent to make room for another: longer than a client takes
/// from its introduction to its first request.
const EVICTABLE: Duration = Duration::from_secs(30);
/// How often sessions are looked through for those to give up on.
const SWEEP_INTERVAL: Duration = Duration::from_secs(15);

/// The sessions that are open.
pub(super) struct Sessions {
    open: Mutex<BTreeMap<String, Arc<Session>>>,
    places: Arc<Semaphore>,
}

/// One session. Whoever works with it holds an [`Arc`] of it as long as that takes.
pub(super) struct Session {
    pub(super) id: String,
    pub(super) link: Arc<Link>,
    /// Whose token opened it. For others it is not there.
    owner: Arc<str>,
    asked_for_tasks: AtomicBool,
    used: Mutex<Instant>,
    _place: OwnedSemaphorePermit,
}

impl Sessions {
    pub(super) fn new() -> Self {
        let places = Arc::new(Semaphore::new(MAX_SESSIONS));
        Sessions { open: Mutex::default(), places }
    }

    /// A place for one more session; `None` where all are taken.
    pub(super) fn place(&self) -> Option<OwnedSemaphorePermit> {
        self.places.clone().try_acquire_owned().ok().or_else(|| {
            self.evict();
            self.places.clone().try_acquire_owned().ok()
        })
    }

    /// Begins a session. It is found by its id once it is [opened](Self::open).
    pub(super) fn begin(
        &self,
        place: OwnedSemaphorePermit,
        owner: &Arc<str>,
        stream: DuplexStream,
    ) -> Arc<Session> {
        Arc::new(Session {
            id: random_id(),
            link: Arc::new(Link::new(stream)),
            owner: owner.clone(),
            asked_for_tasks: AtomicBool::new(false),
            used: Mutex::new(Instant::now()),
            _place: place,
        })
    }

    pub(super) fn open(&self, session: Arc<Session>) {
        self.lock().insert(session.id.clone(), session);
    }

    /// The session of this id, if it is this owner's.
    pub(super) fn find(&self, id: &str, owner: &str) -> Option<Arc<Session>> {
        let session = self.lock().get(id).filter(|session| *session.owner == *owner).cloned()?;
        session.touch();
        Some(session)
    }

    /// Ends a session: what it holds goes back to the queue, and its streams end.
    pub(super) async fn close(&self, session: &Session) {
        self.lock().remove(&session.id);
        session.link.hang_up().await;
    }

    /// Gives up on silent sessions, from time to time, for ever.
    pub(super) async fn sweep(&self) {
        loop {
            tokio::time::sleep(SWEEP_INTERVAL).await;
            self.lock().retain(|_, session| !session.is_given_up());
        }
    }

    /// Tells the node that no session asks for more. What is under way is answered.
    pub(super) async fn hang_up(&self) {
        let open: Vec<_> = self.lock().values().cloned().collect();
        join_all(open.iter().map(|session| session.link.hang_up())).await;
    }

    fn evict(&self) {
        let mut open = self.lock();
        let idle = open.values().filter(|session| {
            !session.is_busy()
                && !session.asked_for_tasks.load(Ordering::Relaxed)
                && session.idle() >= EVICTABLE
        });
        if let Some(longest) = idle.max_by_key(|session| session.idle()) {
            let id = longest.id.clone();
            open.remove(&id);
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Session>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Session {
    /// Remembers that this session's worker wants tasks.
    pub(super) fn asks_for_tasks(&self) {
        self.asked_for_tasks.store(true, Ordering::Relaxed);
    }

    /// The session was used just now.
    pub(super) fn touch(&self) {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn idle(&self) -> Duration {
        self.used.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    /// Whether somebody beside the table holds it.
    fn is_busy(self: &Arc<Self>) -> bool {
        Arc::strong_count(self) > 1
    }

    fn is_given_up(self: &Arc<Self>) -> bool {
        let limit = match self.asked_for_tasks.load(Ordering::Relaxed) {
            true => WORKER_IDLE,
            false => IDLE,
        };
        !self.is_busy() && self.idle() >= limit
    }
}

/// An id that nobody guesses.
pub(super) fn random_id() -> String {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the operating system has randomness");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
