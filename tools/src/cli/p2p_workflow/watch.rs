//! `watch`: workflows, tasks and peers as they change, on a full screen; or a line for each change
//! where stdout is no terminal.
//!
//! ```text
//!   node ◄── overview, peers, show, cancel, requeue ── Feed ◄── Order ── keys ◄── terminal
//!                                                       │                 ▲
//!                                                       └──── News ──► Model ──► draw ──► terminal
//! ```
//!
//! The node is asked for an overview once an interval, whatever changes meanwhile; what it answers
//! is bounded. The screen is drawn when something came or a key was pressed, and at no other time.
//! Texts come from other machines: what steers a terminal is taken out where the answers are read.

mod data;
mod draw;
mod feed;
mod keys;
mod logs;
mod model;
mod plain;
mod screen;

use std::io::{self, IsTerminal};
use std::time::Duration;

use clap::Args;

use self::data::Look;
use super::Failure;
use crate::cli::duration::Seconds;
use crate::client::Client;
use crate::start::{Way, new_worker};

pub(in crate::cli) use self::logs::Stderr;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ipfs-accelerate p2p-workflow watch
  ipfs-accelerate p2p-workflow watch --workflow release
  ipfs-accelerate p2p-workflow watch | grep ' task .*state=failed'
  ipfs-accelerate p2p-workflow watch --once

On a terminal, ? shows the keys. Elsewhere it prints a line for each change that it sees, as
`TIME totals …` and `TIME task ID …`, until Ctrl-C.")]
pub(crate) struct Watch {
    /// Only this workflow
    #[arg(long, value_name = "ID", alias = "workflow-id")]
    workflow: Option<String>,

    /// How often to look
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = interval)]
    interval: Seconds,

    /// Print how it stands, as lines, and end
    #[arg(long)]
    once: bool,

    /// Print how it stands as one JSON object, and end
    #[arg(long)]
    json: bool,
}

fn interval(text: &str) -> Result<Seconds, String> {
    match text.parse()? {
        Seconds(0) => Err("at least 1 s".into()),
        Seconds(seconds) if seconds > 3600 => Err("at most an hour".into()),
        time => Ok(time),
    }
}

impl Watch {
    /// Shows until it is told to stop.
    pub(crate) async fn run(self, way: Way) -> Result<String, Failure> {
        let watched = Box::pin(self.watch(&way)).await;
        way.close().await;
        watched
    }

    async fn watch(self, way: &Way) -> Result<String, Failure> {
        let mut client = Client::attach_introduced(way.link(new_worker())).await?;
        let look = Look { workflow_id: self.workflow, ..Look::default() };
        if self.json {
            let answer = client.request(data::OVERVIEW, look.arguments()).await?;
            return Ok(format!("{}\n", answer.json()));
        }
        if self.once {
            return Ok(plain::snapshot(&data::overview(&mut client, &look).await?));
        }
        let every = Duration::from_secs(self.interval.0);
        match io::stdout().is_terminal() && io::stdin().is_terminal() {
            true => screen::run(client, way.stop(), look, every).await?,
            false => plain::run(client, way.stop(), &look, every).await?,
        }
        Ok(String::new())
    }
}

/// What is said when there is nothing to watch any more.
fn stopped() -> Failure {
    Failure::Failed("the node was stopped".into())
}

#[cfg(test)]
mod tests {
    use super::super::testing::is_wrong_usage;

    #[test]
    fn an_interval_that_makes_no_sense_is_wrong_usage() {
        for interval in ["0", "2h", "soon"] {
            assert!(is_wrong_usage(&["watch", "--interval", interval]), "{interval}");
        }
    }
}
