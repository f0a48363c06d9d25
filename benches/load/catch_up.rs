//! Catching up: a machine with an empty store joins one with many tasks.
//!
//! The floor is what the disk takes of the same records without any network: one process that
//! commits them to a store, as many at a time as a page of a pull has.

use std::io;
use std::time::{Duration, Instant};

use p2p_workflow_scheduler::scheduler::{
    Config, Now, P2PTask, P2PWorkflowScheduler, TagSet, limits::MAX_CARRIED,
};
use p2p_workflow_scheduler::store::{self, Store};

use crate::bench::{Bench, Durability};
use crate::client::Client;
use crate::cycles::load;
use crate::machine;
use crate::report::{Bound, Compared, Report, Time, Unit, count, mebibytes};

/// Tasks a second that are asked for.
const ASKED: f64 = 50_000.0;

/// Between two looks at both machines.
const LOOK: Duration = Duration::from_millis(50);

/// Joins an empty store to a full one, and waits until both hold the same.
pub(crate) fn catch_up(bench: &Bench, report: &mut Report) -> io::Result<()> {
    report.section(format_args!("Catching up with {} tasks", count(bench.backlog as f64)));
    let floor = floor(bench)?;
    report.fact("the same records into a store", format_args!("{}/s", count(floor)));

    let mut full = bench.product("full", Durability::Durable)?;
    load(&mut full, bench.backlog)?;
    swarm(&mut full, "init", "", |_| Ok(()))?;
    let mut line = None;
    swarm(&mut full, "invite", "", |answer| {
        line = answer.string("line").map(str::to_owned);
        Ok(())
    })?;
    let line = line.ok_or_else(|| io::Error::other("no invitation came"))?;
    let mut empty = bench.product("empty", Durability::Durable)?;
    let before = [machine::resident_memory(full.pid())?, machine::resident_memory(empty.pid())?];

    let began = Instant::now();
    swarm(&mut empty, "join", &format!(r#""line":"{line}""#), |_| Ok(()))?;
    let (mut looks, mut lapses) = (0, 0);
    let mut slowest = Duration::ZERO;
    loop {
        let asked = Instant::now();
        let pending = empty.ask_number("p2p_scheduler_status", "pending_tasks")?;
        slowest = slowest.max(asked.elapsed());
        if pending == Some(bench.backlog) {
            break;
        }
        for machine in [&mut full, &mut empty] {
            looks += 1;
            lapses += usize::from(sees_a_lapse(machine)?);
        }
        std::thread::sleep(LOOK);
    }
    let elapsed = began.elapsed();

    let rate = bench.backlog as f64 / elapsed.as_secs_f64();
    report.fact("caught up in", Time(elapsed));
    report.fact("of what the store alone takes", format_args!("{:.2}", rate / floor));
    report.fact("slowest status meanwhile", Time(slowest));
    report.fact("looks that saw the other suspect", format_args!("{lapses} of {looks}"));
    for (machine, client, before) in [("from", &full, before[0]), ("to", &empty, before[1])] {
        let (peak, now) =
            (machine::peak_memory(client.pid())?, machine::resident_memory(client.pid())?);
        report.fact(
            format_args!("memory, {machine}: before, at its peak, after"),
            format_args!("{}, {}, {}", mebibytes(before), mebibytes(peak), mebibytes(now)),
        );
    }
    report.judge(
        "catching up",
        (Bound::AtLeast(1.0), Unit::TasksPerSecond),
        "",
        &[Compared { floor: ASKED, product: rate }],
    );
    empty.stop()?;
    full.stop()
}

/// Tasks that one process commits to a store in a second.
fn floor(bench: &Bench) -> io::Result<f64> {
    let folder = bench.dir.path().join("floor");
    std::fs::create_dir_all(&folder)?;
    let options =
        store::Options { durability: store::Durability::Full, peer_id: "peer", restored: false };
    let mut store = Store::open(&folder, options).map_err(io::Error::other)?;
    let actor = store.actor().clone();
    let mut scheduler =
        P2PWorkflowScheduler::new("peer", &actor, Config::default(), Box::new(|| 0));
    let mut spent = Duration::ZERO;
    let mut made = 0;
    while made < bench.backlog {
        let until = bench.backlog.min(made + MAX_CARRIED as u64);
        for number in made..until {
            let payload = format!(
                r#"{{"repository":"example/scheduler","run":{number},"steps":["check","build","test"]}}"#
            );
            let id = format!("load-{number}");
            let task = P2PTask {
                payload: Some(payload),
                ..P2PTask::new(&id, "load", "Measure one task", TagSet::default())
            };
            scheduler.submit(Now::default(), task).map_err(io::Error::other)?;
        }
        made = until;
        let changes = scheduler.take_changes();
        let began = Instant::now();
        store.commit(&[changes]).map_err(io::Error::other)?;
        spent += began.elapsed();
    }
    store.close().map_err(io::Error::other)?;
    Ok(bench.backlog as f64 / spent.as_secs_f64())
}

/// Whether the machine holds another for suspect or down.
fn sees_a_lapse(machine: &mut Client) -> io::Result<bool> {
    let mut lapse = false;
    swarm(machine, "peers", "", |answer| {
        lapse = [r#""suspect""#, r#""down""#].iter().any(|state| answer.line().contains(state));
        Ok(())
    })?;
    Ok(lapse)
}

/// Makes one of people's commands on the swarm.
fn swarm(
    machine: &mut Client,
    command: &str,
    params: &str,
    mut with: impl FnMut(&crate::client::Answer<'_>) -> io::Result<()>,
) -> io::Result<()> {
    machine.drive(1, |slot, answer, requests| match answer {
        None => {
            let method = format!("ipfs-accelerate/swarm/{command}");
            requests.request(slot, &method, format_args!("{params}"));
            Ok(())
        }
        Some(answer) => with(answer),
    })
}
