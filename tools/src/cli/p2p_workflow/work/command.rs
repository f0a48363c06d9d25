//! One run of the command: a process group of its own, from its start until nothing of it is left.

use std::ffi::OsString;
use std::future;
use std::io;
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use p2p_workflow_scheduler::node::process::{self, Group};
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, ChildStdin, Command};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::guard::{self, Guard};
use super::orders::{Order, Orders};
use super::output::{Head, Tail};
use super::slot::Taken;

/// How long a command that was asked to end may take before it is killed: to remove its temporary
/// files, and little more, since its task may be run by another meanwhile.
const GRACE: Duration = Duration::from_secs(5);
/// How long what a command left running may hold its stdout and stderr open: what still writes
/// to them is mostly about to end, as a shell's `>(tee log)`.
const LINGER: Duration = Duration::from_secs(2);

/// What is run for each task.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) path: OsString,
    pub(super) arguments: Vec<OsString>,
    pub(super) timeout: Option<Duration>,
}

/// What came of one run.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) end: End,
    pub(super) stdout: Head,
    pub(super) stderr: Tail,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// By itself.
    Exited(ExitStatus),
    /// It was ended: it took too long.
    TimedOut,
    /// It was ended: it printed more than a result may have.
    TooMuchOutput,
    /// It was ended: a person said so.
    Ordered,
    /// It was ended: its lease is lost.
    LeaseLost,
}

/// What may end a run from outside.
#[derive(Clone, Copy)]
pub(super) struct Outside<'a> {
    pub(super) orders: &'a Orders,
    /// Cancelled when the task is no longer this worker's.
    pub(super) lease_lost: &'a CancellationToken,
}

impl Program {
    /// Runs the command for one task.
    ///
    /// # Errors
    /// It could not be started; nothing ran.
    pub(super) async fn run(
        &self,
        task: &Taken,
        guard: &Guard,
        outside: Outside<'_>,
    ) -> io::Result<Run> {
        let name = guard.begin().await;
        let run = match process::start(self.command(task).env(guard::VARIABLE, &name)) {
            Err(error) => Err(error),
            Ok((child, group)) => {
                guard.began(&name, group).await;
                let deadline = self.timeout.map(|timeout| Instant::now() + timeout);
                let running = Running { group, deadline, outside, stage: Stage::Free };
                running.run(child, task).await
            }
        };
        guard.end(&name).await;
        run
    }

    fn command(&self, task: &Taken) -> Command {
        let mut command = Command::new(&self.path);
        command
            .args(&self.arguments)
            .envs(task.environment())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }
}

struct Running<'a> {
    group: Group,
    deadline: Option<Instant>,
    outside: Outside<'a>,
    stage: Stage,
}

/// How far the end of a command has come.
#[derive(Clone, Copy, Debug)]
enum Stage {
    /// Nobody wants it to end.
    Free,
    /// It was asked to.
    Asked {
        why: End,
        kill_at: Instant,
    },
    Killed {
        why: End,
    },
}

impl Running<'_> {
    async fn run(mut self, mut child: Child, task: &Taken) -> io::Result<Run> {
        let (mut stdout, mut stderr) = (Head::default(), Tail::default());
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(stdin), Some(from_stdout), Some(from_stderr)) = pipes else {
            return Err(io::Error::other("a pipe is missing"));
        };
        let full = CancellationToken::new();
        let status = {
            let mut feed = pin!(feed(stdin, task));
            let mut read = pin!(async {
                tokio::join!(stdout.fill(from_stdout, &full), stderr.fill(from_stderr));
            });
            let (mut is_fed, mut is_read) = (false, false);
            let status = loop {
                tokio::select! {
                    status = child.wait() => break status?,
                    () = &mut read, if !is_read => is_read = true,
                    () = &mut feed, if !is_fed => is_fed = true,
                    stage = self.next_stage(&full) => self.enter(stage),
                }
            };
            // What it left running has no task any more; it may say its last words.
            is_read = is_read || timeout(LINGER, &mut read).await.is_ok();
            self.group.kill();
            if !is_read {
                // What left the group may hold the pipes open still.
                let _given_up = timeout(LINGER, read).await;
            }
            status
        };
        let end = match self.stage {
            Stage::Asked { why, .. } | Stage::Killed { why } => why,
            Stage::Free if full.is_cancelled() => End::TooMuchOutput,
            Stage::Free => End::Exited(status),
        };
        Ok(Run { end, stdout, stderr })
    }

    /// Waits until the command is to be ended, or has not ended for too long.
    async fn next_stage(&self, full: &CancellationToken) -> Stage {
        let Outside { orders, lease_lost } = self.outside;
        match self.stage {
            Stage::Free => {
                let why = tokio::select! {
                    () = at(self.deadline) => End::TimedOut,
                    () = full.cancelled() => End::TooMuchOutput,
                    () = lease_lost.cancelled() => End::LeaseLost,
                    () = orders.reached(Order::EndCommands) => End::Ordered,
                };
                Stage::Asked { why, kill_at: Instant::now() + GRACE }
            }
            Stage::Asked { why, kill_at } => {
                tokio::select! {
                    () = at(Some(kill_at)) => {}
                    () = orders.reached(Order::KillCommands) => {}
                }
                Stage::Killed { why }
            }
            Stage::Killed { .. } => future::pending().await,
        }
    }

    fn enter(&mut self, stage: Stage) {
        match stage {
            Stage::Free => {}
            Stage::Asked { .. } => self.group.terminate(),
            Stage::Killed { .. } => self.group.kill(),
        }
        self.stage = stage;
    }
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => future::pending().await,
    }
}

/// Writes the task, then closes the pipe. A command need not read it.
async fn feed(mut stdin: ChildStdin, task: &Taken) {
    let fed = async {
        stdin.write_all(task.json().as_bytes()).await?;
        stdin.write_all(b"\n").await
    };
    if let Err(error) = fed.await {
        tracing::debug!("task {:?} was not read to its end: {error}", task.id());
    }
}
