//! The full screen: up and down again, whatever happens, and the loop in between.

use std::io::{self, Write};
use std::thread;
use std::time::Duration;

use p2p_workflow_scheduler::node::process::Requests;
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::Show;
use ratatui::crossterm::event::{self, Event};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::data::Look;
use super::draw::draw;
use super::feed;
use super::keys::{Outcome, press};
use super::logs::Hold;
use super::model::Model;
use crate::cli::Failure;
use crate::client::Client;

/// Keys that wait while the screen is drawn.
const KEYS: usize = 64;

/// The terminal while it is ours. Dropped, also by a panic, it is as it was before.
struct Screen {
    terminal: Terminal<CrosstermBackend<io::Stdout>>,
    // After the screen is down.
    _held: Restore,
    _logs: Hold,
}

struct Restore;

impl Restore {
    fn take() -> io::Result<Self> {
        enable_raw_mode()?;
        let restore = Restore;
        execute!(io::stdout(), EnterAlternateScreen)?;
        Ok(restore)
    }
}

impl Drop for Restore {
    fn drop(&mut self) {
        // The terminal may be gone; then there is nothing to restore.
        let _gone = execute!(io::stdout(), LeaveAlternateScreen, Show);
        let _gone = disable_raw_mode();
        let _gone = io::stdout().flush();
    }
}

impl Screen {
    fn take() -> io::Result<Self> {
        let logs = Hold::new();
        let restore = Restore::take()?;
        let terminal = Terminal::new(CrosstermBackend::new(io::stdout()))?;
        Ok(Screen { terminal, _held: restore, _logs: logs })
    }
}

/// Shows until the person quits, a signal comes or the node is stopped.
pub(super) async fn run(
    client: Client,
    stop: &CancellationToken,
    look: Look,
    every: Duration,
) -> Result<(), Failure> {
    let failed =
        |error: io::Error| Failure::Failed(format!("the terminal cannot be used: {error}"));
    let mut signals = Requests::watch().map_err(failed)?;
    let mut model = Model::new(look.clone());
    let mut feed = feed::start(client, look, every);
    let mut screen = Screen::take().map_err(failed)?;
    let mut events = read_events();
    loop {
        screen.terminal.draw(|frame| draw(frame, &model)).map_err(failed)?;
        tokio::select! {
            event = events.recv() => match event {
                Some(Event::Key(key)) => match press(&mut model, key) {
                    Outcome::Stay => {}
                    Outcome::Ask(order) => {
                        // A node that does not answer is said by the screen; the key is lost.
                        let _full = feed.orders.try_send(order);
                    }
                    Outcome::Quit => return Ok(()),
                },
                // Drawn again in its new size.
                Some(_) => {}
                None => return Ok(()),
            },
            news = feed.news.recv() => match news {
                Some(news) => model.take(news),
                None => return Err(Failure::Failed("the connection to the node ended".into())),
            },
            _ = signals.next() => return Ok(()),
            () = stop.cancelled() => return Err(super::stopped()),
        }
    }
}

/// Reads keys in a thread of its own, which waits in the operating system and ends with the process.
fn read_events() -> mpsc::Receiver<Event> {
    let (tell, events) = mpsc::channel(KEYS);
    thread::spawn(move || {
        while let Ok(event) = event::read() {
            if tell.blocking_send(event).is_err() {
                return;
            }
        }
    });
    events
}
