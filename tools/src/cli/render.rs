//! What people read: a ✓ line, then indented `Key: value` lines; tables for lists.
//!
//! Labels and formats follow from the names of the fields: `next_attempt_at` is a point in time
//! (milliseconds since the Unix epoch) and reads `Next attempt: in 5 s`, `retry_after_seconds` is
//! a duration. So a field that the node adds later is shown too, after those that a command puts
//! in an order of its own.
//!
//! Texts come from other machines: control characters, with which a text could steer the
//! terminal, are replaced. Styles are always written; the stream drops them where no terminal is.

use std::fmt::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::builder::styling::{AnsiColor, Style};
use comfy_table::{ContentArrangement, Table, presets};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

const GOOD: Style = AnsiColor::Green.on_default().bold();
const BAD: Style = AnsiColor::Red.on_default().bold();
const WARNING: Style = AnsiColor::Yellow.on_default().bold();
const KEY: Style = Style::new().dimmed();

/// Characters at the start and at the end of a peer id's short form.
const KEPT: usize = 8;

/// Fields that say nothing to people: the ✓ says it, or the field that is there.
const UNSPOKEN: [&str; 4] = ["success", "created", "has_payload", "has_result"];

/// An answer for people, built from top to bottom.
pub(super) struct Card {
    text: String,
    now: u64,
}

impl Card {
    /// A card that opens with `✓ title`.
    pub(super) fn new(title: &str) -> Self {
        Card::at(title, now())
    }

    fn at(title: &str, now: u64) -> Self {
        Card { text: format!("{GOOD}✓{GOOD:#} {}\n", clean(title)), now }
    }

    /// One line; nothing where the value is missing or empty.
    pub(super) fn field(mut self, key: &str, value: &Value) -> Self {
        if let Some(shown) = shown(key, value, self.now) {
            let shown = clean(&shown).replace('\n', "\n    ");
            let gap = if shown.contains('\n') { "\n    " } else { " " };
            let label = label(key);
            // Writing to a String cannot fail.
            let _ = writeln!(self.text, "  {KEY}{label}:{KEY:#}{gap}{shown}");
        }
        self
    }

    /// Texts below their key, one a line; nothing where there are none.
    pub(super) fn list<'t>(mut self, key: &str, texts: impl IntoIterator<Item = &'t str>) -> Self {
        let mut texts = texts.into_iter().map(clean).peekable();
        if texts.peek().is_some() {
            let label = label(key);
            let lines: String = texts.map(|text| format!("    {text}\n")).collect();
            // Writing to a String cannot fail.
            let _ = write!(self.text, "  {KEY}{label}:{KEY:#}\n{lines}");
        }
        self
    }

    /// The fields of an object: those named `first`, in that order, then the others.
    pub(super) fn fields(mut self, object: &Value, first: &[&str]) -> Self {
        for key in first {
            self = self.field(key, &object[*key]);
        }
        for (key, value) in object.as_object().into_iter().flatten() {
            if !first.contains(&key.as_str()) && !UNSPOKEN.contains(&key.as_str()) {
                self = self.field(key, value);
            }
        }
        self
    }

    /// The text, with styles.
    pub(super) fn into_text(self) -> String {
        self.text
    }
}

/// A bar, or a turning sign where the end is not known: on stderr, and only where that is a terminal.
pub(super) fn progress_bar(size: Option<u64>) -> ProgressBar {
    let (bar, template) = match size {
        Some(size) => (ProgressBar::new(size), "{bar:30} {percent}% {msg}, {eta} left"),
        None => (ProgressBar::new_spinner(), "{spinner} {msg}"),
    };
    let style =
        ProgressStyle::with_template(template).expect("the templates above are well formed");
    bar.with_style(style)
}

/// One line that opens with `✓`.
pub(super) fn done(text: &str) -> String {
    format!("{GOOD}✓{GOOD:#} {}\n", clean(text).replace('\n', "\n  "))
}

/// A rejection or failure: `✗`, its text, further lines indented.
pub(super) fn refused(text: &str) -> String {
    format!("{BAD}✗{BAD:#} {}\n", clean(text).replace('\n', "\n  "))
}

/// Something that a person should know, and that is no failure: `!`, then as [`refused`].
pub(super) fn warning(text: &str) -> String {
    format!("{WARNING}!{WARNING:#} {}\n", clean(text).replace('\n', "\n  "))
}

/// A table of tasks, one line each where the terminal is wide enough. Who holds a task that is
/// assigned is shown where any is.
pub(super) fn task_table(tasks: &[Value], this_peer: &str) -> String {
    let columns = ["task_id", "workflow_id", "state", "priority", "attempt", "created_at", "name"];
    if !tasks.iter().any(is_held) {
        return table(columns, tasks);
    }
    let [id, workflow, state, rest @ ..] = columns;
    let [priority, attempt, created, name] = rest;
    let tasks: Vec<Value> = tasks.iter().map(|task| with_holder(task, this_peer)).collect();
    table([id, workflow, state, "holder", priority, attempt, created, name], &tasks)
}

fn is_held(task: &Value) -> bool {
    task["state"] == "assigned"
}

/// The task with its worker, and the peer of that where it is another.
fn with_holder(task: &Value, this_peer: &str) -> Value {
    let mut task = task.clone();
    if is_held(&task) {
        let text = |key: &str| task[key].as_str().unwrap_or_default();
        let (worker, peer) = (text("worker"), text("assigned_peer"));
        let holder = match peer == this_peer || peer.is_empty() {
            true => worker.to_owned(),
            false => format!("{worker} at {}", short_peer(peer)),
        };
        task["holder"] = holder.into();
    }
    task
}

/// A table of what happened to a task, one line a change.
pub(super) fn history_table(changes: &Value) -> String {
    let changes = changes.as_array().map(Vec::as_slice).unwrap_or_default();
    let columns = ["at", "what", "attempt", "peer", "worker", "reason"];
    let now = now();
    let cell = |change: &Value, key| match (key, &change[key]) {
        ("at", at) => at.as_u64().map_or_else(String::new, |at| relative(at, now)),
        ("what", what) => what.as_str().unwrap_or_default().replace('_', " "),
        (_, value) => shown(key, value, now).unwrap_or_default(),
    };
    let rows = changes.iter().map(|change| columns.map(|key| cell(change, key)));
    plain_table(["when", "what", "attempt", "peer", "worker", "reason"], rows)
}

fn table<const N: usize>(columns: [&str; N], rows: &[Value]) -> String {
    let now = now();
    let cells = |row: &Value| columns.map(|key| shown(key, &row[key], now).unwrap_or_default());
    plain_table(columns.map(label), rows.iter().map(cells))
}

/// A table with a line for each row, where the terminal is wide enough.
pub(super) fn plain_table<const N: usize>(
    header: [impl AsRef<str>; N],
    rows: impl Iterator<Item = [String; N]>,
) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(header.map(|text| text.as_ref().to_uppercase()));
    for row in rows {
        table.add_row(row.map(|cell| clean(&cell).replace(['\n', '\t'], " ")));
    }
    table.trim_fmt() + "\n"
}

/// How many characters a line of the terminal has; `None` where stdout is none.
pub(super) fn terminal_width() -> Option<usize> {
    Table::new().width().map(usize::from)
}

/// `12D3KooW…9bQKWJ9W`, which `swarm trust` and `swarm block` understand.
pub(super) fn short_peer(id: &str) -> String {
    match (id.get(..KEPT), id.len().checked_sub(KEPT).and_then(|at| id.get(at..))) {
        (Some(start), Some(end)) if id.len() > 2 * KEPT => format!("{start}…{end}"),
        _ => id.to_owned(),
    }
}

/// A point in time, in milliseconds since the Unix epoch, as people say it.
pub(super) fn time(at: u64) -> String {
    relative(at, now())
}

/// `task_id` → `Task ID`; what the format says already (`_at`, `_seconds`) is left out.
fn label(key: &str) -> String {
    let key = key.strip_suffix("_at").or(key.strip_suffix("_seconds")).unwrap_or(key);
    let words = key.split('_').enumerate().map(|(place, word)| match word {
        "id" => "ID".into(),
        "p2p" => "P2P".into(),
        "github" => "GitHub".into(),
        word if place == 0 => word[..1].to_uppercase() + &word[1..],
        word => word.into(),
    });
    words.collect::<Vec<String>>().join(" ")
}

fn shown(key: &str, value: &Value, now: u64) -> Option<String> {
    match value {
        Value::Null => None,
        Value::Bool(true) => Some("yes".into()),
        Value::Bool(false) => Some("no".into()),
        Value::Number(number) => Some(match number.as_u64() {
            Some(at) if key.ends_with("_at") => relative(at, now),
            _ if key.ends_with("_seconds") => format!("{} s", number.as_f64().unwrap_or_default()),
            _ => number.to_string(),
        }),
        Value::String(text) => (!text.is_empty()).then(|| text.clone()),
        Value::Array(items) if items.iter().all(Value::is_string) => {
            let items: Vec<&str> = items.iter().filter_map(Value::as_str).collect();
            (!items.is_empty()).then(|| items.join(", "))
        }
        Value::Object(fields) if fields.is_empty() => None,
        value => Some(format!("{value:#}")),
    }
}

/// `2 min ago`, `in 5 min`.
pub(super) fn relative(at: u64, now: u64) -> String {
    match at.abs_diff(now) {
        0..1000 => "now".into(),
        ahead if at > now => format!("in {}", span(ahead)),
        past => format!("{} ago", span(past)),
    }
}

/// A duration, rounded, in the largest unit of which it has at least one.
pub(super) fn span(millis: u64) -> String {
    let seconds = (millis + 500) / 1000;
    let minutes = (seconds + 30) / 60;
    let hours = (minutes + 30) / 60;
    match (seconds, minutes, hours) {
        (0..60, ..) => format!("{seconds} s"),
        (_, 0..60, _) => format!("{minutes} min"),
        (.., 0..24) => format!("{hours} h"),
        _ => format!("{} d", (hours + 12) / 24),
    }
}

fn clean(text: &str) -> String {
    let harmless = |c: char| !c.is_control() || matches!(c, '\n' | '\t');
    text.chars().map(|c| if harmless(c) { c } else { char::REPLACEMENT_CHARACTER }).collect()
}

/// Cut in the middle to so many columns of a terminal: the end is kept, where ids differ.
pub(super) fn shortened(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let half = width.saturating_sub(1) / 2;
    let start: String = within(text.chars(), half).into_iter().collect();
    let end: String = within(text.chars().rev(), half).into_iter().rev().collect();
    within(format!("{start}…{end}").chars(), width).into_iter().collect()
}

/// Cut at the end to so many columns of a terminal.
pub(super) fn beginning(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut start: String = within(text.chars(), width.saturating_sub(1)).into_iter().collect();
    start.extend((width > 0).then_some('…'));
    start
}

fn within(characters: impl Iterator<Item = char>, width: usize) -> Vec<char> {
    let mut used = 0;
    let fits = |c: &char| {
        used += c.width().unwrap_or_default();
        used <= width
    };
    characters.take_while(fits).collect()
}

/// Without line breaks, other characters that steer, and what turns the direction of the text after
/// it.
pub(super) fn one_line(text: &str) -> String {
    let plain = |c: char| match c {
        '\n' | '\r' | '\t' => ' ',
        c if c.is_control() || is_formatting(c) => char::REPLACEMENT_CHARACTER,
        c => c,
    };
    text.chars().map(plain).collect()
}

fn is_formatting(c: char) -> bool {
    matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Milliseconds since the Unix epoch; 0 on a machine whose clock stands before it.
pub(super) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use anstream::adapter::strip_str;
    use serde_json::json;

    use super::*;

    const NOW: u64 = 1_700_000_000_000;

    fn plain(card: Card) -> String {
        strip_str(&card.into_text()).to_string()
    }

    #[test]
    fn a_card_is_a_check_mark_and_indented_lines() {
        let answer = json!({"extra_field": "shown too", "in_sync": true, "priority": 5,
                            "success": true, "tags": ["p2p-only", "unit-test"], "task_id": "a"});
        let card = Card::at("Task submitted", NOW).fields(&answer, &["task_id", "priority"]);
        assert_eq!(
            plain(card),
            "✓ Task submitted\n  Task ID: a\n  Priority: 5\n  \
             Extra field: shown too\n  In sync: yes\n  Tags: p2p-only, unit-test\n"
        );
    }

    #[test]
    fn missing_and_empty_values_take_no_line() {
        let answer = json!({"owner": null, "unblocked": [], "note": "", "dependency_results": {},
                            "success": true});
        assert_eq!(plain(Card::at("Done", NOW).fields(&answer, &["owner", "absent"])), "✓ Done\n");
    }

    #[test]
    fn objects_and_long_texts_stand_below_their_key() {
        let answer = json!({"error": "one\ntwo", "payload": {"a": [1]}});
        assert_eq!(
            plain(Card::at("Task", NOW).fields(&answer, &[])),
            "✓ Task\n  Error:\n    one\n    two\n  Payload:\n    {\n      \"a\": [\n        1\n      ]\n    }\n"
        );
    }

    #[test]
    fn times_are_relative_and_durations_have_units() {
        let answer = json!({"created_at": NOW - 125_000, "expires_at": NOW + 3_600_000,
                            "retry_after_seconds": 1.5});
        assert_eq!(
            plain(Card::at("Task", NOW).fields(&answer, &[])),
            "✓ Task\n  Created: 2 min ago\n  Expires: in 1 h\n  Retry after: 1.5 s\n"
        );
        assert_eq!(relative(NOW - 999, NOW), "now");
        assert_eq!(relative(NOW - 59_400, NOW), "59 s ago");
        assert_eq!(relative(NOW + 3_599_700, NOW), "in 1 h");
        assert_eq!(relative(NOW + 49 * 3_600_000, NOW), "in 2 d");
    }

    #[test]
    fn a_text_from_elsewhere_cannot_steer_the_terminal() {
        let answer = json!({"error": "\u{1b}[2J\u{7f}\u{9b}1A\rgone"});
        let text = plain(Card::at("Task \u{7}", NOW).fields(&answer, &[]));
        assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
        assert!(!refused("no \u{1b}]0;title\u{7}").contains('\u{7}'));
    }

    #[test]
    fn a_refusal_keeps_its_code_on_a_line_of_its_own() {
        let text = strip_str(&refused("task \"a\" exists.\ncode: task_exists")).to_string();
        assert_eq!(text, "✗ task \"a\" exists.\n  code: task_exists\n");
    }

    #[test]
    fn a_table_has_one_line_for_each_task() {
        let tasks = [
            json!({"task_id": "a", "workflow_id": "w", "state": "pending", "priority": 5, "name": "First"}),
            json!({"task_id": "long-id", "workflow_id": "w", "state": "failed", "priority": 10, "name": "Two\nlines"}),
        ];
        let table = task_table(&tasks, "me");
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines.len(), 3, "{table}");
        assert!(lines[0].trim_start().starts_with("TASK ID"));
        assert!(lines[2].contains("long-id") && lines[2].ends_with("Two lines"));
        assert!(!table.contains("HOLDER"), "nobody holds any: {table}");
    }

    #[test]
    fn the_table_names_the_worker_of_an_assigned_task_and_its_machine_where_that_is_another() {
        let held = |id: &str, state: &str, peer: &str| json!({"task_id": id, "state": state, "worker": "w-1", "assigned_peer": peer});
        let other = "12D3KooWGWTtibP31YJvCbwyNN38C712SA8kkueSZKgpBfxCr6pQ";
        let tasks = [
            held("a", "assigned", "me"),
            held("b", "assigned", other),
            held("c", "completed", other),
        ];
        let table = task_table(&tasks, "me");
        let line = |id: &str| table.lines().find(|line| line.trim().starts_with(id)).unwrap();
        assert!(table.lines().next().unwrap().contains("HOLDER"), "{table}");
        assert!(line("a").contains("w-1") && !line("a").contains(" at "), "{table}");
        assert!(line("b").contains(&format!("w-1 at {}", short_peer(other))), "{table}");
        assert!(!line("c").contains("w-1"), "it ended: {table}");
    }

    #[test]
    fn long_texts_are_cut_in_the_middle_by_their_width() {
        assert_eq!(shortened("short", 10), "short");
        assert_eq!(shortened("a-very-long-name", 9), "a-ve…name");
        assert_eq!(shortened("任务任务任务任务", 9), "任务…任务");
        assert_eq!(shortened(&"x".repeat(300), 30).width(), 29);
        for width in 0..4 {
            assert!(shortened("任务任务", width).width() <= width);
            assert!(beginning("任务任务", width).width() <= width);
        }
        assert_eq!(beginning("任务任务", 5), "任务…");
    }
}
