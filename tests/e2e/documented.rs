//! The shell lines of README, quick start and guide, run as a reader would.
//!
//! Every line of a document's ```` ```sh ```` blocks is run by `sh`, one after the other, in one
//! home; blocks that say ```` ```sh other-machine ```` in another one's, which has what the last
//! `swarm invite` printed as `LINE`. Each ```` ```yaml ```` block is a workflow file, committed in
//! `~/src/app` from the start. A line's end says how it ends:
//!
//! | end | what is expected |
//! |---|---|
//! | | exit code 0 |
//! | `# exit code 1` | that one |
//! | `# until Ctrl-C` | that it says something, stays, and ends with 0 on Ctrl-C |
//! | `&` | that it stays, or ends with 0, while the rest of the document runs |

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::checkout;
use crate::harness::{Home, Process, Run, Server, eventually};
use crate::raw_http::{Http, initialize};

/// A file of the repository.
pub(crate) fn text(file: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository");
    fs::read_to_string(root.join(file)).expect(file)
}

/// The blocks of a document: what stands after the fence, and the lines in it.
fn blocks(document: &str) -> Vec<(&str, &str)> {
    let fenced = document.split("```").skip(1).step_by(2);
    fenced.map(|block| block.split_once('\n').expect("a block has lines")).collect()
}

/// Runs all that a document shows; returns how many lines that were.
pub(crate) fn run(file: &str) -> usize {
    let document = text(file);
    let mut reader = Reader::default();
    let blocks = blocks(&document);
    for (_, workflow) in blocks.iter().filter(|(kind, _)| *kind == "yaml") {
        checkout::repository(&reader.machines[0], "src/app", &[("ci.yml", workflow)]);
    }
    let mut shown = 0;
    for (kind, lines) in &blocks {
        let machine = match *kind {
            "sh" => 0,
            "sh other-machine" => 1,
            _ => continue,
        };
        for line in lines.lines() {
            reader.run(machine, line);
            shown += 1;
        }
    }
    reader.close();
    shown
}

/// Who follows a document on two machines.
struct Reader {
    machines: [Home; 2],
    /// What `&` left running, by its line.
    running: Vec<(String, Process)>,
    invitation: String,
}

impl Default for Reader {
    fn default() -> Self {
        let machines = [Home::new(), Home::new()];
        Reader { machines, running: Vec::new(), invitation: String::new() }
    }
}

impl Reader {
    fn run(&mut self, machine: usize, line: &str) {
        let (words, how) = line.split_once(" # ").unwrap_or((line, ""));
        let words = words.trim();
        match words.split(' ').collect::<Vec<_>>().as_slice() {
            ["cargo", "test"] => {
                // This very run; CI runs the same command.
                assert!(text(".ci/run").contains("\ncargo test"), "CI runs {line}");
            }
            ["cargo", "install", "--path", "tools"] => {
                assert!(text("tools/Cargo.toml").contains("name = \"ipfs-accelerate\""));
            }
            ["cargo", "run", "--", rest @ ..] => {
                self.ends(machine, &format!("ipfs-accelerate {}", rest.join(" ")), "");
            }
            ["ipfs-accelerate", "mcp", "start", flags @ ..] => {
                serves_http(&self.machines[machine], flags);
            }
            [.., "&"] => self.stays(machine, words),
            _ if how == "until Ctrl-C" => self.is_interrupted(machine, words),
            _ => self.ends(machine, words, how),
        }
    }

    /// A shell of a reader who has the program on the path.
    fn shell(&self, machine: usize, line: &str) -> Command {
        let home = &self.machines[machine];
        let mut shell = home.prepare(Command::new("sh"));
        let program = Path::new(env!("CARGO_BIN_EXE_ipfs-accelerate"));
        let folder = program.parent().expect("a folder").to_owned();
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = std::env::join_paths([folder].into_iter().chain(std::env::split_paths(&path)));
        shell.env("PATH", path.expect("a path")).env("HOME", home.path());
        shell.env("LINE", &self.invitation).args(["-c", line]);
        shell
    }

    fn ends(&mut self, machine: usize, line: &str, how: &str) {
        let code = match how.strip_prefix("exit code ") {
            Some(code) => code.parse().expect("an exit code is a number"),
            None => 0,
        };
        let run = Run::of(&self.shell(machine, line).output().expect("sh starts"));
        assert_eq!(run.code, code, "{line}\n{run:?}");
        if line == "ipfs-accelerate swarm invite" {
            run.stdout.trim().clone_into(&mut self.invitation);
        }
    }

    fn stays(&mut self, machine: usize, line: &str) {
        let command = line.strip_suffix('&').expect("it stays");
        // The shell becomes the command, so that the process is the one that was started.
        let mut shell = self.shell(machine, &format!("exec {command}"));
        shell.stdout(Stdio::null()).stderr(Stdio::null());
        self.running.push((line.to_owned(), Process::spawn(shell)));
    }

    fn is_interrupted(&self, machine: usize, line: &str) {
        let log = self.machines[machine].path().join("said.log");
        // A warning can come before it is ready to be interrupted.
        let said = || {
            let text = fs::read_to_string(&log).ok()?;
            text.lines().any(|line| !line.contains(" WARN ")).then_some(())
        };
        let file = fs::File::create(&log).expect("a file");
        let mut shell = self.shell(machine, &format!("exec {line}"));
        shell.stdout(file.try_clone().expect("a file")).stderr(file);
        let mut process = Process::spawn(shell);
        eventually(&format!("a word of {line}"), said);
        process.signal(Signal::INT);
        let end = || process.child().try_wait().expect("a child");
        let ended = eventually(&format!("the end of {line}"), end);
        assert!(ended.success(), "{line}: {ended}\n{}", fs::read_to_string(&log).expect("a log"));
    }

    /// What was to stay is there to the end, unless it ended as it should.
    fn close(mut self) {
        for (line, process) in &mut self.running {
            let ended = process.child().try_wait().expect("a child");
            assert!(ended.is_none_or(|status| status.success()), "{line} ended: {ended:?}");
        }
    }
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
fn what_the_readme_shows_runs() {
    assert!(run("README.md") >= 6);
}

#[test]
fn what_the_quick_start_shows_runs() {
    assert!(run("docs/quickstart.md") >= 15);
}

#[test]
fn what_the_guide_shows_runs() {
    assert!(run("docs/guide.md") >= 30);
}

/// A line that no test runs is a promise that nobody keeps.
#[test]
fn the_guides_show_no_command_that_is_not_run() {
    for file in ["docs/quickstart.md", "docs/guide.md"] {
        let document = text(file);
        for (kind, lines) in blocks(&document) {
            let is_run = ["sh", "sh other-machine", "yaml"].contains(&kind);
            assert!(is_run || !lines.contains("ipfs-accelerate"), "{file}: {lines}");
        }
        assert!(!document.contains("`ipfs-accelerate "), "{file} has one in a sentence");
    }
}

#[test]
fn every_link_to_a_file_leads_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository");
    let mut pages = vec![root.join("README.md"), root.join("examples/README.md")];
    let docs = fs::read_dir(root.join("docs")).expect("a folder");
    pages.extend(docs.map(|entry| entry.expect("a file").path()));
    let mut links = 0;
    for page in pages.iter().filter(|page| page.extension().is_some_and(|it| it == "md")) {
        let text = fs::read_to_string(page).expect("a page");
        let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for target in targets.filter(|target| !target.contains("://")) {
            let (file, heading) = target.split_once('#').unwrap_or((target, ""));
            let folder = page.parent().expect("a folder");
            let file = if file.is_empty() { page.clone() } else { folder.join(file) };
            assert!(file.exists(), "{}: {target}", page.display());
            if !heading.is_empty() {
                let there = fs::read_to_string(&file).expect("a page");
                let mut headings = there.lines().filter(|line| line.starts_with('#'));
                let is_it = |line: &str| {
                    line.trim_start_matches('#').trim().to_lowercase().replace(' ', "-") == heading
                };
                assert!(headings.any(is_it), "{}: {target}", page.display());
            }
            links += 1;
        }
    }
    assert!(links > 30, "{links}");
}
