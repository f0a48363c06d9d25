//! The binary `ipfs-accelerate`: parse, run, exit.

use std::process::ExitCode;

use clap::Parser;
use ipfs_accelerate::cli::{self, Attach, Cli, GlobalOptions};
use ipfs_accelerate::client::ConnectError;
use tokio::io::DuplexStream;

#[tokio::main]
async fn main() -> ExitCode {
    cli::run(Cli::parse(), connect, serve).await
}

async fn connect(_: &GlobalOptions, attach: Attach) -> Result<DuplexStream, ConnectError> {
    match attach {
        Attach::Running => Err(ConnectError::NotRunning),
        Attach::Any => Err(no_node()),
    }
}

async fn serve(_: &GlobalOptions) -> Result<(), ConnectError> {
    Err(no_node())
}

fn no_node() -> ConnectError {
    ConnectError::CannotOpen("this build has no node".into())
}
