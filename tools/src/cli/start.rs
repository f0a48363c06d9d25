//! `mcp start`: by which doors agents come in.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use clap::{Args, ValueEnum};

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

    /// Where HTTP listens; a token is needed anywhere but on a loopback address
    #[arg(long, value_parser = address, default_value = "127.0.0.1", value_name = "ADDRESS")]
    host: IpAddr,

    /// Where HTTP listens; 0 for a free port, which is then named on stderr
    #[arg(long, default_value_t = 9000)]
    port: u16,
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
