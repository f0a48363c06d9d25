//! `node start` and `node stop`: the process that serves a data directory.

use std::path::Path;

use clap::Subcommand;
use p2p_workflow_scheduler::node::Leaving;

use super::Failure;
use super::render::Card;
use crate::client::{Arguments, CallError, Client};

/// The request that ends a node.
const STOP: &str = "ipfs-accelerate/stop";
/// The request that asks which process the node is, and where it stands to its swarm.
const HERE: &str = "ipfs-accelerate/swarm/here";

#[derive(Debug, Subcommand)]
pub(super) enum NodeCommand {
    /// Run the node until Ctrl-C or `node stop`, whether or not an agent is there
    #[command(after_help = "\
Examples:
  ipfs-accelerate node start
  ipfs-accelerate node start --data-dir /srv/tasks

A machine that is to stay in its swarm needs one process that stays. Where another process is the
node already, an agent's `mcp start` for example, this one waits and takes its place when it ends.")]
    Start,
    /// Stop the running node; its tasks stay, and the next command or agent starts one anew
    #[command(after_help = "\
Examples:
  ipfs-accelerate node stop
  ipfs-accelerate node stop --data-dir /srv/tasks")]
    Stop,
}

/// What `node start` says once there is a node for `folder`, which `client` is connected to.
///
/// # Errors
/// The node does not say where it stands.
pub async fn standing(client: &mut Client, folder: &Path) -> Result<String, CallError> {
    let here = client.request(HERE, Arguments::new()).await?.value()?;
    let process = here["process"].as_u64().unwrap_or_default();
    let is_this = process == u64::from(std::process::id());
    let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    let title = match is_this {
        true => format!("The node of {} is up", folder.display()),
        false => format!("Process {process} is the node of {} already", folder.display()),
    };
    let mut text = Card::new(&title)
        .field("peer_id", &here["peer_id"])
        .field("swarm", &here["swarm"])
        .field("addresses", &here["addresses"])
        .into_text();
    if here["swarm"].is_null() {
        text += "It is in no swarm: `swarm init` makes one, `swarm join LINE` joins one.\n";
    }
    text += match is_this {
        true => "Ctrl-C or `ipfs-accelerate node stop` ends it.\n",
        false => "This process takes its place when it ends. `node stop` ends both.\n",
    };
    Ok(text)
}

/// Returns once the node is gone, so that its store can be put back or taken away.
pub(super) async fn stop(mut client: Client, leaving: &Leaving) -> Result<String, Failure> {
    let answer = client.request(STOP, Arguments::new()).await?;
    drop(client);
    if !leaving.is_gone().await {
        let why = "the node was asked to stop, and has not ended yet. Leave its files alone until \
                   it has.";
        return Err(Failure::Failed(why.into()));
    }
    Ok(Card::new("Node stopped").fields(&answer.value()?, &[]).into_text())
}

pub(super) fn not_running() -> String {
    Card::new("No node is running").into_text()
}
