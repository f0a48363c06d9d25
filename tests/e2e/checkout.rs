//! Checkouts with workflow files, made by each test in its home's folder.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::harness::Home;

/// Makes a repository in the home's folder, with these workflow files committed.
pub(crate) fn repository(home: &Home, name: &str, files: &[(&str, &str)]) {
    let folder = home.path().join(name);
    fs::create_dir_all(&folder).expect("a folder");
    git(&folder, &["init", "-q", "-b", "main"]);
    git(&folder, &["remote", "add", "origin", "git@example.org:owner/app.git"]);
    commit(home, name, files);
}

/// Commits workflow files.
pub(crate) fn commit(home: &Home, name: &str, files: &[(&str, &str)]) {
    let folder = home.path().join(name);
    for (file, text) in files {
        write(home, name, file, text);
    }
    git(&folder, &["add", "-A"]);
    git(&folder, &["commit", "-q", "--allow-empty", "-m", "Work"]);
}

pub(crate) fn write(home: &Home, name: &str, file: &str, text: &str) {
    let workflows = home.path().join(name).join(".github/workflows");
    fs::create_dir_all(&workflows).expect("a folder");
    fs::write(workflows.join(file), text).expect("a file");
}

/// Runs git without the tester's configuration. The date is always the same, and so are commits.
pub(crate) fn git(folder: &Path, arguments: &[&str]) {
    let mut command = Command::new("git");
    command.current_dir(folder).args(arguments).stdin(Stdio::null());
    command.env_remove("GIT_DIR").env("GIT_CONFIG_GLOBAL", "/dev/null").env("HOME", folder);
    for who in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{who}_NAME"), "Test").env(format!("GIT_{who}_EMAIL"), "t@t");
        command.env(format!("GIT_{who}_DATE"), "2026-01-02T03:04:05Z");
    }
    let output = command.output().expect("git is there");
    assert!(output.status.success(), "git {arguments:?}: {output:?}");
}
