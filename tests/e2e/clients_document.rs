//! `docs/clients.md`, taken at its word.

use std::fs;

use serde_json::Value;

use crate::client_files::{CLIENTS, User, repository};

/// The rows of the table in the document: client, files, transports, token.
fn documented() -> Vec<[String; 5]> {
    let document = fs::read_to_string(repository("docs/clients.md")).expect("docs/clients.md");
    let rows =
        document.lines().filter(|line| line.starts_with("| `") && !line.contains("--client"));
    rows.map(|row| {
        let cells = row.trim_matches('|').split('|');
        let cells: Vec<String> = cells.map(|cell| cell.trim().replace('`', "")).collect();
        cells.try_into().expect("five cells")
    })
    .collect()
}

#[test]
#[cfg(target_os = "linux")] // the table's paths
fn the_document_s_table_says_what_the_command_does() {
    let rows = documented();
    assert_eq!(rows.iter().map(|row| row[0].as_str()).collect::<Vec<_>>(), CLIENTS);
    for [client, project, of_user, transports, token] in &rows {
        let user = User::new();
        for (scope, file) in [("project", project), ("user", of_user)] {
            let run = user.run(&["mcp", "config", "--client", client, "--scope", scope, "--json"]);
            let found = match run.code {
                0 => serde_json::from_str::<Value>(&run.stdout).expect("one JSON object")["file"]
                    .as_str()
                    .map(|file| user.as_documented(file)),
                _ => Some("—".into()),
            };
            assert_eq!(found.as_ref(), Some(file), "{client} {scope}");
        }
        let takes =
            |more: &[&str]| user.run(&[&["mcp", "config", "--client", client], more].concat());
        let known = ["stdio", "http", "sse"]
            .into_iter()
            .filter(|transport| takes(&["--transport", transport]).code == 0);
        assert_eq!(known.collect::<Vec<_>>().join(", "), *transports, "{client}");
        let run = takes(&["--transport", "http", "--token-env", "NAME"]);
        match token.as_str() {
            "—" => assert_eq!(run.code, 2, "{client}: {run:?}"),
            token => assert!(run.stdout.contains(token), "{client}: {run:?}"),
        }
    }
}

#[test]
fn every_snippet_of_the_document_is_what_the_command_prints() {
    let document = fs::read_to_string(repository("docs/clients.md")).expect("docs/clients.md");
    let mut blocks = document.split("```").skip(1).step_by(2).peekable();
    let mut seen = 0;
    while let Some(block) = blocks.next() {
        let line = block.strip_prefix("sh\n").expect("a command before each snippet").trim_end();
        let words: Vec<&str> = line.split(' ').collect();
        let user = User::new();
        let run = user.run(&words[1..]);
        assert_eq!((words[0], run.code), ("ipfs-accelerate", 0), "{line}\n{run:?}");
        if words[..3] == ["ipfs-accelerate", "mcp", "instructions"] {
            assert!(user.path("AGENTS.md").is_file());
            continue;
        }
        let snippet = blocks.next().expect("a snippet").split_once('\n').expect("lines").1;
        let printed: Vec<&str> = words[1..].iter().filter(|w| **w != "--write").copied().collect();
        assert_eq!(user.as_documented(&user.run(&printed).stdout), snippet, "{line}");
        seen += 1;
    }
    assert!(seen > CLIENTS.len(), "the document lost its snippets");
}
