//! Runs `ipfs-accelerate` with a data directory of its own and nothing of the tester's environment,
//! and speaks MCP with it, line by line.
//!
//! Nothing here waits for a time to pass: it waits for a condition, and gives up after
//! [`PATIENCE`], which only a hang reaches.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io::{BufRead, BufReader, Read, Write};
use std::ops::{Deref, DerefMut};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

/// After this a condition is not expected to come true any more.
const PATIENCE: Duration = Duration::from_secs(60);

/// A data directory that lasts as long as this value.
pub(crate) struct Home {
    folder: TempDir,
    data: PathBuf,
    /// The network namespace of its commands, where that is not the tester's.
    namespace: Option<PathBuf>,
}

/// What one run left behind.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) code: i32,
}

impl Home {
    pub(crate) fn new() -> Self {
        Home::with_data("data")
    }

    /// With the data directory under another name.
    pub(crate) fn with_data(name: &str) -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let data = folder.path().join(name);
        Home { folder, data, namespace: None }
    }

    /// On a machine of its own, as far as the network goes.
    #[cfg(target_os = "linux")]
    pub(crate) fn in_namespace(namespace: &Path) -> Self {
        Home { namespace: Some(namespace.to_owned()), ..Home::new() }
    }

    /// The command, ready to be given arguments.
    pub(crate) fn command(&self) -> Command {
        const BINARY: &str = env!("CARGO_BIN_EXE_ipfs-accelerate");
        self.prepare(match &self.namespace {
            None => Command::new(BINARY),
            Some(namespace) => in_namespace(namespace, BINARY),
        })
    }

    /// Any command, in this home's environment and no other.
    pub(crate) fn prepare(&self, mut command: Command) -> Command {
        command
            .env_clear()
            .env("IPFS_ACCELERATE_HOME", &self.data)
            .current_dir(self.folder.path())
            .stdin(Stdio::null());
        command
    }

    /// Runs it to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Run {
        let output = self.command().args(arguments).output().expect("the binary starts");
        Run::of(&output)
    }

    /// Runs a command with `--json` that must succeed, and returns what it prints.
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let run = self.run(&[&["p2p-workflow"], arguments, &["--json"]].concat());
        assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{arguments:?}");
        assert_eq!(run.stdout.lines().count(), 1, "one object: {}", run.stdout);
        serde_json::from_str(&run.stdout).expect("JSON on stdout")
    }

    /// What the command `status` says, as [`Client::status`] does.
    pub(crate) fn status(&self) -> Value {
        without_commits(self.json(&["status"]))
    }

    /// Starts an MCP server, introduced to its client.
    pub(crate) fn start(&self) -> Server {
        let mut command = self.command();
        command.args(["mcp", "start"]);
        let mut server = Server::spawn(command);
        server.introduce();
        server
    }

    /// The process id that the node wrote into the lock file.
    pub(crate) fn node(&self) -> u32 {
        eventually("a node's process id in the lock file", || {
            std::fs::read_to_string(self.data.join("node.lock")).ok()?.trim().parse().ok()
        })
    }

    /// A connection to the node's socket, not yet introduced.
    pub(crate) fn connect(&self) -> Client {
        let stream = eventually("the node's socket", || {
            UnixStream::connect(self.data.join("node.sock")).ok()
        });
        Client::of_socket(stream)
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The data directory, which may not be there yet.
    pub(crate) fn data(&self) -> &Path {
        &self.data
    }
}

impl Run {
    pub(crate) fn of(output: &Output) -> Self {
        Run {
            stdout: String::from_utf8(output.stdout.clone()).expect("UTF-8"),
            stderr: String::from_utf8(output.stderr.clone()).expect("UTF-8"),
            code: output.status.code().expect("it was not killed"),
        }
    }
}

/// An MCP client, written by hand so that it can be as rude as a test wants it.
///
/// Invariant: every request gets at most one answer, and nothing else gets any. Notifications come
/// only to clients that [want them](Client::hear).
pub(crate) struct Client {
    writer: Option<Box<dyn Write + Send>>,
    lines: Receiver<String>,
    last_id: u64,
    outstanding: HashSet<u64>,
    /// Answers that came while another was waited for.
    early: HashMap<u64, Value>,
    /// Notifications that came while an answer was waited for; `None` where none is wanted.
    notices: Option<VecDeque<Value>>,
}

impl Client {
    pub(crate) fn new(
        reader: impl Read + Send + 'static,
        writer: impl Write + Send + 'static,
    ) -> Self {
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            // A server that was killed in mid-write leaves half a line, which is no answer.
            let mut reader = BufReader::new(reader);
            let mut line = Vec::new();
            while reader.read_until(b'\n', &mut line).is_ok() && line.pop() == Some(b'\n') {
                let text = String::from_utf8(std::mem::take(&mut line)).expect("UTF-8");
                if sender.send(text).is_err() {
                    return;
                }
            }
        });
        Client {
            writer: Some(Box::new(writer)),
            lines,
            last_id: 0,
            outstanding: HashSet::new(),
            early: HashMap::new(),
            notices: None,
        }
    }

    pub(crate) fn of_socket(stream: UnixStream) -> Self {
        Client::new(stream.try_clone().expect("a second descriptor"), HangsUp(stream))
    }

    pub(crate) fn introduce(&mut self) {
        let id = self.request("initialize", &hello());
        let answer = self.answer(id);
        assert_eq!(answer["result"]["serverInfo"]["name"], "ipfs-accelerate", "{answer}");
        self.notify("notifications/initialized");
    }

    /// Sends bytes as they are; false once the server is gone.
    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) -> bool {
        let writer = self.writer.as_mut().expect("the client did not hang up");
        writer.write_all(bytes).and_then(|()| writer.flush()).is_ok()
    }

    /// Sends a request and returns its id. Whether it arrives is seen by its answer.
    pub(crate) fn request(&mut self, method: &str, params: &Value) -> u64 {
        self.last_id += 1;
        let id = self.last_id;
        self.outstanding.insert(id);
        let line = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        self.send_bytes(format!("{line}\n").as_bytes());
        id
    }

    /// Takes an id that the next line, sent by hand, is to be answered under.
    pub(crate) fn reserve(&mut self) -> u64 {
        self.last_id += 1;
        self.outstanding.insert(self.last_id);
        self.last_id
    }

    pub(crate) fn notify(&mut self, method: &str) {
        let line = json!({"jsonrpc": "2.0", "method": method});
        self.send_bytes(format!("{line}\n").as_bytes());
    }

    /// The next message, whatever it is; `None` once the server hung up.
    pub(crate) fn message(&mut self) -> Option<Value> {
        let line = match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => line,
            Err(mpsc::RecvTimeoutError::Disconnected) => return None,
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("no answer: {:?}", self.outstanding),
        };
        let message: Value = serde_json::from_str(&line).expect("each line is JSON");
        assert_eq!(message["jsonrpc"], "2.0", "{message}");
        if let Some(id) = message["id"].as_u64() {
            assert!(self.outstanding.remove(&id), "nobody asked, or it was answered: {message}");
        }
        Some(message)
    }

    /// The whole answer to a request; `None` once the server hung up.
    pub(crate) fn try_answer(&mut self, id: u64) -> Option<Value> {
        loop {
            if let Some(answer) = self.early.remove(&id) {
                return Some(answer);
            }
            let message = self.message()?;
            self.keep(message);
        }
    }

    /// Sets aside what is not waited for yet.
    fn keep(&mut self, message: Value) {
        match (message["id"].as_u64(), &mut self.notices) {
            (Some(other), _) => {
                self.early.insert(other, message);
            }
            (None, Some(notices)) if message["method"].is_string() => notices.push_back(message),
            _ => panic!("unasked: {message}"),
        }
    }

    /// Takes notifications from now on.
    pub(crate) fn hear(&mut self) {
        self.notices.get_or_insert_default();
    }

    /// The next notification.
    pub(crate) fn notice(&mut self) -> Value {
        self.hear();
        loop {
            if let Some(notice) = self.notices.as_mut().and_then(VecDeque::pop_front) {
                return notice;
            }
            let message = self.message().expect("the server is there");
            self.keep(message);
        }
    }

    /// The notifications that came until now: what the server sent before it answered last.
    pub(crate) fn notices(&mut self) -> Vec<Value> {
        self.ping();
        self.notices.as_mut().map_or_else(Vec::new, |notices| notices.drain(..).collect())
    }

    /// The address that the next notification is about, which must be an update.
    pub(crate) fn updated(&mut self) -> String {
        updated(&self.notice())
    }

    /// The result of a request that is no tool's.
    pub(crate) fn ask(&mut self, method: &str, params: &Value) -> Value {
        let id = self.request(method, params);
        let mut answer = self.answer(id);
        assert!(answer["result"].is_object(), "{method}: {answer}");
        answer["result"].take()
    }

    /// The error that a request is answered with.
    pub(crate) fn fails(&mut self, method: &str, params: &Value) -> Value {
        let id = self.request(method, params);
        let mut answer = self.answer(id);
        assert!(answer["error"].is_object(), "{method}: {answer}");
        answer["error"].take()
    }

    pub(crate) fn subscribe(&mut self, uri: &str) {
        self.hear();
        assert_eq!(self.ask("resources/subscribe", &json!({"uri": uri})), json!({}));
    }

    /// What a resource shows.
    pub(crate) fn read(&mut self, uri: &str) -> Value {
        let read = self.ask("resources/read", &json!({"uri": uri}));
        let contents = &read["contents"][0];
        assert_eq!(
            (&contents["uri"], &contents["mimeType"]),
            (&json!(uri), &json!("application/json"))
        );
        serde_json::from_str(contents["text"].as_str().expect("a text")).expect("JSON")
    }

    pub(crate) fn answer(&mut self, id: u64) -> Value {
        self.try_answer(id).expect("the server answers before it hangs up")
    }

    /// The answer to a message that has no id of its own: the error under `null`.
    pub(crate) fn fault(&mut self) -> Value {
        let message = self.message().expect("an answer");
        assert!(message["id"].is_null() && message["error"].is_object(), "{message}");
        message["error"].clone()
    }

    pub(crate) fn start_call(&mut self, tool: &str, arguments: &Value) -> u64 {
        self.request("tools/call", &json!({"name": tool, "arguments": arguments}))
    }

    /// The structured content that a call was answered with.
    pub(crate) fn finish(&mut self, id: u64) -> Value {
        let answer = self.answer(id);
        let result = &answer["result"];
        assert_eq!(result["isError"], false, "{answer}");
        assert!(!text(result).is_empty(), "{answer}");
        result["structuredContent"].clone()
    }

    /// Calls a tool that must succeed, and returns its structured content.
    pub(crate) fn call(&mut self, tool: &str, arguments: &Value) -> Value {
        let id = self.start_call(tool, arguments);
        self.finish(id)
    }

    /// Calls a tool that must refuse, and returns the code.
    pub(crate) fn refused(&mut self, tool: &str, arguments: &Value) -> String {
        let id = self.start_call(tool, arguments);
        code(&self.answer(id)["result"])
    }

    pub(crate) fn submit(&mut self, task_id: &str) {
        let submitted = self.call("p2p_submit_task", &task(task_id));
        assert_eq!(submitted["created"], true, "{submitted}");
    }

    /// Takes a task without waiting; null if there is none.
    pub(crate) fn take(&mut self) -> Value {
        self.call("p2p_get_next_task", &json!({}))
    }

    /// One task as it stands, with its texts.
    pub(crate) fn show(&mut self, task_id: &str) -> Value {
        let shown = self.call("p2p_scheduler_status", &json!({"task_id": task_id}));
        shown["tasks"][0].clone()
    }

    pub(crate) fn state(&mut self, task_id: &str) -> String {
        self.show(task_id)["state"].as_str().expect("a state").to_owned()
    }

    /// The counts, the peers and the clock's root.
    pub(crate) fn status(&mut self) -> Value {
        without_commits(self.call("p2p_scheduler_status", &json!({})))
    }

    /// Waits until all that was sent before is being served.
    pub(crate) fn ping(&mut self) {
        let id = self.request("ping", &json!({}));
        assert_eq!(self.answer(id)["result"], json!({}));
    }

    /// Sends nothing more.
    pub(crate) fn hang_up(&mut self) {
        self.writer = None;
    }
}

/// A socket whose writing end is closed with this value, though others can still read from it.
struct HangsUp(UnixStream);

impl Write for HangsUp {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

impl Drop for HangsUp {
    fn drop(&mut self) {
        // It fails where the other end is gone already.
        let _gone = self.0.shutdown(std::net::Shutdown::Write);
    }
}

/// A process that is killed when the test is over.
pub(crate) struct Process(Child);

impl Process {
    pub(crate) fn spawn(command: Command) -> Self {
        Process::try_spawn(command).expect("the binary starts")
    }

    pub(crate) fn try_spawn(mut command: Command) -> std::io::Result<Self> {
        command.spawn().map(Process)
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.0
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).expect("it runs");
    }

    /// Ends it like a power switch does.
    pub(crate) fn kill(&mut self) {
        self.0.kill().expect("it runs");
        self.0.wait().expect("it was started here");
    }

    /// Waits for its end, and returns its exit code.
    pub(crate) fn exit_code(&mut self) -> i32 {
        let status = eventually("the end of a process", || self.0.try_wait().expect("a child"));
        status.code().expect("it was not killed")
    }

    /// The memory that is its own, in bytes.
    #[cfg(target_os = "linux")]
    pub(crate) fn memory(&self) -> u64 {
        let path = format!("/proc/{}/status", self.id());
        let status = std::fs::read_to_string(path).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a size");
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
        kib * 1024
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It has ended already where all went well.
        let _ended = self.0.kill();
        let _ended = self.0.wait();
    }
}

/// `mcp start`, and the client on its stdin and stdout.
pub(crate) struct Server {
    pub(crate) process: Process,
    pub(crate) client: Client,
}

impl Server {
    /// Starts a command that serves MCP on pipes; its client is not yet introduced.
    pub(crate) fn spawn(mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = Process::spawn(command);
        let child = process.child();
        let stdin = child.stdin.take().expect("a pipe");
        let stdout = child.stdout.take().expect("a pipe");
        Server { client: Client::new(stdout, stdin), process }
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }

    pub(crate) fn terminate(&self) {
        self.process.signal(Signal::TERM);
    }

    /// Hangs up and waits for the end, which must be an orderly one.
    pub(crate) fn close(mut self) {
        self.client.hang_up();
        assert_eq!(self.process.exit_code(), 0);
        while let Some(message) = self.client.message() {
            let wanted = self.client.notices.is_some() && message["method"].is_string();
            assert!(wanted, "nothing was asked: {message}");
        }
    }
}

impl Deref for Server {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl DerefMut for Server {
    fn deref_mut(&mut self) -> &mut Client {
        &mut self.client
    }
}

/// A program in a network namespace. The process becomes it, under the same process id.
pub(crate) fn in_namespace(namespace: &Path, program: &str) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net={}", namespace.display())).arg(program);
    command
}

/// Waits until `condition` gives something.
pub(crate) fn eventually<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(started.elapsed() < PATIENCE, "waited in vain for {what}");
        // How often to look; nothing depends on how long it is.
        thread::sleep(Duration::from_millis(10));
    }
}

/// A status as every process of a data directory shows it: commits are counted by each node anew.
fn without_commits(mut status: Value) -> Value {
    status.as_object_mut().expect("a status").remove("commits").expect("it counts them");
    status
}

/// What an `initialize` says.
pub(crate) fn hello() -> Value {
    json!({
        "protocolVersion": "2025-06-18",
        "clientInfo": {"name": "test", "version": "1"},
        "capabilities": {},
    })
}

/// The arguments of the plainest submission.
pub(crate) fn task(task_id: &str) -> Value {
    json!({"task_id": task_id, "workflow_id": "w", "name": task_id, "tags": ["p2p-only"]})
}

/// The address that a notification is about, which must be an update.
pub(crate) fn updated(notice: &Value) -> String {
    assert_eq!(notice["method"], "notifications/resources/updated", "{notice}");
    notice["params"]["uri"].as_str().expect("an address").to_owned()
}

/// What a tool's result says to people.
pub(crate) fn text(result: &Value) -> &str {
    result["content"][0]["text"].as_str().unwrap_or_default()
}

/// The code of a tool's result that must be a refusal.
pub(crate) fn code(result: &Value) -> String {
    assert_eq!(result["isError"], true, "{result}");
    assert_eq!(result["structuredContent"], Value::Null, "strict clients validate it: {result}");
    let (what, code) = text(result).rsplit_once("\ncode: ").expect("it ends with its code");
    assert!(!what.is_empty(), "{result}");
    code.to_owned()
}

/// Numbers that look random and repeat with their seed (xorshift64*).
pub(crate) struct Random(u64);

impl Random {
    /// From the operating system, unless `E2E_SEED` says which. Printed, for when the test fails.
    pub(crate) fn new() -> Self {
        let seed = match std::env::var("E2E_SEED") {
            Ok(seed) => seed.parse().expect("E2E_SEED is a number"),
            Err(_) => getrandom::u64().expect("randomness"),
        };
        eprintln!("E2E_SEED={seed}");
        Random(seed | 1)
    }

    /// For one of several threads.
    pub(crate) fn fork(&mut self) -> Self {
        Random(self.below(u64::MAX) | 1)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) % end
    }
}
