//! `examples/`: each kind of work is done by an agent that follows the prompt, and by a command.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::checkout;
use crate::harness::{Home, Process, Run};

fn example(file: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository");
    root.join("examples").join(file)
}

/// An example: its folder, its workflow, and what does one task.
struct Example<'a> {
    folder: &'a str,
    workflow: &'a str,
    command: Vec<String>,
    tasks: usize,
}

impl<'a> Example<'a> {
    fn new(folder: &'a str, workflow: &'a str, script: &str, tasks: usize) -> Self {
        let script = example(folder).join(script).display().to_string();
        Example { folder, workflow, command: vec!["python3".into(), script], tasks }
    }

    /// Has it done in a new home by an agent, and in another by a command.
    fn done(&self) -> [Home; 2] {
        [true, false].map(|by_agent| {
            let home = Home::new();
            let tasks = example(self.folder).join("tasks.jsonl").display().to_string();
            let submitted = home.json(&["submit", "--file", &tasks]);
            assert_eq!(submitted["submitted"], self.tasks);
            let run = if by_agent { self.by_agent(&home) } else { self.by_command(&home) };
            assert_eq!(run.code, 0, "{run:?}");
            assert_eq!(home.status()["completed_tasks"], self.tasks, "{run:?}");
            home
        })
    }

    /// The scripted MCP client.
    fn by_agent(&self, home: &Home) -> Run {
        let mut agent = home.prepare(Command::new("python3"));
        agent.arg(example("agent.py")).args(["--workflow", self.workflow, "--"]);
        agent.args(&self.command).env("IPFS_ACCELERATE", env!("CARGO_BIN_EXE_ipfs-accelerate"));
        let run = Run::of(&agent.output().expect("python3 is needed for this test"));
        assert_eq!(run.stdout, format!("{} tasks completed\n", self.tasks), "{run:?}");
        assert!(run.stderr.starts_with("You are a worker"), "it got the prompt: {run:?}");
        run
    }

    fn by_command(&self, home: &Home) -> Run {
        let mut worker = home.command();
        worker.args(["p2p-workflow", "work", "--drain", "--workflow", self.workflow, "--"]);
        Run::of(&worker.args(&self.command).output().expect("the binary starts"))
    }
}

fn result(home: &Home, task_id: &str) -> Value {
    home.json(&["show", "--task-id", task_id])["tasks"][0]["result"].take()
}

#[test]
fn code_is_generated_and_checked() {
    for home in Example::new("code-generation", "units", "generate.py", 3).done() {
        let expected =
            json!({"files": ["names.py", "units.py"], "classes": ["Length", "Name", "Weight"]});
        assert_eq!(result(&home, "units/check"), expected);
        let made = result(&home, "units/names");
        let source =
            "from dataclasses import dataclass\n\n\n@dataclass\nclass Name:\n    text: str\n";
        assert_eq!(made, json!({"file": "names.py", "source": source}));
    }
}

#[test]
fn a_local_site_is_scraped() {
    let mut server = Command::new("python3");
    server.args(["-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory"]);
    server.arg(example("web-scraping/site")).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut server = Process::spawn(server);
    let mut said = String::new();
    let stdout = server.child().stdout.take().expect("a pipe");
    BufReader::new(stdout).read_line(&mut said).expect("it says where it listens");
    let site = said.split(['(', ')']).nth(1).expect("an address in parentheses").to_owned();

    let mut scraper = Example::new("web-scraping", "site-check", "scrape.py", 3);
    scraper.command.push(site);
    for home in scraper.done() {
        let expected = json!({"pages": 2, "dead_links": {"/index.html": ["/news.html"]}});
        assert_eq!(result(&home, "site-check/report"), expected);
        let expected =
            json!({"path": "/guide.html", "title": "The guide", "links": ["/index.html"]});
        assert_eq!(result(&home, "site-check/guide"), expected);
    }
}

#[test]
fn data_is_processed_in_parts() {
    for home in Example::new("data-processing", "word-count", "process.py", 4).done() {
        let expected =
            json!({"fish": 6, "one": 1, "two": 1, "red": 1, "blue": 1, "old": 1, "new": 1});
        assert_eq!(result(&home, "word-count/total"), expected);
    }
}

/// GitHub runs the job that hands in; the swarm runs the others, and only those.
#[test]
fn a_workflow_that_submits_itself_is_run_by_the_swarm() {
    let home = Home::new();
    let workflow = fs::read_to_string(example("p2p-workflow.yml")).expect("the example");
    checkout::repository(&home, "app", &[("p2p-workflow.yml", &workflow)]);
    let run = |arguments: &[&str]| {
        let mut command = home.command();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        let run = Run::of(&command.arg("p2p-workflow").args(arguments).output().expect("it runs"));
        assert_eq!(run.code, 0, "{run:?}");
        serde_json::from_str::<Value>(&run.stdout).expect("JSON on stdout")
    };
    // As on the runner, whose checkout is at a commit and on no branch.
    checkout::git(&home.path().join("app"), &["worktree", "add", "-q", "--detach", "../runner"]);
    let found = run(&["discover", "runner", "--json"]);
    let jobs = found["tasks"].as_array().expect("tasks").iter().map(|task| &task["payload"]["job"]);
    assert_eq!(jobs.collect::<Vec<_>>(), ["count", "count", "report"]);
    let tally = run(&["work", "--run-jobs", "app", "--drain", "--json"]);
    assert_eq!((&tally["completed"], &tally["failed"]), (&json!(3), &json!(0)), "{tally}");
    let report = found["tasks"][2]["task_id"].as_str().expect("an id");
    let result = result(&home, report);
    assert_eq!(result["summary"], "1 of YAML, 0 of Markdown\n", "{result}");
}

/// A task could otherwise have the scraper fetch from inside the operator's network.
#[test]
fn the_scraper_reads_no_site_but_its_own() {
    let home = Home::new();
    let scraper = example("web-scraping/scrape.py").display().to_string();
    let payload = r#"{"goal": "a page", "path": "http://127.0.0.2:1/secret"}"#;
    let task =
        ["submit", "--task-id", "a", "--workflow-id", "w", "--name", "A", "--tags", "web-scraping"];
    home.json(&[&task[..], &["--max-attempts", "1", "--payload", payload]].concat());
    let mut worker = home.command();
    worker.args(["p2p-workflow", "work", "--once", "--", "python3", &scraper]);
    let run = Run::of(&worker.arg("http://127.0.0.1:1").output().expect("the binary starts"));
    assert_eq!(run.code, 1, "{run:?}");
    let error = home.json(&["show", "--task-id", "a"])["tasks"][0]["error"].take();
    assert_eq!(error, "'http://127.0.0.2:1/secret' is not a path of http://127.0.0.1:1");
}
