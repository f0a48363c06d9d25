//! A terminal: a pseudo-terminal of the operating system, and as much of what stands on its screen
//! as the drawing library writes.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;

use rustix::fs::{Mode, OFlags, open};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Termios, Winsize, tcgetattr, tcsetwinsize};

use crate::harness::{Process, eventually};

const WIDTH: u16 = 80;
const HEIGHT: u16 = 24;

/// A terminal with a program in it.
pub(crate) struct Terminal {
    pub(crate) process: Process,
    controller: OwnedFd,
    line: OwnedFd,
    before: Termios,
    written: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    pub(crate) fn run(mut command: Command) -> Self {
        let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&controller).expect("its other end");
        unlockpt(&controller).expect("its other end");
        let name = ptsname(&controller, Vec::new()).expect("its name");
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let line = open(name, flags, Mode::empty()).expect("its other end");
        let size = Winsize { ws_row: HEIGHT, ws_col: WIDTH, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&line, size).expect("it has a size");
        let before = tcgetattr(&line).expect("its settings");
        let end = || line.try_clone().expect("a descriptor");
        command.stdin(end()).stdout(end()).stderr(end());
        let process = Process::spawn(command);
        let written = Arc::<Mutex<Vec<u8>>>::default();
        let (mut reader, all) =
            (File::from(controller.try_clone().expect("a descriptor")), written.clone());
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = reader.read(&mut bytes) {
                all.lock().expect("nothing panics").extend_from_slice(&bytes[..count]);
            }
        });
        Terminal { process, controller, line, before, written }
    }

    pub(crate) fn types(&self, keys: &str) {
        rustix::io::write(&self.controller, keys.as_bytes()).expect("it reads");
    }

    /// All that was written so far.
    pub(crate) fn written(&self) -> String {
        String::from_utf8_lossy(&self.written.lock().expect("nothing panics")).into_owned()
    }

    /// What stands on the screen.
    pub(crate) fn screen(&self) -> String {
        let mut screen = Screen::default();
        screen.take(&self.written());
        screen.text()
    }

    /// Waits until the screen is like that.
    pub(crate) fn shows(&self, what: &str, is_like_that: impl Fn(&str) -> bool) {
        let last = Mutex::new(String::new());
        let looked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            eventually(what, || {
                let screen = self.screen();
                let is_there = is_like_that(&screen).then_some(());
                *last.lock().expect("nothing panics") = screen;
                is_there
            });
        }));
        let last = last.into_inner().expect("nothing panics");
        assert!(looked.is_ok(), "waited in vain for {what}; the screen is\n{last}");
    }

    /// Whether the terminal is as it was before the program.
    pub(crate) fn is_restored(&self) {
        let now = tcgetattr(&self.line).expect("its settings");
        assert_eq!(now.local_modes, self.before.local_modes, "echo and lines are back");
        assert_eq!(now.input_modes, self.before.input_modes);
        let leaves = "\u{1b}[?1049l";
        eventually("the end of the alternate screen", || {
            self.written().contains(leaves).then_some(())
        });
        let written = self.written();
        let is_last = |on: &str, off: &str| written.rfind(on) > written.rfind(off);
        assert!(is_last(leaves, "\u{1b}[?1049h"), "{written:?}");
        assert!(is_last("\u{1b}[?25h", "\u{1b}[?25l"), "the cursor is shown: {written:?}");
    }
}

/// Lines of cells, and where the next character goes.
#[derive(Default)]
struct Screen {
    cells: Vec<Vec<char>>,
    row: usize,
    column: usize,
}

impl Screen {
    fn take(&mut self, written: &str) {
        self.clear();
        let mut rest = written.chars().peekable();
        while let Some(c) = rest.next() {
            match c {
                '\u{1b}' if rest.next_if_eq(&'[').is_some() => {
                    let mut arguments = String::new();
                    while let Some(c) = rest.next_if(|c| !('@'..='~').contains(c)) {
                        arguments.push(c);
                    }
                    self.follow(rest.next().unwrap_or_default(), &arguments);
                }
                c if c.is_control() => {}
                c => self.put(c),
            }
        }
    }

    fn follow(&mut self, command: char, arguments: &str) {
        match command {
            'H' => {
                let mut places = arguments.split(';').map(|it| it.parse().unwrap_or(1));
                self.row = places.next().unwrap_or(1_usize).saturating_sub(1);
                self.column = places.next().unwrap_or(1_usize).saturating_sub(1);
            }
            'J' => self.clear(),
            _ => {}
        }
    }

    fn clear(&mut self) {
        self.cells = vec![vec![' '; WIDTH.into()]; HEIGHT.into()];
    }

    fn put(&mut self, c: char) {
        if let Some(cell) = self.cells.get_mut(self.row).and_then(|row| row.get_mut(self.column)) {
            *cell = c;
        }
        self.column += 1;
    }

    fn text(&self) -> String {
        self.cells.iter().map(|row| row.iter().collect::<String>() + "\n").collect()
    }
}
