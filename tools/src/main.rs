//! The binary `ipfs-accelerate`: parse, run, exit.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use ipfs_accelerate::cli::{
    self, Attach, Cli, Connection, Doors, Durability, GlobalOptions, NodeLasts,
};
use ipfs_accelerate::client::{Client, ConnectError};
use ipfs_accelerate::host::Host;
use ipfs_accelerate::http::Door;
use ipfs_accelerate::relay::Stream;
use ipfs_accelerate::start::{self, Way};
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
    let serve = async |options: &GlobalOptions, doors: Option<&Doors>| match doors {
        Some(doors) => serve(options, doors).await,
        None => keep(options).await,
    };
    let open = async |options: &GlobalOptions| {
        Way::attach(&node_options(options)?).await.map_err(cannot_open)
    };
    let code = cli::run(Cli::parse().with_environment(), connect, serve, open).await;
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
) -> Result<Connection<Stream>, ConnectError> {
    let options = node_options(options)?;
    if attach == Attach::Running {
        let stream = start::connect_to_running(&options).await.ok_or(ConnectError::NotRunning)?;
        return Ok(Connection { stream, node: NodeLasts::On });
    }
    let (stream, own) = start::connect(&options).await.map_err(cannot_open)?;
    let node = if own.is_some() { NodeLasts::UntilDone } else { NodeLasts::On };
    host.replace(own);
    Ok(Connection { stream, node })
}

/// Is the node until the process is to stop: at once, or when the process that is it ends.
async fn keep(options: &GlobalOptions) -> Result<(), ConnectError> {
    let options = node_options(options)?;
    let way = Way::open(&options).await.map_err(cannot_open)?;
    let say = async || {
        let said = async {
            let mut client = Client::attach(way.link(start::new_worker())).await?;
            cli::standing(&mut client, &options.folder).await
        };
        match said.await {
            Ok(said) => anstream::eprint!("{said}"),
            Err(error) => tracing::error!("{error}"),
        }
    };
    let tell = async {
        let was_node = way.is_node().is_cancelled();
        say().await;
        if !was_node {
            way.is_node().cancelled().await;
            say().await;
        }
    };
    tokio::join!(way.stop().run_until_cancelled(tell), way.keep());
    way.close().await;
    Ok(())
}

/// Serves by all doors until the process is to stop, or its client on stdin hangs up: who started
/// it is gone then.
async fn serve(options: &GlobalOptions, doors: &Doors) -> Result<(), ConnectError> {
    let options = node_options(options)?;
    let http = match doors.http() {
        Some(address) => Some(listen(address, doors, &options.folder).await?),
        None => None,
    };
    let closed = |error: std::io::Error| {
        ConnectError::CannotOpen(format!("stdin and stdout cannot be used: {error}").into())
    };
    let stdio = match doors.stdio() {
        true => Some((stdio::reader().map_err(closed)?, stdio::writer().map_err(closed)?)),
        false => None,
    };
    let way = Way::open(&options).await.map_err(cannot_open)?;
    if let Some((_, said)) = &http {
        anstream::eprint!("{said}");
    }
    let stdio = async {
        let Some((reader, writer)) = stdio else {
            way.stop().cancelled().await;
            return Ok(());
        };
        let served = way.serve(reader, writer, start::new_worker()).await;
        way.stop().cancel();
        served.map_err(cannot_open)
    };
    let http = async {
        if let Some((door, _)) = http {
            tokio::join!(door.serve(way.clone()), way.keep());
        }
    };
    let (served, ()) = tokio::join!(stdio, http);
    way.close().await;
    served
}

/// Takes the port, and returns what is said once there is a node behind it.
async fn listen(
    address: SocketAddr,
    doors: &Doors,
    folder: &Path,
) -> Result<(Door, String), ConnectError> {
    let guard = doors.guard(folder);
    let (guard, token) = guard.map_err(|error| ConnectError::CannotOpen(Box::new(error)))?;
    let refused = |error: std::io::Error| {
        let text = format!("cannot listen on {address}: {error}. Choose another --port.");
        ConnectError::CannotOpen(text.into())
    };
    let door = Door::bind(address, guard, doors.sse()).await.map_err(refused)?;
    let address = door.address().map_err(refused)?;
    let mut said = format!("listening on http://{address}/mcp\n");
    if doors.sse() {
        said += &format!("listening on http://{address}/sse\n");
    }
    if let Some(path) = token {
        said += &format!("clients send the token in {}\n", path.display());
    }
    Ok((door, said))
}

fn node_options(options: &GlobalOptions) -> Result<node::Options, ConnectError> {
    let folder = options.folder().map_err(cannot_open)?;
    let durability = match options.durability {
        Durability::Full => node::Durability::Full,
        Durability::Relaxed => node::Durability::Relaxed,
    };
    Ok(node::Options { folder, durability, restored: options.restored })
}

fn cannot_open(error: AttachError) -> ConnectError {
    ConnectError::CannotOpen(Box::new(error))
}
