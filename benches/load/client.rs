//! A lean MCP client: one thread, hand-formatted requests, answers scanned rather than parsed.
//!
//! The machine has few CPUs, and what the client uses the server lacks; an SDK's client costs as
//! much per call as the server does. A session is a number of slots, each a conversation that
//! asks one thing at a time: slots are what is "in flight". All requests that one read of answers
//! brings about leave in one write, as a client that works on many tasks would send them.
//!
//! Requests are written blocking by the thread that reads the answers. That cannot deadlock as
//! long as what [`MAX_SLOTS`] slots have under way fits in the pipes, so these are made larger.

use std::fmt;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use crate::machine;

/// The most conversations of one session: as many as the server admits calls in flight.
pub(crate) const MAX_SLOTS: usize = 256;

/// Bytes one request or answer may have on average for [`MAX_SLOTS`] of them to fit in a pipe:
/// 4 KiB, several times what this program asks for. The product, 1 MiB, is also the most that an
/// unprivileged process may ask of Linux.
const MESSAGE_ROOM: usize = 4096;

/// A server process and the one session it has.
pub(crate) struct Client {
    server: Server,
    requests: Requests,
    answers: Answers,
    spawned: Instant,
    /// From before the process is made to the answer of `initialize`.
    pub(crate) initialized_in: Duration,
}

impl Client {
    /// Starts the server and initializes the session.
    pub(crate) fn start(command: &mut Command) -> io::Result<Self> {
        let spawned = Instant::now();
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::Error::other("a piped child has no pipes"));
        };
        machine::enlarge_pipe(&stdin, MAX_SLOTS * MESSAGE_ROOM)?;
        machine::enlarge_pipe(&stdout, MAX_SLOTS * MESSAGE_ROOM)?;
        let mut client = Self {
            server: Server(child),
            requests: Requests::new(stdin),
            answers: Answers::new(stdout),
            spawned,
            initialized_in: Duration::ZERO,
        };
        client.drive(1, |slot, answer, requests| {
            if answer.is_none() {
                requests.initialize(slot);
            }
            Ok(())
        })?;
        client.initialized_in = spawned.elapsed();
        client.requests.initialized();
        client.requests.flush()?;
        Ok(client)
    }

    /// The time since the server's process was asked for.
    pub(crate) fn age(&self) -> Duration {
        self.spawned.elapsed()
    }

    /// The process id, for what `/proc` says about it.
    pub(crate) fn pid(&self) -> u32 {
        self.server.0.id()
    }

    /// Makes one call with no arguments and gives the number it answers under `key`, if any.
    pub(crate) fn ask_number(&mut self, tool: &str, key: &str) -> io::Result<Option<u64>> {
        let mut number = None;
        self.drive(1, |slot, answer, requests| {
            match answer {
                None => requests.call(slot, tool, format_args!("")),
                Some(answer) => number = answer.number(key),
            }
            Ok(())
        })?;
        Ok(number)
    }

    /// Runs `slots` conversations until none has a request under way.
    ///
    /// `turn` is called once per slot without an answer, to open the conversation, and then with
    /// each answer; a turn that asks nothing ends its slot.
    pub(crate) fn drive(
        &mut self,
        slots: usize,
        mut turn: impl FnMut(usize, Option<&Answer<'_>>, &mut Requests) -> io::Result<()>,
    ) -> io::Result<()> {
        assert!(slots <= MAX_SLOTS, "a request's id has room for its slot");
        for slot in 0..slots {
            turn(slot, None, &mut self.requests)?;
        }
        self.requests.flush()?;
        while self.requests.under_way > 0 {
            self.answers.read()?;
            while let Some(line) = self.answers.next_line() {
                let Some(answer) = Answer::parse(line)? else {
                    continue;
                };
                self.requests.under_way -= 1;
                turn(answer.slot, Some(&answer), &mut self.requests)?;
            }
            self.requests.flush()?;
        }
        Ok(())
    }

    /// Whether the answer to a call with no arguments holds a text.
    pub(crate) fn says(&mut self, tool: &str, text: &str) -> io::Result<bool> {
        let mut says = false;
        self.drive(1, |slot, answer, requests| {
            match answer {
                None => requests.call(slot, tool, format_args!("")),
                Some(answer) => says = answer.line().contains(text),
            }
            Ok(())
        })?;
        Ok(says)
    }

    /// Takes what is there to be read, once something is: hands on each notification and answer.
    pub(crate) fn hear(
        &mut self,
        mut each: impl FnMut(Heard, &mut Requests) -> io::Result<()>,
    ) -> io::Result<()> {
        self.answers.read()?;
        while let Some(line) = self.answers.next_line() {
            let heard = match Answer::parse(line)? {
                None => Heard::Notice,
                Some(_) => Heard::Answer,
            };
            if let Heard::Answer = heard {
                self.requests.under_way -= 1;
            }
            each(heard, &mut self.requests)?;
        }
        self.requests.flush()
    }

    /// Ends the session as a client does, by closing the server's input, and waits for its end.
    pub(crate) fn stop(self) -> io::Result<()> {
        let Self { mut server, requests, answers, .. } = self;
        drop(requests);
        let status = server.0.wait()?;
        drop(answers);
        if status.success() {
            Ok(())
        } else {
            Err(io::Error::other(format!("the server ended with {status}")))
        }
    }
}

impl AsFd for Client {
    /// Where answers come from.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.answers.pipe.as_fd()
    }
}

/// What [`Client::hear`] hands on.
#[derive(Clone, Copy)]
pub(crate) enum Heard {
    /// A notification, which nobody asked for.
    Notice,
    /// The answer to a request.
    Answer,
}

/// The server's process, which does not outlive the measurement whatever goes wrong.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only where the process has ended already, which is what they are for.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The requests of one turn of all slots, sent in one write.
pub(crate) struct Requests {
    pipe: ChildStdin,
    buffer: String,
    asked: u64,
    under_way: usize,
}

impl Requests {
    fn new(pipe: ChildStdin) -> Self {
        Self { pipe, buffer: String::new(), asked: 0, under_way: 0 }
    }

    /// Asks for `tool`; `arguments` are the members of a JSON object, without its braces.
    pub(crate) fn call(&mut self, slot: usize, tool: &str, arguments: fmt::Arguments<'_>) {
        self.request(
            slot,
            "tools/call",
            format_args!(r#""name":"{tool}","arguments":{{{arguments}}}"#),
        );
    }

    fn initialize(&mut self, slot: usize) {
        self.request(
            slot,
            "initialize",
            format_args!(
                r#""protocolVersion":"2025-06-18","capabilities":{{}},"clientInfo":{{"name":"load","version":"1"}}"#
            ),
        );
    }

    fn initialized(&mut self) {
        self.push(format_args!(r#"{{"jsonrpc":"2.0","method":"notifications/initialized"}}"#));
    }

    /// Asks for anything; `params` are the members of a JSON object, without its braces.
    pub(crate) fn request(&mut self, slot: usize, method: &str, params: fmt::Arguments<'_>) {
        // An id is never used twice in a session, and its remainder names the slot.
        let id = self.asked * MAX_SLOTS as u64 + slot as u64;
        self.asked += 1;
        self.under_way += 1;
        self.push(format_args!(
            r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{{{params}}}}}"#
        ));
    }

    fn push(&mut self, message: fmt::Arguments<'_>) {
        fmt::Write::write_fmt(&mut self.buffer, message).expect("a String takes whatever comes");
        self.buffer.push('\n');
    }

    fn flush(&mut self) -> io::Result<()> {
        self.pipe.write_all(self.buffer.as_bytes())?;
        self.buffer.clear();
        Ok(())
    }
}

/// The server's output, cut into lines.
struct Answers {
    pipe: ChildStdout,
    buffer: Vec<u8>,
    /// What is read and not yet given out is `buffer[start..end]`.
    start: usize,
    end: usize,
}

impl Answers {
    fn new(pipe: ChildStdout) -> Self {
        Self { pipe, buffer: vec![0; 64 * 1024], start: 0, end: 0 }
    }

    /// Waits for more output.
    fn read(&mut self) -> io::Result<()> {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        if self.end == self.buffer.len() {
            self.buffer.resize(2 * self.end, 0);
        }
        let read = self.pipe.read(&mut self.buffer[self.end..])?;
        if read == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the server closed its output with calls unanswered",
            ));
        }
        self.end += read;
        Ok(())
    }

    /// The next whole line that is already here.
    fn next_line(&mut self) -> Option<&[u8]> {
        let length = self.buffer[self.start..self.end].iter().position(|&byte| byte == b'\n')?;
        let line = &self.buffer[self.start..][..length];
        self.start += length + 1;
        Some(line)
    }
}

/// A successful answer, as the server wrote it.
pub(crate) struct Answer<'line> {
    slot: usize,
    line: &'line str,
}

impl<'line> Answer<'line> {
    /// Reads a line: `None` where it answers nothing (a notification, a request of the server).
    fn parse(line: &'line [u8]) -> io::Result<Option<Self>> {
        if is_unasked(line) {
            return Ok(None);
        }
        let line = std::str::from_utf8(line).map_err(io::Error::other)?;
        let id = match line.strip_prefix(r#"{"jsonrpc":"2.0","id":"#) {
            Some(rest) => leading_number(rest),
            None => id_anywhere(line)?,
        };
        let Some(id) = id else {
            return Ok(None);
        };
        // Inside a string these keys would have their quotes escaped.
        if !line.contains(r#""result":"#) {
            if line.contains(r#""method":"#) {
                return Ok(None);
            }
            return Err(io::Error::other(format!("the call was refused: {line}")));
        }
        if line.contains(r#""isError":true"#) {
            return Err(io::Error::other(format!("the call was rejected: {line}")));
        }
        let slot = usize::try_from(id % MAX_SLOTS as u64).expect("a remainder of a usize");
        Ok(Some(Self { slot, line }))
    }

    /// The first string under `key` in the structured content, as it stands there.
    pub(crate) fn string(&self, key: &str) -> Option<&'line str> {
        let value = self.value(key)?.strip_prefix('"')?;
        value.split_once('"').map(|(string, _)| string)
    }

    /// The first whole number under `key` in the structured content.
    pub(crate) fn number(&self, key: &str) -> Option<u64> {
        leading_number(self.value(key)?)
    }

    /// The whole line, to show what was unexpected in it.
    pub(crate) fn line(&self) -> &'line str {
        self.line
    }

    fn value(&self, key: &str) -> Option<&'line str> {
        let (_, mut rest) = self.line.split_once(r#""structuredContent":"#)?;
        loop {
            let at = rest.find(key)?;
            let quoted = rest[..at].ends_with('"');
            rest = &rest[at + key.len()..];
            if let (true, Some(value)) = (quoted, rest.strip_prefix("\":")) {
                return Some(value);
            }
        }
    }
}

/// Whether a line is a notification, or a request of the server.
fn is_unasked(line: &[u8]) -> bool {
    line.starts_with(br#"{"jsonrpc":"2.0","method":"#)
}

fn leading_number(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    text[..digits].parse().ok()
}

/// The id of a message whose members are not in the usual order.
fn id_anywhere(line: &str) -> io::Result<Option<u64>> {
    let message: serde_json::Value = serde_json::from_str(line)
        .map_err(|error| io::Error::other(format!("{error} in the server's line: {line}")))?;
    Ok(message["id"].as_u64())
}
