//! `p2p-workflow work -- true` over a queue of tasks, beside starting as many processes and no more.

use std::io;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use crate::bench::{Bench, Durability};
use crate::cycles::load;
use crate::report::{Bound, Compared, Report, Unit, count};

/// Commands at once.
const CONCURRENCY: u64 = 8;
/// What is asked.
const TASKS_PER_SECOND: f64 = 300.0;
/// Tasks in a round, for each of the round's seconds.
const TASKS: f64 = 1_000.0;

/// Drains a queue with the smallest command there is. The worker is the node itself.
pub(crate) fn work(bench: &Bench, report: &mut Report) -> io::Result<()> {
    let tasks = (TASKS * bench.round.as_secs_f64()).ceil() as u64;
    let (mut floors, mut rates, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..bench.rounds {
        let store = format!("work-{round}");
        let mut product = bench.product(&store, Durability::Durable)?;
        load(&mut product, tasks)?;
        product.stop()?;
        let processes = start_processes(tasks)?;
        let began = Instant::now();
        drain(bench, &store, tasks)?;
        let rate = tasks as f64 / began.elapsed().as_secs_f64();
        floors.push(processes);
        rates.push(Compared { floor: TASKS_PER_SECOND, product: rate });
        ratios.push(rate / processes);
    }
    let median = |mut figures: Vec<f64>| {
        figures.sort_by(f64::total_cmp);
        figures[figures.len() / 2]
    };

    report.section(format_args!("work -- true, {CONCURRENCY} at once, durable"));
    let floor = median(floors);
    report.fact("fork, exec and wait for `true`, as many at once", count(floor).to_string() + "/s");
    report.fact("tasks a second, as a part of that", format_args!("{:.2}", median(ratios)));
    report.judge(
        format_args!("work, {CONCURRENCY} at once"),
        (Bound::AtLeast(1.0), Unit::TasksPerSecond),
        "",
        &rates,
    );
    Ok(())
}

/// Runs the worker from its start to its end.
fn drain(bench: &Bench, store: &str, tasks: u64) -> io::Result<()> {
    let mut command = Command::new(&bench.server);
    command.args(["p2p-workflow", "work", "--drain", "--json", "--concurrency"]);
    command.arg(CONCURRENCY.to_string()).arg("--data-dir").arg(bench.dir.path().join(store));
    let output = command.args(["--", "true"]).stderr(Stdio::null()).output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    match said.contains(&format!("\"completed\":{tasks},")) {
        true => Ok(()),
        false => Err(io::Error::other(format!("not all tasks were completed: {said}"))),
    }
}

/// Starts so many processes and waits for each, and says how many a second that was.
fn start_processes(count: u64) -> io::Result<f64> {
    let left = AtomicU64::new(count);
    let began = Instant::now();
    let start_until_done = || {
        let take = |left: u64| left.checked_sub(1);
        while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok() {
            Command::new("true").stdin(Stdio::null()).stdout(Stdio::null()).status()?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..CONCURRENCY).map(|_| scope.spawn(start_until_done)).collect();
        let ended = threads.into_iter().map(|thread| {
            thread.join().unwrap_or_else(|_| Err(io::Error::other("a thread panicked")))
        });
        ended.collect::<io::Result<()>>()
    })?;
    Ok(count as f64 / began.elapsed().as_secs_f64())
}
