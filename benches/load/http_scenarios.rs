//! The scenarios over HTTP.

use std::io;
use std::thread;
use std::time::Instant;

use crate::bench::{Bench, Durability};
use crate::disk::SyncFloor;
use crate::floor;
use crate::http::{self, HttpServer, http_calls};
use crate::machine;
use crate::report::{Bound, Compared, Report, Unit, count, mebibytes};
use crate::series::Series;

/// As many as the server admits.
const SESSIONS: usize = 64;
/// Beyond the ids of the caller that reads.
const FIRST_UNREAD_ID: u64 = 1_000;
/// What a flood may cost, in bytes.
const MAX_FLOOD_MEMORY: f64 = 100e6;

/// One caller on one connection: a call that writes nothing, a durable one, one without a session.
pub(crate) fn one_caller(bench: &Bench, report: &mut Report) -> io::Result<()> {
    let mut disk = SyncFloor::appending(bench.dir.path())?;
    let floor_server = HttpServer::start(&mut http::command()?)?;
    let product_server = bench.http_product("http", Durability::Durable)?;
    let (mut floor, mut product) = (floor_server.session()?, product_server.session()?);
    let mut series = [(); 5].map(|()| Series::default());
    let mut rounds = [(); 3].map(|()| Vec::new());
    let mut submitted = 0u64;
    for _ in 0..bench.rounds {
        let sync = disk.round(bench.round)?;
        let trivial = http_calls(bench.round, || {
            floor.call(floor::TOOL, format_args!("{}", floor::ARGUMENTS))
        })?;
        let clock =
            http_calls(bench.round, || product.call("p2p_get_merkle_clock", format_args!("")))?;
        let alone = http_calls(bench.round, || {
            product.call_alone("p2p_get_merkle_clock", format_args!(""))
        })?;
        let submit = http_calls(bench.round, || {
            submitted += 1;
            product.call(
                "p2p_submit_task",
                format_args!(
                    r#""task_id":"http-{submitted}","workflow_id":"load","name":"A task","tags":["p2p-only"]"#
                ),
            )
        })?;
        rounds[0].push(Compared::times(trivial.p50(), clock.p50()));
        rounds[1].push(Compared::times(trivial.p50(), alone.p50()));
        rounds[2].push(Compared::times(sync.p50() + trivial.p50(), submit.p50()));
        for (series, round) in series.iter_mut().zip([sync, trivial, clock, alone, submit]) {
            series.absorb(round);
        }
    }
    report.section("HTTP, one keep-alive connection");
    let names = [
        "append 400 bytes, sync",
        "trivial tool over HTTP",
        "p2p_get_merkle_clock",
        "the same without a session (2026-07-28)",
        "p2p_submit_task, durable",
    ];
    for (name, series) in names.iter().zip(&series) {
        report.series(name, series);
    }
    let bound = (Bound::AtMost(1.5), Unit::Seconds);
    report.judge("HTTP call", bound, "(trivial tool over HTTP)", &rounds[0]);
    report.judge("HTTP call without a session", bound, "(trivial tool over HTTP)", &rounds[1]);
    report.judge("HTTP call, durable", bound, "(sync + trivial tool over HTTP)", &rounds[2]);
    Ok(())
}

/// As many sessions as the server admits, each calling on its own.
pub(crate) fn many_sessions(bench: &Bench, report: &mut Report) -> io::Result<()> {
    let floor_server = HttpServer::start(&mut http::command()?)?;
    let product_server = bench.http_product("http-sessions", Durability::Durable)?;
    let (mut trivial, mut clock) = (Series::default(), Series::default());
    let (mut sessions, mut floors) = (Vec::new(), Vec::new());
    for _ in 0..SESSIONS {
        sessions.push(product_server.session()?);
        floors.push(floor_server.session()?);
    }
    for _ in 0..bench.rounds {
        trivial.absorb(side_by_side(bench, &mut floors, floor::TOOL, floor::ARGUMENTS)?);
        clock.absorb(side_by_side(bench, &mut sessions, "p2p_get_merkle_clock", "")?);
    }
    report.section(format_args!("HTTP, {SESSIONS} sessions at once"));
    report.series("trivial tool over HTTP", &trivial);
    report.series("p2p_get_merkle_clock", &clock);
    report.fact("peak memory", mebibytes(machine::peak_memory(product_server.pid())?));
    Ok(())
}

fn side_by_side(
    bench: &Bench,
    clients: &mut [http::HttpClient],
    tool: &str,
    arguments: &str,
) -> io::Result<Series> {
    let began = Instant::now();
    let mut latencies = Vec::new();
    thread::scope(|scope| {
        let threads: Vec<_> = clients
            .iter_mut()
            .map(|client| {
                scope.spawn(move || {
                    http_calls(bench.round, || client.call(tool, format_args!("{arguments}")))
                })
            })
            .collect();
        for thread in threads {
            let series = thread.join().map_err(|_| io::Error::other("a caller panicked"))??;
            latencies.extend_from_slice(series.latencies());
        }
        Ok(Series::round(latencies, began.elapsed()))
    })
}

/// Sessions that nobody ends, and calls whose answers nobody reads.
pub(crate) fn flood(bench: &Bench, report: &mut Report) -> io::Result<()> {
    let (sessions, calls) = if bench.rounds > 2 { (5_000, 200_000) } else { (100, 2_000) };
    let server = bench.http_product("http-flood", Durability::Relaxed)?;
    let mut reader = server.session()?;
    let mut opened = 0;
    for _ in 0..sessions {
        // The connection goes, the session stays. The server turns away what is too many.
        opened += usize::from(server.connect()?.initialize().is_ok());
    }
    // Pipelined: a connection takes as many calls as its buffers hold.
    let mut unread = Vec::new();
    let mut sent = 0u32;
    while sent < calls {
        let mut client = server.connect()?;
        client.leave_unread(&reader, FIRST_UNREAD_ID + u64::from(sent))?;
        let before = sent;
        while sent < calls && sent - before < 1_000 {
            match client.send_call("p2p_get_merkle_clock", format_args!("")) {
                Ok(()) => sent += 1,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        unread.push(client);
    }
    // The server goes on serving whoever reads.
    reader.call("p2p_get_merkle_clock", format_args!(""))?;
    let peak = machine::peak_memory(server.pid())?;
    report.section("HTTP, a flood");
    report.fact("sessions asked for and left", count(f64::from(sessions)));
    report.fact("  of them opened", opened);
    report.fact("calls sent and never read", count(f64::from(sent)));
    report.fact("  on connections", unread.len());
    report.judge(
        "memory in a flood",
        (Bound::AtMost(1.0), Unit::Bytes),
        "",
        &[Compared { floor: MAX_FLOOD_MEMORY, product: peak as f64 }],
    );
    Ok(())
}
