//! A user's folder, where clients' files are, and the files of this repository that speak of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{Home, Run};

/// Every client there is, as `--client` calls it.
pub(crate) const CLIENTS: [&str; 7] =
    ["claude-code", "cursor", "vscode", "claude-desktop", "codex", "windsurf", "zed"];
/// Where the documents say that the program is.
const INSTALLED: &str = "/home/me/.cargo/bin/ipfs-accelerate";

/// A user's folder, in which the command runs; the program is on the `PATH`.
pub(crate) struct User {
    pub(crate) home: Home,
}

impl User {
    pub(crate) fn new() -> Self {
        User { home: Home::new() }
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.home.command();
        command.env_remove("IPFS_ACCELERATE_HOME").env("HOME", self.home.path());
        command.env("PATH", built().parent().expect("its folder")).args(arguments);
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Run {
        Run::of(&self.command(arguments).output().expect("the binary starts"))
    }

    /// `mcp config` with these arguments, which must succeed: what it prints.
    pub(crate) fn config(&self, arguments: &[&str]) -> String {
        let run = self.run(&[&["mcp", "config"], arguments].concat());
        assert_eq!(run.code, 0, "{arguments:?}\n{run:?}");
        run.stdout
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.home.path().join(file)
    }

    pub(crate) fn put(&self, file: &str, text: impl AsRef<[u8]>) {
        let path = self.path(file);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, text).expect("written");
    }

    pub(crate) fn get(&self, file: &str) -> String {
        fs::read_to_string(self.path(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
    }

    /// The names in a folder, in order.
    pub(crate) fn list(&self, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(folder)).expect("a folder");
        let names = entries.map(|entry| entry.expect("an entry").file_name());
        let mut names: Vec<String> = names.map(|name| name.into_string().expect("UTF-8")).collect();
        names.sort();
        names
    }

    /// Home and program by the names that documents give them.
    pub(crate) fn as_documented(&self, text: &str) -> String {
        text.replace(&built().display().to_string(), INSTALLED)
            .replace(&self.home.path().display().to_string(), "~")
    }
}

pub(crate) fn built() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_ipfs-accelerate"))
}

pub(crate) fn repository(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository").join(file)
}
