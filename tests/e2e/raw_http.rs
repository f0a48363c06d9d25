//! The HTTP door of the built binary, and a client that says to it whatever a test wants, byte by
//! byte.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::ops::Deref;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Home, Process, eventually};

/// Longer than the door is patient with anybody: only a hang reaches it.
const PATIENCE: Duration = Duration::from_secs(150);

/// What every POST of a message says of it.
pub(crate) const MESSAGE: [&str; 2] =
    ["Content-Type: application/json", "Accept: application/json, text/event-stream"];

/// A process that serves HTTP, by all its paths.
pub(crate) struct Door {
    pub(crate) process: Process,
    http: Http,
}

/// Where a process serves HTTP.
pub(crate) struct Http {
    address: SocketAddr,
    log: Arc<Mutex<String>>,
}

impl Door {
    /// Starts one on a free port, with these arguments, and with all that it has to say.
    pub(crate) fn open(home: &Home, arguments: &[&str]) -> Self {
        let mut command = home.command();
        command.args(["mcp", "start", "--transport", "sse", "--port", "0", "-vv"]).args(arguments);
        command.stderr(Stdio::piped());
        let mut process = Process::spawn(command);
        let http = Http::of(&mut process);
        Door { process, http }
    }
}

impl Deref for Door {
    type Target = Http;

    fn deref(&self) -> &Http {
        &self.http
    }
}

impl Http {
    /// Finds it on a process's stderr, which is a pipe.
    pub(crate) fn of(process: &mut Process) -> Self {
        let mut stderr = BufReader::new(process.child().stderr.take().expect("a pipe"));
        let log = Arc::<Mutex<String>>::default();
        let logged = log.clone();
        thread::spawn(move || {
            let mut line = String::new();
            while stderr.read_line(&mut line).is_ok_and(|read| read > 0) {
                logged.lock().expect("nothing panics while it holds the log").push_str(&line);
                line.clear();
            }
        });
        let address = eventually("where it listens", || {
            let log = log.lock().expect("nothing panics while it holds the log");
            let said = |line: &str| {
                line.strip_prefix("listening on http://")?.strip_suffix("/mcp")?.parse().ok()
            };
            log.lines().find_map(said)
        });
        Http { address, log }
    }

    /// What it said on stderr so far.
    pub(crate) fn log(&self) -> String {
        self.log.lock().expect("nothing panics while it holds the log").clone()
    }

    pub(crate) fn connect(&self) -> Connection {
        let address = match self.address.ip().is_unspecified() {
            true => SocketAddr::from((Ipv4Addr::LOCALHOST, self.address.port())),
            false => self.address,
        };
        let stream = TcpStream::connect(address).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time");
        Connection { stream }
    }

    /// The whole answer to a request of these lines, sent as they are.
    pub(crate) fn raw(&self, request: &str) -> Answer {
        let mut connection = self.connect();
        connection.send(request.as_bytes());
        connection.answer()
    }

    /// The whole answer to a request; the usual headers are added to those given.
    pub(crate) fn ask(&self, line: &str, headers: &[&str], body: &str) -> Answer {
        self.raw(&request(line, headers, body))
    }

    /// The whole answer to a message posted to `/mcp`.
    pub(crate) fn post(&self, headers: &[&str], message: &Value) -> Answer {
        self.ask("POST /mcp", &[&MESSAGE, headers].concat(), &message.to_string())
    }

    /// Opens a session, and returns the header that names it.
    pub(crate) fn session(&self, headers: &[&str]) -> String {
        let answer = self.post(headers, &initialize());
        assert_eq!(answer.status, 200, "{answer:?}");
        format!("Mcp-Session-Id: {}", answer.header("mcp-session-id").expect("a session"))
    }

    /// Opens `/sse`, and returns the stream with the path to post to.
    pub(crate) fn stream(&self, headers: &[&str]) -> (Connection, String) {
        let mut connection = self.connect();
        connection.send(request("GET /sse", headers, "").as_bytes());
        let begin = connection.until("\n\n", "event: endpoint");
        let path = begin.lines().find_map(|line| line.strip_prefix("data: ")).expect("a path");
        (connection, path.to_owned())
    }
}

/// A connection to the door.
pub(crate) struct Connection {
    pub(crate) stream: TcpStream,
}

impl Connection {
    /// Sends bytes; false once the door does not take any more.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// All that comes until the door closes the connection.
    pub(crate) fn rest(&mut self) -> String {
        let mut bytes = Vec::new();
        // A reset, where the door left something unread, is an end as well.
        if let Err(error) = self.stream.read_to_end(&mut bytes) {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
        }
        String::from_utf8(bytes).expect("UTF-8")
    }

    /// The answer, on a connection that is closed after it.
    pub(crate) fn answer(&mut self) -> Answer {
        Answer::parse(&self.rest())
    }

    /// What comes up to `end`, once `start` came.
    pub(crate) fn until(&mut self, end: &str, start: &str) -> String {
        let mut read = Vec::new();
        loop {
            let text = String::from_utf8_lossy(&read);
            let found = text.find(start).and_then(|at| text[at..].find(end).map(|to| at + to));
            if let Some(to) = found {
                return text[..to].to_owned();
            }
            let mut byte = [0];
            let count = self.stream.read(&mut byte).expect("more");
            assert_eq!(count, 1, "it ended after {text}");
            read.push(byte[0]);
        }
    }
}

/// What the door answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: String,
}

impl Answer {
    fn parse(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{text:?}"));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        Answer { status: status.expect("a status"), head: head.to_owned(), body: body.to_owned() }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        lines.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// The JSON-RPC message in it.
    pub(crate) fn message(&self) -> Value {
        assert_eq!(self.header("content-type"), Some("application/json"), "{self:?}");
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// What the error in it says.
    pub(crate) fn error(&self) -> String {
        self.message()["error"]["message"].as_str().expect("an error").to_owned()
    }
}

/// A request of this machine's, on a connection that ends with it.
pub(crate) fn request(line: &str, headers: &[&str], body: &str) -> String {
    let mut text = format!("{line} HTTP/1.1\r\n");
    let mut add = |header: &str| write!(text, "{header}\r\n").expect("a text takes it");
    headers.iter().copied().for_each(&mut add);
    if !headers.iter().any(|header| header.starts_with("Host:")) {
        add("Host: localhost");
    }
    if !body.is_empty() {
        add(&format!("Content-Length: {}", body.len()));
    }
    add("Connection: close");
    text + "\r\n" + body
}

pub(crate) fn initialize() -> Value {
    let params = crate::harness::hello();
    json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params})
}

pub(crate) fn call(tool: &str, arguments: &Value) -> Value {
    let params = json!({"name": tool, "arguments": arguments});
    json!({"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": params})
}
