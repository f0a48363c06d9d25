//! What lies over the panes: help, a question, all about a task.

use ratatui::Frame;
use ratatui::layout::{Constraint, Flex, Layout, Rect};
use ratatui::style::{Color, Stylize};
use ratatui::text::{Line, Text};
use ratatui::widgets::{Block, BorderType, Clear, Paragraph};

use super::super::data::Id;
use super::super::model::{Model, Over};
use crate::cli::render::{beginning, shortened};

const HELP: [(&str, &str); 12] = [
    ("arrows, j k", "move; PgUp PgDn, g G: further"),
    ("Tab", "the next pane"),
    ("Enter", "a workflow: only its tasks, and all again"),
    ("", "a task: all about it, with its history"),
    ("/ or f", "only what has this text in it"),
    ("s", "only tasks of one state, the next one each time"),
    ("Esc", "everything again"),
    ("c", "cancel the task; asks first"),
    ("r", "put the failed task back into the queue"),
    ("?", "this help"),
    ("q, Ctrl-C", "quit"),
    ("", ""),
];
const BARS: &str = "█ completed  ▓ failed or cancelled  ▒ held  ░ waiting";

pub(super) fn draw_help(frame: &mut Frame<'_>, area: Rect) {
    let mut lines: Vec<Line<'_>> = HELP
        .iter()
        .map(|(keys, what)| vec![format!(" {keys:<13}").bold(), (*what).into()].into())
        .collect();
    lines.push(format!(" {BARS}").into());
    draw_box(frame, area, " Keys ", lines.into(), 66);
}

pub(super) fn draw_question(frame: &mut Frame<'_>, task: &Id, area: Rect) {
    let width = 60.min(area.width);
    let id = shortened(&task.shown, usize::from(width).saturating_sub(4));
    let lines = vec![
        Line::from(format!(" {id}")).bold(),
        Line::from(" Nobody runs it any more, and what waits for it fails."),
        Line::from(" y cancels it, n leaves it as it is").fg(Color::Yellow),
    ];
    draw_box(frame, area, " Cancel this task? y/n ", lines.into(), width);
}

fn draw_box(frame: &mut Frame<'_>, area: Rect, title: &str, text: Text<'_>, width: u16) {
    let height = u16::try_from(text.lines.len()).unwrap_or(u16::MAX).saturating_add(2);
    let [row] = Layout::vertical([Constraint::Length(height)]).flex(Flex::Center).areas(area);
    let [place] = Layout::horizontal([Constraint::Length(width)]).flex(Flex::Center).areas(row);
    let block = Block::bordered().border_type(BorderType::Double).title(title);
    frame.render_widget(Clear, place);
    frame.render_widget(Paragraph::new(text).block(block), place);
}

/// All about a task: the lines that fit, from where it was scrolled to.
pub(super) fn draw_detail(frame: &mut Frame<'_>, model: &Model, area: Rect) {
    let Over::Detail { task, lines, top, left } = &model.over else { return };
    let id = shortened(&task.shown, usize::from(area.width).saturating_sub(24));
    let place = match lines.len() {
        0 => String::new(),
        count => format!(" · line {} of {count}", top + 1),
    };
    let block =
        Block::bordered().border_type(BorderType::Thick).title(format!(" {id}{place} ")).bold();
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let (width, height) = (usize::from(inner.width), usize::from(inner.height));
    let shown = lines.iter().skip(*top).take(height);
    let shown = shown.map(|line| {
        let rest: String = line.chars().skip(*left).collect();
        Line::from(beginning(&rest, width)).not_bold()
    });
    let text = match lines.is_empty() {
        true => Text::from("asking the node…"),
        false => shown.collect(),
    };
    frame.render_widget(text, inner);
}
