//! The doors of the peer-to-peer workflow scheduler.
//!
//! ```text
//!   agents ── stdio ─────────┐
//!   agents ── HTTP ─► http ──┼─► start ─┬─► host ─► mcp ─► tools ─► node   (this process is it)
//!   people ─► cli ─► client ─┘          └─► relay ─ socket ─► the same, in the process that is
//! ```
//!
//! [`mcp`] speaks the Model Context Protocol to agents, over any pair of byte streams. The seven
//! tools behind it translate arguments into calls of the node's handle, and answers into JSON.
//! [`host`] serves them where this process is the node, [`relay`] passes a client on where another
//! is, and [`start`] decides which. [`http`] lets clients in over a port: each of its sessions is
//! one such stream. [`cli`] is for people and scripts: each command calls a tool as a [`client`] of
//! a node. `workflows` reads GitHub workflow files for two of them.
//!
//! Two decisions that are easily taken for accidents:
//!
//! * **The HTTP door has rmcp's protocol and not its server.** That one wants the handler in its own
//!   process, where here another may be the node; it has no caps; and it takes payloads apart, which
//!   costs large numbers their digits. A session as one stream of lines has the takeover, the limits
//!   and the speed of every other door for nothing.
//! * **A client's own connection says who it is, in a request before all others**
//!   ([`mcp::Hello`]): relays, commands and the HTTP door speak for a worker that outlives the
//!   connection, or that many of them share.

pub mod cli;
pub mod client;
pub mod host;
pub mod http;
mod jobs;
pub mod mcp;
pub mod relay;
pub mod start;
mod tools;
mod workflows;
