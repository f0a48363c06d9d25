//! Lines for scripts and logs: `TIME totals …`, `TIME workflow ID …`, `TIME task ID …`.
//!
//! A line says `key=value` for each fact; ids and texts are JSON strings where they are not plain
//! words, so that a line is a line whatever they hold. What the node shows is bounded, so at most a
//! hundred lines of each kind come at once.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::Duration;

use p2p_workflow_scheduler::node::process::Requests;
use tokio_util::sync::CancellationToken;

use super::data::{self, Counts, Look, Overview, State, Task, Workflow};
use crate::cli::{Failure, render};
use crate::client::Client;

/// Prints changes until Ctrl-C.
pub(super) async fn run(
    mut client: Client,
    stop: &CancellationToken,
    look: &Look,
    every: Duration,
) -> Result<(), Failure> {
    let mut signals = Requests::watch()
        .map_err(|error| Failure::Failed(format!("signals cannot be watched: {error}")))?;
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut seen = Seen::default();
    loop {
        let look = async {
            ticks.tick().await;
            data::overview(&mut client, look).await
        };
        let overview = tokio::select! {
            overview = look => overview?,
            _ = signals.next() => return Ok(()),
            () = stop.cancelled() => return Err(super::stopped()),
        };
        if !print(&seen.changes(&overview, render::now()))? {
            return Ok(());
        }
    }
}

/// Prints lines; false once nobody reads them any more.
fn print(lines: &str) -> Result<bool, Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(lines.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::Failed(format!("cannot write to stdout: {error}"))),
    }
}

/// All lines of how it stands.
pub(super) fn snapshot(overview: &Overview) -> String {
    let now = render::now();
    let time = time(now);
    let mut lines = format!("{time} {}\n", totals(overview));
    for workflow in &overview.workflows {
        lines += &format!("{time} {}\n", of_workflow(workflow));
    }
    for task in &overview.tasks {
        lines += &format!("{time} {}\n", of_task(task));
    }
    if overview.more_tasks {
        lines += &format!("{time} more tasks than are shown\n");
    }
    lines
}

/// What was printed last of each.
#[derive(Default)]
struct Seen {
    totals: String,
    tasks: BTreeMap<String, String>,
}

impl Seen {
    /// The lines that are others than before.
    fn changes(&mut self, overview: &Overview, now: u64) -> String {
        let time = time(now);
        let mut lines = String::new();
        let totals = totals(overview);
        if totals != self.totals {
            lines += &format!("{time} {totals}\n");
            self.totals = totals;
        }
        let mut tasks = BTreeMap::new();
        for task in &overview.tasks {
            let line = of_task(task);
            if self.tasks.get(&task.task_id.known) != Some(&line) {
                lines += &format!("{time} {line}\n");
            }
            tasks.insert(task.task_id.known.clone(), line);
        }
        self.tasks = tasks;
        lines
    }
}

fn totals(overview: &Overview) -> String {
    let workflows = overview.known_workflows;
    format!("totals {} workflows={workflows}", counts(&overview.counts))
}

fn counts(counts: &Counts) -> String {
    State::ALL.map(|state| format!("{}={}", state.word(), counts.of(state))).join(" ")
}

fn of_workflow(workflow: &Workflow) -> String {
    format!("workflow {} {}", quoted(&workflow.workflow_id.shown), counts(&workflow.counts))
}

fn of_task(task: &Task) -> String {
    let mut line = format!(
        "task {} workflow={} state={} attempt={}",
        quoted(&task.task_id.shown),
        quoted(&task.workflow_id),
        task.state.word(),
        task.attempt
    );
    let facts = [("worker", &task.worker), ("peer", &task.assigned_peer), ("text", &task.text)];
    for (key, value) in facts {
        if let Some(value) = value {
            line += &format!(" {key}={}", quoted(value));
        }
    }
    if let Some(since) = task.held_since {
        line += &format!(" since={}", time(since));
    }
    line
}

/// A word as it is, anything else as a JSON string.
fn quoted(text: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "-_.:/@+".contains(c);
    match !text.is_empty() && text.chars().all(is_plain) {
        true => text.to_owned(),
        false => serde_json::Value::from(text).to_string(),
    }
}

/// `2026-01-31T23:59:59Z`. Days are turned into a date as in Howard Hinnant's `civil_from_days`
/// (howardhinnant.github.io/date_algorithms.html), in which a year begins in March.
fn time(millis: u64) -> String {
    let seconds = millis / 1000;
    let (days, second) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::super::data::testing::{counts, task, workflow};
    use super::*;

    #[test]
    fn times_are_dates_in_utc() {
        for (millis, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399_999, "2000-02-28T23:59:59Z"),
            (951_782_400_000, "2000-02-29T00:00:00Z"),
            (1_767_225_599_000, "2025-12-31T23:59:59Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(time(millis), expected);
        }
    }

    #[test]
    fn only_what_changed_is_printed() {
        let mut overview = Overview {
            counts: counts([0, 0, 2, 0, 0, 0]),
            known_workflows: 1,
            tasks: vec![task("a", State::Pending), task("b", State::Pending)],
            ..Overview::default()
        };
        let mut seen = Seen::default();
        let first = seen.changes(&overview, 0);
        assert_eq!(
            first,
            "1970-01-01T00:00:00Z totals assigned=0 failed=0 pending=2 blocked=0 completed=0 cancelled=0 workflows=1\n\
             1970-01-01T00:00:00Z task a workflow=w state=pending attempt=1\n\
             1970-01-01T00:00:00Z task b workflow=w state=pending attempt=1\n"
        );
        assert_eq!(seen.changes(&overview, 1000), "");
        overview.tasks[1].state = State::Assigned;
        overview.tasks[1].worker = Some("worker-1".into());
        overview.tasks[1].held_since = Some(1000);
        assert_eq!(
            seen.changes(&overview, 2000),
            "1970-01-01T00:00:02Z task b workflow=w state=assigned attempt=1 worker=worker-1 \
             since=1970-01-01T00:00:01Z\n"
        );
    }

    #[test]
    fn a_line_is_a_line_whatever_a_name_holds() {
        for (text, expected) in
            [("a-1", "a-1"), ("", "\"\""), ("a b=\"c\"", r#""a b=\"c\"""#), ("任务", "任务")]
        {
            assert_eq!(quoted(text), expected);
        }
        let overview = Overview {
            workflows: vec![workflow("two\nlines", [0; 6])],
            tasks: vec![task("x state=failed", State::Pending)],
            more_tasks: true,
            ..Overview::default()
        };
        let lines = snapshot(&overview);
        assert_eq!(lines.lines().count(), 4, "{lines}");
        assert!(lines.contains(" workflow \"two lines\" assigned=0"), "{lines}");
        assert!(lines.contains(" task \"x state=failed\" workflow=w"), "{lines}");
    }
}
