//! `mcp start`: by which doors agents come in.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use clap::builder::{PathBufValueParser, TypedValueParser};
use clap::{Args, ValueEnum, ValueHint};

use crate::http::guard::Guard;
use crate::http::names::{Host, Origin};
use crate::http::tokens::{TokenFileError, Tokens};

/// How `mcp start` is reached.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
In an agent's MCP configuration:
  {\"mcpServers\": {\"ipfs-accelerate\":
    {\"command\": \"ipfs-accelerate\", \"args\": [\"mcp\", \"start\"]}}}

All servers and commands on one data directory share its tasks.")]
pub struct Doors {
    /// The ways in, one or several: stdio, http (Streamable HTTP at /mcp), sse (http, and the older
    /// /sse with /messages)
    #[arg(long, value_enum, value_delimiter = ',', default_value = "stdio")]
    #[arg(hide_possible_values = true, value_name = "stdio|http|sse")]
    transport: Vec<Transport>,

    /// Where HTTP listens; anywhere but on a loopback address a token is needed
    #[arg(long, value_parser = address, default_value = "127.0.0.1", value_name = "ADDRESS")]
    host: IpAddr,

    /// Where HTTP listens; 0 for a free port, which is then named on stderr
    #[arg(long, default_value_t = 9000)]
    port: u16,

    /// Who is let in over HTTP: a file of lines NAME ROLE TOKEN, with the roles read, work and
    /// admin. Without it whoever reaches a loopback address is let in, and elsewhere a token that
    /// is made in the data directory
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    #[arg(value_parser = PathBufValueParser::new().try_map(|path| Tokens::of_file(&path)))]
    token_file: Option<Tokens>,

    /// Another name by which clients reach HTTP, such as that of a proxy before it; may be repeated
    #[arg(long, value_name = "NAME")]
    allow_host: Vec<Host>,

    /// Another site whose pages may use HTTP, by its scheme, name and port; may be repeated
    #[arg(long, value_name = "URL")]
    allow_origin: Vec<Origin>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Transport {
    /// Standard input and output
    Stdio,
    /// Streamable HTTP
    Http,
    /// Streamable HTTP, and the older HTTP with server-sent events
    Sse,
}

impl Doors {
    /// Whether standard input and output are one.
    #[must_use]
    pub fn stdio(&self) -> bool {
        self.transport.contains(&Transport::Stdio)
    }

    /// Where HTTP listens, if it does.
    #[must_use]
    pub fn http(&self) -> Option<SocketAddr> {
        let http = |transport: &Transport| *transport != Transport::Stdio;
        self.transport.iter().any(http).then(|| SocketAddr::new(self.host, self.port))
    }

    /// Who is let in over HTTP, and where the token is that clients need without any named.
    ///
    /// # Errors
    /// A token is needed, and that of the data folder cannot be used.
    pub fn guard(&self, folder: &Path) -> Result<(Guard, Option<PathBuf>), TokenFileError> {
        // Another name on a loopback address is that of a proxy, and others are behind it.
        let reached_by_others = !self.host.is_loopback() || !self.allow_host.is_empty();
        let (tokens, path) = match &self.token_file {
            None if reached_by_others => {
                let (tokens, path) = Tokens::of_folder(folder)?;
                (Some(tokens), Some(path))
            }
            tokens => (tokens.clone(), None),
        };
        let (hosts, origins) = (self.allow_host.clone(), self.allow_origin.clone());
        Ok((Guard::new(self.host, hosts, origins, tokens), path))
    }

    /// Whether the older pair of paths is served.
    #[must_use]
    pub fn sse(&self) -> bool {
        self.transport.contains(&Transport::Sse)
    }
}

fn address(text: &str) -> Result<IpAddr, String> {
    match text {
        "localhost" => Ok(Ipv4Addr::LOCALHOST.into()),
        _ => text.parse().map_err(|_| "give an address, such as 127.0.0.1, ::1 or 0.0.0.0".into()),
    }
}
