//! `mcp config` and `mcp instructions`: what makes other programs' agents use this server.
//!
//! ```text
//!   clients ── the file, the names of its fields ──┐
//!   command ── which program the entry starts ─────┼─► config ─► json | toml ─► file
//!   instructions.md ─► instructions ───────────────┴──────────────────────────► file
//! ```
//! `json` and `toml` know how to put one entry into a text and to leave the rest as it is; the
//! snippet that is printed is that entry put into an empty text. `file` reads a file, backs it up
//! and replaces it in one step. No node is needed, and none is started.

mod clients;
mod command;
mod config;
mod file;
mod instructions;
mod json;
mod toml;

pub(super) use config::Config;
pub(super) use instructions::Instructions;

use serde_json::{Map, Value};

/// What a client's file says of one server.
type Entry = Map<String, Value>;

/// A text with the entry in it.
struct Merged {
    text: String,
    change: Change,
}

/// What the entry was to the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    /// Not there before.
    Added,
    /// There with other content.
    Replaced,
    /// There already; the text is as it was.
    Unchanged,
}
