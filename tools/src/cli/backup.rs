//! `backup`: all tasks in one file, while the node runs.

use std::path::PathBuf;

use clap::{Args, ValueHint};

use super::Failure;
use super::p2p_workflow::Format;
use super::render::Card;
use crate::client::{Arguments, Client};

const METHOD: &str = "ipfs-accelerate/backup";

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ipfs-accelerate backup tasks-monday.sqlite3

To put a backup back: stop the node, remove tasks.sqlite3-wal and tasks.sqlite3-shm from the data
directory, copy the backup over tasks.sqlite3, and start the node once with --restored. The file
belongs to the identity.key beside it: keep a copy of that too.")]
pub(super) struct Backup {
    /// A file that is not there yet; only its owner may read it
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    file: PathBuf,

    #[command(flatten)]
    format: Format,
}

impl Backup {
    pub(super) async fn run(self, client: &mut Client) -> Result<String, Failure> {
        // The node may have another working directory.
        let file = std::path::absolute(&self.file)
            .map_err(|error| Failure::Usage(format!("{}: {error}", self.file.display())))?;
        let Some(file) = file.to_str() else {
            return Err(Failure::Usage(format!("{} is no UTF-8 text", file.display())));
        };
        let arguments = Arguments::new().with("file", file);
        let answer = client.request(METHOD, arguments).await?;
        self.format.print(&answer, |answer| {
            Card::new("Backed up").fields(answer, &["file", "bytes"]).into_text()
        })
    }
}
