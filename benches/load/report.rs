//! What a run prints: figures as they come, and at the end the table of what was asked.
#![expect(clippy::print_stdout, reason = "a report on stdout is what this program is for")]

use std::fmt::{self, Display};
use std::time::Duration;

use comfy_table::{Table, presets};
use indicatif::HumanCount;

use crate::series::Series;

/// The judged rows so far.
#[derive(Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
}

struct Row {
    what: String,
    asked: String,
    measured: String,
    ratio: f64,
    met: bool,
}

/// What a ratio has to be.
#[derive(Clone, Copy)]
pub(crate) enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

/// What the figures of a row are.
#[derive(Clone, Copy)]
pub(crate) enum Unit {
    Seconds,
    CallsPerSecond,
    CyclesPerSecond,
    TasksPerSecond,
    FilesPerSecond,
    Bytes,
    PartOfACore,
}

/// One round of a row: both figures in the row's unit.
#[derive(Clone, Copy)]
pub(crate) struct Compared {
    /// What the machine can do, or a fixed limit.
    pub(crate) floor: f64,
    pub(crate) product: f64,
}

impl Report {
    /// Opens a section.
    pub(crate) fn section(&self, title: impl Display) {
        println!("\n{title}");
    }

    /// Prints one fact.
    pub(crate) fn fact(&self, label: impl Display, fact: impl Display) {
        println!("  {label:<44} {fact}", label = label.to_string());
    }

    /// Prints the latencies and the rate of a series.
    pub(crate) fn series(&self, label: impl Display, series: &Series) {
        let (p50, p99) = (Time(series.p50()), Time(series.percentile(99)));
        let rate = count(series.per_second());
        self.fact(label, format_args!("p50 {p50:>9}  p99 {p99:>9}  {rate:>9}/s"));
    }

    /// Judges the round with the median ratio of product to floor; `floor` says what that is.
    pub(crate) fn judge(
        &mut self,
        what: impl Display,
        (bound, unit): (Bound, Unit),
        floor: impl Display,
        rounds: &[Compared],
    ) {
        let mut rounds = rounds.to_vec();
        rounds.sort_by(|a, b| a.ratio().total_cmp(&b.ratio()));
        let median = rounds[rounds.len() / 2];
        let met = match bound {
            Bound::AtMost(limit) => median.ratio() <= limit,
            Bound::AtLeast(limit) => median.ratio() >= limit,
        };
        self.rows.push(Row {
            what: what.to_string(),
            asked: format!("{bound} {} {floor}", unit.show(median.floor)),
            measured: unit.show(median.product),
            ratio: median.ratio(),
            met,
        });
    }

    /// Prints the judged rows, if there are any.
    pub(crate) fn print_table(&self) {
        if self.rows.is_empty() {
            return;
        }
        let mut table = Table::new();
        table.load_style(presets::ASCII_MARKDOWN);
        table.set_header(["what", "asked", "measured", "ratio", ""]);
        for row in &self.rows {
            table.add_row([
                row.what.as_str(),
                row.asked.as_str(),
                row.measured.as_str(),
                format!("{:.2}", row.ratio).as_str(),
                if row.met { "ok" } else { "missed" },
            ]);
        }
        println!("\n{table}");
    }
}

impl Compared {
    /// Two durations.
    pub(crate) fn times(floor: Duration, product: Duration) -> Self {
        Self { floor: floor.as_secs_f64(), product: product.as_secs_f64() }
    }

    fn ratio(self) -> f64 {
        self.product / self.floor
    }
}

impl Unit {
    fn show(self, figure: f64) -> String {
        match self {
            Self::Seconds => Time(Duration::from_secs_f64(figure)).to_string(),
            Self::CallsPerSecond => format!("{} calls/s", count(figure)),
            Self::CyclesPerSecond => format!("{} cycles/s", count(figure)),
            Self::FilesPerSecond => format!("{} files/s", count(figure)),
            Self::TasksPerSecond => format!("{} tasks/s", count(figure)),
            Self::PartOfACore => format!("{:.1} % of a core", 100.0 * figure),
            Self::Bytes => format!("{} bytes", count(figure)),
        }
    }
}

impl Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sign, limit) = match self {
            Self::AtMost(limit) => ('≤', limit),
            Self::AtLeast(limit) => ('≥', limit),
        };
        if *limit == 1.0 { write!(f, "{sign}") } else { write!(f, "{sign} {limit} ×") }
    }
}

/// A duration as people read it, in the unit that suits it.
pub(crate) struct Time(pub(crate) Duration);

impl Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{:.1?}", self.0))
    }
}

/// A rate or an amount as people read it: 20,000.
pub(crate) fn count(amount: f64) -> impl Display {
    HumanCount(amount.round() as u64).to_string()
}

/// Bytes as people read them.
pub(crate) fn mebibytes(bytes: u64) -> impl Display {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}
