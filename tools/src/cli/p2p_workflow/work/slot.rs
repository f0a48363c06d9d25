//! One slot: takes a task, runs the command for it, reports, and does so again.

use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::super::{Failure, complete, next};
use super::command::{End, Outside, Program, Run};
use super::guard::Guard;
use super::orders::{Order, Orders};
use super::output::too_much;
use super::report::{Outcome, Tally};
use super::scope::Scope;
use super::{drain, lease};
use crate::cli::duration::Seconds;
use crate::client::{Answer, Arguments, CallError, Client, Ticket};

/// How long one call waits for a task.
const WAIT: Seconds = Seconds(50);
/// How soon a worker that drains asks again while others run what may bring more; at most, as it
/// doubles. What its own slots run it hears of at once.
const DRAIN_INTERVALS: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(1)];
/// With which a command says that it cannot run the task here and now, but another machine, or this
/// one later, may: `EX_TEMPFAIL` of sysexits.h.
pub(super) const NOT_HERE: u8 = 75;
/// With which it says that trying again is of no use: `EX_DATAERR`.
pub(super) const NO_USE: u8 = 65;
/// How soon a node that refuses for the time being is asked again.
const PAUSE: Duration = Duration::from_secs(1);

/// What all slots of a worker have in common.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) program: Program,
    pub(super) capabilities: Vec<String>,
    pub(super) tags: Vec<String>,
    pub(super) workflow: Option<String>,
    pub(super) scope: Scope,
    pub(super) lease: Option<Seconds>,
    pub(super) once: bool,
    pub(super) drain: bool,
    pub(super) guard: Guard,
    pub(super) orders: Orders,
    pub(super) tally: Mutex<Tally>,
    /// Told when a task of this worker is settled: another may be ready now.
    pub(super) settled: Notify,
}

impl Worker {
    /// How the tasks that were taken ended.
    pub(super) fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits a while where the node refuses for the time being, which it says itself.
    async fn bear(&self, error: CallError) -> Result<(), Failure> {
        if !is_temporary(&error) {
            return Err(error.into());
        }
        tracing::warn!("{error}");
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            () = self.orders.reached(Order::Finish) => {}
        }
        Ok(())
    }

    /// # Errors
    /// Nothing is asked for until then.
    fn want(&self) -> Result<Arguments, Instant> {
        let prefixes: Vec<String> =
            self.scope.awake(Instant::now())?.into_iter().map(str::to_owned).collect();
        let wait = if self.drain { Seconds(0) } else { WAIT };
        Ok(Arguments::new()
            .with("wait_seconds", wait)
            .with_list("capabilities", &self.capabilities)
            .with_list("tags", &self.tags)
            .with("workflow_id", &self.workflow)
            .with_list("workflow_prefixes", &prefixes)
            .with("lease_seconds", self.lease))
    }
}

/// A task that this worker holds.
#[derive(Debug)]
pub(super) struct Taken {
    head: TaskHead,
    json: Box<RawValue>,
    fence: u64,
    /// How long its lease lasts without a word, where it is one on time.
    lease: Option<Duration>,
}

/// What a command has in its environment.
#[derive(Debug, Deserialize)]
struct TaskHead {
    task_id: String,
    workflow_id: String,
    name: String,
    attempt: u32,
}

#[derive(Deserialize)]
struct NextAnswer {
    task: Option<Box<RawValue>>,
    lease: Option<Lease>,
}

#[derive(Deserialize)]
struct Lease {
    fence: u64,
    expires_at: Option<u64>,
}

impl Taken {
    /// `None` where there was nothing to take.
    fn of(answer: &Answer, lease: Option<Seconds>) -> Result<Option<Self>, CallError> {
        let unexpected = |error: serde_json::Error| CallError::Protocol(error.to_string());
        let next: NextAnswer = serde_json::from_str(answer.json()).map_err(unexpected)?;
        let (Some(json), Some(given)) = (next.task, next.lease) else { return Ok(None) };
        let head = serde_json::from_str(json.get()).map_err(unexpected)?;
        let on_time = lease.filter(|_| given.expires_at.is_some());
        let lease = on_time.map(|lease| Duration::from_secs(lease.0));
        Ok(Some(Taken { head, json, fence: given.fence, lease }))
    }

    pub(super) fn id(&self) -> &str {
        &self.head.task_id
    }

    pub(super) fn attempt(&self) -> u32 {
        self.head.attempt
    }

    pub(super) fn fence(&self) -> u64 {
        self.fence
    }

    pub(super) fn lease(&self) -> Option<Duration> {
        self.lease
    }

    /// The task as the node gave it.
    pub(super) fn json(&self) -> &str {
        self.json.get()
    }

    pub(super) fn environment(&self) -> [(&'static str, String); 5] {
        let head = &self.head;
        [
            ("P2P_TASK_ID", head.task_id.clone()),
            ("P2P_WORKFLOW_ID", head.workflow_id.clone()),
            ("P2P_TASK_NAME", head.name.clone()),
            ("P2P_ATTEMPT", head.attempt.to_string()),
            ("P2P_FENCE", self.fence.to_string()),
        ]
    }

    fn report(&self, outcome: &str) -> Arguments {
        Arguments::new()
            .with("task_id", self.id())
            .with("outcome", outcome)
            .with("fence", self.fence)
    }
}

/// One worker of the node, with one command at a time.
pub(super) struct Slot {
    client: Client,
    worker: Arc<Worker>,
    /// The call for the next task that went out with the last report: both wait for one sync.
    ahead: Option<Ticket>,
}

impl Slot {
    pub(super) fn new(client: Client, worker: Arc<Worker>) -> Self {
        Slot { client, worker, ahead: None }
    }

    /// Works until an order or the end of the work says to stop.
    ///
    /// # Errors
    /// The node is gone for good or refuses what the worker wants, or the command cannot be run.
    pub(super) async fn work(mut self) -> Result<(), Failure> {
        while let Some(task) = self.take().await? {
            self.perform(&task).await?;
            if self.worker.once {
                break;
            }
        }
        Ok(())
    }

    /// The next task; `None` if there shall be none.
    async fn take(&mut self) -> Result<Option<Taken>, Failure> {
        let worker = self.worker.clone();
        let [mut pause, longest] = DRAIN_INTERVALS;
        while worker.orders.now() == Order::Work {
            let mut settled = pin!(worker.settled.notified());
            settled.as_mut().enable();
            let asked = tokio::select! {
                // An answer on its way when the order comes is lost with the connection, and what
                // it gives goes back.
                () = worker.orders.reached(Order::Finish) => return Ok(None),
                asked = self.ask() => asked,
            };
            match asked {
                Ok(Asked::Given(task)) => return Ok(Some(task)),
                Ok(Asked::NothingLeft) => return Ok(None),
                Ok(Asked::Nothing) if worker.drain => {
                    tokio::select! {
                        () = tokio::time::sleep(pause) => pause = longest.min(2 * pause),
                        () = settled => {}
                        () = worker.orders.reached(Order::Finish) => {}
                    }
                }
                Ok(Asked::Nothing) => {}
                Ok(Asked::Resting(until)) => {
                    tokio::select! {
                        () = tokio::time::sleep_until(until) => {}
                        () = worker.orders.reached(Order::Finish) => {}
                    }
                }
                Err(error) => worker.bear(error).await?,
            }
        }
        Ok(None)
    }

    async fn ask(&mut self) -> Result<Asked, CallError> {
        let ticket = match self.ahead.take() {
            Some(ticket) => ticket,
            None => match self.worker.want() {
                Ok(want) => self.client.start_call(next::TOOL, want).await?,
                Err(until) => return Ok(Asked::Resting(until)),
            },
        };
        let answer = self.client.answer(ticket).await?;
        match Taken::of(&answer, self.worker.lease)? {
            Some(task) => Ok(Asked::Given(task)),
            None if !self.worker.drain => Ok(Asked::Nothing),
            None => match drain::is_unfinished(&mut self.client, &self.worker).await? {
                true => Ok(Asked::Nothing),
                false => Ok(Asked::NothingLeft),
            },
        }
    }

    /// Runs the command for a task, keeps the task meanwhile, and reports.
    async fn perform(&mut self, task: &Taken) -> Result<(), Failure> {
        let began = Instant::now();
        let worker = self.worker.clone();
        let (over, lease_lost) = (CancellationToken::new(), CancellationToken::new());
        let outside = Outside { orders: &worker.orders, lease_lost: &lease_lost };
        let run = async {
            let run = worker.program.run(task, &worker.guard, outside).await;
            over.cancel();
            run
        };
        let keep = async {
            let kept = lease::keep(&mut self.client, task, &over).await;
            if !matches!(kept, Ok(None)) {
                lease_lost.cancel();
            }
            kept
        };
        let (run, kept) = tokio::join!(run, keep);
        let lost = kept?;
        let outcome = match (run, lost) {
            (Err(error), _) => {
                // Before the report, behind which the next task would come.
                worker.orders.give(Order::EndCommands);
                self.report(task, task.report("released")).await?;
                let path = worker.program.path.display();
                let text = format!("cannot run {path}: {error}");
                return Err(Failure::Usage(text));
            }
            (Ok(_), Some(why)) => Outcome::Lost { why },
            (Ok(run), None) => self.settle(task, run).await?,
        };
        worker.tally().add(task, began.elapsed(), &outcome);
        worker.settled.notify_waiters();
        Ok(())
    }

    /// Reports what came of a run.
    async fn settle(&mut self, task: &Taken, run: Run) -> Result<Outcome, Failure> {
        let timeout = self.worker.program.timeout.unwrap_or_default();
        let error = match run.end {
            End::Exited(status) if status.success() => match run.stdout.result() {
                Ok(result) => {
                    let report = task.report("completed").with("result", result);
                    return Ok(match self.report(task, report).await? {
                        Reported::Taken(_) => Outcome::Completed,
                        Reported::Refused(why) => Outcome::Lost { why },
                    });
                }
                Err(why) => run.stderr.error(Some(&why)),
            },
            End::Exited(status) if status.code() == Some(NOT_HERE.into()) => {
                let workflow = &task.head.workflow_id;
                self.worker.scope.turn_down(task.id(), workflow, Instant::now());
                let error = run.stderr.error(None);
                return Ok(match self.report(task, task.report("released")).await? {
                    Reported::Taken(_) => Outcome::NotHere { error },
                    Reported::Refused(why) => Outcome::Lost { why },
                });
            }
            End::Exited(status) if run.stderr.is_blank() => status.to_string(),
            End::Exited(_) => run.stderr.error(None),
            End::TimedOut => {
                let why = format!("it took longer than {} s and was ended", timeout.as_secs());
                run.stderr.error(Some(&why))
            }
            End::TooMuchOutput => run.stderr.error(Some(&too_much())),
            End::Ordered | End::LeaseLost => {
                return Ok(match self.report(task, task.report("released")).await? {
                    Reported::Taken(_) => Outcome::Released,
                    Reported::Refused(why) => Outcome::Lost { why },
                });
            }
        };
        let is_of_no_use =
            matches!(run.end, End::Exited(status) if status.code() == Some(NO_USE.into()));
        let report = task.report("failed").with("error", &error).with("retry", !is_of_no_use);
        Ok(match self.report(task, report).await? {
            Reported::Taken(answer) => {
                let is_final = answer.value()?["state"] == "failed";
                Outcome::Failed { error, is_final }
            }
            Reported::Refused(why) => Outcome::Lost { why },
        })
    }

    /// Calls until the node takes it or refuses for good, or a person wants an end of it.
    async fn report(&mut self, task: &Taken, report: Arguments) -> Result<Reported, Failure> {
        loop {
            match self.report_once(report.clone()).await {
                Ok(answer) => return Ok(Reported::Taken(answer)),
                Err(error) if is_temporary(&error) => {
                    if self.worker.orders.now() >= Order::EndCommands {
                        return Err(error.into());
                    }
                    tracing::warn!("the report on task {:?} has to wait: {error}", task.id());
                    tokio::select! {
                        () = tokio::time::sleep(PAUSE) => {}
                        () = self.worker.orders.reached(Order::EndCommands) => {}
                    }
                }
                Err(CallError::Rejected(why)) => return Ok(Reported::Refused(why)),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Sends a report, and behind it the call for the next task where there shall be one.
    async fn report_once(&mut self, report: Arguments) -> Result<Answer, CallError> {
        let reported = self.client.start_call(complete::TOOL, report).await?;
        let goes_on = !self.worker.once && self.worker.orders.now() == Order::Work;
        if goes_on
            && self.ahead.is_none()
            && let Ok(want) = self.worker.want()
        {
            self.ahead = Some(self.client.start_call(next::TOOL, want).await?);
        }
        self.client.answer(reported).await
    }
}

enum Asked {
    Given(Taken),
    Nothing,
    /// Nor will there be.
    NothingLeft,
    /// What this worker could take is left to others until then.
    Resting(Instant),
}

enum Reported {
    Taken(Answer),
    /// The task is no longer this worker's.
    Refused(String),
}

/// Whether the same call may be taken a little later: the store cannot be written just now, or the
/// node is overloaded or about to be followed by another.
fn is_temporary(error: &CallError) -> bool {
    match error {
        CallError::Failed(_) => true,
        CallError::Rejected(text) => text.ends_with("\ncode: overloaded"),
        CallError::Protocol(_) | CallError::Lost(_) => false,
    }
}
