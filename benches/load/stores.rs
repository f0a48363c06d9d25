//! Stores of a size: starting on them, cycles beside a backlog, the memory a task takes.

use std::io;
use std::time::{Duration, Instant};

use crate::bench::{Bench, Durability};
use crate::client::Client;
use crate::cycles::{Cycles, cycles, load};
use crate::machine;
use crate::report::{Bound, Compared, Report, Time, Unit, count, mebibytes};
use crate::series::Series;

/// The backlog that the large one is compared with.
const SMALL_BACKLOG: u64 = 1_000;

/// What starting with nothing in the store may take.
const EMPTY_START: Duration = Duration::from_millis(15);

/// What starting with the large backlog may take.
const BACKLOG_START: Duration = Duration::from_millis(1_500);

/// Bytes of resident memory that a waiting task may take.
const TASK_MEMORY: f64 = 600.0;

/// Starts on stores that are new, and on one that is there and holds nothing.
pub(crate) fn start(bench: &Bench, report: &mut Report) -> io::Result<()> {
    let trivial = Starts::measure(bench, |_| bench.floor(), |client| Ok(client.initialized_in))?;
    let new = Starts::measure(
        bench,
        |time| bench.product(&format!("start-{time}"), Durability::Durable),
        |client| status(client, 0),
    )?;
    let empty = Starts::measure(
        bench,
        |_| bench.product("start-0", Durability::Durable),
        |client| status(client, 0),
    )?;

    report.section("Starting");
    report.fact("trivial server, to initialize", Time(trivial.initialize.p50()));
    report.fact("new store, to initialize", Time(new.initialize.p50()));
    report.fact("new store, to the first status", Time(new.status.p50()));
    empty.judge(report, "empty store", EMPTY_START);
    Ok(())
}

/// Cycles beside a small and a large backlog, what a waiting task takes, and starting on many.
pub(crate) fn backlog(bench: &Bench, report: &mut Report) -> io::Result<()> {
    report.section(format_args!("A backlog of {}", count(bench.backlog as f64)));
    let mut small = bench.product("small", Durability::Durable)?;
    load(&mut small, SMALL_BACKLOG)?;
    status(&mut small, SMALL_BACKLOG)?;

    // The store is made before its memory is measured, which making it would add to.
    bench.product("large", Durability::Durable)?.stop()?;
    let mut large = bench.product("large", Durability::Durable)?;
    status(&mut large, 0)?;
    let empty = machine::resident_memory(large.pid())?;
    let loading = load(&mut large, bench.backlog)?;
    status(&mut large, bench.backlog)?;
    let loaded = machine::resident_memory(large.pid())?;
    large.stop()?;
    report.fact("memory, empty", mebibytes(empty));
    report.fact("memory, loaded", mebibytes(loaded));
    report.series("submit, while loading", &loading);

    let many = Starts::measure(
        bench,
        |_| bench.product("large", Durability::Durable),
        |client| status(client, bench.backlog),
    )?;
    let mut large = bench.product("large", Durability::Durable)?;
    status(&mut large, bench.backlog)?;
    let restarted = machine::resident_memory(large.pid())?;
    report.fact("memory, restarted", mebibytes(restarted));
    for (when, memory) in [("loaded", loaded), ("restarted", restarted)] {
        let a_task = memory.saturating_sub(empty) as f64 / bench.backlog as f64;
        report.judge(
            format_args!("memory a waiting task, {when}"),
            (Bound::AtMost(1.0), Unit::Bytes),
            "",
            &[Compared { floor: TASK_MEMORY, product: a_task }],
        );
    }
    many.judge(report, "large backlog", BACKLOG_START);

    beside_backlogs(bench, report, &mut small, &mut large)?;
    report.fact("peak memory", mebibytes(machine::peak_memory(large.pid())?));
    small.stop()?;
    large.stop()
}

/// One caller's cycles beside the small backlog and the large one, in turns.
fn beside_backlogs(
    bench: &Bench,
    report: &mut Report,
    small: &mut Client,
    large: &mut Client,
) -> io::Result<()> {
    let (mut beside_small, mut beside_large) = (Cycles::default(), Cycles::default());
    let mut rounds = Vec::new();
    for _ in 0..bench.rounds {
        let few = cycles(small, 1, bench.round)?;
        let many = cycles(large, 1, bench.round)?;
        rounds.push(Compared::times(few.cycle.p50(), many.cycle.p50()));
        beside_small.absorb(few);
        beside_large.absorb(many);
    }
    report
        .series(format_args!("cycle beside {}", count(SMALL_BACKLOG as f64)), &beside_small.cycle);
    report
        .series(format_args!("cycle beside {}", count(bench.backlog as f64)), &beside_large.cycle);
    report.judge(
        format_args!("cycle beside {}", count(bench.backlog as f64)),
        (Bound::AtMost(1.5), Unit::Seconds),
        format_args!("(beside {})", count(SMALL_BACKLOG as f64)),
        &rounds,
    );
    Ok(())
}

/// Asks for the status, which has to count `pending` tasks, and gives the server's age then.
fn status(client: &mut Client, pending: u64) -> io::Result<Duration> {
    let counted = client.ask_number("p2p_scheduler_status", "pending_tasks")?;
    if counted != Some(pending) {
        return Err(io::Error::other(format!(
            "the status counts {counted:?} pending tasks where {pending} are waiting"
        )));
    }
    Ok(client.age())
}

/// Several starts, each timed from before the process is made.
struct Starts {
    /// To the answer of `initialize`.
    initialize: Series,
    /// To the answer of the first status.
    status: Series,
}

impl Starts {
    /// Starts and stops a server several times; `first_status` gives the age it answered at.
    fn measure(
        bench: &Bench,
        start: impl Fn(usize) -> io::Result<Client>,
        first_status: impl Fn(&mut Client) -> io::Result<Duration>,
    ) -> io::Result<Self> {
        let began = Instant::now();
        let (mut initialize, mut status) = (Vec::new(), Vec::new());
        for time in 0..bench.starts {
            let mut client = start(time)?;
            initialize.push(client.initialized_in);
            status.push(first_status(&mut client)?);
            client.stop()?;
        }
        let elapsed = began.elapsed();
        Ok(Self {
            initialize: Series::round(initialize, elapsed),
            status: Series::round(status, elapsed),
        })
    }

    fn judge(&self, report: &mut Report, store: &str, limit: Duration) {
        for (answer, times) in [("initialize", &self.initialize), ("first status", &self.status)] {
            let starts: Vec<_> =
                times.latencies().iter().map(|&time| Compared::times(limit, time)).collect();
            report.judge(
                format_args!("start to {answer}, {store}"),
                (Bound::AtMost(1.0), Unit::Seconds),
                "",
                &starts,
            );
        }
    }
}
