//! The doors of the peer-to-peer workflow scheduler.
//!
//! [`mcp`] speaks the Model Context Protocol to agents, over any pair of byte streams. The seven
//! tools behind it translate arguments into calls of the node's handle, and answers into JSON.
//! [`cli`] is for people and scripts: each command calls a tool as a [`client`] of a node.

pub mod cli;
pub mod client;
pub mod mcp;
mod tools;
