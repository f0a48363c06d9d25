//! One step: a script in a file, handed to its shell, with what it prints in the log.
//!
//! Its environment is made anew: what a program needs to find its way about this machine, what the
//! operator lets through by name, the job's variables, the step's. The worker's own variables, and
//! what they may hold, do not reach it.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use p2p_workflow_scheduler::node::process::{self, Ending};
use tokio::process::Command;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout, timeout_at};

use super::job::Shell;
use super::log::Log;

/// What a step needs of the worker's environment to find programs, its home and its language.
const KEPT: [&str; 20] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LANGUAGE",
    "TZ",
    "TMPDIR", // Unix
    "SYSTEMROOT",
    "SYSTEMDRIVE",
    "WINDIR",
    "COMSPEC",
    "PATHEXT",
    "USERPROFILE",
    "APPDATA",
    "LOCALAPPDATA",
    "PROGRAMFILES",
    "TEMP",
    "TMP", // Windows
];
/// What the task is, and by which the guard finds what belongs to it.
const OF_TASK: &str = "P2P_";
/// Names the step in the environment of all that it starts, so that they can be ended.
const STEP: &str = "P2P_STEP";
/// How long a step that took too long may take to end.
const GRACE: Duration = Duration::from_secs(5);
/// How long what a step left running may hold up the next one by what it still prints.
const LINGER: Duration = Duration::from_secs(1);

/// A script, ready to be started.
#[derive(Debug)]
pub(super) struct Script<'a> {
    pub(super) shell: &'a Shell,
    pub(super) file: PathBuf,
    pub(super) folder: PathBuf,
    pub(super) environment: Vec<(String, String)>,
    pub(super) deadline: Instant,
}

/// How a script ended.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ended {
    Exited(ExitStatus),
    TimedOut,
}

impl Script<'_> {
    /// Runs it to its end, or until its deadline. `name` is that of no other step on this machine.
    ///
    /// # Errors
    /// Its shell cannot be started.
    pub(super) async fn run(self, name: &str, log: &Arc<Log>) -> Result<Ended, String> {
        let program = self.shell.words[0].clone();
        let failed = |error: io::Error| format!("cannot run {program}: {error}");
        let (reader, writer) = io::pipe().map_err(failed)?;
        let mut command = self.command(name);
        command.stdout(writer.try_clone().map_err(failed)?).stderr(writer);
        let mut child = command.spawn().map_err(failed)?;
        // The command holds the pipe's other end open.
        drop(command);
        let followed = follow(reader, log.clone()).map_err(failed)?;
        let ended = match timeout_at(self.deadline, child.wait()).await {
            Ok(status) => Ended::Exited(status.map_err(failed)?),
            Err(_) => {
                process::end_started_with(STEP, name, child.id(), Ending::Terminate);
                let _ends_or_not = timeout(GRACE, child.wait()).await;
                process::end_started_with(STEP, name, child.id(), Ending::Kill);
                child.wait().await.map_err(failed)?;
                Ended::TimedOut
            }
        };
        // What the step left running may go on to print, as a server that later steps use.
        let _still_printing = timeout(LINGER, followed).await;
        Ok(ended)
    }

    fn command(&self, name: &str) -> Command {
        let file = self.file.to_string_lossy();
        let words: Vec<String> =
            self.shell.words.iter().map(|word| word.replace("{0}", &file)).collect();
        let mut command = Command::new(&words[0]);
        command
            .args(&words[1..])
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .env(STEP, name)
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }
}

/// Copies what a step prints into the log. Tells when the last who could print is gone, which may be
/// never: so it is a thread of its own, for whose end this process does not wait.
fn follow(reader: io::PipeReader, log: Arc<Log>) -> io::Result<oneshot::Receiver<()>> {
    let (over, followed) = oneshot::channel();
    thread::Builder::new().name("log".into()).spawn(move || {
        log.follow(reader);
        // Nobody may listen any more.
        let _told = over.send(());
    })?;
    Ok(followed)
}

/// What of this process's environment reaches a step: what it needs, what is of the task, and what
/// the operator lets through.
pub(super) fn inherited(let_through: &[String]) -> Vec<(String, String)> {
    let is_kept = |name: &str| {
        name.starts_with(OF_TASK)
            || name.starts_with("LC_")
            || KEPT.iter().any(|kept| name.eq_ignore_ascii_case(kept))
            || let_through.iter().any(|kept| name == kept)
    };
    let texts = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    texts.filter(|(name, _)| is_kept(name)).collect()
}

/// The folder that a step works in: it must lie in the working tree.
///
/// # Errors
/// It does not, or is not there.
pub(super) fn folder(workspace: &Path, directory: &str) -> Result<PathBuf, String> {
    let failed = |error: io::Error| format!("working-directory {directory:?}: {error}");
    let workspace = workspace.canonicalize().map_err(failed)?;
    let folder = workspace.join(directory).canonicalize().map_err(failed)?;
    match folder.starts_with(&workspace) {
        true => Ok(folder),
        false => Err(format!("working-directory {directory:?} leads out of the working tree")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_works_within_the_working_tree_only() {
        let folder_ = tempfile::tempdir().unwrap();
        let workspace = folder_.path().join("workspace");
        std::fs::create_dir_all(workspace.join("sub")).unwrap();
        assert!(folder(&workspace, "sub").unwrap().ends_with("workspace/sub"));
        assert!(folder(&workspace, "./sub/..").is_ok());
        for outside in ["..", "/", "sub/../.."] {
            assert!(folder(&workspace, outside).unwrap_err().contains("out of"), "{outside}");
        }
        assert!(folder(&workspace, "none").is_err());
    }
}
