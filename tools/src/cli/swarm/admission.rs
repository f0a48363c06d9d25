//! `swarm trust` and `swarm block`: who is let in beside having the key.

use clap::Args;
use serde_json::Value;

use super::METHODS;
use crate::cli::Failure;
use crate::cli::p2p_workflow::Format;
use crate::cli::render::Card;
use crate::client::{Arguments, Client};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ipfs-accelerate swarm trust 12D3KooWCD6GPLKj8umF1ysMZTGzmEeRWnQH3MpH25VBxF1XqYvr
  ipfs-accelerate swarm trust --anyone

Until somebody is trusted, everybody with the key is let in; then only those who are. It takes effect
at once, and counts for this machine alone: each has lists of its own.")]
pub(crate) struct Trust {
    /// The machines to let in, by the peer ids that `swarm peers` shows
    #[arg(value_name = "PEER", required_unless_present = "anyone")]
    peers: Vec<String>,

    /// Let everybody in again who has the key
    #[arg(long, conflicts_with_all = ["peers", "remove"])]
    anyone: bool,

    /// Trust these machines no longer
    #[arg(long)]
    remove: bool,

    #[command(flatten)]
    format: Format,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ipfs-accelerate swarm block 12D3KooWCD6GPLKj8umF1ysMZTGzmEeRWnQH3MpH25VBxF1XqYvr
  ipfs-accelerate swarm block --remove 12D3KooWCD6GPLKj8umF1ysMZTGzmEeRWnQH3MpH25VBxF1XqYvr

A machine that is blocked is kept out also where it is trusted. It takes effect at once, and counts
for this machine alone. The key that a machine has can only be taken from it by a new swarm.")]
pub(crate) struct Block {
    /// The machines to keep out, by the peer ids that `swarm peers` shows
    #[arg(value_name = "PEER", required = true)]
    peers: Vec<String>,

    /// Let these machines in again
    #[arg(long)]
    remove: bool,

    #[command(flatten)]
    format: Format,
}

impl Trust {
    pub(super) async fn run(self, client: &mut Client) -> Result<String, Failure> {
        let arguments = Arguments::new()
            .with_list("peers", &self.peers)
            .with("remove", self.remove)
            .with("anyone", self.anyone);
        let answer = client.request(&format!("{METHODS}trust"), arguments).await?;
        self.format.print(&answer, for_people)
    }
}

impl Block {
    pub(super) async fn run(self, client: &mut Client) -> Result<String, Failure> {
        let arguments =
            Arguments::new().with_list("peers", &self.peers).with("remove", self.remove);
        let answer = client.request(&format!("{METHODS}block"), arguments).await?;
        self.format.print(&answer, for_people)
    }
}

fn for_people(answer: &Value) -> String {
    let ids = |key: &str| answer[key].as_array().map(Vec::as_slice).unwrap_or_default();
    let blocked = |peer: &&Value| ids("blocked").contains(peer);
    let title = match ids("trusted") {
        [] => "Everybody who has the key is let in".to_owned(),
        trusted if trusted.iter().all(|peer| blocked(&peer)) => {
            "Nobody is let in: all that are trusted are blocked".to_owned()
        }
        _ => "Only those who are trusted are let in".to_owned(),
    };
    let texts = |key: &str| ids(key).iter().filter_map(Value::as_str);
    Card::new(&title)
        .list("trusted", texts("trusted"))
        .list("blocked", texts("blocked"))
        .list("was connected, and is kept out now", texts("kept_out"))
        .into_text()
}
