//! The README, taken at its word: what it shows runs, what it lists is there.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use p2p_workflow_scheduler::scheduler::{Rejection, limits};

use crate::harness::{Home, Process, Server};
use crate::raw_http::{Http, initialize};

fn repository(file: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository");
    fs::read_to_string(root.join(file)).expect(file)
}

/// The lines of the README's shell blocks.
fn shell_lines() -> Vec<String> {
    let readme = repository("README.md");
    let blocks = readme.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks.flat_map(str::lines).map(str::to_owned).collect()
}

/// What stands in backquotes in the first column of the README's tables.
fn first_cells() -> Vec<String> {
    let readme = repository("README.md");
    let cells = readme.lines().filter_map(|line| line.strip_prefix("| `")?.split(" |").next());
    cells
        .flat_map(|cell| cell.split('`').filter(|part| !part.trim_matches([',', ' ']).is_empty()))
        .map(str::to_owned)
        .collect()
}

/// Splits a line as a shell does that meets only plain words and quotes.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quote = None;
    for c in line.chars() {
        match (quote, c) {
            (None, ' ') => words.push(String::new()),
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), _) if c == open => quote = None,
            _ => words.last_mut().expect("never empty").push(c),
        }
    }
    words
}

#[test]
fn every_line_that_it_shows_runs() {
    let home = Home::new();
    let (mut shown, mut running) = (0, Vec::new());
    for line in shell_lines() {
        let words = words(&line);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let arguments = match words.as_slice() {
            ["ipfs-accelerate", "mcp", "start", flags @ ..] => {
                serves_http(&home, flags);
                shown += 1;
                continue;
            }
            ["ipfs-accelerate", arguments @ .., "&"] => {
                let mut command = home.command();
                command.args(arguments).stderr(Stdio::null());
                running.push(Process::spawn(command));
                shown += 1;
                continue;
            }
            ["ipfs-accelerate", arguments @ ..] | ["cargo", "run", "--", arguments @ ..] => {
                arguments
            }
            ["cargo", "test"] => continue, // this very run; CI runs the same command
            _ => panic!("no test knows how to run {line:?}"),
        };
        let run = home.run(arguments);
        assert_eq!(run.code, 0, "{line}\n{run:?}");
        shown += 1;
    }
    assert!(shown >= 7, "the README lost its examples");
    assert!(repository(".ci/run").contains("\ncargo test"), "CI runs the README's test command");
}

/// Starts a server as it is shown, but on a free port, and asks whether it is there.
fn serves_http(home: &Home, flags: &[&str]) {
    let mut command = home.command();
    command
        .args(["mcp", "start"])
        .args(flags.iter().map(|flag| if *flag == "9000" { "0" } else { flag }));
    if !flags.contains(&"--port") {
        command.args(["--port", "0"]);
    }
    command.stderr(Stdio::piped());
    let mut server = Server::spawn(command);
    let http = Http::of(&mut server.process);
    assert_eq!(http.ask("GET /healthz", &[], "").status, 200);
    assert_eq!(http.post(&[], &initialize()).status, 200);
    server.terminate();
    assert_eq!(server.process.exit_code(), 0, "{flags:?}");
}

#[test]
fn every_command_and_code_that_it_lists_is_there() {
    let home = Home::new();
    let cells = first_cells();
    for cell in &cells {
        let command = match cell.as_str() {
            "complete" => "p2p-workflow complete",
            "list" | "show" | "requeue" | "reprioritize" => &format!("p2p-workflow {cell}"),
            other => other,
        };
        if ["mcp ", "p2p-workflow ", "swarm ", "node ", "backup "]
            .iter()
            .any(|start| command.starts_with(start))
        {
            let mut arguments: Vec<&str> = command.split(' ').collect();
            arguments.push("--help");
            assert_eq!(home.run(&arguments).code, 0, "{command}");
        }
    }
    let contract = repository("README.md");
    for code in ["store_failed", "internal", "overloaded"].into_iter().chain(codes()) {
        assert!(contract.contains(&format!("`{code}`")), "{code} is not explained");
    }
    let limit = format!("{} dependencies", limits::MAX_DEPENDENCIES);
    assert!(contract.contains(&limit), "{limit}");
}

/// The code of each rejection.
fn codes() -> impl Iterator<Item = &'static str> {
    let id = String::new;
    [
        Rejection::TaskExists { task_id: id(), differs: id() },
        Rejection::TaskNotFound { task_id: id() },
        Rejection::NotHolder { task_id: id(), standing: id() },
        Rejection::StaleFence { task_id: id(), given: 0 },
        Rejection::LeaseExpired { task_id: id() },
        Rejection::AlreadyCompleted { task_id: id() },
        Rejection::AlreadyCancelled { task_id: id() },
        Rejection::DependencyCycle { path: vec![] },
        Rejection::UnknownDependency { ids: vec![] },
        Rejection::UnknownTag { tags: vec![] },
        Rejection::InvalidArgument { what: id() },
        Rejection::TooLarge { what: id(), size: 0, limit: 0 },
        Rejection::ForgedClock { why: id() },
        Rejection::Overloaded { what: id() },
    ]
    .into_iter()
    .map(|rejection| rejection.code())
}

#[test]
fn it_fits_on_a_few_screens() {
    assert!(repository("README.md").lines().count() <= 200);
}

#[test]
fn the_commands_of_the_document_on_several_machines_are_there() {
    let home = Home::new();
    let document = repository("docs/swarm.md");
    let lines = document.lines().filter_map(|line| line.strip_prefix("ipfs-accelerate "));
    let quoted = document.split('`').skip(1).step_by(2);
    let commands = ["swarm ", "node ", "p2p-workflow "];
    let quoted = quoted.filter(|text| commands.iter().any(|start| text.starts_with(start)));
    let mut count = 0;
    for line in lines.chain(quoted) {
        let words = line.split_whitespace();
        // Lower case are the words of a command, and capitals stand for what people fill in.
        let command =
            words.take_while(|word| word.chars().all(|c| c.is_lowercase() || c == '-' || c == '2'));
        let mut arguments: Vec<&str> = command.filter(|word| !word.starts_with("--")).collect();
        arguments.retain(|word| !word.contains('.'));
        arguments.push("--help");
        assert_eq!(home.run(&arguments).code, 0, "{line}");
        count += 1;
    }
    assert!(count >= 10, "{count}");
}
