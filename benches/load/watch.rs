//! `p2p-workflow watch` on a full screen over a large queue that changes all the time: what it costs,
//! and what it costs the node.

use std::fs::File;
use std::io::{self, Read};
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags, open};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::bench::{Bench, Durability};
use crate::client::{Client, MAX_SLOTS};
use crate::cycles::cycles;
use crate::machine::processor_time;
use crate::report::{Bound, Compared, Report, Unit, count};

/// What is asked, as a part of one core.
const PART_OF_A_CORE: f64 = 0.03;
/// Tasks that wait, and the workflows that they are in.
const TASKS: u64 = 100_000;
const WORKFLOWS: u64 = 1_000;
/// Cycles begun at once, each of three changes, and how often: 1,000 changes a second.
const CYCLES: usize = 4;
const EVERY: Duration = Duration::from_millis(12);
/// How long each is looked at, in the rounds of other scenarios: 10 seconds.
const ROUNDS_LONG: u32 = 25;
const ROUNDS: usize = 3;
/// Columns and lines.
const SIZE: (u16, u16) = (200, 50);
const STORE: &str = "watch";

/// The same changes with nobody watching and with one who does, in turns.
pub(crate) fn watch(bench: &Bench, report: &mut Report) -> io::Result<()> {
    let mut product = bench.product(STORE, Durability::Durable)?;
    // Not in proportion to a shortened backlog: --quick only shows that it runs.
    let tasks = TASKS.min(bench.backlog);
    load(&mut product, tasks)?;
    let length = bench.round * ROUNDS_LONG;
    let (mut shares, mut alone, mut watched, mut drawn) = (Vec::new(), 0.0, 0.0, 0);
    let mut changes = 0;
    for _ in 0..ROUNDS {
        alone += change(&mut product, length)?.1;
        let screen = Screen::start(bench)?;
        let (bytes, used) = (screen.drawn(), processor_time(screen.child.id())?);
        let began = Instant::now();
        let (done, node) = change(&mut product, length)?;
        let part = (processor_time(screen.child.id())? - used).as_secs_f64();
        shares.push(Compared {
            floor: PART_OF_A_CORE,
            product: part / began.elapsed().as_secs_f64(),
        });
        watched += node;
        changes += done;
        drawn += screen.drawn() - bytes;
        screen.stop()?;
    }
    let seconds = length.as_secs_f64() * ROUNDS as f64;
    report.section(format_args!(
        "watch, {} tasks in {WORKFLOWS} workflows, {} by {}",
        count(tasks as f64),
        SIZE.0,
        SIZE.1
    ));
    report.fact("changes a second", count(changes as f64 / seconds));
    report.fact("written to the terminal", count(drawn as f64 / seconds).to_string() + " bytes/s");
    for (what, part) in [("the node, nobody watching", alone), ("the node, watched", watched)] {
        report.fact(what, format_args!("{:.1} % of a core", 100.0 * part / ROUNDS as f64));
    }
    report.judge("watch, its own process", (Bound::AtMost(1.0), Unit::PartOfACore), "", &shares);
    product.stop()
}

fn load(client: &mut Client, tasks: u64) -> io::Result<()> {
    let mut next = 0;
    client.drive(MAX_SLOTS, |slot, _, requests| {
        if next < tasks {
            let workflow = next % WORKFLOWS;
            requests.call(
                slot,
                "p2p_submit_task",
                format_args!(
                    r#""task_id":"watched-{next}","workflow_id":"workflow-{workflow}","name":"Watch one task","tags":["p2p-only"]"#
                ),
            );
            next += 1;
        }
        Ok(())
    })
}

/// Changes tasks at the pace that is asked. Returns how many changes that were, and the part of a
/// core that the node used.
fn change(product: &mut Client, length: Duration) -> io::Result<(u64, f64)> {
    let used = processor_time(product.pid())?;
    let began = Instant::now();
    let mut changes = 0;
    while began.elapsed() < length {
        let next = EVERY * (changes as u32 / (3 * CYCLES as u32));
        thread::sleep(next.saturating_sub(began.elapsed()));
        cycles(product, CYCLES, Duration::ZERO)?;
        changes += 3 * CYCLES as u64;
    }
    let used = (processor_time(product.pid())? - used).as_secs_f64();
    Ok((changes, used / began.elapsed().as_secs_f64()))
}

/// A pseudo-terminal with `watch` in it, and somebody who reads what is drawn.
struct Screen {
    child: Child,
    drawn: Arc<AtomicU64>,
}

impl Screen {
    /// Starts it, and waits until something was drawn.
    fn start(bench: &Bench) -> io::Result<Self> {
        let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
        grantpt(&controller)?;
        unlockpt(&controller)?;
        let name = ptsname(&controller, Vec::new())?;
        let line = open(name, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())?;
        let (ws_col, ws_row) = SIZE;
        tcsetwinsize(&line, Winsize { ws_row, ws_col, ws_xpixel: 0, ws_ypixel: 0 })?;
        let mut command = Command::new(&bench.server);
        command.args(["p2p-workflow", "watch", "--data-dir"]).arg(bench.dir.path().join(STORE));
        let (stdin, stdout) = (line.try_clone()?, line.try_clone()?);
        let child = command.stdin(stdin).stdout(stdout).stderr(line).spawn()?;
        drop(command);
        let screen = Screen { child, drawn: Arc::default() };
        let drawn = screen.drawn.clone();
        thread::spawn(move || {
            let (mut controller, mut bytes) = (File::from(controller), [0; 16 * 1024]);
            while let Ok(count @ 1..) = controller.read(&mut bytes) {
                drawn.fetch_add(count as u64, Ordering::Relaxed);
            }
        });
        while screen.drawn() < 4096 {
            thread::sleep(EVERY);
        }
        Ok(screen)
    }

    fn drawn(&self) -> u64 {
        self.drawn.load(Ordering::Relaxed)
    }

    fn stop(mut self) -> io::Result<()> {
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        match self.child.wait()?.success() {
            true => Ok(()),
            false => Err(io::Error::other("watch did not end in order")),
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // Both fail where it ended already, as it does where all went well.
        let _ended = self.child.kill();
        let _ended = self.child.wait();
    }
}
