//! The README, taken at its word: what it lists is there. What it shows is run by `documented`.

use p2p_workflow_scheduler::scheduler::{Rejection, limits};

use crate::documented::text as repository;
use crate::harness::Home;

/// What stands in backquotes in the first column of the README's tables.
fn first_cells() -> Vec<String> {
    let readme = repository("README.md");
    let cells = readme.lines().filter_map(|line| line.strip_prefix("| `")?.split(" |").next());
    cells
        .flat_map(|cell| cell.split('`').filter(|part| !part.trim_matches([',', ' ']).is_empty()))
        .map(str::to_owned)
        .collect()
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
