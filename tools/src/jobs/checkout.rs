//! A repository of this machine, and working trees of its commits.
//!
//! A task names a repository by its first commit, a commit, a file and the file's SHA-256. The file
//! is read from the local repository at that commit, and nothing is fetched. The commit must be
//! reachable from a branch or tag of the repository: what merely lies in its object store, as a
//! stranger's pull request that was once looked at, is not the operator's code.
//!
//! A job runs in a clone that shares the repository's objects (`git clone --shared`): it can commit,
//! tag and clean as it likes without touching the repository, and is removed as a folder.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use p2p_workflow_scheduler::scheduler::Hash256;

use super::Refusal;
use crate::workflows::{git, is_workflow};

/// A checkout whose jobs may be run here.
#[derive(Clone, Debug)]
pub(crate) struct Repository {
    /// Its top folder.
    pub(crate) folder: PathBuf,
    /// The hash of its first commit.
    pub(crate) root: String,
}

/// Where a task says that its job is written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Origin<'a> {
    pub(super) commit: &'a str,
    pub(super) path: &'a str,
    pub(super) sha256: &'a str,
}

impl Repository {
    /// The checkout that a folder lies in.
    ///
    /// # Errors
    /// It is none, or one without its first commit.
    pub(crate) fn open(folder: &Path) -> Result<Self, String> {
        let head = git::head(folder)?;
        let folder = PathBuf::from(head.top);
        let root = git::root(&folder, &head.commit)?;
        Ok(Repository { folder, root })
    }

    /// What people call it.
    pub(super) fn name(&self) -> String {
        git::remote(&self.folder).unwrap_or_else(|| git::folder_name(&self.folder))
    }

    /// The text of a workflow file, if it is the one that the task means.
    pub(super) fn workflow(&self, origin: Origin<'_>) -> Result<String, Refusal> {
        let never = |what: &str| Refusal::Never(what.to_owned());
        let Origin { commit, path, sha256, .. } = origin;
        if !(40..=64).contains(&commit.len()) || !commit.bytes().all(|c| c.is_ascii_hexdigit()) {
            return Err(never("its commit is not a hash"));
        }
        if !is_workflow(path) {
            return Err(never("its path is not that of a workflow file"));
        }
        self.check_reachable(commit)?;
        let object = format!("{commit}:{path}");
        let blob =
            git::run(&self.folder, &["cat-file", "blob", &object]).map_err(Refusal::NotHere)?;
        if !blob.is_success {
            return Err(Refusal::Never(format!("commit {commit} has no file {path}")));
        }
        let bytes = blob.stdout;
        if Hash256::of(&bytes).to_hex() != sha256 {
            return Err(never("the file at that commit is not the one that the task was made of"));
        }
        String::from_utf8(bytes).map_err(|_| never("the file is not UTF-8"))
    }

    fn check_reachable(&self, commit: &str) -> Result<(), Refusal> {
        let shown = self.folder.display();
        let ask = |arguments: &[&str]| {
            let output = git::run(&self.folder, arguments);
            output.map_err(|why| Refusal::NotHere(format!("{shown}: {why}")))
        };
        let object = format!("{commit}^{{commit}}");
        if !ask(&["cat-file", "-e", &object])?.is_success {
            return Err(Refusal::NotHere(format!(
                "{shown} has no commit {commit} yet: run `git fetch` there"
            )));
        }
        if ask(&["merge-base", "--is-ancestor", commit, "HEAD"])?.is_success {
            return Ok(());
        }
        let contains = format!("--contains={commit}");
        let named = ["refs/heads", "refs/remotes", "refs/tags"];
        let refs = ask(&["for-each-ref", "--count=1", &contains, named[0], named[1], named[2]])?;
        match refs.is_success && !refs.stdout.is_empty() {
            true => Ok(()),
            false => Err(Refusal::NotHere(format!(
                "commit {commit} is on no branch or tag of {shown}: nothing of it is run"
            ))),
        }
    }

    /// Makes a working tree of a commit in a folder that is not there yet.
    pub(super) async fn check_out(&self, commit: &str, into: &Path) -> Result<(), String> {
        let clone = |command: &mut tokio::process::Command| {
            // Whatever the user's own configuration says of clones.
            command.args(["-c", "protocol.file.allow=always", "clone", "--origin=origin"]);
            command.args(["--quiet", "--shared", "--no-checkout", "--template="]);
            command.arg(&self.folder).arg(into);
        };
        run(&self.folder, clone).await?;
        // Whoever pushes from there means another repository than this machine's.
        let url = git::run(&self.folder, &["config", "--get", "remote.origin.url"])?;
        let url = git::text_of(url).unwrap_or_default();
        let url = match url.trim() {
            "" => "this-checkout-has-no-origin",
            url => url,
        };
        run(into, |command| {
            command.args(["remote", "set-url", "origin", url]);
        })
        .await?;
        run(into, |command| {
            command.args(["-c", "advice.detachedHead=false", "checkout", "--quiet", "--detach"]);
            command.arg(commit);
        })
        .await
    }
}

async fn run(
    folder: &Path,
    arguments: impl FnOnce(&mut tokio::process::Command),
) -> Result<(), String> {
    let mut command = tokio::process::Command::from(git::git(folder));
    // Large files stay where they are: fetching them is the network's.
    command.env("GIT_LFS_SKIP_SMUDGE", "1").stdin(Stdio::null()).stderr(Stdio::piped());
    arguments(&mut command);
    let output = command.output().await.map_err(|error| format!("cannot run git: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
    }
}
