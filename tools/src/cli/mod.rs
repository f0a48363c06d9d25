//! The command line: what a person or a script touches.
//!
//! ```text
//! main ── Cli::parse ──► run ──┬─► serve(options, doors)        mcp start, node start
//!                              ├─► connect(options) ─► Client   p2p-workflow …, swarm …, node stop
//!                              ├─► open(options) ─► Way         p2p-workflow work, discover, watch
//!                              └─► (text alone)                 mcp config, completions, man
//! ```
//!
//! A command is a client of the node like any other: it calls the tools over a stream that
//! `connect` gives it, and knows nothing of what is behind it. It returns the text for stdout, or
//! a `Failure` that names the exit code. Stdout carries answers only; everything else goes to
//! stderr.
//!
//! One command, one file under `p2p_workflow/`, in the same order: its flags, the call, what
//! people are shown, tests.

mod backup;
mod duration;
mod mcp;
mod node;
mod p2p_workflow;
mod render;
mod shell;
mod start;
mod swarm;

use std::env;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anstream::AutoStream;
use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum, ValueHint};
use p2p_workflow_scheduler::node::{AttachError, Leaving, default_folder};
use tracing_subscriber::EnvFilter;

use self::backup::Backup;
use self::mcp::{Config, Instructions};
use self::node::NodeCommand;
pub use self::node::standing;
use self::p2p_workflow::{Stderr, WorkflowCommand, guard};
use self::shell::{Completions, Man};
pub use self::start::Doors;
use self::swarm::SwarmCommand;
use crate::client::{CallError, Client, ConnectError, Duplex};
use crate::start::Way;

/// Share durable tasks between agents, people and machines, without a server.
#[derive(Debug, Parser)]
#[command(name = "ipfs-accelerate", version, max_term_width = 100)]
#[command(arg_required_else_help = true)]
#[command(after_help = "\
Examples:
  ipfs-accelerate mcp start                  what an agent's MCP configuration names
  ipfs-accelerate p2p-workflow status        what is in the queue
  ipfs-accelerate p2p-workflow submit --help

Exit codes: 0 done, 1 rejected, 2 wrong usage, 3 the node, its store or a file failed.")]
pub struct Cli {
    #[command(flatten)]
    options: GlobalOptions,
    #[command(subcommand)]
    command: Command,
}

impl Cli {
    /// With what the environment says where the command line is silent.
    #[must_use]
    pub fn with_environment(mut self) -> Self {
        let folder = env::var_os(HOME_VARIABLE).filter(|folder| !folder.is_empty());
        self.options.data_dir = self.options.data_dir.or_else(|| folder.map(PathBuf::from));
        self
    }
}

/// Names the data directory where `--data-dir` does not.
const HOME_VARIABLE: &str = "IPFS_ACCELERATE_HOME";

/// The options that every command takes.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Options of every command")]
pub struct GlobalOptions {
    /// Where the node keeps its tasks [default: the platform's data directory] [env:
    /// IPFS_ACCELERATE_HOME]
    // Not clap's `env`: with that, a set variable counts as an argument that was typed, and stands
    // in every usage line as if it were needed.
    #[arg(long, global = true, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub data_dir: Option<PathBuf>,

    /// What an answer waits for where no node runs yet: the disk (full), or only the operating
    /// system (relaxed: faster, a power cut may lose the last moments)
    #[arg(long, global = true, value_enum, default_value_t, hide_possible_values = true)]
    #[arg(value_name = "full|relaxed")]
    pub durability: Durability,

    /// The data directory is a backup that was put back: without this, a peer may take its new
    /// writes for old ones
    #[arg(long, global = true)]
    pub restored: bool,

    /// Log more to stderr: -v what happens, -vv details (RUST_LOG refines it)
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,
}

impl GlobalOptions {
    /// The data directory.
    ///
    /// # Errors
    /// None was named, and the platform names none.
    pub fn folder(&self) -> Result<PathBuf, AttachError> {
        match &self.data_dir {
            Some(folder) => Ok(folder.clone()),
            None => default_folder(),
        }
    }
}

/// What an answer waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Durability {
    /// The disk: a power cut loses nothing that was answered
    #[default]
    Full,
    /// The operating system: faster, a power cut may lose the last moments
    Relaxed,
}

/// Which node a command wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attach {
    /// The running one, or else one opened in this process.
    Any,
    /// Only one that runs already.
    Running,
}

/// A stream to a node.
#[derive(Debug)]
pub struct Connection<S> {
    /// Speaks MCP, line by line.
    pub stream: S,
    /// How long there is a node.
    pub node: NodeLasts,
}

/// How long there is a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeLasts {
    /// In another process, after the command.
    On,
    /// In this process, until the command is done.
    UntilDone,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The MCP server that agents start
    #[command(subcommand, arg_required_else_help = true)]
    Mcp(McpCommand),
    /// Hand in, take and follow tasks
    #[command(subcommand, arg_required_else_help = true, name = "p2p-workflow")]
    Workflow(WorkflowCommand),
    /// The process that serves a data directory
    #[command(subcommand, arg_required_else_help = true)]
    Node(NodeCommand),
    /// Write all tasks into a file, while the node runs
    Backup(Backup),
    /// The machines that share their tasks
    #[command(subcommand, arg_required_else_help = true)]
    #[command(after_help = "\
Examples:
  ipfs-accelerate swarm init          on the first machine
  ipfs-accelerate node start          there, to stay: keeps a node running
  ipfs-accelerate swarm invite        prints the line for the next one
  ipfs-accelerate swarm join LINE     on that one, and a node there too

A machine is in its swarm while a node runs on it: `node start`, or an agent's `mcp start`.")]
    Swarm(SwarmCommand),
    /// Print a completion script for a shell
    Completions(Completions),
    /// Print the manual page
    Man(Man),
}

#[derive(Debug, Subcommand)]
enum McpCommand {
    /// Serve MCP on stdin and stdout, or over HTTP
    Start(Doors),
    /// Print what an agent's configuration says of the server, or write it there
    Config(Config),
    /// Print for agents how to use the queue, or write it into AGENTS.md
    Instructions(Instructions),
}

impl Command {
    /// Whether the process is there for longer than one answer.
    fn stays(&self) -> bool {
        matches!(
            self,
            Command::Mcp(McpCommand::Start(_))
                | Command::Node(NodeCommand::Start)
                | Command::Workflow(WorkflowCommand::Work(_) | WorkflowCommand::Watch(_))
        ) || matches!(self, Command::Workflow(WorkflowCommand::Discover(command)) if command.stays())
    }
}

/// Runs one command to its exit code.
///
/// `connect` gives a stream to the node; `serve` is the node, with the doors of an MCP server or
/// without any; `open` gives the way to the node, or the next one, for as long as it is kept. The
/// stream is dropped before this returns.
pub async fn run<S: Duplex + 'static>(
    cli: Cli,
    connect: impl AsyncFnOnce(&GlobalOptions, Attach) -> Result<Connection<S>, ConnectError>,
    serve: impl AsyncFnOnce(&GlobalOptions, Option<&Doors>) -> Result<(), ConnectError>,
    open: impl AsyncFnOnce(&GlobalOptions) -> Result<Way, ConnectError>,
) -> ExitCode {
    start_logs(cli.options.verbose, cli.command.stays());
    let result = execute(cli, connect, serve, open).await;
    let text = match &result {
        Ok(text) => text,
        Err(failure) => failure.stdout(),
    };
    match print(text).and(result) {
        Ok(_) => ExitCode::SUCCESS,
        Err(failure) => {
            anstream::eprint!("{}", failure.message());
            ExitCode::from(failure.exit_code())
        }
    }
}

/// Everything but the printing: returns what belongs on stdout.
async fn execute<S: Duplex + 'static>(
    cli: Cli,
    connect: impl AsyncFnOnce(&GlobalOptions, Attach) -> Result<Connection<S>, ConnectError>,
    serve: impl AsyncFnOnce(&GlobalOptions, Option<&Doors>) -> Result<(), ConnectError>,
    open: impl AsyncFnOnce(&GlobalOptions) -> Result<Way, ConnectError>,
) -> Result<String, Failure> {
    let options = &cli.options;
    match cli.command {
        Command::Mcp(McpCommand::Start(doors)) => {
            if doors.stdio() && io::stdin().is_terminal() {
                anstream::eprint!("{}", terminal_notice());
            }
            serve(options, Some(&doors)).await?;
            Ok(String::new())
        }
        Command::Mcp(McpCommand::Config(config)) => config.run(options),
        Command::Mcp(McpCommand::Instructions(instructions)) => instructions.run(),
        Command::Workflow(WorkflowCommand::Guard) => guard(),
        Command::Workflow(WorkflowCommand::RunJob(command)) => command.run().await,
        Command::Workflow(WorkflowCommand::Work(command)) => {
            command.run(open(options).await?).await
        }
        Command::Workflow(WorkflowCommand::Discover(command)) => {
            command.run(async || open(options).await).await
        }
        Command::Workflow(WorkflowCommand::Watch(command)) => {
            command.run(open(options).await?).await
        }
        Command::Workflow(WorkflowCommand::Call(command)) => {
            let Connection { stream, .. } = connect(options, Attach::Any).await?;
            command.run(&mut Client::attach(stream).await?).await
        }
        Command::Backup(command) => {
            let Connection { stream, .. } = connect(options, Attach::Any).await?;
            command.run(&mut Client::attach(stream).await?).await
        }
        Command::Swarm(command) => {
            let Connection { stream, node } = connect(options, Attach::Any).await?;
            command.run(&mut Client::attach(stream).await?, node).await
        }
        Command::Node(NodeCommand::Start) => {
            serve(options, None).await?;
            Ok(String::new())
        }
        Command::Node(NodeCommand::Stop) => {
            let folder =
                options.folder().map_err(|error| ConnectError::CannotOpen(error.into()))?;
            let leaving = Leaving::of(folder);
            match connect(options, Attach::Running).await {
                Ok(Connection { stream, .. }) => {
                    node::stop(Client::attach(stream).await?, &leaving).await
                }
                Err(ConnectError::NotRunning) => Ok(node::not_running()),
                Err(error) => Err(error.into()),
            }
        }
        Command::Completions(completions) => Ok(completions.run()),
        Command::Man(man) => man.run(),
    }
}

/// What a person is told who starts the MCP server by hand.
#[must_use]
pub fn terminal_notice() -> String {
    "\
This is an MCP server. It waits for an agent's JSON-RPC messages on stdin; Ctrl-D ends it.
  For an agent: put the command `ipfs-accelerate`, args `mcp start`, in its MCP configuration.
  For yourself: try `ipfs-accelerate p2p-workflow status` in another terminal.
"
    .into()
}

/// Why a command did not do what it was asked.
#[derive(Debug)]
enum Failure {
    /// The scheduler said no.
    Rejected(String),
    /// Some of many were turned down, each already told; the rest is done.
    SomeRejected { summary: String },
    /// The arguments name something that is not there or not right.
    Usage(String),
    /// The node, its store, the connection or our output failed.
    Failed(String),
    /// A job failed, or was not begun: its worker knows the code.
    Job { code: u8, why: String },
}

impl Failure {
    fn exit_code(&self) -> u8 {
        match self {
            Failure::Rejected(_) | Failure::SomeRejected { .. } => 1,
            Failure::Usage(_) => 2,
            Failure::Failed(_) => 3,
            Failure::Job { code, .. } => *code,
        }
    }

    /// What stdout gets all the same.
    fn stdout(&self) -> &str {
        match self {
            Failure::SomeRejected { summary } => summary,
            _ => "",
        }
    }

    /// What stderr gets.
    fn message(&self) -> String {
        match self {
            Failure::Rejected(text) | Failure::Usage(text) | Failure::Failed(text) => {
                render::refused(text)
            }
            Failure::Job { why, .. } => format!("{why}\n"),
            Failure::SomeRejected { .. } => String::new(),
        }
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Rejected(text) => Failure::Rejected(text),
            error => Failure::Failed(error.to_string()),
        }
    }
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        Failure::Failed(error.to_string())
    }
}

/// Writes to stdout. A reader that has seen enough (`| head`) is no failure.
fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = anstream::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::Failed(format!("cannot write to stdout: {error}")))
        }
        _ => Ok(()),
    }
}

/// Logs go to stderr. `RUST_LOG` has the last word; libraries only warn without it. Who is refused by
/// a node that is there for one command is no news to whoever typed that.
fn start_logs(verbose: u8, stays: bool) {
    let level = match verbose {
        0 if stays => "warn,rmcp=error",
        0 => "warn,rmcp=error,p2p_workflow_scheduler::node::network=error",
        1 => "warn,ipfs_accelerate=info,p2p_workflow_scheduler=info",
        _ => "warn,ipfs_accelerate=debug,p2p_workflow_scheduler=debug",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let colour = AutoStream::choice(&io::stderr()) != anstream::ColorChoice::Never;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| Stderr)
        .with_ansi(colour)
        .init();
}
