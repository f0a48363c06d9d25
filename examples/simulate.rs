//! Runs the simulator by hand: one seed, or many on all cores.
//!
//! ```text
//! cargo run --release --example simulate -- --seeds 2000 --peers 10
//! cargo run --release --example simulate -- --seed 17 --peers 50 --hours 2
//! cargo run --release --example simulate -- --idle --peers 500
//! ```
//!
//! It ends with failure, the command that repeats it and what led to it where a promise is broken.

#[expect(dead_code, reason = "the tests use the rest of it")]
#[path = "../tests/sim/mod.rs"]
mod sim;

use std::ops::Range;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use clap::Parser;

use sim::idle::idle;
use sim::{Failure, Scenario, Totals, history, simulate};

/// How long a swarm is looked at in which nothing happens, in milliseconds.
const IDLE: u64 = 5 * 60_000;

/// Runs the scheduler of many peers on virtual time, while things go wrong, and says where a
/// promise is broken.
#[derive(Parser)]
struct Options {
    /// The seed of one simulation
    #[arg(long, default_value_t = 0, conflicts_with = "seeds")]
    seed: u64,
    /// Many simulations: so many, or FROM..TO
    #[arg(long, value_parser = seeds)]
    seeds: Option<Range<u64>>,
    /// Peers at the beginning
    #[arg(long, default_value_t = 10)]
    peers: usize,
    /// For how long things go wrong, in hours of virtual time [default: some minutes]
    #[arg(long)]
    hours: Option<f64>,
    /// Tasks that are handed in, about [default: six for each peer]
    #[arg(long)]
    tasks: Option<u64>,
    /// Count what is sent, in bytes as they are on the wire, for each task and peer; takes longer
    #[arg(long)]
    bytes: bool,
    /// What a swarm says in which nothing happens, for five minutes of virtual time or --hours
    #[arg(long, conflicts_with_all = ["seeds", "trace", "tasks"])]
    idle: bool,
    /// Tell what happened to a task or peer (t7, p3), or to "all"
    #[arg(long, conflicts_with = "seeds")]
    trace: Option<String>,
}

fn seeds(text: &str) -> Result<Range<u64>, String> {
    let number = |text: &str| text.parse::<u64>().map_err(|error| error.to_string());
    match text.split_once("..") {
        None => Ok(0..number(text)?),
        Some((from, to)) => Ok(number(from)?..number(to)?),
    }
}

fn main() -> ExitCode {
    let options = Options::parse();
    if let Some(of) = &options.trace {
        history(&options.scenario(options.seed), of).iter().for_each(|line| say(line));
        return ExitCode::SUCCESS;
    }
    if options.idle {
        let scenario = Scenario { bytes: true, ..options.scenario(options.seed) };
        let idle = idle(&scenario, scenario.duration.unwrap_or(IDLE));
        say(&idle.to_string());
        return if idle.wrong.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let started = Instant::now();
    let seeds = options.seeds.clone().unwrap_or(options.seed..options.seed + 1);
    match run(&seeds, &options) {
        Ok(totals) => {
            let count = seeds.end - seeds.start;
            say(&format!("{count} seeds, {totals}, {:.1} s", started.elapsed().as_secs_f64()));
            ExitCode::SUCCESS
        }
        Err(failure) => {
            say(&failure.to_string());
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stdout, reason = "the output of a program for people")]
fn say(text: &str) {
    println!("{text}");
}

/// Runs the seeds on all cores, up to the first failure.
fn run(seeds: &Range<u64>, options: &Options) -> Result<Totals, Box<Failure>> {
    let next = AtomicU64::new(seeds.start);
    let stop = AtomicBool::new(false);
    let sum = Mutex::new(Ok(Totals::default()));
    let work = || {
        while !stop.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return;
            }
            let ended = simulate(&options.scenario(seed));
            stop.fetch_or(ended.is_err(), Ordering::Relaxed);
            let mut sum = sum.lock().expect("nothing panics while it has the lock");
            match (&mut *sum, ended) {
                (Ok(sum), Ok(totals)) => sum.add(&totals),
                (Ok(_), Err(failure)) => *sum = Err(failure),
                (Err(_), _) => {}
            }
        }
    };
    thread::scope(|scope| {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        for _ in 0..cores {
            scope.spawn(work);
        }
    });
    sum.into_inner().expect("nothing panics while it has the lock")
}

impl Options {
    fn scenario(&self, seed: u64) -> Scenario {
        let duration = self.hours.map(|hours| (hours * 3_600_000.0) as u64);
        Scenario { seed, peers: self.peers, duration, tasks: self.tasks, bytes: self.bytes }
    }
}
