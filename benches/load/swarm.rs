//! Several nodes on this machine, each with a store of its own, in one swarm.
//!
//! They take the machine's few CPUs from each other and share its disk, which machines of their own
//! would not. So beside what a caller meets, a node's own processor time is told.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::thread;
use std::time::{Duration, Instant};

use crate::bench::{Bench, Durability};
use crate::client::{Client, Heard};
use crate::cycles::{complete, follow, submit};
use crate::disk::SyncFloor;
use crate::machine;
use crate::report::{Bound, Compared, Report, Time, Unit};
use crate::scenarios::MANY;
use crate::series::Series;

/// After this a swarm is not expected to come together any more.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at what is waited for.
const LOOK: Duration = Duration::from_millis(5);

/// How soon a task is seen at each of the other nodes: from the submission until a subscriber there
/// was told of it, asked, and was shown it, which happens only once it is on that node's disk too.
pub(crate) fn propagation(bench: &Bench, report: &mut Report) -> io::Result<()> {
    const NODES: usize = 5;
    const ASKED: Duration = Duration::from_millis(10);
    /// Rounds are longer by this factor: a round of the usual length has room for two tasks.
    const TASKS: u32 = 4;

    let mut disk = SyncFloor::appending(bench.dir.path())?;
    let mut loopback = Loopback::new()?;
    let mut nodes = swarm(bench, "propagation", NODES, Durability::Durable)?;
    let connections = connections(bench, "propagation-1", NODES - 1)?;
    let (mut syncs, mut trips, mut seen) =
        (Series::default(), Series::default(), Series::default());
    let mut rounds = Vec::new();
    for _ in 0..bench.rounds {
        let (sync, trip) = (disk.round(bench.round)?, loopback.round(bench.round)?);
        nodes.rotate_left(1);
        let round = spread(&mut nodes, bench.round * TASKS)?;
        rounds.push(Compared::times(ASKED, round.p50()));
        syncs.absorb(sync);
        trips.absorb(trip);
        seen.absorb(round);
    }
    nodes.into_iter().try_for_each(Client::stop)?;

    report.section(format_args!(
        "A submission, until it is shown at each of {} other nodes",
        NODES - 1
    ));
    report.fact("connections of one that joined", connections);
    report.series("append 400 bytes, sync", &syncs);
    report.series("1 KiB there and back over loopback TCP", &trips);
    report.series("shown", &seen);
    let floor = syncs.p50() + trips.p50();
    let times = seen.p50().as_secs_f64() / floor.as_secs_f64();
    report.fact("times (sync + round trip)", format_args!("{times:.1} × {}", Time(floor)));
    report.judge(
        format_args!("a submission is shown at {} nodes", NODES - 1),
        (Bound::AtMost(1.0), Unit::Seconds),
        "",
        &rounds,
    );
    Ok(())
}

/// How many nodes a node is connected to, once that is all or does not rise any more: to others than
/// the first only where mDNS finds them, which takes a network that multicasts.
fn connections(bench: &Bench, store: &str, all: usize) -> io::Result<usize> {
    const DISCOVERY: Duration = Duration::from_secs(10);
    let began = Instant::now();
    loop {
        let peers = bench.run(store, &["swarm", "peers", "--json"])?;
        let connected = peers.matches(r#""connected":true"#).count();
        if connected >= all || began.elapsed() > DISCOVERY {
            return Ok(connected);
        }
        thread::sleep(LOOK);
    }
}

/// Submits one task after the other at the first node. The latencies are those of each other node.
///
/// A session is told of changes at most every 100 ms, so each task comes after a longer pause.
fn spread(nodes: &mut [Client], round: Duration) -> io::Result<Series> {
    const PAUSE: Duration = Duration::from_millis(150);

    let began = Instant::now();
    let mut latencies = Vec::new();
    let (first, others) = nodes.split_first_mut().ok_or(io::ErrorKind::InvalidInput)?;
    while began.elapsed() < round {
        let mut task = 0;
        for other in &mut *others {
            task = follow(other, 1, None)?;
        }
        thread::sleep(PAUSE);
        let sent = Instant::now();
        first.drive(1, |slot, answer, requests| {
            if answer.is_none() {
                submit(slot, requests, "");
            }
            Ok(())
        })?;
        let mut told = vec![false; others.len()];
        let mut left = others.len();
        while left > 0 {
            let at = machine::first_readable(others.iter().map(AsFd::as_fd))?;
            others[at].hear(|heard, requests| {
                match heard {
                    Heard::Notice if !told[at] => {
                        told[at] = true;
                        let uri = format_args!(r#""uri":"p2p://tasks/load-{task}""#);
                        requests.request(0, "resources/read", uri);
                    }
                    Heard::Notice => {}
                    Heard::Answer => {
                        latencies.push(sent.elapsed());
                        left -= 1;
                    }
                }
                Ok(())
            })?;
        }
        for other in &mut *others {
            follow(other, 1, Some(task))?;
        }
    }
    Ok(Series::round(latencies, began.elapsed()))
}

/// What two attached peers cost a node that does the same work alone.
///
/// Of what is handed in at one of three nodes it owns a third, so a third is taken and completed
/// there. Alone as many can be taken: the others require what no worker has.
pub(crate) fn attached(bench: &Bench, report: &mut Report) -> io::Result<()> {
    for (durability, name) in [(Durability::Durable, "durable"), (Durability::Relaxed, "relaxed")] {
        let mut alone = bench.product(&format!("alone-{name}"), durability)?;
        let mut nodes = swarm(bench, &format!("attached-{name}"), 3, durability)?;
        report.section(format_args!("A node with two peers attached, {name}"));
        for slots in [1, MANY] {
            let (mut by_itself, mut with_peers) = (Mixed::default(), Mixed::default());
            let (mut rounds, mut others) = (Vec::new(), Duration::ZERO);
            for _ in 0..bench.rounds {
                let without = mixed(&mut alone, slots, bench.round, A_THIRD)?;
                let before = processor_time(&nodes[1..])?;
                let with = mixed(&mut nodes[0], slots, bench.round, ALL)?;
                others += processor_time(&nodes[1..])?.saturating_sub(before);
                rounds.push(Compared {
                    floor: without.calls.per_second(),
                    product: with.calls.per_second(),
                });
                by_itself.absorb(without);
                with_peers.absorb(with);
            }
            let caught_up = in_sync(&mut nodes[0])?;
            report.series(format_args!("call, {slots} in flight, alone"), &by_itself.calls);
            report.series(format_args!("call, {slots} in flight, two peers"), &with_peers.calls);
            report.fact(
                "  the node's processor time a call, both",
                format_args!("{} {}", Time(by_itself.of_a_call()), Time(with_peers.of_a_call())),
            );
            let of_a_call = others / with_peers.count.max(1);
            report.fact("  its peers' processor time a call, together", Time(of_a_call));
            report.fact("  the peers had all of it after", Time(caught_up));
            report.judge(
                format_args!("two peers attached, {name}, {slots} in flight"),
                (Bound::AtLeast(0.85), Unit::CallsPerSecond),
                "(alone)",
                &rounds,
            );
        }
        alone.stop()?;
        nodes.into_iter().try_for_each(Client::stop)?;
    }
    Ok(())
}

/// Which of the tasks handed in can be taken by a worker without capabilities: one in so many.
const ALL: u64 = 1;
const A_THIRD: u64 = 3;

/// Calls of all kinds, and what they cost the server.
#[derive(Default)]
struct Mixed {
    calls: Series,
    count: u32,
    processor: Duration,
}

impl Mixed {
    fn absorb(&mut self, other: Self) {
        self.calls.absorb(other.calls);
        self.count += other.count;
        self.processor += other.processor;
    }

    fn of_a_call(&self) -> Duration {
        self.processor / self.count.max(1)
    }
}

/// Hands tasks in, takes what there is to be taken and completes it, for the length of a round.
fn mixed(client: &mut Client, slots: usize, round: Duration, takeable: u64) -> io::Result<Mixed> {
    enum Stage {
        Submit,
        Next,
        Complete,
    }
    const NOT_HERE: &str = r#","requires":["another machine"]"#;

    let before = machine::processor_time(client.pid())?;
    let began = Instant::now();
    let mut stages: Vec<_> = (0..slots).map(|_| (Stage::Complete, began)).collect();
    let (mut submitted, mut latencies) = (0, Vec::new());
    client.drive(slots, |slot, answer, requests| {
        let now = Instant::now();
        let (stage, sent) = &mut stages[slot];
        latencies.extend(answer.map(|_| now - *sent));
        *sent = now;
        *stage = match (&*stage, answer) {
            (Stage::Submit, _) => {
                requests.call(slot, "p2p_get_next_task", format_args!(""));
                Stage::Next
            }
            (Stage::Next, Some(answer)) if answer.string("task_id").is_some() => {
                complete(slot, answer, requests)?;
                Stage::Complete
            }
            (Stage::Next | Stage::Complete, _) if now - began < round => {
                submitted += 1;
                let more = if submitted % takeable == 0 { "" } else { NOT_HERE };
                submit(slot, requests, more);
                Stage::Submit
            }
            (Stage::Next | Stage::Complete, _) => Stage::Complete,
        };
        Ok(())
    })?;
    let count = u32::try_from(latencies.len()).map_err(io::Error::other)?;
    let processor = machine::processor_time(client.pid())?.saturating_sub(before);
    Ok(Mixed { calls: Series::round(latencies, began.elapsed()), count, processor })
}

/// What nodes used of the processors so far, together.
fn processor_time(nodes: &[Client]) -> io::Result<Duration> {
    nodes.iter().map(|node| machine::processor_time(node.pid())).sum()
}

/// Waits until a node's peers hold what it holds, and returns how long that took.
fn in_sync(node: &mut Client) -> io::Result<Duration> {
    let began = Instant::now();
    until("the peers hold the same", || node.says("p2p_scheduler_status", r#""in_sync":true"#))?;
    Ok(began.elapsed())
}

/// Starts nodes that are in one swarm, each connected to the first.
fn swarm(
    bench: &Bench,
    name: &str,
    count: usize,
    durability: Durability,
) -> io::Result<Vec<Client>> {
    let stores: Vec<String> = (0..count).map(|number| format!("{name}-{number}")).collect();
    let nodes = stores.iter().map(|store| bench.product(store, durability));
    let mut nodes = nodes.collect::<io::Result<Vec<Client>>>()?;
    bench.run(&stores[0], &["swarm", "init"])?;
    let line = bench.run(&stores[0], &["swarm", "invite"])?;
    for store in &stores[1..] {
        bench.run(store, &["swarm", "join", line.trim()])?;
    }
    let alive = format!(r#""alive_peers":{count},"#);
    for node in &mut nodes {
        until("all nodes hear of each other", || node.says("p2p_scheduler_status", &alive))?;
    }
    Ok(nodes)
}

/// Waits for something.
fn until(what: &str, mut holds: impl FnMut() -> io::Result<bool>) -> io::Result<()> {
    let began = Instant::now();
    while !holds()? {
        if began.elapsed() > PATIENCE {
            return Err(io::Error::other(format!("in {PATIENCE:?} it did not come that {what}")));
        }
        thread::sleep(LOOK);
    }
    Ok(())
}

/// The floor under what passes between two nodes: a message there and back over TCP.
struct Loopback(TcpStream);

/// About what a pushed record takes.
const MESSAGE: [u8; 1024] = [b'x'; 1024];

impl Loopback {
    fn new() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let stream = TcpStream::connect(listener.local_addr()?)?;
        let (mut other, _) = listener.accept()?;
        for end in [&stream, &other] {
            end.set_nodelay(true)?;
        }
        // It ends with the stream.
        thread::spawn(move || {
            let mut message = MESSAGE;
            while other.read_exact(&mut message).and_then(|()| other.write_all(&message)).is_ok() {}
        });
        Ok(Loopback(stream))
    }

    fn round(&mut self, round: Duration) -> io::Result<Series> {
        let (mut latencies, mut message) = (Vec::new(), MESSAGE);
        let began = Instant::now();
        while began.elapsed() < round {
            let sent = Instant::now();
            self.0.write_all(&message)?;
            self.0.read_exact(&mut message)?;
            latencies.push(sent.elapsed());
        }
        Ok(Series::round(latencies, began.elapsed()))
    }
}
