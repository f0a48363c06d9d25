//! `mcp instructions`: the page for agents, and the file that it goes into.

use std::fs;

use serde_json::Value;

use crate::client_files::{User, repository};

#[test]
fn instructions_are_a_page_that_names_only_what_there_is() {
    let user = User::new();
    let run = user.run(&["mcp", "instructions"]);
    assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{run:?}");
    assert!(run.stdout.lines().count() <= 40, "{}", run.stdout.lines().count());
    let mut known = fs::read_to_string(repository("README.md")).expect("README.md");
    for schema in fs::read_dir(repository("schemas")).expect("schemas") {
        let schema = fs::read_to_string(schema.expect("a file").path()).expect("a schema");
        known += &schema.replace('"', "`");
    }
    let quoted = run.stdout.split('`').skip(1).step_by(2);
    let names: Vec<&str> = quoted.map(|text| text.split(':').next().expect("a name")).collect();
    assert!(names.len() > 20, "{names:?}");
    for name in names.iter().filter(|name| !name.contains(['/', '-']) && **name != "code") {
        assert!(known.contains(&format!("`{name}`")), "{name:?} is no name of ours");
    }
}

#[test]
fn instructions_are_refreshed_between_their_marks_and_leave_the_rest() {
    let user = User::new();
    let snippet = user.run(&["mcp", "instructions"]).stdout;
    let write = || user.run(&["mcp", "instructions", "--write"]);
    assert_eq!(write().code, 0);
    assert_eq!(user.get("AGENTS.md"), snippet);

    let (begin, rest) = snippet.split_once('\n').expect("lines");
    let end = rest.lines().last().expect("a mark");
    for (before, after, done) in [
        ("# Rules\n\nBe kind.\n".into(), format!("# Rules\n\nBe kind.\n\n{snippet}"), "added"),
        ("# Rules".into(), format!("# Rules\n\n{snippet}"), "added"),
        (
            format!("# A\n\n{begin}\nold\n{end}\n\n# B\n"),
            format!("# A\n\n{snippet}\n# B\n"),
            "refreshed",
        ),
        (format!("# A\n{begin}\n{end}"), format!("# A\n{snippet}"), "refreshed"),
        (format!("A\r\n{begin}\r\n{end}\r\n"), crlf(&format!("A\n{snippet}")), "refreshed"),
        ("A\r\n".into(), crlf(&format!("A\n\n{snippet}")), "added"),
    ] {
        user.put("AGENTS.md", &before);
        let run = write();
        assert_eq!((run.code, user.get("AGENTS.md")), (0, after.clone()), "{before:?}\n{run:?}");
        assert!(run.stdout.contains(done), "{before:?}: {}", run.stdout);
        let run = write();
        assert_eq!((run.code, user.get("AGENTS.md")), (0, after), "{before:?}, again");
        assert!(run.stdout.contains("already"), "{before:?}: {}", run.stdout);
    }
    assert_eq!(user.list("."), ["AGENTS.md"], "nothing left over");
}

fn crlf(text: &str) -> String {
    text.replace('\n', "\r\n")
}

#[test]
fn instructions_with_broken_marks_are_left_alone() {
    let user = User::new();
    let snippet = user.run(&["mcp", "instructions"]).stdout;
    let begin = snippet.lines().next().expect("a mark");
    let end = snippet.lines().last().expect("a mark");
    for broken in [
        format!("A\n{begin}\ntext\n"),
        format!("A\n{end}\n{begin}\n"),
        format!("A\n{begin}\n{end}\n{begin}\n{end}\n"),
    ] {
        user.put("CLAUDE.md", &broken);
        let run = user.run(&["mcp", "instructions", "--write", "CLAUDE.md"]);
        assert_eq!((run.code, run.stdout.as_str()), (3, ""), "{run:?}");
        assert!(run.stderr.contains("CLAUDE.md was left as it is: line 2"), "{}", run.stderr);
        assert_eq!(user.get("CLAUDE.md"), broken);
    }
}

#[test]
fn scripts_get_one_json_object() {
    let user = User::new();
    let run = user.run(&["mcp", "instructions", "--json"]);
    let said: Value = serde_json::from_str(&run.stdout).expect("JSON");
    assert_eq!(said["snippet"], user.run(&["mcp", "instructions"]).stdout);
    let run = user.run(&["mcp", "instructions", "--write", "docs/AGENTS.md", "--json"]);
    assert_eq!((run.code, run.stderr.as_str()), (0, ""));
    let expected = "{\"file\":\"docs/AGENTS.md\",\"instructions\":\"added\"}\n";
    assert_eq!(run.stdout, expected);
}
