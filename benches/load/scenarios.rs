//! The scenarios: what runs beside what, and which ratio is judged.
//!
//! Product and floor take turns in short rounds; the round with the median ratio is judged.

use std::io;

use clap::ValueEnum;

use crate::bench::{Bench, Durability};
use crate::catch_up;
use crate::client::Client;
use crate::cycles::{Cycles, calls, cycles, follow};
use crate::discover;
use crate::disk::SyncFloor;
use crate::http_scenarios;
use crate::machine;
use crate::report::{Bound, Compared, Report, Unit, count, mebibytes};
use crate::series::Series;
use crate::stores;
use crate::swarm;
use crate::watch;
use crate::work;

/// How many calls, or cycles, are under way at once.
const IN_FLIGHT: [usize; 3] = [1, 8, MANY];

/// What group commit is judged at.
pub(crate) const MANY: usize = 64;

/// What can be measured.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Scenario {
    /// The disk's sync and the trivial tool
    Floors,
    /// One caller, durable: free, and with everything on one CPU
    Sequential,
    /// Many cycles under way, durable
    Durable,
    /// Many cycles under way, relaxed
    Relaxed,
    /// The calls that write nothing
    ReadOnly,
    /// Cycles with and without subscriptions to their tasks
    Subscriptions,
    /// HTTP: one caller, many sessions, a flood
    Http,
    /// Five machines, here five nodes: how soon a task is seen on all of them
    Propagation,
    /// A node with two peers attached, beside one alone
    Attached,
    /// A worker that runs a command for each task
    Work,
    /// Workflow files: found, and found and submitted
    Discover,
    /// A full screen over a queue that changes
    Watch,
    /// Starting with an empty store
    Start,
    /// A large backlog: cycles, memory, starting
    Backlog,
    /// A machine with an empty store that joins one with the large backlog
    CatchUp,
}

impl Scenario {
    /// All of them, the cheapest first.
    pub(crate) const ALL: &[Self] = &[
        Self::Floors,
        Self::Sequential,
        Self::Durable,
        Self::Relaxed,
        Self::ReadOnly,
        Self::Subscriptions,
        Self::Http,
        Self::Propagation,
        Self::Attached,
        Self::Work,
        Self::Discover,
        Self::Watch,
        Self::Start,
        Self::Backlog,
        Self::CatchUp,
    ];

    /// Measures, prints the figures and adds the judged rows.
    pub(crate) fn run(self, bench: &Bench, report: &mut Report) -> io::Result<()> {
        match self {
            Self::Floors => floors(bench, report),
            Self::Sequential => {
                sequential(bench, report, "free")?;
                machine::on_one_cpu(|| sequential(bench, report, "pinned"))
            }
            Self::Durable => durable(bench, report),
            Self::Relaxed => relaxed(bench, report),
            Self::ReadOnly => read_only(bench, report),
            Self::Subscriptions => subscriptions(bench, report),
            Self::Http => {
                http_scenarios::one_caller(bench, report)?;
                http_scenarios::many_sessions(bench, report)?;
                http_scenarios::flood(bench, report)
            }
            Self::Propagation => swarm::propagation(bench, report),
            Self::Attached => swarm::attached(bench, report),
            Self::Work => work::work(bench, report),
            Self::Discover => discover::discover(bench, report),
            Self::Watch => watch::watch(bench, report),
            Self::Start => stores::start(bench, report),
            Self::Backlog => stores::backlog(bench, report),
            Self::CatchUp => catch_up::catch_up(bench, report),
        }
    }
}

fn floors(bench: &Bench, report: &mut Report) -> io::Result<()> {
    let mut appending = SyncFloor::appending(bench.dir.path())?;
    let mut preallocated = SyncFloor::preallocated(bench.dir.path())?;
    let mut floor = bench.floor()?;
    let mut syncs = [Series::default(), Series::default()];
    let mut trivial = IN_FLIGHT.map(|_| Series::default());
    for _ in 0..bench.rounds {
        syncs[0].absorb(appending.round(bench.round)?);
        syncs[1].absorb(preallocated.round(bench.round)?);
        for (series, slots) in trivial.iter_mut().zip(IN_FLIGHT) {
            series.absorb(bench.floor_round(&mut floor, slots)?);
        }
    }
    floor.stop()?;

    report.section("Floors: what this machine can do");
    report.series("append 400 bytes, sync", &syncs[0]);
    report.series("the same in a preallocated file", &syncs[1]);
    for (series, slots) in trivial.iter().zip(IN_FLIGHT) {
        report.series(format_args!("trivial tool, {slots} in flight"), series);
    }
    Ok(())
}

fn sequential(bench: &Bench, report: &mut Report, placement: &str) -> io::Result<()> {
    let mut disk = SyncFloor::appending(bench.dir.path())?;
    let mut floor = bench.floor()?;
    let mut product = bench.product(&format!("sequential-{placement}"), Durability::Durable)?;
    let (mut syncs, mut trivial, mut durable) =
        (Series::default(), Series::default(), Cycles::default());
    let mut rounds = Vec::new();
    let commits = Commits::before(&mut product)?;
    for _ in 0..bench.rounds {
        let sync = disk.round(bench.round)?;
        let call = bench.floor_round(&mut floor, 1)?;
        let cycle = cycles(&mut product, 1, bench.round)?;
        rounds.push(Compared::times(sync.p50() + call.p50(), cycle.calls().p50()));
        syncs.absorb(sync);
        trivial.absorb(call);
        durable.absorb(cycle);
    }
    let commits = commits.per_cycle(&mut product, durable.cycle.latencies().len())?;
    floor.stop()?;
    product.stop()?;

    report.section(format_args!("One caller, durable, {placement}"));
    report.series("append 400 bytes, sync", &syncs);
    report.series("trivial tool", &trivial);
    report.series("submit", &durable.submit);
    report.series("next", &durable.next);
    report.series("complete", &durable.complete);
    report.series("cycle", &durable.cycle);
    report.fact("commits a cycle", commits);
    report.judge(
        format_args!("durable call, one caller, {placement}"),
        (Bound::AtMost(1.6), Unit::Seconds),
        "(sync + trivial tool)",
        &rounds,
    );
    Ok(())
}

/// Commits of the store, counted by the server where it tells them.
struct Commits(Option<u64>);

impl Commits {
    fn before(product: &mut Client) -> io::Result<Self> {
        product.ask_number("p2p_scheduler_status", "commits").map(Self)
    }

    fn per_cycle(self, product: &mut Client, cycles: usize) -> io::Result<String> {
        let Self(after) = Self::before(product)?;
        Ok(match (self.0, after) {
            (Some(before), Some(after)) => {
                format!("{:.3}", (after - before) as f64 / cycles as f64)
            }
            _ => "n/a: the status names no `commits`".to_owned(),
        })
    }
}

fn durable(bench: &Bench, report: &mut Report) -> io::Result<()> {
    /// What is asked of [`MANY`] cycles in flight on a disk of the second figure.
    const CYCLES: f64 = 20_000.0;
    const AT_SYNCS: f64 = 7_000.0;

    let mut disk = SyncFloor::appending(bench.dir.path())?;
    let mut product = bench.product("durable", Durability::Durable)?;
    let mut syncs = Series::default();
    let mut by_slots = IN_FLIGHT.map(|slots| (slots, Cycles::default(), String::new()));
    let mut rounds = Vec::new();
    for _ in 0..bench.rounds {
        for (slots, series, commits) in &mut by_slots {
            let sync = disk.round(bench.round)?;
            let before = Commits::before(&mut product)?;
            let round = cycles(&mut product, *slots, bench.round)?;
            *commits = before.per_cycle(&mut product, round.cycle.latencies().len())?;
            if *slots == MANY {
                rounds.push(Compared {
                    floor: CYCLES * sync.per_second() / AT_SYNCS,
                    product: round.cycle.per_second(),
                });
            }
            syncs.absorb(sync);
            series.absorb(round);
        }
    }
    let peak = machine::peak_memory(product.pid())?;
    product.stop()?;

    report.section("Cycles under way at once, durable");
    report.series("append 400 bytes, sync", &syncs);
    for (slots, series, commits) in &by_slots {
        report.series(format_args!("cycle, {slots} in flight"), &series.cycle);
        report.fact("  commits a cycle, in the last round", commits);
    }
    report.fact("peak memory", mebibytes(peak));
    report.judge(
        format_args!("durable, {MANY} in flight"),
        (Bound::AtLeast(1.0), Unit::CyclesPerSecond),
        format_args!("({} at {} syncs/s)", count(CYCLES), count(AT_SYNCS)),
        &rounds,
    );
    Ok(())
}

fn relaxed(bench: &Bench, report: &mut Report) -> io::Result<()> {
    /// Calls in one cycle.
    const CALLS: f64 = 3.0;

    let mut floor = bench.floor()?;
    let mut product = bench.product("relaxed", Durability::Relaxed)?;
    let (mut trivial, mut relaxed) = (Series::default(), Cycles::default());
    let mut rounds = Vec::new();
    for _ in 0..bench.rounds {
        let call = bench.floor_round(&mut floor, MANY)?;
        let cycle = cycles(&mut product, MANY, bench.round)?;
        rounds
            .push(Compared { floor: call.per_second(), product: CALLS * cycle.cycle.per_second() });
        trivial.absorb(call);
        relaxed.absorb(cycle);
    }
    let peak = machine::peak_memory(product.pid())?;
    floor.stop()?;
    product.stop()?;

    report.section(format_args!("{MANY} cycles under way at once, relaxed"));
    report.series("trivial tool", &trivial);
    report.series("cycle", &relaxed.cycle);
    report.fact("peak memory", mebibytes(peak));
    report.judge(
        format_args!("relaxed, {MANY} in flight"),
        (Bound::AtLeast(0.6), Unit::CallsPerSecond),
        "(trivial tool)",
        &rounds,
    );
    Ok(())
}

/// The tasks subscribed to are those of the very cycles: each changes three times in its life.
fn subscriptions(bench: &Bench, report: &mut Report) -> io::Result<()> {
    const SUBSCRIPTIONS: u64 = 1_000;

    let mut alone = bench.product("unsubscribed", Durability::Relaxed)?;
    let mut subscribed = bench.product("subscribed", Durability::Relaxed)?;
    let (mut plain, mut followed) = (Cycles::default(), Cycles::default());
    let mut rounds = Vec::new();
    for _ in 0..bench.rounds {
        let without = cycles(&mut alone, MANY, bench.round)?;
        let first = follow(&mut subscribed, SUBSCRIPTIONS, None)?;
        let with = cycles(&mut subscribed, MANY, bench.round)?;
        follow(&mut subscribed, SUBSCRIPTIONS, Some(first))?;
        rounds
            .push(Compared { floor: without.cycle.per_second(), product: with.cycle.per_second() });
        plain.absorb(without);
        followed.absorb(with);
    }
    alone.stop()?;
    subscribed.stop()?;

    report.section(format_args!(
        "{MANY} cycles under way at once, relaxed, {SUBSCRIPTIONS} subscriptions"
    ));
    report.series("cycle, nobody subscribed", &plain.cycle);
    report.series("cycle, the tasks that come next subscribed to", &followed.cycle);
    report.judge(
        format_args!("{SUBSCRIPTIONS} subscriptions"),
        (Bound::AtLeast(0.9), Unit::CyclesPerSecond),
        "(without)",
        &rounds,
    );
    Ok(())
}

fn read_only(bench: &Bench, report: &mut Report) -> io::Result<()> {
    const TOOLS: [(&str, &str); 2] =
        [("p2p_get_merkle_clock", ""), ("p2p_check_workflow_tags", r#""tags":["p2p-only"]"#)];

    let mut floor = bench.floor()?;
    let mut product = bench.product("read-only", Durability::Durable)?;
    let mut trivial = Series::default();
    let mut by_tool = TOOLS.map(|_| (Series::default(), Vec::new()));
    for _ in 0..bench.rounds {
        let call = bench.floor_round(&mut floor, 1)?;
        for ((tool, arguments), (series, rounds)) in TOOLS.iter().zip(&mut by_tool) {
            let round = calls(&mut product, 1, bench.round, tool, arguments)?;
            rounds.push(Compared::times(call.p50(), round.p50()));
            series.absorb(round);
        }
        trivial.absorb(call);
    }
    floor.stop()?;
    product.stop()?;

    report.section("Calls that write nothing, one caller");
    report.series("trivial tool", &trivial);
    for ((tool, _), (series, rounds)) in TOOLS.iter().zip(&by_tool) {
        report.series(tool, series);
        report.judge(tool, (Bound::AtMost(1.3), Unit::Seconds), "(trivial tool)", rounds);
    }
    Ok(())
}
