//! The built binary, run as a process, seen from outside: what it prints where, and how it exits.

mod checkout;
mod client_files;
mod clients_document;
mod commands;
mod discover;
mod discover_corpus;
mod documented;
mod errors;
mod examples;
mod graph;
mod harness;
mod history;
mod hostile;
// Network namespaces are Linux's.
#[cfg(target_os = "linux")]
mod hosts;
mod http;
mod kills;
mod mcp_config;
mod mcp_instructions;
mod mcp_json;
mod node_start;
mod one_node;
mod python_client;
mod raw_http;
mod readme;
mod resources;
mod run_jobs;
mod security;
mod sessions;
// Limits the size of files of a process that runs, which Linux alone lets others do.
#[cfg(target_os = "linux")]
mod store_failure;
mod swarm;
mod takeover;
mod terminal;
mod usage;
mod watch;
mod work;
