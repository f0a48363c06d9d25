//! `work`: takes tasks and runs a command of the operator's for each.
//!
//! ```text
//!   slot ── next ──► node            one connection a slot: each is a worker of its own, whose
//!    │ ▲                             leases last as long as the connection
//!    │ └─ task, lease
//!    ├─► command                     a process group of its own; the task on its stdin
//!    │    ├─ stdout ─► result
//!    │    └─ stderr ─► error
//!    └── complete ──► node
//!   guard                            a process that ends the groups when this one was killed
//! ```
//!
//! Nothing that a peer sent is executed: the command and its arguments are those of the command
//! line, no shell reads them, and a task reaches the command as data only.

mod command;
mod drain;
mod guard;
mod jobs;
mod lease;
mod orders;
mod output;
mod report;
mod scope;
mod slot;

use std::ffi::OsString;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueHint};
use serde_json::json;
use tokio::task::JoinSet;

use self::command::Program;
use self::guard::Guard;
use self::jobs::{JobFlags, Workplace};
use self::orders::{Order, Orders};
use self::report::Tally;
use self::scope::Scope;
use self::slot::{Slot, Worker};
use super::Failure;
use crate::cli::duration::Seconds;
use crate::cli::render::Card;
use crate::client::Client;
use crate::start::{Way, new_worker};

pub(crate) use self::guard::guard;
pub(crate) use self::jobs::RunJob;

/// Commands at once: more than any machine runs well.
const MAX_CONCURRENCY: u16 = 256;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ipfs-accelerate p2p-workflow work -- ./build.sh
  ipfs-accelerate p2p-workflow work --concurrency 4 --tags web-scraping --timeout 10m -- ./scrape.py
  ipfs-accelerate p2p-workflow work --drain --workflow release -- make
  ipfs-accelerate p2p-workflow work --run-jobs ~/src/app

The command gets the task as JSON on its stdin, and P2P_TASK_ID, P2P_WORKFLOW_ID, P2P_TASK_NAME,
P2P_ATTEMPT and P2P_FENCE in its environment. Exit code 0 completes the task, with what it printed
on stdout as the result; any other fails it, with the last 4 KiB of stderr as the error.

Ctrl-C: what runs is finished, and nothing more is taken. Once more: it is ended, and its tasks go
back to the queue.")]
pub(crate) struct Work {
    /// How many commands may run at once
    #[arg(long, value_name = "N", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=i64::from(MAX_CONCURRENCY)))]
    concurrency: u16,

    /// What this worker is capable of; tasks that require more are left to others
    #[arg(long, value_name = "CAPABILITY", num_args = 1..)]
    capabilities: Vec<String>,

    /// Only tasks with one of these tags
    #[arg(long, value_name = "TAG", num_args = 1.., value_delimiter = ',')]
    tags: Vec<String>,

    /// Only tasks of this workflow
    #[arg(long, value_name = "ID", alias = "workflow-id")]
    workflow: Option<String>,

    /// End a command that takes longer, and fail its task
    #[arg(long, value_name = "TIME", value_parser = at_least_a_second)]
    timeout: Option<Seconds>,

    /// Lease on time, renewed while the command runs [default: as long as this process lives]
    #[arg(long, value_name = "TIME", value_parser = at_least_a_second)]
    lease: Option<Seconds>,

    /// Run one task, and end with exit code 1 unless it was completed
    #[arg(long, conflicts_with = "concurrency")]
    once: bool,

    /// End when nothing is ready or running any more, with exit code 1 if a task failed for good
    #[arg(long)]
    drain: bool,

    #[command(flatten)]
    jobs: JobFlags,

    /// Print the summary as one JSON object
    #[arg(long)]
    json: bool,

    /// The command and its arguments, after --
    #[arg(value_name = "COMMAND", required_unless_present = "run_jobs", last = true)]
    #[arg(value_hint = ValueHint::CommandWithArguments)]
    command: Vec<OsString>,
}

fn at_least_a_second(text: &str) -> Result<Seconds, String> {
    match text.parse()? {
        Seconds(0) => Err("at least 1 s".into()),
        time => Ok(time),
    }
}

impl Work {
    /// Works until it is told to stop, or nothing is left where that was asked for.
    pub(crate) async fn run(self, way: Way) -> Result<String, Failure> {
        let worked = Box::pin(self.work(&way)).await;
        way.close().await;
        worked
    }

    async fn work(self, way: &Way) -> Result<String, Failure> {
        let failed =
            |what: &str, error: std::io::Error| Failure::Failed(format!("{what}: {error}"));
        let orders = Orders::follow(way.stop().clone())
            .map_err(|error| failed("signals cannot be watched", error))?;
        self.jobs.check()?;
        let repositories = self.jobs.repositories()?;
        let guard = Guard::start().map_err(|error| failed("cannot start the guard", error))?;
        let (slots, once, drain, json) = (self.concurrency, self.once, self.drain, self.json);
        let (mut program, mut workplace) = (self.command.clone(), None);
        if !repositories.is_empty() {
            let place = Workplace::open(way.folder())
                .map_err(|error| failed("cannot make a folder for working trees", error))?;
            let own =
                std::env::current_exe().map_err(|error| failed("cannot find myself", error))?;
            program = vec![own.into()];
            program.extend(self.jobs.arguments(&repositories, way.folder(), &place));
            workplace = Some(place);
        }
        let scope = Scope::new(repositories.iter().map(jobs::prefix).collect());
        let worker = Arc::new(self.into_worker(program, scope, guard, orders));
        let result = run_slots(way, &worker, slots).await;
        drop(workplace);
        worker.guard.close().await;
        let tally = worker.tally();
        let summary = summary(&tally, json);
        result?;
        match (once && !tally.all_completed()) || (drain && tally.failed > 0) {
            true => Err(Failure::SomeRejected { summary }),
            false => Ok(summary),
        }
    }

    fn into_worker(
        self,
        command: Vec<OsString>,
        scope: Scope,
        guard: Guard,
        orders: Orders,
    ) -> Worker {
        let seconds = |time: Seconds| Duration::from_secs(time.0);
        let mut command = command.into_iter();
        let program = Program {
            path: command.next().expect("clap requires one"),
            arguments: command.collect(),
            timeout: self.timeout.map(seconds),
        };
        Worker {
            program,
            capabilities: self.capabilities,
            tags: self.tags,
            workflow: self.workflow,
            scope,
            lease: self.lease,
            once: self.once,
            drain: self.drain,
            guard,
            orders,
            tally: std::sync::Mutex::default(),
            settled: tokio::sync::Notify::new(),
        }
    }
}

/// Runs all slots to their ends. The first one that fails has the others end what they run.
async fn run_slots(way: &Way, worker: &Arc<Worker>, slots: u16) -> Result<(), Failure> {
    let mut running = JoinSet::new();
    for _ in 0..slots {
        let client = Client::attach_introduced(way.link(new_worker())).await?;
        let worker = worker.clone();
        running.spawn(async move { Slot::new(client, worker).work().await });
    }
    let mut result = Ok(());
    while let Some(ended) = running.join_next().await {
        let ended = ended.unwrap_or_else(|bug| Err(Failure::Failed(bug.to_string())));
        if ended.is_err() && result.is_ok() {
            worker.orders.give(Order::EndCommands);
            result = ended;
        }
    }
    result
}

fn summary(tally: &Tally, json: bool) -> String {
    match json {
        true => format!("{}\n", json!(tally)),
        false => Card::new(&tally.to_string()).into_text(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::is_wrong_usage;

    #[test]
    fn a_command_is_needed_and_stands_after_the_dashes() {
        assert!(is_wrong_usage(&["work"]));
        assert!(is_wrong_usage(&["work", "true"]));
        assert!(is_wrong_usage(&["work", "--"]));
    }

    #[test]
    fn numbers_that_make_no_sense_are_wrong_usage() {
        for flags in [["--concurrency", "0"], ["--concurrency", "257"], ["--timeout", "0"]] {
            assert!(is_wrong_usage(&["work", flags[0], flags[1], "--", "true"]), "{flags:?}");
        }
        assert!(is_wrong_usage(&["work", "--once", "--concurrency", "2", "--", "true"]));
    }
}
