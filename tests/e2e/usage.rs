//! What needs no node: help, completions, manual pages, wrong usage.

use std::process::Command;

use crate::harness::Home;

const COMMANDS: [&[&str]; 35] = [
    &[],
    &["mcp"],
    &["mcp", "start"],
    &["mcp", "config"],
    &["mcp", "instructions"],
    &["swarm"],
    &["swarm", "init"],
    &["swarm", "invite"],
    &["swarm", "join"],
    &["swarm", "peers"],
    &["swarm", "trust"],
    &["swarm", "block"],
    &["swarm", "leave"],
    &["p2p-workflow"],
    &["p2p-workflow", "status"],
    &["p2p-workflow", "submit"],
    &["p2p-workflow", "next"],
    &["p2p-workflow", "complete"],
    &["p2p-workflow", "work"],
    &["p2p-workflow", "check-tags"],
    &["p2p-workflow", "clock"],
    &["p2p-workflow", "list"],
    &["p2p-workflow", "show"],
    &["p2p-workflow", "graph"],
    &["p2p-workflow", "why"],
    &["p2p-workflow", "discover"],
    &["p2p-workflow", "watch"],
    &["p2p-workflow", "cancel"],
    &["p2p-workflow", "requeue"],
    &["p2p-workflow", "reprioritize"],
    &["node", "start"],
    &["node", "stop"],
    &["backup"],
    &["completions"],
    &["man"],
];

#[test]
fn every_command_has_help_that_fits_a_terminal() {
    let home = Home::new();
    for command in COMMANDS {
        let run = home.run(&[command, &["--help"]].concat());
        assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{command:?}");
        assert!(run.stdout.contains("Usage: ipfs-accelerate"), "{command:?}: {}", run.stdout);
        for line in run.stdout.lines() {
            assert!(line.chars().count() <= 100, "{command:?}: {line}");
        }
        let is_group = command == ["mcp"] || command == ["p2p-workflow"];
        let shows_how = run.stdout.contains("Example") || run.stdout.contains("configuration");
        assert!(shows_how || is_group, "{command:?} has no example");
    }
}

#[test]
fn help_shows_nothing_of_the_caller_s_environment() {
    let home = Home::new();
    let run = home.run(&["--help"]);
    assert!(!run.stdout.contains(&home.path().display().to_string()), "{}", run.stdout);
}

#[test]
fn a_script_gets_no_colour() {
    let home = Home::new();
    for arguments in [&["--help"][..], &["nonsense"], &["node", "stop"]] {
        let run = home.run(arguments);
        assert!(!(run.stdout + &run.stderr).contains('\u{1b}'), "{arguments:?}");
    }
}

#[test]
fn completions_are_made_for_every_shell() {
    let home = Home::new();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let run = home.run(&["completions", shell]);
        assert_eq!(run.code, 0, "{shell}: {}", run.stderr);
        assert!(run.stdout.contains("p2p-workflow"), "{shell}");
        assert!(run.stdout.contains("check-tags"), "{shell}");
    }
}

#[test]
fn the_manual_has_a_page_for_every_command() {
    let home = Home::new();
    let page = home.run(&["man"]);
    assert_eq!(page.code, 0, "{}", page.stderr);
    assert!(page.stdout.contains(".TH ipfs-accelerate 1"), "{}", page.stdout);
    let folder = home.path().join("man1");
    let written = home.run(&["man", "--dir", &folder.display().to_string()]);
    assert_eq!(written.code, 0, "{}", written.stderr);
    for page in ["ipfs-accelerate.1", "ipfs-accelerate-p2p-workflow-submit.1"] {
        assert!(folder.join(page).is_file(), "{page}");
    }
}

#[test]
fn wrong_usage_exits_with_2_and_prints_nothing_on_stdout() {
    let home = Home::new();
    let wrong: [&[&str]; 9] = [
        &["nonsense"],
        &["p2p-workflow", "nonsense"],
        &["p2p-workflow", "submit"],
        &["p2p-workflow", "submit", "--task-id", "a", "--file", "-"],
        &["p2p-workflow", "next", "--wait", "soon"],
        &["p2p-workflow", "next", "--wait", "51s"],
        &["p2p-workflow", "complete", "--task-id", "a", "--fence", "-1"],
        &["p2p-workflow", "check-tags"],
        &["p2p-workflow", "status", "--durability", "none"],
    ];
    for arguments in wrong {
        let run = home.run(arguments);
        assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{arguments:?}");
        assert!(!run.stderr.is_empty(), "{arguments:?}");
    }
}

/// Whoever types half a command is shown the other half; what commands start themselves is not it.
#[test]
fn a_group_without_a_command_shows_its_help() {
    let home = Home::new();
    for group in [&[][..], &["mcp"], &["swarm"], &["node"], &["p2p-workflow"]] {
        let run = home.run(group);
        assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{group:?}");
        assert!(run.stderr.contains("Usage: ipfs-accelerate"), "{group:?}: {}", run.stderr);
        assert!(run.stderr.contains("Commands:\n"), "{group:?}: {}", run.stderr);
        for hidden in ["guard", "run-job"] {
            assert!(!run.stderr.contains(hidden), "{group:?}: {}", run.stderr);
        }
    }
}

/// The data directory that the environment names stood there as if it had to be typed.
#[test]
fn a_usage_line_names_only_what_is_needed() {
    let run = Home::new().run(&["backup"]);
    assert!(run.stderr.contains("Usage: ipfs-accelerate backup <FILE>"), "{}", run.stderr);
}

#[test]
fn a_bad_duration_is_told_what_a_good_one_is() {
    let run = Home::new().run(&["p2p-workflow", "next", "--lease", "1.5h"]);
    assert_eq!(run.code, 2);
    assert!(run.stderr.contains("30s, 5m, 2h"), "{}", run.stderr);
}

#[test]
fn stopping_where_no_node_runs_is_no_failure() {
    let run = Home::new().run(&["node", "stop"]);
    assert_eq!((run.code, run.stdout.as_str()), (0, "✓ No node is running\n"), "{run:?}");
}

/// `| head -1` closes the pipe early; a panic about a broken pipe is not what anyone wants to see.
#[test]
fn a_reader_that_leaves_early_ends_the_command_quietly() {
    let home = Home::new();
    let mut command = home.command();
    let mut child = command
        .args(["completions", "zsh"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("the binary starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(output.status.code(), Some(0));
}

/// The generator's script looked for words that it never set, and completed files instead.
#[test]
fn bash_completes_commands_below_the_first_word() {
    let home = Home::new();
    let script = home.run(&["completions", "bash"]).stdout;
    let complete = |words: &[&str]| {
        let words = words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>();
        let tail = format!(
            "\nCOMP_WORDS=({}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))\n\
             _ipfs__accelerate ipfs-accelerate \"${{COMP_WORDS[-1]}}\" \"${{COMP_WORDS[-2]}}\"; printf '%s\\n' \"${{COMPREPLY[@]}}\"\n",
            words.join(" ")
        );
        let mut bash = Command::new("bash");
        bash.args(["-c", &(script.clone() + &tail)]);
        let output = home.prepare(bash).output().expect("bash starts");
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    for (words, expected) in [
        (vec!["ipfs-accelerate", "mc"], "mcp"),
        (vec!["ipfs-accelerate", "mcp", "st"], "start"),
        (vec!["ipfs-accelerate", "p2p-workflow", "sub"], "submit"),
        (vec!["ipfs-accelerate", "mcp", "start", "--por"], "--port"),
    ] {
        assert_eq!(complete(&words).trim(), expected, "{words:?}");
    }
}
