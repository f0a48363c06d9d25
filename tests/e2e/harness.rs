//! Runs `ipfs-accelerate` with a data directory of its own and nothing of the tester's environment.

use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// A data directory that lasts as long as this value.
pub(crate) struct Home {
    folder: TempDir,
}

/// What one run left behind.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) code: i32,
}

impl Home {
    pub(crate) fn new() -> Self {
        Home { folder: TempDir::new().expect("a temporary folder") }
    }

    /// The command, ready to be given arguments.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ipfs-accelerate"));
        command
            .env_clear()
            .env("IPFS_ACCELERATE_HOME", self.folder.path().join("data"))
            .current_dir(self.folder.path())
            .stdin(Stdio::null());
        command
    }

    /// Runs it to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Run {
        let output = self.command().args(arguments).output().expect("the binary starts");
        Run::of(&output)
    }

    pub(crate) fn path(&self) -> &std::path::Path {
        self.folder.path()
    }
}

impl Run {
    fn of(output: &Output) -> Self {
        Run {
            stdout: String::from_utf8(output.stdout.clone()).expect("UTF-8"),
            stderr: String::from_utf8(output.stderr.clone()).expect("UTF-8"),
            code: output.status.code().expect("it was not killed"),
        }
    }
}
