//! The guard: a process of its own that ends the worker's commands when the worker was killed.
//!
//! It reads from a pipe which process groups there are, `+` and a number when one was started, `-`
//! when it is over. The pipe ends with the worker, however that ends; what is left then is killed
//! at once, since its tasks are on their way to others. A command is told its task only after the
//! guard was told of it.

use std::collections::HashSet;
use std::io::{self, BufRead};
use std::process::Stdio;

use p2p_workflow_scheduler::node::process::{self, Group, Requests};
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::Mutex;

use super::super::Failure;

/// The worker's end of the pipe.
#[derive(Debug)]
pub(super) struct Guard {
    process: Mutex<Child>,
    /// `None` once it is closed.
    pipe: Mutex<Option<ChildStdin>>,
}

impl Guard {
    /// Starts the guard, out of the reach of the terminal's signals.
    pub(super) fn start() -> io::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["p2p-workflow", "guard"]).stdin(Stdio::piped()).stdout(Stdio::null());
        let (mut process, _group) = process::start(&mut command)?;
        let pipe = Mutex::new(process.stdin.take());
        Ok(Guard { process: Mutex::new(process), pipe })
    }

    /// A group was started.
    pub(super) async fn add(&self, group: Group) {
        self.tell('+', group).await;
    }

    /// A group is over.
    pub(super) async fn remove(&self, group: Group) {
        self.tell('-', group).await;
    }

    async fn tell(&self, sign: char, group: Group) {
        let mut pipe = self.pipe.lock().await;
        let Some(open) = &mut *pipe else { return };
        if let Err(error) = open.write_all(format!("{sign}{}\n", group.id()).as_bytes()).await {
            tracing::warn!(
                "the guard is gone ({error}): commands would outlive this process if it was killed"
            );
            *pipe = None;
        }
    }

    /// Ends it. Nothing runs any more.
    pub(super) async fn close(&self) {
        self.pipe.lock().await.take();
        if let Err(error) = self.process.lock().await.wait().await {
            tracing::debug!("the guard: {error}");
        }
    }
}

/// The guard's own life: until its worker's end.
pub(crate) fn guard() -> Result<String, Failure> {
    // Signals that are meant for the worker, as when a service is stopped, must not end it first.
    let _watched = Requests::watch();
    for group in left(io::stdin().lock()) {
        tracing::warn!("the worker is gone; ending its process group {}", group.id());
        group.kill();
    }
    Ok(String::new())
}

/// The groups that are left at the pipe's end.
fn left(pipe: impl BufRead) -> HashSet<Group> {
    let mut groups = HashSet::new();
    for line in pipe.lines().map_while(Result::ok) {
        let (sign, id) = line.split_at_checked(1).unwrap_or_default();
        let group = id.parse().ok().and_then(Group::from_id);
        match (sign, group) {
            ("+", Some(group)) => groups.insert(group),
            ("-", Some(group)) => groups.remove(&group),
            _ => false,
        };
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_started_and_is_not_over_is_left() {
        let ids = |text: &str| {
            let mut ids: Vec<i32> = left(text.as_bytes()).into_iter().map(Group::id).collect();
            ids.sort_unstable();
            ids
        };
        assert_eq!(ids("+200\n+300\n-200\n+400\n"), [300, 400]);
        assert_eq!(ids("+200\n-200\n"), [0; 0]);
    }

    #[test]
    fn what_is_no_command_s_group_is_never_ended() {
        assert_eq!(left(&b"+0\n+1\n+-1\n+\n\nnonsense\n+99999999999\n"[..]).len(), 0);
    }
}
