//! A lean HTTP client, and the trivial server behind HTTP: one keep-alive connection a session,
//! blocking, headers written by hand and scanned rather than parsed.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::{StreamableHttpServerConfig, StreamableHttpService};

use crate::floor::Floor;
use crate::series::Series;

/// After this an answer is not expected any more.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a request of the protocol without sessions says of itself.
const META: &str = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}},"#;

/// A server's process and the port it listens on.
pub(crate) struct HttpServer {
    process: Child,
    address: SocketAddr,
}

impl HttpServer {
    /// Starts a server that tells on stderr where it listens, as a URL of that address.
    pub(crate) fn start(command: &mut Command) -> io::Result<Self> {
        let mut process = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let stderr = process.stderr.take().ok_or_else(|| io::Error::other("no stderr"))?;
        let mut line = String::new();
        BufReader::new(stderr).read_line(&mut line)?;
        let mut words = line.split("http://").skip(1).flat_map(|rest| rest.split('/'));
        let address = words.next().and_then(|address| address.trim().parse().ok());
        match address {
            Some(address) => Ok(Self { process, address }),
            None => {
                // It may have ended already, which is what it is for.
                let _ = process.kill();
                Err(io::Error::other(format!("the server did not say where it listens: {line}")))
            }
        }
    }

    /// The process id, for what `/proc` says about it.
    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// A connection that has said nothing.
    pub(crate) fn connect(&self) -> io::Result<HttpClient> {
        let stream = TcpStream::connect(self.address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let reader = BufReader::with_capacity(64 * 1024, stream.try_clone()?);
        Ok(HttpClient { stream, reader, session: String::new(), asked: 0, body: Vec::new() })
    }

    /// A session that has shaken hands.
    pub(crate) fn session(&self) -> io::Result<HttpClient> {
        let mut client = self.connect()?;
        client.initialize()?;
        Ok(client)
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        // Both fail only where the process has ended already, which is what they are for.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// One connection, and the session on it.
pub(crate) struct HttpClient {
    stream: TcpStream,
    reader: BufReader<TcpStream>,
    /// The header that names the session, with its end; empty before the handshake.
    session: String,
    asked: u64,
    body: Vec<u8>,
}

impl HttpClient {
    /// Shakes hands.
    pub(crate) fn initialize(&mut self) -> io::Result<()> {
        self.send_initialize()?;
        let session = self.read()?.ok_or_else(|| io::Error::other("no session was opened"))?;
        self.session = format!("mcp-session-id: {session}\r\n");
        self.post("", r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#)?;
        self.read().map(drop)
    }

    /// Asks for a session and does not wait for the answer.
    pub(crate) fn send_initialize(&mut self) -> io::Result<()> {
        self.post(
            "",
            r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"load","version":"1"}}}"#,
        )
    }

    /// Calls a tool within the session. `arguments` are the members of a JSON object.
    pub(crate) fn call(&mut self, tool: &str, arguments: fmt::Arguments<'_>) -> io::Result<()> {
        self.send_call(tool, arguments)?;
        self.answer()
    }

    /// The same in the protocol without sessions.
    pub(crate) fn call_alone(
        &mut self,
        tool: &str,
        arguments: fmt::Arguments<'_>,
    ) -> io::Result<()> {
        let body = self.tool_call(META, tool, arguments);
        let headers = format!(
            "mcp-protocol-version: 2026-07-28\r\nmcp-method: tools/call\r\nmcp-name: {tool}\r\n"
        );
        self.post(&headers, &body)?;
        self.answer()
    }

    /// Sends a call and does not wait for its answer.
    pub(crate) fn send_call(
        &mut self,
        tool: &str,
        arguments: fmt::Arguments<'_>,
    ) -> io::Result<()> {
        let body = self.tool_call("", tool, arguments);
        self.post("", &body)
    }

    /// A call under a new id; `meta` are members of its params, with a comma after them.
    fn tool_call(&mut self, meta: &str, tool: &str, arguments: fmt::Arguments<'_>) -> String {
        self.asked += 1;
        format!(
            r#"{{"jsonrpc":"2.0","id":{},"method":"tools/call","params":{{{meta}"name":"{tool}","arguments":{{{arguments}}}}}}}"#,
            self.asked
        )
    }

    /// Goes on with the session of another, whose ids end before `first_id`, and gives a write up
    /// that the server does not take.
    pub(crate) fn leave_unread(&mut self, other: &Self, first_id: u64) -> io::Result<()> {
        self.session.clone_from(&other.session);
        self.asked = first_id;
        self.stream.set_write_timeout(Some(Duration::from_secs(1)))
    }

    fn post(&mut self, headers: &str, body: &str) -> io::Result<()> {
        let request = format!(
            "POST /mcp HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
             accept: application/json, text/event-stream\r\n{}{headers}content-length: {}\r\n\r\n{body}",
            self.session,
            body.len()
        );
        self.stream.write_all(request.as_bytes())
    }

    fn answer(&mut self) -> io::Result<()> {
        self.read()?;
        let body = String::from_utf8_lossy(&self.body);
        match body.contains(r#""result":"#) && !body.contains(r#""isError":true"#) {
            true => Ok(()),
            false => Err(io::Error::other(format!("the call was refused: {body}"))),
        }
    }

    /// Reads an answer to its end, and gives the session that it names.
    fn read(&mut self) -> io::Result<Option<String>> {
        let (mut length, mut session) = (None, None);
        let mut line = String::new();
        let mut status = String::new();
        loop {
            line.clear();
            if self.reader.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if status.is_empty() {
                status.clone_from(&line);
            }
            let Some((name, value)) = line.trim_end().split_once(':') else {
                if line == "\r\n" {
                    break;
                }
                continue;
            };
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.trim().parse().ok(),
                "mcp-session-id" => session = Some(value.trim().to_owned()),
                _ => {}
            }
        }
        self.body.clear();
        match length {
            Some(length) => {
                self.body.resize(length, 0);
                self.reader.read_exact(&mut self.body)?;
            }
            None => self.read_chunks()?,
        }
        match status.split(' ').nth(1) {
            Some("200" | "202") => Ok(session),
            _ => {
                let body = String::from_utf8_lossy(&self.body);
                Err(io::Error::other(format!("{} {body}", status.trim_end())))
            }
        }
    }

    fn read_chunks(&mut self) -> io::Result<()> {
        let mut line = String::new();
        loop {
            line.clear();
            self.reader.read_line(&mut line)?;
            let size = usize::from_str_radix(line.trim(), 16).map_err(io::Error::other)?;
            let start = self.body.len();
            self.body.resize(start + size, 0);
            self.reader.read_exact(&mut self.body[start..])?;
            self.reader.read_line(&mut line)?;
            if size == 0 {
                return Ok(());
            }
        }
    }
}

/// Calls over and over for the length of a round.
pub(crate) fn http_calls(
    round: Duration,
    mut call: impl FnMut() -> io::Result<()>,
) -> io::Result<Series> {
    let began = Instant::now();
    let mut latencies = Vec::new();
    let mut sent = began;
    while sent - began < round {
        call()?;
        let now = Instant::now();
        latencies.push(now - sent);
        sent = now;
    }
    Ok(Series::round(latencies, began.elapsed()))
}

/// The command that starts the trivial server.
pub(crate) fn command() -> io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("--floor-http-server");
    Ok(command)
}

/// Serves the trivial tool over HTTP, on a runtime of the product's kind.
pub(crate) fn serve() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let sessions = Arc::new(LocalSessionManager::default());
        let config = StreamableHttpServerConfig::default();
        let service = StreamableHttpService::new(|| Ok(Floor), sessions, config);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        eprintln!("listening on http://{}/mcp", listener.local_addr()?);
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let service = hyper_util::service::TowerToHyperService::new(service.clone());
            tokio::spawn(async move {
                let stream = hyper_util::rt::TokioIo::new(stream);
                let http = hyper::server::conn::http1::Builder::new();
                // It ends when its client goes away.
                let _ = http.serve_connection(stream, service).await;
            });
        }
    })
}
