//! `node stop`: ends the process that serves a data directory.

use clap::Subcommand;

use super::Failure;
use super::render::Card;
use crate::client::{Arguments, Client};

/// The request that ends a node.
const STOP: &str = "ipfs-accelerate/stop";

#[derive(Debug, Subcommand)]
pub(super) enum NodeCommand {
    /// Stop the running node; its tasks stay, and the next command or agent starts one anew
    #[command(after_help = "\
Examples:
  ipfs-accelerate node stop
  ipfs-accelerate node stop --data-dir /srv/tasks")]
    Stop,
}

pub(super) async fn stop(client: &mut Client) -> Result<String, Failure> {
    let answer = client.request(STOP, Arguments::new()).await?;
    Ok(Card::new("Node stopped").fields(&answer.value()?, &[]).into_text())
}

pub(super) fn not_running() -> String {
    Card::new("No node is running").into_text()
}
