//! `--run-jobs`: the jobs of workflow files, each run by a process of this program's own.
//!
//! To the worker such a process is a command like any other: it gets the task on stdin, and its
//! stdout, stderr and exit code say what came of it. So a job's lease, its end by a signal and the
//! guard are those of every command.

use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use clap::{Args, ValueHint};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::slot::{NO_USE, NOT_HERE};
use crate::cli::Failure;
use crate::jobs::tree::{self, Tree};
use crate::jobs::{self, Refusal, Repository, Settings, Verdict};

/// Digits of the first commit's hash with which the ids of a repository's workflows begin.
const ROOT_DIGITS: usize = 12;
/// How long logs are kept: as long as the tasks that ended.
const KEEP_LOGS: Duration = Duration::from_secs(7 * 24 * 3600);
/// How long a step may take to end that was asked to: less than the worker gives the job.
const GRACE: Duration = Duration::from_secs(4);
const LOCK: &str = "lock";
/// The exit code of a job that failed.
const FAILED: u8 = 1;

#[derive(Debug, Args)]
#[command(next_help_heading = "Jobs of workflow files")]
pub(super) struct JobFlags {
    /// Run the discovered jobs of these checkouts, step by step, instead of a command
    #[arg(long, value_name = "REPO", num_args = 1.., value_hint = ValueHint::DirPath)]
    #[arg(conflicts_with = "command")]
    pub(super) run_jobs: Vec<PathBuf>,

    #[command(flatten)]
    shared: SharedFlags,
}

/// What the worker hands on to the process of each job.
#[derive(Debug, Args)]
struct SharedFlags {
    /// Where the jobs' logs go [default: logs in the data directory]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    logs: Option<PathBuf>,

    /// Let jobs have this variable of the worker's environment as a secret, masked in logs and results
    #[arg(long, value_name = "NAME")]
    secret: Vec<String>,

    /// Let the steps have this variable of the worker's environment
    #[arg(long, value_name = "NAME")]
    env: Vec<String>,
}

/// Where working trees go as long as a worker runs. Those of one that was killed go with the next.
#[derive(Debug)]
pub(super) struct Workplace {
    folder: Tree,
    /// Says that the worker is alive.
    _lock: File,
}

impl JobFlags {
    /// The checkouts, each once.
    pub(super) fn repositories(&self) -> Result<Vec<Repository>, Failure> {
        open_all(&self.run_jobs).map_err(Failure::Usage)
    }

    /// Checks that the environment has what it is asked for.
    pub(super) fn check(&self) -> Result<(), Failure> {
        if self.run_jobs.is_empty() {
            let Some(name) = self.shared.secret.first().or(self.shared.env.first()) else {
                return Ok(());
            };
            return Err(Failure::Usage(format!("{name} is for the jobs of --run-jobs")));
        }
        variables(&self.shared.secret).map(|_| ())?;
        variables(&self.shared.env).map(|_| ())
    }

    /// The command line of the process that runs one job.
    pub(super) fn arguments(
        &self,
        repositories: &[Repository],
        data: &Path,
        workplace: &Workplace,
    ) -> Vec<OsString> {
        let logs = self.shared.logs.clone().unwrap_or_else(|| data.join("logs"));
        let mut arguments: Vec<OsString> = vec!["p2p-workflow".into(), "run-job".into()];
        let mut flag = |name: &str, value: OsString| arguments.extend([name.into(), value]);
        for repository in repositories {
            flag("--repository", repository.folder.clone().into());
        }
        flag("--logs", logs.into());
        flag("--work", workplace.folder.path().into());
        self.shared.secret.iter().for_each(|name| flag("--secret", name.into()));
        self.shared.env.iter().for_each(|name| flag("--env", name.into()));
        arguments
    }
}

/// How the ids of a repository's workflows begin.
pub(super) fn prefix(repository: &Repository) -> String {
    format!("{}/", &repository.root[..ROOT_DIGITS.min(repository.root.len())])
}

impl Workplace {
    /// Makes one in the data folder, and removes what killed workers left there, and old logs.
    pub(super) fn open(data: &Path) -> io::Result<Self> {
        let jobs = data.join("jobs");
        fs::create_dir_all(&jobs)?;
        for entry in fs::read_dir(&jobs)?.flatten() {
            remove_if_left(&entry.path());
        }
        remove_old_logs(&data.join("logs"));
        let folder = Tree::new_in(&jobs, "worker-")?;
        // Locked before it has its name: another worker that begins would take it for left.
        let unnamed = folder.path().join("lock.new");
        let lock = File::create(&unnamed)?;
        lock.lock()?;
        fs::rename(unnamed, folder.path().join(LOCK))?;
        Ok(Workplace { folder, _lock: lock })
    }
}

fn remove_if_left(folder: &Path) {
    let Ok(lock) = File::open(folder.join(LOCK)) else { return };
    if matches!(lock.try_lock(), Err(TryLockError::WouldBlock)) {
        return;
    }
    if let Err(error) = tree::remove(folder) {
        tracing::warn!("{} is left of a worker that was killed: {error}", folder.display());
    }
}

fn remove_old_logs(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let is_old = |path: &Path| {
        let changed = fs::metadata(path).and_then(|about| about.modified());
        let age = changed.ok().and_then(|at| SystemTime::now().duration_since(at).ok());
        age.is_some_and(|age| age > KEEP_LOGS)
    };
    let logs = entries.flatten().map(|entry| entry.path());
    for log in logs.filter(|path| path.extension().is_some_and(|it| it == "log") && is_old(path)) {
        if let Err(error) = fs::remove_file(&log) {
            tracing::warn!("{}: {error}", log.display());
        }
    }
}

/// The process that runs one job.
#[derive(Debug, Args)]
pub(crate) struct RunJob {
    #[arg(long, required = true)]
    repository: Vec<PathBuf>,
    #[arg(long)]
    work: PathBuf,
    #[command(flatten)]
    shared: SharedFlags,
}

impl RunJob {
    /// Returns the result. The exit code tells the worker what came of it.
    pub(crate) async fn run(self) -> Result<String, Failure> {
        let failed = |error: io::Error| Failure::Failed(error.to_string());
        let mut requests =
            p2p_workflow_scheduler::node::process::Requests::watch().map_err(failed)?;
        let settings = Settings {
            // The worker had them: one that is gone since costs the task no attempt.
            repositories: open_all(&self.repository)
                .map_err(|why| Failure::Job { code: NOT_HERE, why })?,
            logs: self.shared.logs.unwrap_or_else(|| self.work.clone()),
            work: self.work,
            secrets: variables(&self.shared.secret)?,
            let_through: self.shared.env,
            fence: std::env::var("P2P_FENCE").unwrap_or_default(),
        };
        let mut task = String::new();
        io::stdin().lock().read_to_string(&mut task).map_err(failed)?;
        let stop = CancellationToken::new();
        let mut job = Box::pin(jobs::run(&settings, &task, &stop));
        let verdict = tokio::select! {
            verdict = &mut job => verdict,
            _ = requests.next() => {
                // Its step was asked to end as well, being of the same group, and may tidy up. Dropped,
                // the job ends what is left of it, and its working tree goes.
                stop.cancel();
                let _ended = timeout(GRACE, job).await;
                // Where it was the worker, it does not look at this.
                let why = "it was asked to end, maybe by its own step, as `kill 0` does";
                return Err(Failure::Job { code: FAILED, why: why.into() });
            }
        };
        match verdict {
            Ok(Verdict { result, error: None }) => Ok(format!("{result}\n")),
            Ok(Verdict { error: Some(why), .. }) => Err(Failure::Job { code: FAILED, why }),
            Err(Refusal::NotHere(why)) => Err(Failure::Job { code: NOT_HERE, why }),
            Err(Refusal::Never(why)) => Err(Failure::Job { code: NO_USE, why }),
        }
    }
}

fn open_all(folders: &[PathBuf]) -> Result<Vec<Repository>, String> {
    let mut repositories: Vec<Repository> = Vec::new();
    for folder in folders {
        let repository =
            Repository::open(folder).map_err(|why| format!("{}: {why}", folder.display()))?;
        match repositories.iter().find(|known| known.root == repository.root) {
            Some(known) if known.folder != repository.folder => {
                return Err(format!(
                    "{} and {} are checkouts of one repository: name one of them",
                    known.folder.display(),
                    repository.folder.display()
                ));
            }
            Some(_) => {}
            None => repositories.push(repository),
        }
    }
    Ok(repositories)
}

/// Variables of this process's environment, with their values.
fn variables(names: &[String]) -> Result<Vec<(String, String)>, Failure> {
    let read = |name: &String| match std::env::var(name) {
        Ok(value) => Ok((name.clone(), value)),
        Err(error) => Err(Failure::Usage(format!("{name}: {error}"))),
    };
    names.iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_older_than_a_week_go_when_a_worker_starts_and_nothing_else_does() {
        let data = tempfile::tempdir().unwrap();
        let logs = data.path().join("logs");
        fs::create_dir(&logs).unwrap();
        let old = SystemTime::now() - KEEP_LOGS - Duration::from_secs(60);
        for (name, is_old) in [("old.log", true), ("new.log", false), ("old.txt", true)] {
            let file = File::create(logs.join(name)).unwrap();
            if is_old {
                file.set_modified(old).unwrap();
            }
        }
        Workplace::open(data.path()).unwrap();
        let is_there = |name: &str| logs.join(name).exists();
        assert!(!is_there("old.log") && is_there("new.log") && is_there("old.txt"));
    }

    /// Of two workers that began at once, one took the other's folder for left, and removed it: none
    /// of its jobs could begin.
    #[test]
    fn workers_that_begin_at_once_leave_each_other_s_folders_alone() {
        let data = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        let place = Workplace::open(data.path()).unwrap();
                        assert!(place.folder.path().join(LOCK).exists());
                    }
                });
            }
        });
        assert_eq!(fs::read_dir(data.path().join("jobs")).unwrap().count(), 0);
    }
}
