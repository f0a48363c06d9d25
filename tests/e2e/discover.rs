//! `p2p-workflow discover`: the workflow files of checkouts that each test makes for itself.

use std::fs;
use std::process::{Command, Stdio};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::checkout::{commit, git, repository, write};
use crate::harness::{Home, Process, Run, eventually};

fn discover(home: &Home, arguments: &[&str]) -> Run {
    let mut command = discovering(home);
    command.args(arguments);
    Run::of(&command.output().expect("the binary starts"))
}

/// The command, which finds git by the tester's path.
fn discovering(home: &Home) -> Command {
    let mut command = home.command();
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.args(["p2p-workflow", "discover"]);
    command
}

fn found(home: &Home, arguments: &[&str]) -> Value {
    let run = discover(home, &[arguments, &["--json"]].concat());
    assert_eq!(run.stdout.lines().count(), 1, "one object: {run:?}");
    serde_json::from_str(&run.stdout).expect("JSON on stdout")
}

fn texts<'v>(list: &'v Value, key: &str) -> Vec<&'v str> {
    list.as_array()
        .expect("a list")
        .iter()
        .map(|item| item[key].as_str().expect("a text"))
        .collect()
}

fn count(home: &Home) -> usize {
    home.json(&["list", "--all"])["tasks"].as_array().expect("tasks").len()
}

const CI: &str = "\
name: CI
# P2P: p2p-eligible, unit-test
on: push
jobs:
  test:
    needs: build
    strategy:
      matrix:
        os: [linux, macos]
        version: [1, 2.10]
        exclude: [{os: macos, version: 1}]
        include: [{os: linux, version: 1, slow: true}]
    steps: [{run: make test}]
  build:
    name: Build it
    env: {P2P_TAGS: p2p-only}
    steps:
      - run: |
          # Tags: web-scraping
          make
";

#[test]
fn jobs_become_tasks_with_needs_cells_tags_and_priorities() {
    let home = Home::new();
    repository(&home, "app", &[("ci.yml", CI), ("other.yaml", "jobs: {a: {steps: []}}\n")]);
    let run = discover(&home, &["app", "--requires", "docker"]);
    assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{run:?}");
    let file = "app/.github/workflows/ci.yml";
    let said =
        format!("✓ {file}: 4 tasks, 4 new\n✓ 2 workflow files in 1 repository: 4 tasks, 4 new\n");
    assert_eq!(run.stdout, said);

    let tasks = home.json(&["list", "--all"])["tasks"].take();
    let mut names = texts(&tasks, "name");
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "CI / Build it",
            "CI / test (linux, 1, true)",
            "CI / test (linux, 2.1)",
            "CI / test (macos, 2.1)"
        ]
    );
    let show = |name: &str| {
        let task = tasks.as_array().unwrap().iter().find(|task| task["name"] == name).unwrap();
        home.json(&["show", "--task-id", task["task_id"].as_str().unwrap()])["tasks"][0].take()
    };
    let (build, test) = (show("CI / Build it"), show("CI / test (linux, 1, true)"));
    assert_eq!((&build["priority"], &test["priority"]), (&json!(8), &json!(6)));
    assert_eq!(build["tags"], json!(["p2p-eligible", "p2p-only", "unit-test"]));
    assert_eq!(test["tags"], json!(["p2p-eligible", "unit-test"]));
    assert_eq!(test["depends_on"], json!([build["task_id"]]));
    assert_eq!((&build["state"], &test["state"]), (&json!("pending"), &json!("blocked")));
    assert_eq!(test["requires"], json!(["docker"]));

    let payload = &test["payload"];
    let keys: Vec<_> = payload.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["kind", "repository", "root", "commit", "path", "sha256", "job", "matrix"]);
    assert_eq!(payload["kind"], "workflow-job");
    assert_eq!(payload["repository"], "example.org/owner/app");
    assert_eq!(payload["path"], ".github/workflows/ci.yml");
    assert_eq!(payload["matrix"], json!({"os": "linux", "version": 1, "slow": true}));
    assert_eq!(build["payload"]["matrix"], Value::Null);
    let (root, commit) = (payload["root"].as_str().unwrap(), payload["commit"].as_str().unwrap());
    assert_eq!((root.len(), root), (40, commit), "there is one commit");
    let workflow = format!("{}/ci.yml@{}", &root[..12], &commit[..12]);
    assert_eq!(test["workflow_id"], workflow.as_str());
    assert!(test["task_id"].as_str().unwrap().starts_with("ci/test/"));
}

#[test]
fn discovering_twice_submits_nothing_twice() {
    let home = Home::new();
    repository(&home, "app", &[("ci.yml", CI)]);
    assert_eq!(found(&home, &["app"])["files"][0]["new"], 4);
    let again = found(&home, &["app", "app/.github/workflows/ci.yml", "."]);
    assert_eq!(again["files"][0]["new"], 0);
    assert!(texts(&again["tasks"], "task_id").len() >= 4);
    assert!(again["tasks"].as_array().unwrap().iter().all(|task| task["created"] == false));
    assert_eq!(count(&home), 4);
    commit(&home, "app", &[("ci.yml", &CI.replace("make test", "make all"))]);
    assert_eq!(found(&home, &["app"])["files"][0]["new"], 4, "another commit is other tasks");
    assert_eq!(count(&home), 8);
}

#[test]
fn clones_name_the_same_tasks_whatever_their_remotes_are_called() {
    let home = Home::new();
    repository(&home, "app", &[("ci.yml", CI)]);
    git(home.path(), &["clone", "-q", "app", "elsewhere"]);
    let (first, second) = (found(&home, &["app"]), found(&home, &["elsewhere"]));
    assert_eq!(texts(&first["tasks"], "task_id"), texts(&second["tasks"], "task_id"));
    assert_eq!(second["repositories"][0]["repository"], "elsewhere", "its origin is a folder");
    assert_eq!(second["errors"], json!([]));
    // What a hook leaves in the environment leads nowhere else.
    let mut command = discovering(&home);
    command.args(["app", "--json"]).env("GIT_DIR", "/nowhere").env("GIT_INDEX_FILE", "/nowhere");
    let run = Run::of(&command.output().expect("the binary starts"));
    assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{run:?}");
    assert_eq!(count(&home), 4);
}

#[test]
fn a_dry_run_needs_no_node_and_submits_nothing() {
    let home = Home::new();
    repository(&home, "app", &[("ci.yml", CI)]);
    let run = discover(&home, &["app", "--dry-run"]);
    assert_eq!((run.code, run.stderr.as_str()), (0, ""));
    assert!(run.stdout.contains("  CI / test (linux, 2.1), after 1 other\n"), "{run:?}");
    assert!(run.stdout.ends_with("4 tasks, none submitted\n"), "{run:?}");
    let dry = found(&home, &["app", "--dry-run"]);
    assert_eq!(dry["tasks"].as_array().unwrap().len(), 4);
    assert_eq!(dry["tasks"][0]["created"], Value::Null);
    assert!(!home.data().exists(), "no node was there");
    assert_eq!(texts(&found(&home, &["app"])["tasks"], "task_id"), texts(&dry["tasks"], "task_id"));
}

#[test]
fn an_unreadable_file_is_named_with_its_place_and_the_rest_goes_on() {
    let home = Home::new();
    let laughs: String = (1..10)
        .map(|level| {
            format!("a{level}: &a{level} [{}]\n", vec![format!("*a{}", level - 1); 10].join(", "))
        })
        .collect();
    let bomb = format!("a0: &a0 [x]\n{laughs}");
    repository(
        &home,
        "app",
        &[
            ("ci.yml", CI),
            ("tab.yml", "jobs:\n  a:\n\tb: c\n"),
            ("bomb.yml", &bomb),
            ("circle.yml", "# P2P: p2p-only\njobs:\n  a: {needs: b}\n  b: {needs: a}\n"),
        ],
    );
    write(&home, "app", "latin.yml", "");
    let latin = home.path().join("app/.github/workflows/latin.yml");
    fs::write(latin, b"name: caf\xe9\n").expect("a file");
    commit(&home, "app", &[]);
    let run = discover(&home, &["app"]);
    assert_eq!(run.code, 1, "{run:?}");
    for line in [
        "tab.yml:3:2: ",
        "bomb.yml:",
        "counting what aliases repeat",
        "circle.yml:3:3: jobs that need each other: a → b → a",
        "latin.yml:1: not UTF-8",
    ] {
        assert!(run.stderr.contains(line), "{line}: {}", run.stderr);
    }
    assert!(run.stdout.ends_with("1 workflow file in 1 repository: 4 tasks, 4 new\n"), "{run:?}");
    let again = found(&home, &["app"]);
    assert_eq!(again["errors"].as_array().unwrap().len(), 4);
    assert_eq!(again["errors"][2]["line"], 1, "{again}");
    assert_eq!(count(&home), 4);
}

#[test]
fn what_is_committed_counts_and_what_differs_is_told() {
    let home = Home::new();
    repository(&home, "app", &[("ci.yml", CI), ("crlf.yml", "# P2P: p2p-only\njobs: {a: {}}\n")]);
    write(&home, "app", "ci.yml", "jobs: {}\n");
    write(&home, "app", "crlf.yml", "# P2P: p2p-only\r\njobs: {a: {}}\r\n");
    write(&home, "app", "new.yml", CI);
    let run = discover(&home, &["app"]);
    assert_eq!(run.code, 0, "{run:?}");
    assert!(run.stderr.contains("ci.yml: differs from its committed version, which counts"));
    assert!(run.stderr.contains("new.yml: not committed"), "{run:?}");
    assert!(!run.stderr.contains("crlf.yml"), "line ends are git's matter: {run:?}");
    assert_eq!(count(&home), 5);
}

#[test]
fn tags_that_are_none_and_contradict_each_other_are_warned_of() {
    let home = Home::new();
    let text = "# Tags: p2p-only fast\njobs:\n  a: {}\n  b: {env: {P2P_TAGS: GITHUB_API}}\n";
    repository(&home, "app", &[("w.yml", text)]);
    let found = found(&home, &["app", "--dry-run"]);
    assert_eq!(texts(&found["tasks"], "name"), ["w.yml / a"]);
    let whats = texts(&found["warnings"], "what");
    assert!(whats[0].starts_with("no tags: fast. The tags are github-api"), "{whats:?}");
    assert!(whats[1].starts_with("the job b is left out: p2p-only and github-api"), "{whats:?}");
    assert_eq!(
        (&found["warnings"][1]["line"], &found["warnings"][1]["column"]),
        (&json!(4), &json!(3))
    );
}

#[test]
fn a_folder_of_checkouts_is_discovered_as_a_whole() {
    let home = Home::new();
    repository(&home, "work/one", &[("ci.yml", CI)]);
    repository(&home, "work/owner/two", &[("x.yml", "# P2P: p2p-only\njobs: {a: {}}\n")]);
    write(&home, "work/plain", "y.yaml", "# P2P: p2p-only\njobs: {a: {}}\n");
    let found = found(&home, &["work"]);
    assert_eq!(found["repositories"].as_array().unwrap().len(), 3);
    assert_eq!(count(&home), 6);
    let plain = &found["tasks"].as_array().unwrap()[5];
    assert_eq!(plain["payload"]["repository"], "plain", "{found}");
    assert_eq!(
        (&plain["payload"]["root"], &plain["payload"]["commit"]),
        (&json!(null), &json!(null))
    );
    let sha256 = plain["payload"]["sha256"].as_str().unwrap();
    assert_eq!(plain["workflow_id"], format!("local/y.yaml@{}", &sha256[..12]));
}

#[test]
fn a_place_that_cannot_be_discovered_says_why() {
    let home = Home::new();
    fs::create_dir(home.path().join("empty")).unwrap();
    let run = discover(&home, &["empty"]);
    assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{run:?}");
    assert!(run.stderr.contains("neither a checkout nor a folder of checkouts"), "{run:?}");
    assert_eq!(discover(&home, &["nowhere"]).code, 2);

    fs::create_dir(home.path().join("fresh")).unwrap();
    git(&home.path().join("fresh"), &["init", "-q"]);
    let run = discover(&home, &["fresh"]);
    assert_eq!(run.code, 1, "{run:?}");
    assert!(run.stderr.contains("it has no commit yet"), "{run:?}");

    repository(&home, "app", &[("ci.yml", CI)]);
    commit(&home, "app", &[("more.yml", "jobs:\n")]);
    let url = format!("file://{}", home.path().join("app").display());
    git(home.path(), &["clone", "-q", "--depth", "1", &url, "shallow"]);
    let run = discover(&home, &["shallow", "app"]);
    assert_eq!(run.code, 1, "{run:?}");
    assert!(run.stderr.contains("run `git fetch --unshallow`"), "{run:?}");
    assert!(run.stdout.contains("4 tasks, 4 new"), "the other goes on: {run:?}");
}

#[test]
fn watching_submits_what_is_committed_later() {
    let home = Home::new();
    repository(&home, "app", &[("ci.yml", CI)]);
    let server = home.start();
    let mut command = discovering(&home);
    command.args(["app", "--watch", "--json"]).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut watching = Process::spawn(command);
    eventually("the first commit's tasks", || (count(&home) == 4).then_some(()));
    commit(&home, "app", &[("late.yml", "# P2P: p2p-only\njobs: {a: {}, b: {}}\n")]);
    // Those of ci.yml are named by the new commit too.
    eventually("the second commit's tasks", || (count(&home) == 4 + 4 + 2).then_some(()));
    watching.signal(Signal::INT);
    assert_eq!(watching.exit_code(), 0);
    let mut said = String::new();
    let stdout = watching.child().stdout.take().expect("a pipe");
    std::io::Read::read_to_string(&mut { stdout }, &mut said).expect("UTF-8");
    let said: Value = serde_json::from_str(&said).expect("one object");
    assert_eq!((&said["new"], &said["rejected"]), (&json!(10), &json!(0)));
    server.close();
}

/// Nothing was said, and somebody new looked for what was wrong.
#[test]
fn a_checkout_without_a_tagged_job_is_told_what_makes_one_take_part() {
    let home = Home::new();
    repository(&home, "app", &[("ci.yml", "jobs: {a: {steps: [{run: make}]}}")]);
    let run = discover(&home, &["app"]);
    assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{run:?}");
    assert!(run.stdout.contains("`p2p-eligible`"), "{}", run.stdout);
    repository(&home, "tagged", &[("ci.yml", CI)]);
    let run = discover(&home, &["."]);
    assert!(!run.stdout.contains("`p2p-eligible`"), "{}", run.stdout);
}
