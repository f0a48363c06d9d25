//! The doors of the peer-to-peer workflow scheduler.
//!
//! ```text
//!   agents ── stdio ─┐                        ┌─ socket ── other processes' relays and commands
//!                    ├─► mcp ─► tools ─► node ┤
//!   this process's ──┘    (host)              └─ or a relay to the process that is the node
//! ```
//!
//! [`mcp`] speaks the Model Context Protocol to agents, over any pair of byte streams. The seven
//! tools behind it translate arguments into calls of the node's handle, and answers into JSON.
//! [`host`] serves them where this process is the node, [`relay`] passes a client on where another
//! is, and [`start`] decides which. [`cli`] is for people and scripts: each command calls a tool
//! as a [`client`] of a node.

pub mod cli;
pub mod client;
pub mod host;
pub mod http;
pub mod mcp;
pub mod relay;
pub mod start;
mod tools;
