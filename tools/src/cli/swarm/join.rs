//! `swarm join`: enters a swarm, and waits until its tasks are here.
//!
//! The node takes the tasks in page by page, by itself; this command asks it how far it is, shows
//! that, and stops waiting where nothing comes any more. What is lacking then follows while a node
//! runs: nothing that this command does or leaves out changes what the machine will hold.

use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value, json};

use super::{METHODS, stay};
use crate::cli::p2p_workflow::Format;
use crate::cli::render::{self, Card};
use crate::cli::{Failure, NodeLasts};
use crate::client::{Arguments, Client};

/// How often the node is asked.
const INTERVAL: Duration = Duration::from_millis(100);
/// Nothing came for so long: a pull that is lost is given up and begun again in less.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ipfs-accelerate swarm join ipfs-accelerate-swarm-1+…

It waits until this machine holds the tasks of the other one. What is lacking when it is interrupted
follows while a node runs.")]
pub(crate) struct Join {
    /// What `swarm invite` printed
    line: String,

    #[command(flatten)]
    format: Format,
}

impl Join {
    pub(super) async fn run(self, client: &mut Client, node: NodeLasts) -> Result<String, Failure> {
        let arguments = Arguments::new().with("line", &self.line);
        let mut joined = client.request(&format!("{METHODS}join"), arguments).await?.value()?;
        if joined["reached"] == true {
            let caught_up = wait(client).await?;
            joined["tasks_taken"] = caught_up["taken"].clone();
            joined["caught_up"] = caught_up["done"].clone();
        }
        self.format.print_value(&joined, |joined| shown(joined) + stay(node))
    }
}

/// Waits until all tasks are here, or no more come. Returns how far the node is then.
async fn wait(client: &mut Client) -> Result<Value, Failure> {
    let bar = render::progress_bar(Some(0));
    let (mut last, mut since) = (json!({}), Instant::now());
    loop {
        let caught_up =
            client.request(&format!("{METHODS}catch-up"), Arguments::new()).await?.value()?;
        let (taken, remaining) = (caught_up["taken"].as_u64(), caught_up["remaining"].as_u64());
        bar.set_length(taken.unwrap_or(0) + remaining.unwrap_or(0));
        bar.set_position(taken.unwrap_or(0));
        bar.set_message(format!("{} tasks taken in", taken.unwrap_or(0)));
        if caught_up != last {
            since = Instant::now();
        }
        if caught_up["done"] == true || since.elapsed() > PATIENCE {
            bar.finish_and_clear();
            return Ok(caught_up);
        }
        last = caught_up;
        tokio::time::sleep(INTERVAL).await;
    }
}

fn shown(joined: &Value) -> String {
    let peer = &joined["peer_id"];
    let Some(taken) = joined["tasks_taken"].as_u64() else {
        let card = Card::new("Joined, and the other machine is not reached yet");
        return card.field("invited_by", peer).field("reason", &joined["reason"]).into_text();
    };
    let rest = match joined["caught_up"] == true {
        true => "This machine holds what the other one does.\n",
        false => "The rest follows while a node runs and the other machine is reached.\n",
    };
    let card = Card::new("Joined").field("invited_by", peer).field("tasks_taken", &json!(taken));
    card.into_text() + rest
}
