//! Keys: what each means where.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::data::{Look, State};
use super::model::{Model, Order, Over, Pane, Step};

/// A page of a list, in lines.
const PAGE: isize = 10;
/// Columns by which a long line is moved.
const COLUMNS: usize = 8;
/// Characters of a filter: as many as an id has.
const MAX_FILTER: usize = 256;

/// What a key brings about beside what it changes of the model.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Stay,
    Ask(Order),
    Quit,
}

impl From<Option<Order>> for Outcome {
    fn from(order: Option<Order>) -> Self {
        order.map_or(Outcome::Stay, Outcome::Ask)
    }
}

pub(super) fn press(model: &mut Model, key: KeyEvent) -> Outcome {
    if key.kind == KeyEventKind::Release {
        return Outcome::Stay;
    }
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return match key.code {
            KeyCode::Char('c') => Outcome::Quit,
            _ => Outcome::Stay,
        };
    }
    match std::mem::take(&mut model.over) {
        Over::Nothing => in_panes(model, key.code),
        // Any key leaves it.
        Over::Help => Outcome::Stay,
        Over::Filter(text) => in_filter(model, text, key.code),
        Over::Cancel(task) => match key.code {
            KeyCode::Char('y' | 'Y') => Outcome::Ask(Order::Cancel(task)),
            KeyCode::Char('n' | 'N' | 'q') | KeyCode::Esc => Outcome::Stay,
            // Anything else is no answer.
            _ => {
                model.over = Over::Cancel(task);
                Outcome::Stay
            }
        },
        over @ Over::Detail { .. } => {
            model.over = over;
            in_detail(model, key.code)
        }
    }
}

fn in_panes(model: &mut Model, code: KeyCode) -> Outcome {
    model.said = None;
    if let Some(step) = step(code) {
        model.go(step);
        return Outcome::Stay;
    }
    match code {
        KeyCode::Char('q') => return Outcome::Quit,
        KeyCode::Char('?' | 'h') | KeyCode::F(1) => model.over = Over::Help,
        KeyCode::Char('/' | 'f') => {
            model.over = Over::Filter(model.look.text.clone().unwrap_or_default());
        }
        KeyCode::Char('s') => return Outcome::Ask(model.next_state()),
        KeyCode::Esc => return model.widen().into(),
        KeyCode::Tab => model.pane = next(model.pane),
        KeyCode::BackTab => model.pane = next(next(model.pane)),
        KeyCode::Enter if model.pane == Pane::Workflows => return model.narrow().into(),
        KeyCode::Enter | KeyCode::Char('c' | 'r') if model.pane == Pane::Tasks => {
            return of_task(model, code);
        }
        _ => {}
    }
    Outcome::Stay
}

fn of_task(model: &mut Model, code: KeyCode) -> Outcome {
    let Some(task) = model.chosen_task() else { return Outcome::Stay };
    let (id, state) = (task.task_id.clone(), task.state);
    match code {
        KeyCode::Char('r') => return Outcome::Ask(Order::Requeue(id)),
        KeyCode::Char(_) => {
            if !matches!(state, State::Completed | State::Cancelled) {
                model.over = Over::Cancel(id);
            }
        }
        _ => {
            model.over = Over::Detail { task: id.clone(), lines: Vec::new(), top: 0, left: 0 };
            return Outcome::Ask(Order::Show(id));
        }
    }
    Outcome::Stay
}

fn in_filter(model: &mut Model, mut text: String, code: KeyCode) -> Outcome {
    match code {
        KeyCode::Enter => {
            let text = Some(text).filter(|text| !text.is_empty());
            return Outcome::Ask(model.look_at(Look { text, ..model.look.clone() }));
        }
        KeyCode::Esc => return Outcome::Stay,
        KeyCode::Backspace => {
            text.pop();
        }
        KeyCode::Char(c) if text.chars().count() < MAX_FILTER && !c.is_control() => text.push(c),
        _ => {}
    }
    model.over = Over::Filter(text);
    Outcome::Stay
}

fn in_detail(model: &mut Model, code: KeyCode) -> Outcome {
    if let Some(step) = step(code) {
        model.go(step);
        return Outcome::Stay;
    }
    let Over::Detail { task, left, .. } = &mut model.over else { return Outcome::Stay };
    let task = task.clone();
    match code {
        KeyCode::Left => *left = left.saturating_sub(COLUMNS),
        KeyCode::Right => *left += COLUMNS,
        KeyCode::Esc | KeyCode::Enter | KeyCode::Char('q') => model.over = Over::Nothing,
        KeyCode::Char('c') => model.over = Over::Cancel(task),
        KeyCode::Char('r') => {
            model.over = Over::Nothing;
            return Outcome::Ask(Order::Requeue(task));
        }
        _ => {}
    }
    Outcome::Stay
}

fn step(code: KeyCode) -> Option<Step> {
    Some(match code {
        KeyCode::Down | KeyCode::Char('j') => Step::By(1),
        KeyCode::Up | KeyCode::Char('k') => Step::By(-1),
        KeyCode::PageDown | KeyCode::Char(' ') => Step::By(PAGE),
        KeyCode::PageUp => Step::By(-PAGE),
        KeyCode::Home | KeyCode::Char('g') => Step::First,
        KeyCode::End | KeyCode::Char('G') => Step::Last,
        _ => return None,
    })
}

fn next(pane: Pane) -> Pane {
    match pane {
        Pane::Workflows => Pane::Tasks,
        Pane::Tasks => Pane::Peers,
        Pane::Peers => Pane::Workflows,
    }
}

#[cfg(test)]
mod tests {
    use super::super::data::Overview;
    use super::super::data::testing::{task, workflow};
    use super::super::model::News;
    use super::*;

    fn model() -> Model {
        let mut model = Model::default();
        let overview = Overview {
            workflows: vec![workflow("v", [0; 6]), workflow("w", [0; 6])],
            tasks: vec![task("a", State::Failed), task("b", State::Completed)],
            ..Overview::default()
        };
        model.take(News::Overview { overview, of: Look::default(), now: 0 });
        model
    }

    /// Types a text; the last outcome is what counts.
    fn types(model: &mut Model, text: &str) -> Outcome {
        text.chars().fold(Outcome::Stay, |_, c| {
            let code = match c {
                '\n' => KeyCode::Enter,
                '\t' => KeyCode::Tab,
                '\u{1b}' => KeyCode::Esc,
                '\u{8}' => KeyCode::Backspace,
                c => KeyCode::Char(c),
            };
            press(model, KeyEvent::from(code))
        })
    }

    #[test]
    fn q_and_ctrl_c_end_it_but_q_is_a_letter_where_text_is_typed() {
        let mut model = model();
        assert_eq!(types(&mut model, "q"), Outcome::Quit);
        assert_eq!(types(&mut model, "/q"), Outcome::Stay);
        let ctrl_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(press(&mut model, ctrl_c), Outcome::Quit, "even there");
    }

    #[test]
    fn a_filter_is_typed_mended_and_taken_or_left() {
        let mut model = model();
        let look = |text: Option<&str>| Look { text: text.map(Into::into), ..Look::default() };
        let outcome = types(&mut model, "/bx\u{8}u\n");
        assert_eq!(outcome, Outcome::Ask(Order::Look(look(Some("bu")))));
        assert_eq!(types(&mut model, "fzz\u{1b}"), Outcome::Stay);
        assert_eq!(model.look, look(Some("bu")));
        assert_eq!(types(&mut model, "\u{1b}"), Outcome::Ask(Order::Look(look(None))));
    }

    #[test]
    fn cancelling_asks_first_and_only_y_is_yes() {
        let mut model = model();
        assert_eq!(types(&mut model, "\tc"), Outcome::Stay);
        assert_eq!(model.over, Over::Cancel("a".into()));
        assert_eq!(types(&mut model, "x\n "), Outcome::Stay);
        assert_eq!(model.over, Over::Cancel("a".into()), "no answer");
        assert_eq!(types(&mut model, "n"), Outcome::Stay);
        assert_eq!(model.over, Over::Nothing);
        assert_eq!(types(&mut model, "cy"), Outcome::Ask(Order::Cancel("a".into())));
        assert_eq!(types(&mut model, "jc"), Outcome::Stay);
        assert_eq!(model.over, Over::Nothing, "it has ended already");
    }

    #[test]
    fn a_task_is_shown_scrolled_and_left() {
        let mut model = model();
        assert_eq!(types(&mut model, "\t\n"), Outcome::Ask(Order::Show("a".into())));
        model.take(News::Detail { task: "a".into(), text: "1\n2\n3".into() });
        model.take(News::Detail { task: "b".into(), text: "late".into() });
        types(&mut model, "jjjj");
        press(&mut model, KeyEvent::from(KeyCode::Right));
        let Over::Detail { lines, top, left, .. } = &model.over else { panic!("{model:?}") };
        assert_eq!((lines.len(), *top, *left), (3, 2, COLUMNS));
        assert_eq!(types(&mut model, "q"), Outcome::Stay);
        assert_eq!(model.over, Over::Nothing);
        assert_eq!(types(&mut model, "r"), Outcome::Ask(Order::Requeue("a".into())));
    }

    #[test]
    fn tab_goes_round_and_keys_of_tasks_are_those_of_their_pane() {
        let mut model = model();
        assert_eq!(types(&mut model, "cr"), Outcome::Stay);
        for pane in [Pane::Tasks, Pane::Peers, Pane::Workflows] {
            types(&mut model, "\t");
            assert_eq!(model.pane, pane);
        }
        press(&mut model, KeyEvent::from(KeyCode::BackTab));
        assert_eq!(model.pane, Pane::Peers);
    }

    #[test]
    fn s_looks_at_one_state_after_the_other() {
        let mut model = model();
        let look = Look { state: Some(State::Assigned), ..Look::default() };
        assert_eq!(types(&mut model, "s"), Outcome::Ask(Order::Look(look)));
    }

    #[test]
    fn help_is_left_by_any_key() {
        let mut model = model();
        types(&mut model, "?");
        assert_eq!(model.over, Over::Help);
        assert_eq!(types(&mut model, "q"), Outcome::Stay);
        assert_eq!(model.over, Over::Nothing);
    }
}
