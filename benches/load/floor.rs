//! The floor under every call: one trivial tool of the same MCP library, over the same pipes.
//!
//! The load program starts itself again to be this server. It has what the product's server
//! cannot do without (the library, the transport, the runtime) and nothing else.

use std::io;
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::LazyLock;

use rmcp::handler::server::router::tool::ToolRouter;
use rmcp::handler::server::wrapper::{Json, Parameters};
use rmcp::{ServerHandler, ServiceExt, tool, tool_handler, tool_router};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::net::unix::pipe;

/// The tool's name.
pub(crate) const TOOL: &str = "echo";

/// The tool's arguments.
pub(crate) const ARGUMENTS: &str = r#""task_id":"load-1""#;

/// The command that starts the trivial server.
pub(crate) fn command() -> io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("--floor-server");
    Ok(command)
}

/// Serves the trivial tool on stdin and stdout, which have to be pipes, on a runtime of the
/// product's kind.
pub(crate) fn serve() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let input = pipe::Receiver::from_owned_fd(io::stdin().as_fd().try_clone_to_owned()?)?;
        let output = pipe::Sender::from_owned_fd(io::stdout().as_fd().try_clone_to_owned()?)?;
        let service = Floor.serve((input, output)).await.map_err(io::Error::other)?;
        service.waiting().await.map_err(io::Error::other)?;
        Ok(())
    })
}

pub(crate) struct Floor;

#[derive(Deserialize, JsonSchema)]
struct Input {
    task_id: String,
}

#[derive(Serialize, JsonSchema)]
struct Output {
    success: bool,
    task_id: String,
    state: &'static str,
    priority: u8,
}

/// Built once: the macro would otherwise build it for each call.
static ROUTER: LazyLock<ToolRouter<Floor>> = LazyLock::new(Floor::tool_router);

#[tool_router]
impl Floor {
    #[tool(description = "Gives back what it is given")]
    fn echo(&self, Parameters(input): Parameters<Input>) -> Json<Output> {
        Json(Output { success: true, task_id: input.task_id, state: "pending", priority: 5 })
    }
}

#[tool_handler(router = ROUTER)]
impl ServerHandler for Floor {}
