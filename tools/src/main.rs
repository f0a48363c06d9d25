//! The binary `ipfs-accelerate`: parse, run, exit.

use std::cell::RefCell;
use std::process::ExitCode;

use clap::Parser;
use ipfs_accelerate::cli::{self, Attach, Cli, Durability, GlobalOptions};
use ipfs_accelerate::client::ConnectError;
use ipfs_accelerate::relay::Stream;
use ipfs_accelerate::{host::Host, start};
use p2p_workflow_scheduler::node::{self, AttachError, stdio};

// Each call makes and drops a few large futures in rmcp, which the C library's allocator answers by
// tidying its free lists every time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

// One thread: calls of a session reach the core in the order in which they came, and none waits for
// another thread to wake. Whatever blocks (the disk) has threads of its own.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let host = RefCell::new(None);
    let connect = async |options: &GlobalOptions, attach| connect(options, attach, &host).await;
    let code = cli::run(Cli::parse(), connect, serve).await;
    let host: Option<Host> = host.take();
    if let Some(host) = host {
        host.close().await;
    }
    code
}

async fn connect(
    options: &GlobalOptions,
    attach: Attach,
    host: &RefCell<Option<Host>>,
) -> Result<Stream, ConnectError> {
    let options = node_options(options)?;
    if attach == Attach::Running {
        return start::connect_to_running(&options).await.ok_or(ConnectError::NotRunning);
    }
    let (stream, own) = start::connect(&options).await.map_err(cannot_open)?;
    host.replace(own);
    Ok(stream)
}

async fn serve(options: &GlobalOptions) -> Result<(), ConnectError> {
    let options = node_options(options)?;
    let closed = |error: std::io::Error| {
        ConnectError::CannotOpen(format!("stdin and stdout cannot be used: {error}").into())
    };
    let (reader, writer) = (stdio::reader().map_err(closed)?, stdio::writer().map_err(closed)?);
    start::serve(&options, reader, writer).await.map(drop).map_err(cannot_open)
}

fn node_options(options: &GlobalOptions) -> Result<node::Options, ConnectError> {
    let folder = match &options.data_dir {
        Some(folder) => folder.clone(),
        None => node::default_folder().map_err(cannot_open)?,
    };
    let durability = match options.durability {
        Durability::Full => node::Durability::Full,
        Durability::Relaxed => node::Durability::Relaxed,
    };
    Ok(node::Options { folder, durability, restored: options.restored })
}

fn cannot_open(error: AttachError) -> ConnectError {
    ConnectError::CannotOpen(Box::new(error))
}
