//! The three lists: workflows, tasks, peers.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, BorderType, Paragraph, Row, Table};

use super::super::data::{Counts, Look, Peer, State, Task, Workflow};
use super::super::model::{Model, Pane};
use super::{colour, dim};
use crate::cli::render::{self, shortened};

/// Columns of a bar.
const BAR: u16 = 14;
/// From so many columns on, a task's worker and what is said of it stand beside each other.
const BOTH: u16 = 110;

/// A list to be drawn.
struct List<'m> {
    title: String,
    is_chosen: bool,
    /// What it says where it is empty.
    empty: &'m str,
    header: &'m [&'m str],
    widths: &'m [Constraint],
    at: usize,
}

pub(super) fn draw_workflows(frame: &mut Frame<'_>, model: &Model, area: Rect) {
    let (shown, known) = (model.overview.workflows.len(), model.overview.known_workflows);
    let title = match shown as u64 == known {
        true => format!("Workflows · {known}"),
        false => format!("Workflows · {shown} of {known}"),
    };
    let widths =
        [Constraint::Fill(2), Constraint::Length(BAR), Constraint::Length(11), Constraint::Fill(3)];
    let list = List {
        title,
        is_chosen: model.pane == Pane::Workflows,
        empty: match known {
            0 => "No workflow has tasks. `p2p-workflow submit` hands one in.",
            _ => "No workflow is like that.",
        },
        header: &["WORKFLOW", "PROGRESS", "COMPLETED", "OF THE OTHERS"],
        widths: &widths,
        at: model.workflow.at,
    };
    list.draw(frame, area, &model.overview.workflows, |workflow, widths| {
        let Workflow { workflow_id, counts } = workflow;
        let total = counts.total();
        vec![
            shortened(&workflow_id.shown, widths[0]).into(),
            bar(counts, widths[1]),
            format!("{}/{total}", counts.completed_tasks).into(),
            others(counts),
        ]
    });
}

/// How much of a workflow is completed, failed and held.
fn bar(counts: &Counts, width: usize) -> Line<'static> {
    let total = counts.total().max(1);
    let parts = [
        (counts.completed_tasks, "█", colour(State::Completed)),
        (counts.failed_tasks + counts.cancelled_tasks, "▓", colour(State::Failed)),
        (counts.assigned_tasks, "▒", colour(State::Assigned)),
    ];
    let (mut spans, mut sum, mut used) = (Vec::new(), 0, 0);
    for (count, sign, style) in parts {
        sum += count;
        // Sums are rounded rather than parts, so that a full bar is full.
        let end = usize::try_from(sum * width as u64 / total).unwrap_or(width);
        spans.push(Span::styled(sign.repeat(end - used), style));
        used = end;
    }
    spans.push(Span::styled("░".repeat(width - used), dim()));
    spans.into()
}

/// The states beside completed that there are, in words.
fn others(counts: &Counts) -> Line<'static> {
    let mut spans: Vec<Span<'_>> = Vec::new();
    for state in State::ALL.into_iter().filter(|state| *state != State::Completed) {
        let count = counts.of(state);
        if count > 0 {
            let gap = if spans.is_empty() { "" } else { " " };
            let word = if state == State::Assigned { "held" } else { state.word() };
            spans.push(Span::styled(format!("{gap}{count} {word}"), colour(state)));
        }
    }
    spans.into()
}

pub(super) fn draw_tasks(frame: &mut Frame<'_>, model: &Model, area: Rect) {
    let both = area.width >= BOTH;
    let widths = match both {
        true => &[
            Constraint::Length(9),
            Constraint::Fill(3),
            Constraint::Fill(3),
            Constraint::Fill(3),
            Constraint::Length(10),
            Constraint::Fill(4),
        ][..],
        false => &[
            Constraint::Length(9),
            Constraint::Fill(4),
            Constraint::Fill(4),
            Constraint::Fill(5),
            Constraint::Length(10),
        ],
    };
    let header = match both {
        true => &["STATE", "TASK", "NAME", "HELD BY", "SINCE", "SAID"][..],
        false => &["STATE", "TASK", "NAME", "HELD BY, SAID", "SINCE"],
    };
    let list = List {
        title: tasks_title(model),
        is_chosen: model.pane == Pane::Tasks,
        empty: match model.look == Look::default() {
            true => "No task is here.",
            false => "No task is like that. Esc shows all.",
        },
        header,
        widths,
        at: model.task.at,
    };
    list.draw(frame, area, &model.overview.tasks, |task, widths| {
        let (holder, said) = (holder(task, model), task.text.clone().unwrap_or_default());
        let who = match (both, holder.is_empty(), said.is_empty()) {
            (true, ..) | (_, _, true) => holder,
            (false, true, false) => said.clone(),
            (false, false, false) => format!("{holder}: {said}"),
        };
        let mut cells: Vec<Line<'_>> = vec![
            Span::styled(task.state.word(), colour(task.state)).into(),
            shortened(&task.task_id.shown, widths[1]).into(),
            cut(&task.name, widths[2]).into(),
            cut(&who, widths[3]).into(),
            since(task, model.now).into(),
        ];
        if both {
            cells.push(cut(&said, widths[5]).into());
        }
        cells
    });
}

fn tasks_title(model: &Model) -> String {
    let mut title = String::from("Tasks");
    let look = &model.look;
    let workflow = look.workflow_id.as_ref().map(|id| format!("of {}", render::one_line(id)));
    let state = look.state.map(|state| state.word().to_owned());
    let text = look.text.as_ref().map(|text| format!("with \"{}\"", render::one_line(text)));
    for part in [workflow, state, text].into_iter().flatten() {
        title += " · ";
        title += &shortened(&part, 40);
    }
    if model.overview.more_tasks {
        title += &format!(" · {} shown of more", model.overview.tasks.len());
    }
    title
}

/// The worker, and its peer where that is another machine.
fn holder(task: &Task, model: &Model) -> String {
    let worker = task.worker.as_deref().unwrap_or_default();
    match &task.assigned_peer {
        Some(peer) if *peer != model.overview.peer_id => {
            format!("{worker} at {}", render::short_peer(peer))
        }
        _ => worker.to_owned(),
    }
}

fn since(task: &Task, now: u64) -> String {
    match (task.held_since, task.ended_at) {
        (Some(since), _) => render::span(now.saturating_sub(since)),
        (None, Some(ended)) => render::relative(ended, now),
        (None, None) => String::new(),
    }
}

pub(super) fn draw_peers(frame: &mut Frame<'_>, model: &Model, area: Rect) {
    let widths = [
        Constraint::Length(17),
        Constraint::Length(12),
        Constraint::Length(12),
        Constraint::Length(12),
        Constraint::Fill(1),
    ];
    let list = List {
        title: format!("Peers · {}", model.peers.len()),
        is_chosen: model.pane == Pane::Peers,
        empty: &model.no_peers,
        header: &["PEER", "STATE", "CONNECTED", "LAST SEEN", "HELD"],
        widths: &widths,
        at: model.peer.at,
    };
    list.draw(frame, area, &model.peers, |peer, _| peer_cells(peer, model.now));
}

fn peer_cells(peer: &Peer, now: u64) -> Vec<Line<'static>> {
    let state = peer.state.clone().unwrap_or_default();
    let style = match &*state {
        "suspect" => Style::new().fg(Color::Yellow),
        "down" => Style::new().fg(Color::Red),
        _ => Style::new(),
    };
    let connected = match (peer.this_peer, peer.connected, peer.round_trip_ms) {
        (true, ..) => String::new(),
        (false, false, _) => "no".to_owned(),
        (false, true, None) => "yes".to_owned(),
        (false, true, Some(millis)) => format!("yes, {millis:.0} ms"),
    };
    let state = if peer.this_peer { "this machine".to_owned() } else { state };
    vec![
        render::short_peer(&peer.peer_id).into(),
        Line::styled(state, style),
        connected.into(),
        peer.heard_at.map(|at| render::relative(at, now)).unwrap_or_default().into(),
        peer.held.to_string().into(),
    ]
}

impl List<'_> {
    /// Draws the items around the chosen one. `cells` are told the widths that they have.
    fn draw<'i, T>(
        &self,
        frame: &mut Frame<'_>,
        area: Rect,
        items: &'i [T],
        cells: impl Fn(&'i T, &[usize]) -> Vec<Line<'i>>,
    ) {
        let border = if self.is_chosen { BorderType::Thick } else { BorderType::Plain };
        let title = format!(" {} ", cut(&self.title, usize::from(area.width.saturating_sub(4))));
        let block = Block::bordered().border_type(border).title(title);
        let block = if self.is_chosen { block.bold() } else { block.border_style(dim()) };
        let inner = block.inner(area);
        frame.render_widget(block, area);
        if items.is_empty() {
            frame.render_widget(Paragraph::new(self.empty).style(dim()), inner);
            return;
        }
        let columns = Layout::horizontal(self.widths).spacing(1).split(inner);
        let widths: Vec<usize> = columns.iter().map(|column| column.width.into()).collect();
        let height = usize::from(inner.height.saturating_sub(1));
        let first = (self.at + 1).saturating_sub(height);
        let rows = items.iter().enumerate().skip(first).take(height).map(|(at, item)| {
            let row = Row::new(cells(item, &widths));
            if self.is_chosen && at == self.at { row.reversed() } else { row }
        });
        let header = Row::new(self.header.iter().copied()).style(dim());
        let table = Table::new(rows, self.widths.iter().copied()).column_spacing(1).header(header);
        frame.render_widget(table, inner);
    }
}

/// The beginning, with a sign where something was cut off.
fn cut(text: &str, width: usize) -> String {
    render::beginning(text, width)
}
