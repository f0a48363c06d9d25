//! What a terminal would show, as text.

use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::super::data::testing::{counts, task, workflow};
use super::super::data::{Look, Overview, Peer};
use super::super::model::{News, Pane};
use super::*;

const ME: &str = "12D3KooWCD6GPLKj8umF1ysMZTGzmEeRWnQH3MpH25VBxF1XqYvr";
const OTHER: &str = "12D3KooWGWTtibP31YJvCbwyNN38C712SA8kkueSZKgpBfxCr6pQ";
const NOW: u64 = 1_760_000_000_000;

fn peer(id: &str, this_peer: bool) -> Peer {
    Peer {
        peer_id: id.to_owned(),
        this_peer,
        state: Some("alive".into()),
        connected: !this_peer,
        held: 2,
        round_trip_ms: Some(0.6),
        heard_at: (!this_peer).then_some(NOW - 3_000),
    }
}

fn overview() -> Overview {
    let held = |id: &str, peer: &str| {
        let mut task = task(id, State::Assigned);
        task.worker = Some("worker-1".into());
        task.assigned_peer = Some(peer.to_owned());
        task.held_since = Some(NOW - 42_000);
        task.text = Some("half way".into());
        task
    };
    let mut failed = task("lint", State::Failed);
    failed.text = Some("no disk".into());
    let mut done = task("fetch", State::Completed);
    done.ended_at = Some(NOW - 180_000);
    Overview {
        peer_id: ME.into(),
        counts: counts([2, 1, 3, 0, 14, 0]),
        known_peers: 2,
        alive_peers: 2,
        in_sync: true,
        completions: 14,
        known_workflows: 2,
        workflows: vec![
            workflow("release", [2, 1, 3, 0, 4, 0]),
            workflow("nightly", [0, 0, 0, 0, 10, 0]),
        ],
        tasks: vec![held("build", ME), held("test", OTHER), failed, done],
        more_tasks: false,
    }
}

fn model() -> Model {
    let mut model = Model::default();
    model.take(News::Overview { overview: overview(), of: Look::default(), now: NOW });
    model.take(News::Peers(Ok(vec![peer(ME, true), peer(OTHER, false)])));
    model
}

/// The screen, line by line, without the blanks at the ends.
fn shown(model: &Model, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, model)).unwrap();
    let buffer = terminal.backend().buffer();
    let mut text = String::new();
    for y in 0..height {
        let mut line = String::new();
        let mut x = 0;
        while x < width {
            let symbol = buffer[(x, y)].symbol();
            line += symbol;
            // A wide character takes the place of the next one as well.
            x += u16::try_from(unicode_width::UnicodeWidthStr::width(symbol).max(1)).unwrap();
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

/// `UPDATE_SCREENS=1` writes anew what is compared.
fn compare(name: &str, shown: &str) {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/cli/p2p_workflow/watch/draw");
    let file = format!("{folder}/{name}.txt");
    if std::env::var_os("UPDATE_SCREENS").is_some() {
        std::fs::write(&file, shown).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&file).unwrap_or_default(), shown, "{shown}");
}

#[test]
fn a_small_screen_has_the_panes_above_each_other() {
    compare("small", &shown(&model(), 80, 24));
}

#[test]
fn a_large_screen_has_them_beside_each_other() {
    compare("large", &shown(&model(), 160, 24));
}

#[test]
fn before_anything_came_and_where_there_is_nothing_the_screen_says_so() {
    let before = shown(&Model::default(), 80, 24);
    assert!(before.contains("asking the node"), "{before}");
    let mut model = Model::default();
    let nothing = Overview { peer_id: ME.into(), ..Overview::default() };
    model.take(News::Overview { overview: nothing, of: Look::default(), now: NOW });
    let empty = shown(&model, 80, 24);
    assert!(empty.contains("`p2p-workflow submit` hands one in"), "{empty}");
    model.take(News::Peers(Err("this machine is in no swarm.".into())));
    let alone = shown(&model, 80, 24);
    assert!(alone.contains("│this machine is in no swarm."), "{alone}");
}

#[test]
fn every_size_is_drawn() {
    let mut model = model();
    for over in [
        Over::Nothing,
        Over::Help,
        Over::Filter("x".repeat(256)),
        Over::Cancel("y".repeat(256).as_str().into()),
        Over::Detail { task: "build".into(), lines: vec!["z".repeat(500); 80], top: 3, left: 9 },
    ] {
        model.over = over;
        for (width, height) in [(1, 1), (2, 3), (10, 5), (79, 7), (500, 2), (20, 200)] {
            shown(&model, width, height);
        }
    }
}

#[test]
fn wide_characters_and_long_ids_stay_in_their_columns() {
    let mut model = model();
    let long = "x".repeat(256);
    let names =
        ["任务任务任务任务任务任务任务任务", "🚀🚀🚀 build 🚀🚀🚀🚀🚀🚀🚀🚀🚀", &long, "e\u{301}é"];
    for (task, name) in model.overview.tasks.iter_mut().zip(names) {
        task.name = name.to_owned();
        task.task_id = name.into();
    }
    let screen = shown(&model, 80, 24);
    let width = |line: &str| unicode_width::UnicodeWidthStr::width(line);
    for line in screen.lines().filter(|line| line.starts_with(['│', '┃'])) {
        assert_eq!(width(line), 80, "{line}");
    }
    assert!(screen.contains('…'), "{screen}");
}

#[test]
fn no_text_steers_the_terminal() {
    let mut model = model();
    let hostile = "\u{1b}[2J\u{7}\u{9b}31m\nnew\u{202e}";
    model.over = Over::Filter(hostile.into());
    model.look = Look { text: Some(hostile.into()), ..Look::default() };
    model.take(News::Detail { task: "build".into(), text: hostile.into() });
    for over in [
        Over::Filter(hostile.into()),
        Over::Cancel(hostile.into()),
        Over::Detail { task: "build".into(), lines: Vec::new(), top: 0, left: 0 },
    ] {
        model.over = over;
        model.take(News::Detail { task: "build".into(), text: hostile.into() });
        let screen = shown(&model, 80, 24);
        let steers = |c: char| c.is_control() && c != '\n' || c == '\u{202e}';
        assert!(!screen.contains(steers), "{screen:?}");
    }
}

#[test]
fn a_question_and_help_lie_over_the_panes() {
    let mut model = model();
    model.over = Over::Cancel("build".into());
    let screen = shown(&model, 80, 24);
    assert!(screen.contains("Cancel this task? y/n") && screen.contains("║ build"), "{screen}");
    model.over = Over::Help;
    let screen = shown(&model, 80, 24);
    assert!(screen.contains("everything again") && screen.contains("█ completed"), "{screen}");
}

#[test]
fn the_chosen_one_is_in_sight_however_long_the_list() {
    let mut model = Model::default();
    model.pane = Pane::Tasks;
    let tasks = (0..100).map(|n| task(&format!("t{n}"), State::Pending)).collect();
    let overview = Overview { tasks, more_tasks: true, ..Overview::default() };
    model.take(News::Overview { overview, of: Look::default(), now: NOW });
    model.go(super::super::model::Step::Last);
    let screen = shown(&model, 80, 24);
    assert!(screen.contains("t99") && !screen.contains("t50"), "{screen}");
    assert!(screen.contains("100 shown of more"), "{screen}");
}
