//! Draws the model: the counts above, the panes, the keys below, and what lies over them.

mod over;
mod panes;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style, Stylize};
use ratatui::text::{Line, Span};

use super::data::State;
use super::model::{Model, Over};
use crate::cli::render;

/// From so many columns on, the panes stand beside each other.
const WIDE: u16 = 140;
const HINTS: &str = " ? help  q quit  Tab pane  / filter  s state  Enter show  c cancel  r requeue";

pub(super) fn draw(frame: &mut Frame<'_>, model: &Model) {
    let rows = [Constraint::Length(2), Constraint::Fill(1), Constraint::Length(1)];
    let [head, body, foot] = Layout::vertical(rows).areas(frame.area());
    draw_head(frame, model, head);
    match &model.over {
        Over::Detail { .. } => over::draw_detail(frame, model, body),
        _ => draw_panes(frame, model, body),
    }
    draw_foot(frame, model, foot);
    match &model.over {
        Over::Help => over::draw_help(frame, body),
        Over::Cancel(task) => over::draw_question(frame, task, body),
        Over::Nothing | Over::Filter(_) | Over::Detail { .. } => {}
    }
}

fn draw_panes(frame: &mut Frame<'_>, model: &Model, area: Rect) {
    let peers = lines_for(model.peers.len());
    if area.width >= WIDE {
        let columns = [Constraint::Percentage(42), Constraint::Fill(1)];
        let [left, right] = Layout::horizontal(columns).areas(area);
        let rows = [Constraint::Fill(1), Constraint::Length(peers.min(area.height / 3))];
        let [above, below] = Layout::vertical(rows).areas(left);
        panes::draw_workflows(frame, model, above);
        panes::draw_peers(frame, model, below);
        panes::draw_tasks(frame, model, right);
        return;
    }
    let workflows = lines_for(model.overview.workflows.len()).min(area.height / 3);
    let rows = [
        Constraint::Length(workflows),
        Constraint::Fill(1),
        Constraint::Length(peers.min(area.height / 4)),
    ];
    let [above, middle, below] = Layout::vertical(rows).areas(area);
    panes::draw_workflows(frame, model, above);
    panes::draw_tasks(frame, model, middle);
    panes::draw_peers(frame, model, below);
}

/// A pane's lines: the border, the names of the columns, and at least one line.
fn lines_for(rows: usize) -> u16 {
    u16::try_from(rows.max(1) + 3).unwrap_or(u16::MAX)
}

fn draw_head(frame: &mut Frame<'_>, model: &Model, area: Rect) {
    let overview = &model.overview;
    let mut counts = vec![Span::from(" P2P workflows ").bold()];
    for state in State::ALL {
        let count = overview.counts.of(state);
        if count > 0 {
            counts.push(Span::from("· "));
            counts.push(Span::styled(format!("{count} {} ", state.word()), colour(state)));
        }
    }
    let second = match model.is_there {
        false => " asking the node…".to_owned(),
        true => format!(
            " {:.1} completed/s · {} of {} peers alive{} · this is {}",
            model.rate(),
            overview.alive_peers,
            overview.known_peers,
            if overview.in_sync { ", in sync" } else { ", not in sync" },
            render::short_peer(&overview.peer_id),
        ),
    };
    frame.render_widget(ratatui::text::Text::from(vec![counts.into(), second.into()]), area);
}

fn draw_foot(frame: &mut Frame<'_>, model: &Model, area: Rect) {
    let line: Line<'_> = match (&model.over, &model.said) {
        (Over::Filter(text), _) => {
            let text = render::one_line(text);
            vec![" filter: ".bold(), text.into(), "▏  Enter takes it, Esc leaves it".into()].into()
        }
        (Over::Detail { .. }, _) => {
            Line::from(" Esc back  arrows scroll  c cancel  r requeue").style(dim())
        }
        (_, Some(said)) => {
            let colour = if said.is_bad { Color::Red } else { Color::Green };
            Line::from(format!(" {}", said.text)).fg(colour)
        }
        _ => Line::from(HINTS).style(dim()),
    };
    frame.render_widget(line, area);
}

fn colour(state: State) -> Style {
    match state {
        State::Assigned => Style::new().fg(Color::Cyan),
        State::Failed => Style::new().fg(Color::Red),
        State::Pending => Style::new().fg(Color::Yellow),
        State::Completed => Style::new().fg(Color::Green),
        State::Blocked | State::Cancelled => dim(),
    }
}

fn dim() -> Style {
    Style::new().fg(Color::DarkGray)
}

#[cfg(test)]
mod tests;
