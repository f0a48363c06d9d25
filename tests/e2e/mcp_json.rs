//! `mcp.json` at the root of the repository, as Claude Code and Cursor read it.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::harness::{Home, Server};

#[test]
fn the_configuration_starts_a_server_with_the_seven_tools() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository");
    let text = fs::read_to_string(root.join("mcp.json")).expect("mcp.json");
    let configuration: Value = serde_json::from_str(&text).expect("JSON");
    let server = &configuration["mcpServers"]["ipfs-accelerate"];
    let program = server["command"].as_str().expect("a command");
    let arguments: Vec<&str> =
        server["args"].as_array().expect("a list").iter().flat_map(Value::as_str).collect();

    let home = Home::new();
    let built = Path::new(env!("CARGO_BIN_EXE_ipfs-accelerate"));
    let folder = built.parent().expect("its folder").display().to_string();
    // A host finds the program on its own PATH and hands that on.
    let mut command = home.prepare(Command::new("env"));
    command.env("PATH", format!("{folder}:/usr/bin:/bin")).arg(program).args(arguments);
    let mut server = Server::spawn(command);
    server.introduce();
    let id = server.request("tools/list", &json!({}));
    let listed = server.answer(id);
    let tools = listed["result"]["tools"].as_array().expect("a list");
    let names: Vec<&str> = tools.iter().flat_map(|tool| tool["name"].as_str()).collect();
    assert_eq!(
        names,
        [
            "p2p_scheduler_status",
            "p2p_submit_task",
            "p2p_get_next_task",
            "p2p_mark_task_complete",
            "p2p_check_workflow_tags",
            "p2p_update_peer_state",
            "p2p_get_merkle_clock",
        ]
    );
    server.close();
}
