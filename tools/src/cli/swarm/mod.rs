//! `swarm`: which machines share their tasks with this one.

mod admission;
mod join;
mod peers;

use std::io::{self, IsTerminal};

use clap::Subcommand;

use self::admission::{Block, Trust};
use self::join::Join;
use super::p2p_workflow::Format;
use super::render::Card;
use super::{Failure, NodeLasts};
use crate::client::{Arguments, Client};

/// What the requests begin with.
const METHODS: &str = "ipfs-accelerate/swarm/";

#[derive(Debug, Subcommand)]
pub(super) enum SwarmCommand {
    /// Make a swarm of this machine, for others to join
    #[command(after_help = "\
Examples:
  ipfs-accelerate swarm init

The key is kept in swarm.key in the data directory, in the format of IPFS.")]
    Init(Format),
    /// Print the line that lets another machine join; it holds the swarm's key
    #[command(after_help = "\
Examples:
  ipfs-accelerate swarm invite
  ssh other ipfs-accelerate swarm join \"$(ipfs-accelerate swarm invite)\"")]
    Invite(Format),
    /// Join the swarm of an invitation, and wait for its tasks
    Join(Join),
    /// Show the machines of the swarm
    #[command(after_help = "\
Examples:
  ipfs-accelerate swarm peers
  ipfs-accelerate swarm peers --json")]
    Peers(Format),
    /// Say who is let in beside having the key
    Trust(Trust),
    /// Keep machines out although they have the key
    Block(Block),
    /// Leave the swarm; the tasks stay
    #[command(after_help = "\
Examples:
  ipfs-accelerate swarm leave

The key, the addresses of the others, and whom this machine trusts and blocks are forgotten.")]
    Leave(Format),
}

impl SwarmCommand {
    pub(super) async fn run(self, client: &mut Client, node: NodeLasts) -> Result<String, Failure> {
        let arguments = Arguments::new();
        let (method, arguments, format) = match self {
            SwarmCommand::Init(format) => ("init", arguments, format),
            SwarmCommand::Invite(format) => ("invite", arguments, format),
            SwarmCommand::Join(join) => return join.run(client, node).await,
            SwarmCommand::Peers(format) => ("peers", arguments, format),
            SwarmCommand::Trust(trust) => return trust.run(client).await,
            SwarmCommand::Block(block) => return block.run(client).await,
            SwarmCommand::Leave(format) => ("leave", arguments, format),
        };
        let answer = client.request(&format!("{METHODS}{method}"), arguments).await?;
        format.print(&answer, |answer| match method {
            "init" => {
                let made = Card::new("This machine is a swarm now").fields(answer, &[]);
                made.into_text() + INVITE + stay(node)
            }
            "invite" => {
                let secret = if io::stderr().is_terminal() { SECRET } else { "" };
                anstream::eprint!("{secret}{}", stay(node));
                // Alone on its line, to be copied or piped.
                format!("{}\n", answer["line"].as_str().unwrap_or_default())
            }
            "leave" => Card::new("Left the swarm").into_text() + LEFT,
            _ => peers::shown(answer, node),
        })
    }
}

const INVITE: &str = "`swarm invite` prints the line that lets another machine join.\n";
const LEFT: &str = "The tasks that are here stay here, and go their own way from now on.\n";
const SECRET: &str = "The line holds the swarm's key: show it only to whom it is for.\n";

/// What is to be done for the machine to stay in its swarm.
fn stay(node: NodeLasts) -> &'static str {
    match node {
        NodeLasts::On => "",
        NodeLasts::UntilDone => {
            "A machine is in its swarm while a node runs on it, and none does here: start one with\n\
             `ipfs-accelerate node start`, or an agent with `mcp start`.\n"
        }
    }
}
