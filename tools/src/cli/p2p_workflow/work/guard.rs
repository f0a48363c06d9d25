//! The guard: a process of its own that ends the worker's commands when the worker was killed.
//!
//! It reads from a pipe which runs there are: `start RUN` before a command is started, `group RUN ID`
//! once its process group is known, `over RUN` when nothing of it is left. The pipe ends with the
//! worker, however that ends; what is left then is killed at once, since its tasks are on their way
//! to others.
//!
//! A worker that is killed between the first line and the second leaves a command whose group it told
//! nobody. Each command has the name of its run in its environment, and is found by that where the
//! operating system shows it.

use std::collections::HashMap;
use std::io::{self, BufRead};
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use p2p_workflow_scheduler::node::process::{self, Group, Requests};
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::Mutex;

use super::super::Failure;

/// What a command has the name of its run in.
pub(super) const VARIABLE: &str = "P2P_RUN";

/// How often, and how many times, a command is looked for that was being started when its worker was
/// killed: it shows its environment only once it has begun.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
const LOOKS: u32 = 20;

/// The worker's end of the pipe.
#[derive(Debug)]
pub(super) struct Guard {
    process: Mutex<Child>,
    /// `None` once it is closed.
    pipe: Mutex<Option<ChildStdin>>,
    runs: AtomicU64,
}

impl Guard {
    /// Starts the guard, out of the reach of the terminal's signals.
    pub(super) fn start() -> io::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["p2p-workflow", "guard"]).stdin(Stdio::piped()).stdout(Stdio::null());
        let (mut process, _group) = process::start(&mut command)?;
        let pipe = Mutex::new(process.stdin.take());
        Ok(Guard { process: Mutex::new(process), pipe, runs: AtomicU64::new(0) })
    }

    /// A command is about to be started. Returns the name of its run, which no other has on this
    /// machine as long as this worker runs.
    pub(super) async fn begin(&self) -> String {
        let number = self.runs.fetch_add(1, Ordering::Relaxed);
        let run = format!("{}-{number}", std::process::id());
        self.tell(&format!("start {run}\n")).await;
        run
    }

    /// It was started.
    pub(super) async fn began(&self, run: &str, group: Group) {
        self.tell(&format!("group {run} {}\n", group.id())).await;
    }

    /// Nothing of it is left.
    pub(super) async fn end(&self, run: &str) {
        self.tell(&format!("over {run}\n")).await;
    }

    async fn tell(&self, line: &str) {
        let mut pipe = self.pipe.lock().await;
        let Some(open) = &mut *pipe else { return };
        if let Err(error) = open.write_all(line.as_bytes()).await {
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
    for (run, group) in left(io::stdin().lock()) {
        let groups = group.map_or_else(|| find(&run), |group| vec![group]);
        for group in groups {
            tracing::warn!("the worker is gone; ending its process group {}", group.id());
            group.kill();
        }
    }
    Ok(String::new())
}

/// The runs that are left at the pipe's end, with their groups where they are known.
fn left(pipe: impl BufRead) -> HashMap<String, Option<Group>> {
    let mut runs = HashMap::new();
    for line in pipe.lines().map_while(Result::ok) {
        let words: Vec<&str> = line.split(' ').collect();
        match words.as_slice() {
            ["start", run] => {
                runs.insert((*run).to_owned(), None);
            }
            ["group", run, id] => {
                let group = id.parse().ok().and_then(Group::from_id);
                runs.insert((*run).to_owned(), group);
            }
            ["over", run] => {
                runs.remove(*run);
            }
            _ => {}
        }
    }
    runs
}

fn find(run: &str) -> Vec<Group> {
    for _ in 0..LOOKS {
        let groups = process::groups_started_with(VARIABLE, run);
        if !groups.is_empty() {
            return groups;
        }
        thread::sleep(LOOK_INTERVAL);
    }
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_started_and_is_not_over_is_left() {
        let left = |text: &str| {
            let runs = left(text.as_bytes()).into_iter();
            let mut runs: Vec<_> = runs.map(|(run, group)| (run, group.map(Group::id))).collect();
            runs.sort_unstable();
            runs
        };
        let text = "start 1-0\ngroup 1-0 200\nstart 1-1\nover 1-0\ngroup 1-1 300\nstart 1-2\n";
        assert_eq!(left(text), [("1-1".to_owned(), Some(300)), ("1-2".to_owned(), None)]);
        assert_eq!(left("start 1-0\nover 1-0\n"), []);
    }

    #[test]
    fn what_is_no_command_s_group_is_never_ended() {
        for id in ["0", "1", "-1", "", "nonsense", "99999999999"] {
            let runs = left(format!("start 1-0\ngroup 1-0 {id}\n").as_bytes());
            assert_eq!(runs.get("1-0"), Some(&None), "{id}");
        }
    }
}
