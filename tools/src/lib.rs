//! The doors of the peer-to-peer workflow scheduler.
//!
//! [`mcp`] speaks the Model Context Protocol to agents, over any pair of byte streams. The seven
//! tools behind it translate arguments into calls of the node's handle, and answers into JSON.

pub mod client;
pub mod mcp;
mod tools;
