//! The simulator: the real core, hundreds of peers of it, on virtual time.
//!
//! ```text
//!   scenario ─▶ world ─┬─ events    what is to happen, in order of virtual time
//!                      ├─ network   links, connections, partitions; messages lost, late, doubled
//!                      ├─ node      the driver of each core: calls, commits, crashes, restarts
//!                      │    └─ disk what was committed
//!                      ├─ workers   they take tasks and report on them, well or badly
//!                      ├─ people    they submit, cancel, requeue
//!                      ├─ faults    what goes wrong, and how it comes right again
//!                      ├─ oracle    says when a promise is broken
//!                      │    ├─ asked     what a node may write, and why
//!                      │    ├─ leases    when a lease may end
//!                      │    └─ derived   where tasks stand, worked out another way
//!                      ├─ wire      what messages weigh, where that is asked for
//!                      └─ trace     what happened, and one hash over all of it
//!   idle ────▶ world             a swarm in which nothing happens, and what it says
//! ```
//!
//! Everything that chance decides comes from one seed, and everything is kept in order, so the same
//! seed makes the same history, message by message. First things go wrong for a while; then
//! everything heals, and within bounds all tasks must be done and all peers hold the same.
//!
//! That the simulator sees is shown by `tests/sim/rules/run`: it takes the protocol's rules away, one
//! at a time, and for each of them some seed must fail.

mod asked;
mod clock;
mod derived;
mod disk;
mod events;
mod faults;
pub(crate) mod idle;
mod leases;
mod network;
mod node;
mod oracle;
mod people;
mod random;
mod scenario;
mod trace;
mod wire;
mod workers;
mod world;

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{self, AssertUnwindSafe};

use oracle::Violation;
use trace::About;
use wire::Wire;
use world::World;

pub(crate) use scenario::Scenario;

/// How many lines of the trace come with a violation.
const LINES: usize = 400;

/// What came of a simulation.
#[derive(Clone, Debug, Default)]
pub(crate) struct Totals {
    pub(crate) virtual_millis: u64,
    pub(crate) events: u64,
    pub(crate) messages: u64,
    pub(crate) claims: u64,
    /// Claims of tasks that another node held under a lease in force.
    pub(crate) second_runs: u64,
    /// Of those where nothing had gone wrong for long: milliseconds since the first claim.
    pub(crate) calm_second_runs: Vec<u64>,
    /// How often what happened that a simulation should see now and then.
    pub(crate) counts: BTreeMap<&'static str, u64>,
    /// What was sent, where that is counted.
    pub(crate) wire: Wire,
    /// Tasks times peers.
    pub(crate) shares: u64,
    /// Of the whole history.
    pub(crate) hash: u64,
}

impl Totals {
    pub(crate) fn count(&mut self, what: &'static str, more: u64) {
        *self.counts.entry(what).or_insert(0) += more;
    }

    /// Adds another simulation's.
    pub(crate) fn add(&mut self, other: &Totals) {
        self.virtual_millis += other.virtual_millis;
        self.events += other.events;
        self.messages += other.messages;
        self.claims += other.claims;
        self.second_runs += other.second_runs;
        self.calm_second_runs.extend(&other.calm_second_runs);
        other.counts.iter().for_each(|(what, count)| self.count(what, *count));
        self.wire.add(&other.wire);
        self.shares += other.shares;
        self.hash ^= other.hash;
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hours = self.virtual_millis as f64 / 3_600_000.0;
        let Totals { events, messages, claims, second_runs, hash, .. } = self;
        write!(
            f,
            "{hours:.1} virtual hours, {events} events, {messages} messages, {claims} claims, \
             {second_runs} second runs ({} in calm), hash {hash:016x}",
            self.calm_second_runs.len()
        )?;
        write!(f, " {:?}", self.calm_second_runs)?;
        if self.shares > 0 {
            write!(
                f,
                "\n  {:<14}{:>12}{:>14}{:>12}",
                "a task, a peer", "messages", "bytes", "bytes each"
            )?;
            self.wire.table(f, self.shares as f64)?;
        }
        self.counts.iter().try_for_each(|(what, count)| write!(f, "\n  {count:>9} {what}"))
    }
}

/// A promise was broken.
#[derive(Debug)]
pub(crate) struct Failure {
    seed: u64,
    command: String,
    what: String,
    trace: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failure { seed, command, what, trace } = self;
        for line in trace {
            writeln!(f, "{line}")?;
        }
        write!(f, "seed {seed}: {what}\nTo see it again: {command}")
    }
}

/// Runs one simulation to its end.
///
/// # Errors
/// The first promise that was broken, with what led to it.
pub(crate) fn simulate(scenario: &Scenario) -> Result<Totals, Box<Failure>> {
    let (world, violation) = run(scenario);
    match violation {
        None => Ok(world.summary),
        Some(Violation { what, about }) => Err(Box::new(Failure {
            seed: scenario.seed,
            command: scenario.command(),
            what,
            trace: world.trace.about(&about, LINES),
        })),
    }
}

/// Runs one simulation, and tells what happened to a task or peer (`t7`, `p3`), or to all.
pub(crate) fn history(scenario: &Scenario, of: &str) -> Vec<String> {
    let (world, violation) = run(scenario);
    let mut lines = world.trace.about(&About::named(of), usize::MAX);
    lines.extend(violation.map(|violation| violation.what));
    lines
}

fn run(scenario: &Scenario) -> (World, Option<Violation>) {
    let mut world = World::new(scenario);
    let ended = panic::catch_unwind(AssertUnwindSafe(|| world.run()));
    let violation = match ended {
        Ok(()) => world.oracle.violation.take(),
        Err(panicked) => {
            let text = panicked.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panicked.downcast_ref::<&str>().copied());
            let what = format!("panicked: {}", text.unwrap_or("without a word"));
            Some(Violation { what, about: About::default() })
        }
    };
    (world, violation)
}
