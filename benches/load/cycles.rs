//! What a session does: plain calls, whole cycles (submit, next, complete), loading a backlog.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::client::{Answer, Client, MAX_SLOTS, Requests};
use crate::series::Series;

/// The latencies of cycles and of the three calls that each is made of.
#[derive(Default)]
pub(crate) struct Cycles {
    pub(crate) submit: Series,
    pub(crate) next: Series,
    pub(crate) complete: Series,
    /// From sending the submission to the answer of the completion.
    pub(crate) cycle: Series,
}

impl Cycles {
    /// All calls, whichever they are.
    pub(crate) fn calls(&self) -> Series {
        let mut calls = self.submit.clone();
        calls.absorb(self.next.clone());
        calls.absorb(self.complete.clone());
        calls
    }

    /// Adds the rounds of other cycles of the same kind.
    pub(crate) fn absorb(&mut self, other: Self) {
        self.submit.absorb(other.submit);
        self.next.absorb(other.next);
        self.complete.absorb(other.complete);
        self.cycle.absorb(other.cycle);
    }
}

/// Calls one tool over and over for the length of a round, `slots` calls in flight.
pub(crate) fn calls(
    client: &mut Client,
    slots: usize,
    round: Duration,
    tool: &str,
    arguments: &str,
) -> io::Result<Series> {
    let began = Instant::now();
    let mut sent = vec![began; slots];
    let mut latencies = Vec::new();
    client.drive(slots, |slot, answer, requests| {
        let now = Instant::now();
        if answer.is_some() {
            latencies.push(now - sent[slot]);
        }
        if now - began < round {
            sent[slot] = now;
            requests.call(slot, tool, format_args!("{arguments}"));
        }
        Ok(())
    })?;
    Ok(Series::round(latencies, began.elapsed()))
}

/// Runs cycles for the length of a round, `slots` of them under way.
///
/// A slot completes what it was given, which with several slots, or a backlog, is seldom what it
/// submitted itself. As each takes only after its own submission was answered, there is always
/// something to take.
pub(crate) fn cycles(client: &mut Client, slots: usize, round: Duration) -> io::Result<Cycles> {
    let began = Instant::now();
    let mut under_way: Vec<Cycle> = (0..slots).map(|_| Cycle::at(began)).collect();
    let mut latencies: [Vec<Duration>; 4] = Default::default();
    client.drive(slots, |slot, answer, requests| {
        let now = Instant::now();
        let cycle = &mut under_way[slot];
        let Some(answer) = answer else {
            *cycle = Cycle::submit(now, slot, requests);
            return Ok(());
        };
        latencies[cycle.stage as usize].push(now - cycle.sent);
        match cycle.stage {
            Stage::Submit => requests.call(slot, "p2p_get_next_task", format_args!("")),
            Stage::Next => complete(slot, answer, requests)?,
            Stage::Complete => {
                latencies[WHOLE].push(now - cycle.began);
                if now - began < round {
                    *cycle = Cycle::submit(now, slot, requests);
                }
                return Ok(());
            }
        }
        cycle.advance(now);
        Ok(())
    })?;
    let elapsed = began.elapsed();
    let [submit, next, complete, cycle] =
        latencies.map(|latencies| Series::round(latencies, elapsed));
    Ok(Cycles { submit, next, complete, cycle })
}

/// Submits `count` tasks, as many in flight as a session may have.
pub(crate) fn load(client: &mut Client, count: u64) -> io::Result<Series> {
    let began = Instant::now();
    let mut sent = vec![began; MAX_SLOTS];
    let mut latencies = Vec::new();
    let mut left = count;
    client.drive(MAX_SLOTS, |slot, answer, requests| {
        let now = Instant::now();
        if answer.is_some() {
            latencies.push(now - sent[slot]);
        }
        if left > 0 {
            left -= 1;
            sent[slot] = now;
            submit(slot, requests, "");
        }
        Ok(())
    })?;
    Ok(Series::round(latencies, began.elapsed()))
}

/// Where a slot is in its cycle.
struct Cycle {
    stage: Stage,
    began: Instant,
    sent: Instant,
}

/// The call that a cycle waits for; its number is the place of that call's latencies.
#[derive(Clone, Copy)]
enum Stage {
    Submit = 0,
    Next = 1,
    Complete = 2,
}

/// The place of the latencies of whole cycles.
const WHOLE: usize = 3;

impl Cycle {
    fn at(now: Instant) -> Self {
        Self { stage: Stage::Submit, began: now, sent: now }
    }

    fn submit(now: Instant, slot: usize, requests: &mut Requests) -> Self {
        submit(slot, requests, "");
        Self::at(now)
    }

    fn advance(&mut self, now: Instant) {
        self.sent = now;
        self.stage = match self.stage {
            Stage::Submit => Stage::Next,
            Stage::Next | Stage::Complete => Stage::Complete,
        };
    }
}

/// One sequence for the whole run: stores are reopened by later sessions.
static NEXT_TASK: AtomicU64 = AtomicU64::new(1);

/// Subscribes to, or leaves, that many resources: the tasks that come next. Returns the first one,
/// and takes it to leave the same.
pub(crate) fn follow(client: &mut Client, tasks: u64, left: Option<u64>) -> io::Result<u64> {
    let first = left.unwrap_or_else(|| NEXT_TASK.load(Ordering::Relaxed));
    let method = if left.is_some() { "resources/unsubscribe" } else { "resources/subscribe" };
    let mut next = first;
    client.drive(MAX_SLOTS, |slot, _, requests| {
        if next < first + tasks {
            requests.request(slot, method, format_args!(r#""uri":"p2p://tasks/load-{next}""#));
            next += 1;
        }
        Ok(())
    })?;
    Ok(first)
}

/// Submits a task like those that agents hand in: a short name, one tag, a small payload.
/// `more` are members of the JSON object, each after a comma.
pub(crate) fn submit(slot: usize, requests: &mut Requests, more: &str) {
    let task = NEXT_TASK.fetch_add(1, Ordering::Relaxed);
    requests.call(
        slot,
        "p2p_submit_task",
        format_args!(
            r#""task_id":"load-{task}","workflow_id":"load","name":"Measure one task","tags":["p2p-only"],"payload":{{"repository":"example/scheduler","run":{task},"steps":["check","build","test"]}}{more}"#
        ),
    );
}

/// Completes the task that an answer of `p2p_get_next_task` gives.
pub(crate) fn complete(
    slot: usize,
    answer: &Answer<'_>,
    requests: &mut Requests,
) -> io::Result<()> {
    let (Some(task), Some(fence)) = (answer.string("task_id"), answer.number("fence")) else {
        return Err(io::Error::other(format!(
            "no task to take, although one was submitted: {}",
            answer.line()
        )));
    };
    requests.call(
        slot,
        "p2p_mark_task_complete",
        format_args!(r#""task_id":"{task}","fence":{fence}"#),
    );
    Ok(())
}
