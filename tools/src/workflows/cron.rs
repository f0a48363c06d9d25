//! `on.schedule`: when a workflow's jobs are due, in UTC as on GitHub.
//!
//! Times are looked at minute by minute, which is what cron counts in: a window that ends now is
//! asked which of its minutes a line names. Time is an argument.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use chrono::{DateTime, SecondsFormat, Utc};
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};

use super::Remark;
use super::yaml::Node;

const MINUTE: i64 = 60;
/// Minutes that are made up for after a machine was busy or asleep. What was missed longer ago is
/// missed, as it is while nothing watches.
const LATEST_MINUTES: i64 = 5;

/// A point in time, in whole seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(i64);

impl Moment {
    pub(crate) fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Moment(i64::try_from(since.as_secs()).unwrap_or_default())
    }

    #[cfg(test)]
    pub(crate) fn at(seconds: i64) -> Self {
        Moment(seconds)
    }

    fn time(self) -> DateTime<Utc> {
        DateTime::from_timestamp(self.0, 0).unwrap_or_default()
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.time().to_rfc3339_opts(SecondsFormat::Secs, true))
    }
}

/// One cron line.
#[derive(Clone, Debug)]
pub(crate) struct Schedule(Cron);

impl Schedule {
    fn read(text: &str) -> Result<Self, String> {
        // What else the crate reads (L, #, @daily, seconds), GitHub does not.
        let is_known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '*' | ',' | '-' | '/');
        let fields: Vec<&str> = text.split_ascii_whitespace().collect();
        let is_number = |field: &&str| !field.contains(|c: char| c.is_ascii_alphabetic());
        let [minute, hour, day, _, _] = fields[..] else {
            return Err(format!("the cron line {text:?} has not five fields"));
        };
        if !fields.concat().chars().all(is_known) || ![minute, hour, day].iter().all(is_number) {
            return Err(format!("the cron line {text:?} is none of POSIX"));
        }
        let parser =
            CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let cron = parser.parse(text);
        cron.map(Schedule).map_err(|error| format!("the cron line {text:?}: {error}"))
    }

    fn names(&self, moment: Moment) -> bool {
        self.0.is_time_matching(&moment.time()).unwrap_or(false)
    }
}

/// The cron lines of a workflow.
pub(super) fn schedules(workflow: &Node, remarks: &mut Vec<Remark>) -> Vec<Schedule> {
    let schedule = workflow.get("on").and_then(|on| on.get("schedule"));
    let entries = schedule.and_then(Node::items).unwrap_or_default();
    let mut schedules = Vec::new();
    for entry in entries {
        let read = match entry.pairs() {
            [(key, line)] if key.text() == Some("cron") => {
                Schedule::read(line.text().unwrap_or_default())
            }
            _ => Err("a schedule is taken where it says `cron` and nothing else".into()),
        };
        match read {
            Ok(schedule) => schedules.push(schedule),
            Err(what) => remarks.push(Remark::at(entry, format!("a schedule is left out: {what}"))),
        }
    }
    schedules
}

/// The minutes after `after` and until `now` that a line names, each once.
pub(crate) fn due(schedules: &[Schedule], after: Moment, now: Moment) -> Vec<Moment> {
    let last = now.0.div_euclid(MINUTE);
    let first = after.0.div_euclid(MINUTE).max(last - LATEST_MINUTES) + 1;
    let minutes = (first..=last).map(|minute| Moment(minute * MINUTE));
    minutes.filter(|minute| schedules.iter().any(|schedule| schedule.names(*minute))).collect()
}

#[cfg(test)]
mod tests {
    use super::super::yaml::parse;
    use super::*;

    fn at(text: &str) -> Moment {
        Moment(DateTime::parse_from_rfc3339(text).unwrap().timestamp())
    }

    fn read(lines: &[&str]) -> (Vec<Schedule>, Vec<String>) {
        let lines: String = lines.iter().map(|line| format!("    - cron: '{line}'\n")).collect();
        let mut remarks = Vec::new();
        let workflow = parse(&format!("on:\n  schedule:\n{lines}")).unwrap();
        let schedules = schedules(&workflow, &mut remarks);
        (schedules, remarks.iter().map(ToString::to_string).collect())
    }

    fn fired(line: &str, after: &str, now: &str) -> Vec<String> {
        let (schedules, remarks) = read(&[line]);
        assert_eq!(remarks, [""; 0]);
        due(&schedules, at(after), at(now)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_minute_that_is_named_is_due_once_when_it_has_come() {
        let line = "30 4 * * *";
        let due = ["2026-11-26T04:30:00Z"];
        assert_eq!(fired(line, "2026-11-26T04:29:50Z", "2026-11-26T04:29:59Z"), [""; 0]);
        assert_eq!(fired(line, "2026-11-26T04:29:59Z", "2026-11-26T04:30:00Z"), due);
        assert_eq!(fired(line, "2026-11-26T04:29:59Z", "2026-11-26T04:30:02Z"), due);
        assert_eq!(fired(line, "2026-11-26T04:30:00Z", "2026-11-26T04:30:03Z"), [""; 0]);
    }

    #[test]
    fn what_was_missed_for_long_is_not_made_up() {
        let (every, _) = read(&["*/2 * * * *"]);
        let minutes = due(&every, at("2026-11-26T00:00:00Z"), at("2026-11-26T12:00:30Z"));
        let minutes: Vec<_> = minutes.iter().map(ToString::to_string).collect();
        assert_eq!(
            minutes,
            ["2026-11-26T11:56:00Z", "2026-11-26T11:58:00Z", "2026-11-26T12:00:00Z"]
        );
    }

    #[test]
    fn lines_that_name_one_minute_fire_once() {
        let (both, _) = read(&["0 12 * * *", "0 12 * * THU"]);
        assert_eq!(due(&both, at("2026-11-26T11:59:58Z"), at("2026-11-26T12:00:01Z")).len(), 1);
    }

    #[test]
    fn days_of_the_month_and_of_the_week_are_alternatives() {
        let noon = |day: &str| {
            fired("0 12 13 * FRI", &format!("{day}T11:59:00Z"), &format!("{day}T12:00:00Z")).len()
        };
        assert_eq!((noon("2026-11-13"), noon("2026-11-20"), noon("2026-10-13")), (1, 1, 1));
        assert_eq!(noon("2026-11-26"), 0);
    }

    #[test]
    fn lines_that_github_does_not_take_are_left_out_and_told() {
        let bad = ["* * * *", "0 0 * * * *", "@daily", "0 0 L * *", "0 0 * * 5#2", "61 * * * *"];
        let (schedules, remarks) = read(&bad);
        assert_eq!(schedules.len(), 0);
        assert_eq!(remarks.len(), bad.len(), "{remarks:?}");
        assert!(
            remarks[0].starts_with("3:7: a schedule is left out: the cron line"),
            "{remarks:?}"
        );
        let mut remarks = Vec::new();
        let text = "on: {schedule: [{cron: '0 0 * * *', timezone: Europe/Berlin}]}";
        assert_eq!(super::schedules(&parse(text).unwrap(), &mut remarks).len(), 0);
        assert!(remarks[0].what.contains("and nothing else"), "{remarks:?}");
    }

    #[test]
    fn workflows_without_a_schedule_have_none() {
        for text in ["on: push", "on: [push, schedule]", "on: {push: }", "on: {schedule: }", "a: b"]
        {
            let mut remarks = Vec::new();
            assert_eq!(schedules(&parse(text).unwrap(), &mut remarks).len(), 0, "{text}");
            assert_eq!(remarks, []);
        }
    }
}
