//! How a run goes about it: the servers it starts, the rounds it measures in.

use std::io;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::client::Client;
use crate::cycles::calls;
use crate::floor;
use crate::http::HttpServer;
use crate::series::Series;

/// How a run goes about it.
pub(crate) struct Bench {
    /// The product's binary.
    pub(crate) server: PathBuf,
    /// Holds the stores and the files of the disk's floor, and goes away with the run.
    pub(crate) dir: TempDir,
    pub(crate) rounds: usize,
    pub(crate) round: Duration,
    /// How often each start is measured.
    pub(crate) starts: usize,
    /// Tasks in the large backlog.
    pub(crate) backlog: u64,
}

/// When a committed answer is given.
#[derive(Clone, Copy)]
pub(crate) enum Durability {
    /// On disk.
    Durable,
    /// Before it is on disk.
    Relaxed,
}

impl Bench {
    /// Starts the product on the store of that name, which is made where it does not exist.
    pub(crate) fn product(&self, store: &str, durability: Durability) -> io::Result<Client> {
        Client::start(&mut self.command(store, durability))
    }

    /// Starts the product behind HTTP.
    pub(crate) fn http_product(
        &self,
        store: &str,
        durability: Durability,
    ) -> io::Result<HttpServer> {
        HttpServer::start(self.command(store, durability).args([
            "--transport",
            "http",
            "--port",
            "0",
        ]))
    }

    /// Runs a command on the store of that name, and returns what it prints.
    pub(crate) fn run(&self, store: &str, arguments: &[&str]) -> io::Result<String> {
        let mut command = Command::new(&self.server);
        command.args(arguments).arg("--data-dir").arg(self.dir.path().join(store));
        let output = command.output()?;
        if !output.status.success() {
            let why = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(io::Error::other(format!("{arguments:?}: {why}")));
        }
        String::from_utf8(output.stdout).map_err(io::Error::other)
    }

    fn command(&self, store: &str, durability: Durability) -> Command {
        let mut command = Command::new(&self.server);
        command.args(["mcp", "start", "--data-dir"]);
        command.arg(self.dir.path().join(store));
        if let Durability::Relaxed = durability {
            command.args(["--durability", "relaxed"]);
        }
        command
    }

    /// Starts the trivial server.
    pub(crate) fn floor(&self) -> io::Result<Client> {
        Client::start(&mut floor::command()?)
    }

    /// One round of the trivial tool.
    pub(crate) fn floor_round(&self, floor: &mut Client, slots: usize) -> io::Result<Series> {
        calls(floor, slots, self.round, floor::TOOL, floor::ARGUMENTS)
    }
}
