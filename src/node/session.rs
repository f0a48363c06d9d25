//! A session: one connection of one worker, and the calls it makes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OnceCell, oneshot};

use crate::scheduler::{
    Caller, Claimed, Filter, Ids, LeaseTerm, Look, Mark, Marked, MemberView, NothingReady, Now,
    Offer, Overview, P2PTask, Page, PeerUpdated, Rejection, State, Status, Submitted, TaskView,
    Want, Why,
};
use crate::store::Event;

use super::calls::{CallError, ClockView, Given, Next, ReportedClock, Shown};
use super::running::{Core, Gift, Node, Waiter};
use super::watch::Watch;

/// Results of dependencies that come with a task, at most, in bytes: what a worker can read.
const MAX_DEPENDENCY_RESULTS: usize = 1024 * 1024;

/// Who opens a session.
#[derive(Clone, Debug, Default)]
pub struct Hello {
    /// The worker; `None` for a new one, made at random. Workers are never numbered: numbers
    /// repeat after a node was replaced.
    pub worker: Option<String>,
    /// For a worker that comes back after its node was replaced: the leases it learned of, as
    /// task id and fence. What it was given without learning of it goes back to the queue.
    pub leases: Option<Vec<(String, u64)>>,
    /// Whether the worker is only a name that short connections have in common: commands, and
    /// requests without a session. Then its leases run on time, and the session's end ends none.
    pub shared: bool,
}

/// One connection of one worker. Clones are the same session.
#[derive(Clone, Debug)]
pub struct Session(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    node: Node,
    caller: Caller,
    leases: Option<Vec<(String, u64)>>,
    /// Set once it is attached for good.
    attached: OnceCell<()>,
    stage: Mutex<Stage>,
}

/// What the core knows of a session. Changes under the core's lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    New,
    Attached,
    Ended,
}

impl Session {
    pub(super) fn new(node: Node, hello: Hello) -> Self {
        let worker = hello.worker.unwrap_or_else(random_worker);
        let session = Session(Arc::new(Inner {
            node,
            caller: Caller { worker: worker.into(), shared: hello.shared },
            leases: hello.leases,
            attached: OnceCell::new(),
            stage: Mutex::new(Stage::New),
        }));
        // A worker that comes back must be attached before the grace of its leases is over, also
        // if it says nothing more.
        if !hello.shared {
            let soon = session.clone();
            tokio::spawn(async move {
                if let Err(error) = soon.attach().await {
                    tracing::debug!("a session could not be attached: {error}");
                }
            });
        }
        session
    }

    /// The node that it is a session of.
    #[must_use]
    pub fn node(&self) -> &Node {
        &self.0.node
    }

    /// The worker's id.
    #[must_use]
    pub fn worker(&self) -> &Arc<str> {
        &self.0.caller.worker
    }

    async fn attach(&self) -> Result<(), CallError> {
        if self.0.caller.shared {
            return Ok(());
        }
        let attach = || async {
            let (worker, leases) = (self.worker().clone(), self.0.leases.as_deref());
            let attach = |core: &mut Core, now| {
                let mut stage = self.stage();
                match *stage {
                    Stage::New => *core.sessions.entry(worker.clone()).or_insert(0) += 1,
                    // Where the disk refused, it is tried again.
                    Stage::Attached => {}
                    Stage::Ended => return,
                }
                *stage = Stage::Attached;
                core.scheduler.attach(now, &worker, leases);
            };
            let ((), ticket) = self.0.node.apply(attach).await?;
            self.0.node.kept(ticket).await
        };
        self.0.attached.get_or_try_init(attach).await.copied()
    }

    /// The session ended: what its worker holds goes back at once, unless the worker has another.
    ///
    /// # Errors
    /// [`CallError`]; the leases then go back when the node is next opened.
    pub async fn end(&self) -> Result<(), CallError> {
        if self.0.caller.shared {
            return Ok(());
        }
        let worker = self.worker().clone();
        let end = |core: &mut Core, now| {
            // Also before it was attached, which it then never is.
            let stage = std::mem::replace(&mut *self.stage(), Stage::Ended);
            if let Some(count) = core.sessions.get_mut(&worker) {
                *count -= usize::from(stage == Stage::Attached);
                if *count > 0 {
                    return;
                }
            }
            core.sessions.remove(&worker);
            core.scheduler.dismiss(now, &worker);
        };
        let ((), ticket) = self.0.node.apply(end).await?;
        self.0.node.kept(ticket).await
    }

    /// Nothing that panics runs under this lock.
    fn stage(&self) -> MutexGuard<'_, Stage> {
        self.0.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands a task in.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn submit(&self, task: P2PTask) -> Result<Submitted, CallError> {
        self.0.node.writable().await?;
        Ok(self.0.node.call(|scheduler, now| scheduler.submit(now, task)).await??)
    }

    /// Takes a task to run, waiting up to `wait` for one, or until `cancelled` is done.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn next(
        &self,
        mut want: Want,
        wait: Duration,
        cancelled: impl Future<Output = ()> + Send,
    ) -> Result<Next, CallError> {
        want.check()?;
        if want.lease == LeaseTerm::Session && self.0.caller.shared {
            want.lease = LeaseTerm::Timed(0);
        }
        self.0.node.writable().await?;
        self.attach().await?;
        let ask = |core: &mut Core, now| {
            // A command that opens the node itself would never see the others' answers otherwise.
            let settles_in = Duration::from_millis(core.scheduler.settles_in(now));
            let wait = wait.max(settles_in);
            (self.ask(core, now, want, wait), wait)
        };
        let ((asked, wait), ticket) = self.0.node.apply(ask).await?;
        match asked {
            Asked::Given { claimed, payload } => {
                self.given(Gift { claimed, ticket, payload }).await
            }
            Asked::Nothing(nothing) => {
                self.0.node.kept(ticket).await?;
                Ok(Next::Nothing(nothing))
            }
            Asked::InLine(line) => self.wait(line, wait, cancelled).await,
        }
    }

    /// Claims a task, or stands in line for one.
    fn ask(&self, core: &mut Core, now: Now, want: Want, wait: Duration) -> Asked {
        let caller = self.0.caller.clone();
        match core.scheduler.claim(now, &caller, &want) {
            Ok(claimed) => Asked::Given {
                payload: core.texts.payload(claimed.task.key),
                claimed: Box::new(claimed),
            },
            Err(nothing) if wait.is_zero() => Asked::Nothing(nothing),
            Err(nothing) => {
                let (give, gift) = oneshot::channel();
                let number = core.next_waiter;
                core.next_waiter += 1;
                core.waiters.push_back(Waiter { number, caller, want, give });
                Asked::InLine(InLine { number, gift, nothing })
            }
        }
    }

    async fn wait(
        &self,
        mut line: InLine,
        wait: Duration,
        cancelled: impl Future<Output = ()> + Send,
    ) -> Result<Next, CallError> {
        let was_cancelled = tokio::select! {
            gift = &mut line.gift => match gift {
                Ok(gift) => return self.given(gift).await,
                Err(_) => return Err(CallError::Stopping),
            },
            () = tokio::time::sleep(wait) => false,
            () = cancelled => true,
        };
        let leave = |core: &mut Core, _| core.waiters.retain(|other| other.number != line.number);
        self.0.node.apply(leave).await?;
        // It may have come while the line was left.
        match line.gift.try_recv() {
            Ok(gift) if was_cancelled => {
                self.give_back(&gift.claimed).await?;
                Ok(Next::Nothing(line.nothing))
            }
            Ok(gift) => self.given(gift).await,
            Err(_) => Ok(Next::Nothing(line.nothing)),
        }
    }

    /// Hands back a task that the worker will not learn of.
    async fn give_back(&self, claimed: &Claimed) -> Result<(), CallError> {
        self.mark(&claimed.task.task_id, Mark::Released, Some(claimed.fence)).await.map(drop)
    }

    /// Waits until a task is given for good, and adds the texts that its worker needs.
    async fn given(&self, gift: Gift) -> Result<Next, CallError> {
        self.0.node.kept(gift.ticket).await?;
        let mut given = Given {
            claimed: *gift.claimed,
            payload: gift.payload.as_deref().map(str::to_owned),
            dependency_results: Vec::new(),
            omitted_results: Vec::new(),
        };
        match self.add_texts(&mut given).await {
            Ok(()) => Ok(Next::Given(Box::new(given))),
            Err(error) => {
                self.give_back(&given.claimed).await?;
                Err(error)
            }
        }
    }

    async fn add_texts(&self, given: &mut Given) -> Result<(), CallError> {
        let task = &given.claimed.task;
        let key = task.key;
        if task.has_payload && given.payload.is_none() {
            given.payload = self.0.node.read(move |reader| reader.payload(key)).await?;
        }
        match task.depends_on.is_empty() {
            true => Ok(()),
            false => self.add_dependency_results(key, given).await,
        }
    }

    async fn add_dependency_results(&self, key: u64, given: &mut Given) -> Result<(), CallError> {
        let with_result = |core: &mut Core, _| {
            let results = core.scheduler.dependency_results(key).into_iter();
            let texts = &core.texts;
            results.map(|(id, key)| (id, (key, texts.result(key)))).collect::<BTreeMap<_, _>>()
        };
        let (with_result, ticket) = self.0.node.apply(with_result).await?;
        self.0.node.kept(ticket).await?;
        let mut room = MAX_DEPENDENCY_RESULTS;
        for id in &given.claimed.task.depends_on {
            let result = match with_result.get(id) {
                None => None,
                Some((_, Some(text))) => Some(text.to_string()),
                Some((key, None)) => {
                    let key = *key;
                    self.0.node.read(move |reader| reader.result(key)).await?
                }
            };
            let size = result.as_ref().map_or(0, String::len);
            if size > room {
                given.omitted_results.push(id.clone());
            } else {
                room -= size;
                given.dependency_results.push((id.clone(), result));
            }
        }
        Ok(())
    }

    /// Reports on a task, or cancels it.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn mark(
        &self,
        task_id: &str,
        mark: Mark,
        fence: Option<u64>,
    ) -> Result<Marked, CallError> {
        self.0.node.writable().await?;
        self.attach().await?;
        let caller = &self.0.caller;
        let mark =
            self.0.node.call(|scheduler, now| scheduler.mark(now, caller, task_id, mark, fence));
        Ok(mark.await??)
    }

    /// Counts, and the clock's root.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn status(&self) -> Result<Status, CallError> {
        self.0.node.call(|scheduler, now| scheduler.status(now)).await
    }

    /// Why a task goes to whom it goes.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn why(&self, task_id: &str) -> Result<Why, CallError> {
        Ok(self.0.node.call(|scheduler, now| scheduler.why(now, task_id)).await??)
    }

    /// Syncs since the node started, one for each group of calls.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.0.node.commits()
    }

    /// Counts, and one page of tasks.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn list(&self, filter: Filter) -> Result<(Status, Page), CallError> {
        let list = self.0.node.call(|scheduler, now| {
            Ok::<_, CallError>((scheduler.status(now), scheduler.list(now, &filter)?))
        });
        list.await?
    }

    /// Counts, and one task with its texts.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn show(&self, task_id: &str) -> Result<(Status, Shown), CallError> {
        let show = self.0.node.call(|scheduler, now| {
            Ok::<_, CallError>((scheduler.status(now), scheduler.show(now, task_id)?))
        });
        let (status, task) = show.await??;
        let (key, has_payload, has_result) = (task.key, task.has_payload, task.has_result);
        let any_lost = status.duplicates + status.conflicts > 0;
        let shown = self.0.node.read(move |reader| {
            let payload = if has_payload { reader.payload(key)? } else { None };
            let result = if has_result { reader.result(key)? } else { None };
            let (duplicates, conflicts) = match any_lost {
                true => (reader.duplicates(&task.task_id)?, reader.conflicts(&task.task_id)?),
                false => (Vec::new(), Vec::new()),
            };
            Ok(Shown { task, payload, result, duplicates, conflicts })
        });
        Ok((status, shown.await?))
    }

    /// What happened to a task, as this peer saw it, the oldest first.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn history(&self, task_id: &str) -> Result<Vec<Event>, CallError> {
        let show = self.0.node.call(|scheduler, now| scheduler.show(now, task_id).map(|it| it.key));
        let key = show.await??;
        let events = self.0.node.read(move |reader| reader.history(key)).await?;
        // It may have been stripped in between.
        let task_id = || task_id.to_owned();
        events.ok_or_else(|| Rejection::TaskNotFound { task_id: task_id() }.into())
    }

    /// What somebody who watches is shown, and beside each task since when it is held.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn overview(&self, look: Look) -> Result<(Overview, Vec<Option<u64>>), CallError> {
        let overview = self.0.node.call(|scheduler, now| scheduler.overview(now, &look)).await?;
        let held = |(place, task): (usize, &TaskView)| {
            (task.state == State::Assigned).then_some((place, task.key))
        };
        let (places, keys): (Vec<usize>, Vec<u64>) =
            overview.tasks.iter().enumerate().filter_map(held).unzip();
        let mut since = vec![None; overview.tasks.len()];
        if !keys.is_empty() {
            let taken = self.0.node.read(move |reader| reader.taken_at(&keys)).await?;
            places.into_iter().zip(taken).for_each(|(place, at)| since[place] = at);
        }
        Ok((overview, since))
    }

    /// A workflow's counts, in the order of [`State::ALL`], and its
    /// first tasks; `None` if it has no task.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn workflow(
        &self,
        workflow_id: &str,
        limit: usize,
    ) -> Result<Option<([u64; 6], Page)>, CallError> {
        let workflow_id = workflow_id.to_owned();
        let show = self.0.node.call(|scheduler, now| {
            let Some(counts) = scheduler.workflow_counts(&workflow_id) else { return Ok(None) };
            let workflow_id = Some(workflow_id);
            let page = scheduler.list(now, &Filter { workflow_id, limit, ..Filter::default() })?;
            Ok(Some((counts, page)))
        });
        show.await?
    }

    /// The workflows that came last, the newest first.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn newest_workflows(&self) -> Result<Vec<Arc<str>>, CallError> {
        self.0.node.call(|scheduler, _| scheduler.newest_workflows()).await
    }

    /// The known ids that begin like that.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn offer(&self, ids: Ids, prefix: &str) -> Result<Offer, CallError> {
        self.0.node.call(|scheduler, _| scheduler.offer(ids, prefix)).await
    }

    /// Counts, and the members but this peer.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn members(&self) -> Result<(Status, Vec<MemberView>), CallError> {
        self.0.node.call(|scheduler, now| (scheduler.status(now), scheduler.members(now))).await
    }

    /// Why nothing can be given now to those who wait.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn nothing_ready(&self) -> Result<NothingReady, CallError> {
        self.0.node.call(|scheduler, now| scheduler.nothing_ready(now)).await
    }

    /// A watch of what is shown, with no topic yet.
    #[must_use]
    pub fn watch(&self) -> Watch {
        self.0.node.watch()
    }

    /// Takes in a clock that a peer reported.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn update_peer(
        &self,
        peer_id: &str,
        clock: ReportedClock,
    ) -> Result<PeerUpdated, CallError> {
        self.0.node.writable().await?;
        let update = self.0.node.call(|scheduler, now| {
            let ReportedClock { node_id, vector, merkle_root } = &clock;
            scheduler.update_peer(now, peer_id, node_id, vector, merkle_root)
        });
        Ok(update.await??)
    }

    /// This peer's clock.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn clock(&self) -> Result<ClockView, CallError> {
        let clock = self.0.node.call(|scheduler, _| {
            let clock = scheduler.clock();
            ClockView {
                node_id: clock.node_id().to_owned(),
                vector: clock.vector().clone(),
                merkle_root: clock.merkle_root(),
            }
        });
        clock.await
    }

    /// Puts a failed task back into the queue with all its attempts.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn requeue(&self, task_id: &str) -> Result<Marked, CallError> {
        self.0.node.writable().await?;
        Ok(self.0.node.call(|scheduler, now| scheduler.requeue(now, task_id)).await??)
    }

    /// Changes the priority in force of a task.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn reprioritize(&self, task_id: &str, priority: u8) -> Result<Marked, CallError> {
        self.0.node.writable().await?;
        let call =
            self.0.node.call(|scheduler, now| scheduler.reprioritize(now, task_id, priority));
        Ok(call.await??)
    }
}

/// What came of asking for a task.
enum Asked {
    Given { claimed: Box<Claimed>, payload: Option<Arc<str>> },
    Nothing(NothingReady),
    InLine(InLine),
}

/// A place in the line of those who wait.
struct InLine {
    number: u64,
    gift: oneshot::Receiver<Gift>,
    /// Why there was nothing when it was taken.
    nothing: NothingReady,
}

/// A new worker's id.
///
/// # Panics
/// Without the operating system's randomness: nothing here works then, the key least.
#[must_use]
pub fn random_worker() -> String {
    let random = getrandom::u64().expect("the operating system has randomness");
    format!("worker-{random:016x}")
}
