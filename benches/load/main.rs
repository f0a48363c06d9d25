//! The load program: the built binary as an MCP client meets it, beside what the machine can do.
//!
//! It starts `ipfs-accelerate mcp start` on a fresh data directory and talks newline-delimited
//! JSON-RPC to it over pipes. Every judged figure is a ratio to a floor measured in the same
//! round (the disk's sync, a trivial tool of the same MCP library), because a shared machine
//! changes its speed from minute to minute and a ratio does not. `benches/README.md` says what
//! each row means.

mod bench;
mod catch_up;
mod client;
mod cycles;
mod discover;
mod disk;
mod floor;
mod http;
mod http_scenarios;
mod machine;
mod report;
mod scenarios;
mod series;
mod stores;
mod swarm;
mod watch;
mod work;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use bench::Bench;
use report::Report;
use scenarios::Scenario;

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("load: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> io::Result<()> {
    if options.floor_server {
        return floor::serve();
    }
    if options.floor_http_server {
        return http::serve();
    }
    let bench = options.bench()?;
    let mut report = Report::default();
    for scenario in options.scenarios() {
        scenario.run(&bench, &mut report)?;
    }
    report.print_table();
    Ok(())
}

/// Measures the scheduler as an MCP client meets it, beside what the disk and the MCP library
/// alone can do on this machine. A missed bound is reported and is not a failure: the machine
/// may be busy.
#[derive(Parser)]
#[command(name = "load")]
struct Options {
    /// What to measure, in this order; everything where nothing is named
    #[arg(value_enum)]
    scenarios: Vec<Scenario>,

    /// Show that everything runs, in seconds; the figures mean nothing
    #[arg(long)]
    quick: bool,

    /// Tasks in the large backlog [default: 1000000, or 2000 with --quick]
    #[arg(long, value_name = "N")]
    backlog: Option<u64>,

    /// Where the stores go: the disk that is measured
    #[arg(long, value_name = "DIR", default_value = env!("CARGO_TARGET_TMPDIR"))]
    dir: PathBuf,

    /// The binary to drive, for comparing two builds
    #[arg(long, value_name = "FILE", default_value = env!("CARGO_BIN_EXE_ipfs-accelerate"))]
    server: PathBuf,

    /// Be the trivial MCP server that the product is compared with
    #[arg(long, hide = true)]
    floor_server: bool,

    /// Be the trivial MCP server over HTTP
    #[arg(long, hide = true)]
    floor_http_server: bool,

    /// Accepted because `cargo bench` passes it to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

impl Options {
    fn scenarios(&self) -> &[Scenario] {
        if self.scenarios.is_empty() { Scenario::ALL } else { &self.scenarios }
    }

    fn bench(&self) -> io::Result<Bench> {
        std::fs::create_dir_all(&self.dir)?;
        // Short rounds, many of them: a slow spell of the machine then spoils a few rounds,
        // floor and product alike, and the median round is none of those.
        let (rounds, round, starts, backlog) = if self.quick {
            (2, Duration::from_millis(50), 2, 2_000)
        } else {
            (9, Duration::from_millis(400), 9, 1_000_000)
        };
        Ok(Bench {
            server: self.server.clone(),
            dir: tempfile::Builder::new().prefix("load-").tempdir_in(&self.dir)?,
            rounds,
            round,
            starts,
            backlog: self.backlog.unwrap_or(backlog),
        })
    }
}
