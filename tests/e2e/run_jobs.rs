//! `p2p-workflow work --run-jobs`: the jobs of workflow files, run from this machine's own checkout.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, test_kill_process};
use serde_json::{Value, json};

use crate::checkout::{commit, git, repository};
use crate::harness::{Home, Process, Run, eventually};
use crate::swarm::{in_sync, pair};

/// The worker, which finds git and the shells by the tester's path.
fn work(home: &Home, flags: &[&str]) -> Command {
    let mut command = home.command();
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.args(["p2p-workflow", "work", "--run-jobs", "app"]).args(flags);
    command
}

fn drain(home: &Home, flags: &[&str]) -> Run {
    Run::of(&work(home, &[flags, &["--drain", "--json"]].concat()).output().expect("it starts"))
}

fn discover(home: &Home) -> Value {
    let mut command = home.command();
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.args(["p2p-workflow", "discover", "app", "--json"]);
    let run = Run::of(&command.output().expect("it starts"));
    assert_eq!(run.code, 0, "{run:?}");
    serde_json::from_str(&run.stdout).expect("JSON on stdout")
}

/// A checkout with one workflow, whose tasks are in the queue.
fn discovered(workflow: &str) -> (Home, Value) {
    let home = Home::new();
    repository(&home, "app", &[("ci.yml", workflow)]);
    let found = discover(&home);
    (home, found)
}

fn show(home: &Home, id: &str) -> Value {
    home.json(&["show", "--task-id", id])["tasks"][0].clone()
}

/// The task of a job without a matrix.
fn task_of(found: &Value, job: &str) -> String {
    let tasks = found["tasks"].as_array().expect("tasks");
    let task = tasks.iter().find(|task| task["payload"]["job"] == job);
    let id = task.and_then(|task| task["task_id"].as_str());
    id.unwrap_or_else(|| panic!("no job {job}: {found}")).to_owned()
}

fn result_of(home: &Home, found: &Value, job: &str) -> Value {
    let task = show(home, &task_of(found, job));
    assert_eq!(task["state"], "completed", "{task}");
    task["result"].clone()
}

fn log_of(result: &Value) -> String {
    let path = result["log"].as_str().unwrap_or_else(|| panic!("no log: {result}"));
    fs::read_to_string(path).expect("a log")
}

/// A workflow of one job with these steps.
fn one_job(steps: &str) -> String {
    format!("# P2P: p2p-only\njobs:\n  it:\n    runs-on: ubuntu-latest\n    steps:\n{steps}")
}

/// What one job with these steps comes to: its task.
fn run_steps(steps: &str) -> (Home, Value) {
    let (home, found) = discovered(&one_job(steps));
    drain(&home, &[]);
    let task = show(&home, &task_of(&found, "it"));
    (home, task)
}

const MATRIX: &str = r#"
name: CI
# P2P: p2p-only
env:
  LEVEL: workflow
jobs:
  prepare:
    outputs:
      version: ${{ steps.v.outputs.version }}
    steps:
      - uses: actions/checkout@v4
      - id: v
        run: echo "version=1.$(git rev-list --count HEAD)" >> "$GITHUB_OUTPUT"
  test:
    needs: prepare
    strategy:
      matrix:
        os: [linux, other]
        n: [1, 2, 3]
        mode: [fast, slow]
    env:
      VERSION: ${{ needs.prepare.outputs.version }}
    outputs:
      it: ${{ steps.w.outputs.it }}
    steps:
      - id: w
        run: |
          echo "cell ${{ matrix.os }} ${{ matrix.n }} ${{ matrix.mode }}"
          echo "it=$VERSION-${{ matrix.os }}-${{ matrix.n }}-${{ matrix.mode }}" >> "$GITHUB_OUTPUT"
"#;

#[test]
fn each_cell_of_a_matrix_ends_once_with_its_own_result_and_log() {
    let (home, found) = discovered(MATRIX);
    let run = drain(&home, &["--concurrency", "4"]);
    let tally: Value = serde_json::from_str(&run.stdout).expect("JSON on stdout");
    assert_eq!(tally["completed"], 13, "{run:?}");
    let (mut outputs, mut logs) = (Vec::new(), Vec::new());
    for task in found["tasks"].as_array().unwrap() {
        if task["payload"]["job"] != "test" {
            continue;
        }
        let shown = show(&home, task["task_id"].as_str().unwrap());
        let (cell, result) = (&task["payload"]["matrix"], &shown["result"]);
        let (os, n, mode) =
            (cell["os"].as_str().unwrap(), &cell["n"], cell["mode"].as_str().unwrap());
        assert_eq!(result["outputs"]["it"], format!("1.1-{os}-{n}-{mode}"), "{result}");
        assert_eq!(result["matrix"], *cell);
        assert!(log_of(result).contains(&format!("\ncell {os} {n} {mode}\n")));
        outputs.push(result["outputs"]["it"].to_string());
        logs.push(result["log"].to_string());
    }
    for list in [&mut outputs, &mut logs] {
        list.sort();
        list.dedup();
        assert_eq!(list.len(), 12);
    }
    // No working tree is left.
    assert_eq!(fs::read_dir(home.data().join("jobs")).unwrap().count(), 0);
    assert!(!git_of(&home, &["worktree", "list"]).contains("worker-"));
}

fn git_of(home: &Home, arguments: &[&str]) -> String {
    let folder = home.path().join("app");
    let output = Command::new("git").current_dir(folder).args(arguments).output().expect("git");
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[test]
fn steps_hand_on_what_they_write_and_conditions_decide_who_runs() {
    let (_home, task) = run_steps(
        r##"
      - id: one
        run: |
          printf 'short=1\nlong<<END\na\nb\nEND\n' >> "$GITHUB_OUTPUT"
          echo MODE=fast >> "$GITHUB_ENV"
          mkdir bin && printf '#!/bin/sh\necho found\n' > bin/tool && chmod +x bin/tool
          echo "$PWD/bin" >> "$GITHUB_PATH"
          echo "# Summary" >> "$GITHUB_STEP_SUMMARY"
      - run: test "$MODE-$(tool)-${{ env.MODE }}" = fast-found-fast
      - run: test "${{ steps.one.outputs.long }}" = "$(printf 'a\nb')"
      - {id: fails, run: exit 3, continue-on-error: true}
      - {name: "after ${{ steps.fails.outcome }} ${{ steps.fails.conclusion }}", run: "true"}
      - {name: skipped, if: steps.one.outputs.short == '2', run: exit 1}
      - {name: python, shell: python, run: "import os; print(os.environ['MODE'])"}
      - {name: sub, working-directory: bin, run: ./tool}
      - {name: fails for good, run: exit 4}
      - {name: not any more, run: echo never}
      - {name: all the same, if: failure(), run: "true"}
      - {name: in any case, if: "${{ always() }}", run: "true"}
"##,
    );
    assert_eq!((&task["state"], &task["attempt"]), (&json!("failed"), &json!(3)), "{task}");
    let error = task["error"].as_str().unwrap();
    assert!(error.starts_with("step 9 of 12, \"fails for good\": exit status: 4\n"), "{error}");
    let path = error.rsplit_once("log: ").unwrap().1;
    let log = fs::read_to_string(path).unwrap();
    let steps: Vec<&str> = log.lines().filter(|line| line.starts_with("== ")).collect();
    let outcome = |name: &str| {
        let at = steps.iter().position(|line| line.ends_with(&format!(": {name}")));
        steps[at.unwrap_or_else(|| panic!("no {name}: {log}")) + 1].split(' ').nth(1).unwrap()
    };
    for (name, expected) in [
        ("after failure success", "success"),
        ("skipped", "skipped"),
        ("python", "success"),
        ("sub", "success"),
        ("fails for good", "failure"),
        ("not any more", "skipped"),
        ("all the same", "success"),
        ("in any case", "success"),
    ] {
        assert_eq!(outcome(name), expected, "{name}: {log}");
    }
    assert!(log.contains("\nfast\n") && log.contains("\nfound\n"), "{log}");
}

#[test]
fn the_environment_is_clean_and_secrets_are_masked_wherever_they_turn_up() {
    let (home, found) = discovered(&format!(
        "{}    outputs:\n      leak: ${{{{ steps.leak.outputs.it }}}}\n",
        one_job(
            r##"
      - name: token ${{ secrets.TOKEN }}
        env: {FROM: "${{ secrets.TOKEN }}"}
        run: |
          echo "here: $FROM, ${{ secrets.TOKEN }}, [$TOKEN], [$OTHER], [$LET]"
          echo "::add-mask::found-out"
          echo "found-out"
          echo "summary $FROM" >> "$GITHUB_STEP_SUMMARY"
      - {id: leak, run: "echo it=hunter2 >> $GITHUB_OUTPUT"}
"##
        )
    ));
    let mut command = work(&home, &["--drain", "--secret", "TOKEN", "--env", "LET"]);
    command.env("TOKEN", "hunter2").env("OTHER", "private").env("LET", "through");
    let run = Run::of(&command.output().unwrap());
    assert_eq!(run.code, 0, "{run:?}");
    let result = result_of(&home, &found, "it");
    let log = log_of(&result);
    assert!(log.contains("\nhere: ***, ***, [], [], [through]\n"), "{log}");
    assert!(!log.contains("hunter2") && !log.contains("\nfound-out"), "{log}");
    assert_eq!(result["outputs"]["leak"], "***");
    assert_eq!(result["summary"], "summary ***\n");
    assert!(!result.to_string().contains("hunter2"), "{result}");
}

#[test]
fn what_is_not_supported_is_refused_before_the_first_step_and_for_good() {
    for (step, why) in [
        ("uses: actions/setup-node@v4", "actions/setup-node@v4"),
        ("run: echo ${{ hashFiles('x') }}", "hashFiles"),
        ("{run: x, shell: fish}", "fish"),
        ("run: echo ${{ secrets.TOKEN }}", "--secret TOKEN"),
    ] {
        let mark = tempfile::tempdir().unwrap();
        let path = mark.path().join("ran");
        let (_home, task) =
            run_steps(&format!("      - run: touch {}\n      - {step}\n", path.display()));
        let error = task["error"].as_str().unwrap_or_else(|| panic!("{task}"));
        assert_eq!((&task["state"], &task["attempt"]), (&json!("failed"), &json!(1)), "{task}");
        assert!(error.contains(why) && error.contains("ci.yml: line 7"), "{error}");
        assert!(!path.exists(), "{step}: the first step ran");
    }
}

/// Everything that a peer sends of a job, changed in each way that could make this machine run what
/// is not its own.
#[test]
fn nothing_runs_but_what_the_local_repository_holds() {
    let home = Home::new();
    let mark = home.path().join("ran-");
    let text = one_job(&format!("      - run: touch {}${{{{ matrix.n }}}}\n", mark.display()))
        .replace("    steps", "    strategy: {matrix: {n: [1]}}\n    steps");
    repository(&home, "app", &[("ci.yml", &text)]);
    let found = discover(&home);
    let genuine = found["tasks"][0].clone();
    home.run(&["p2p-workflow", "cancel", "--task-id", genuine["task_id"].as_str().unwrap()]);
    // A commit that no branch has: somebody's pull request that was looked at once.
    commit(&home, "app", &[("ci.yml", &text.replace("ran-", "ran-other-"))]);
    let stray = git_of(&home, &["rev-parse", "HEAD"]).trim().to_owned();
    git(&home.path().join("app"), &["reset", "-q", "--hard", "HEAD~1"]);
    let forged = [
        ("matrix", json!({"n": "injected"}), "hands no such job"),
        ("job", json!("other"), "hands no such job"),
        ("sha256", json!("0".repeat(64)), "not the one that the task was made of"),
        ("path", json!("../app/.github/workflows/ci.yml"), "not that of a workflow file"),
        ("path", json!(".github/workflows/none.yml"), "has no file"),
        ("commit", json!("HEAD"), "not a hash"),
        ("kind", json!("script"), "kind"),
        ("root", json!("0".repeat(40)), "no checkout here"),
        ("commit", json!("0".repeat(40)), "git fetch"),
        ("commit", json!(stray), "on no branch or tag"),
    ];
    for (n, (field, value, why)) in forged.iter().enumerate() {
        let mut payload = genuine["payload"].clone();
        payload[*field] = value.clone();
        let (id, payload) = (format!("forged-{n}"), payload.to_string());
        let workflow = genuine["workflow_id"].as_str().unwrap();
        let flags =
            ["--task-id", &id, "--workflow-id", workflow, "--name", "x", "--tags", "p2p-only"];
        home.json(&[&["submit"], &flags[..], &["--payload", &payload]].concat());
        let run = Run::of(&work(&home, &["--once"]).output().expect("it starts"));
        assert!(run.code == 1 && run.stderr.contains(why), "{field} = {value}: {run:?}");
        home.run(&["p2p-workflow", "cancel", "--task-id", &id]);
    }
    let names = fs::read_dir(home.path()).unwrap().flatten().map(|entry| entry.file_name());
    let ran: Vec<_> = names.filter(|name| name.to_string_lossy().starts_with("ran")).collect();
    assert!(ran.is_empty(), "{ran:?}");
}

#[test]
fn a_job_whose_commit_is_not_here_goes_back_and_loses_no_attempt() {
    let (home, found) = discovered(&one_job("      - run: 'true'\n"));
    let id = task_of(&found, "it");
    // The same repository, as it was before.
    git(&home.path().join("app"), &["commit", "-q", "--allow-empty", "-m", "Next"]);
    let newer = discover(&home);
    git(&home.path().join("app"), &["reset", "-q", "--hard", "HEAD~1"]);
    git(&home.path().join("app"), &["reflog", "expire", "--expire=all", "--all"]);
    git(&home.path().join("app"), &["gc", "-q", "--prune=now"]);
    home.run(&["p2p-workflow", "cancel", "--task-id", &id]);
    let run = Run::of(&work(&home, &["--once"]).output().expect("it starts"));
    assert!(run.code == 1 && run.stderr.contains("run `git fetch` there"), "{run:?}");
    let task = show(&home, &task_of(&newer, "it"));
    assert_eq!((&task["state"], &task["attempt"]), (&json!("pending"), &json!(1)), "{task}");
}

#[test]
fn a_step_that_takes_too_long_is_ended_with_all_that_it_started() {
    let folder = tempfile::tempdir().unwrap();
    let sleeper = folder.path().join("sleeper");
    let (_home, task) = run_steps(&format!(
        "      - timeout-minutes: 0.02\n        run: |\n          sleep 1000 & echo $! > {}\n          wait\n      - if: always()\n        run: echo after\n",
        sleeper.display()
    ));
    let error = task["error"].as_str().unwrap_or_else(|| panic!("{task}"));
    assert!(error.contains("it took too long"), "{error}");
    gone(&sleeper);
}

/// A step started a server for those behind it, and the job never ended: it waited for the server to
/// close what it prints to.
#[test]
fn a_job_ends_though_a_step_left_something_running_and_ends_that_too() {
    let folder = tempfile::tempdir().unwrap();
    let sleeper = folder.path().join("sleeper");
    let (_home, task) = run_steps(&format!(
        "      - run: |\n          sleep 1000 & echo $! > {0}\n          echo started\n      - run: kill -0 $(cat {0})\n",
        sleeper.display()
    ));
    assert_eq!(task["state"], "completed", "{task}");
    assert!(log_of(&task["result"]).contains("\nstarted\n"));
    gone(&sleeper);
}

/// A checkout that was moved away cost all of its jobs all of their attempts.
#[test]
fn a_checkout_that_is_gone_costs_no_attempt() {
    let home = Home::new();
    let steps = format!("      - run: mv {0}/app {0}/moved\n", home.path().display());
    let two =
        one_job(&steps).replace("    steps", "    strategy: {matrix: {n: [1, 2]}}\n    steps");
    repository(&home, "app", &[("ci.yml", &two)]);
    let found = discover(&home);
    let mut worker = work(&home, &[]);
    worker.stdout(Stdio::null()).stderr(Stdio::null());
    let _worker = Process::spawn(worker);
    let ids = [0, 1].map(|n| found["tasks"][n]["task_id"].as_str().unwrap());
    let released = "that a job is left for lack of its checkout";
    eventually(released, || {
        let shown = ids.map(|id| home.json(&["show", "--task-id", id, "--history"]).to_string());
        shown.iter().any(|text| text.contains("released")).then_some(())
    });
    let left = ids.map(|id| show(&home, id));
    let left = left.iter().find(|task| task["state"] != "completed").unwrap();
    assert_eq!((&left["attempt"], &left["error"]), (&json!(1), &Value::Null), "{left}");
}

/// A user's own settings of git had no working tree made: none of the jobs ran on that machine.
#[test]
fn working_trees_are_made_whatever_the_user_s_configuration_says_of_clones() {
    let (home, found) = discovered(&one_job("      - run: git remote get-url origin\n"));
    let settings = home.path().join("gitconfig");
    fs::write(&settings, "[clone]\ndefaultRemoteName = up\n[protocol \"file\"]\nallow = never\n")
        .unwrap();
    let mut command = work(&home, &["--once"]);
    let run = Run::of(&command.env("GIT_CONFIG_GLOBAL", settings).output().unwrap());
    assert_eq!(run.code, 0, "{run:?}");
    let log = log_of(&result_of(&home, &found, "it"));
    assert!(log.contains("\ngit@example.org:owner/app.git\n"), "{log}");
}

/// `!failure()` was false behind a job that was skipped, and `failure()` true.
#[test]
fn a_job_that_was_skipped_is_no_failure_to_those_that_need_it() {
    let (home, found) = discovered(
        r#"# P2P: p2p-only
jobs:
  skipped: {if: false, steps: [run: exit 1]}
  plain: {needs: skipped, steps: [run: exit 1]}
  on_failure: {needs: skipped, if: failure(), steps: [run: exit 1]}
  unless_failure: {needs: skipped, if: "!failure() && !cancelled()", steps: [run: "true"]}
  always: {needs: skipped, if: "always() && needs.skipped.result == 'skipped'", steps: [run: "true"]}
"#,
    );
    let run = drain(&home, &[]);
    assert_eq!(run.code, 0, "{run:?}");
    for (job, conclusion) in [
        ("skipped", "skipped"),
        ("plain", "skipped"),
        ("on_failure", "skipped"),
        ("unless_failure", "success"),
        ("always", "success"),
    ] {
        assert_eq!(result_of(&home, &found, job)["conclusion"], conclusion, "{job}");
    }
}

/// A peer that submitted a job's genuine payload without its dependencies had it run as if they had
/// succeeded: a deployment without its tests.
#[test]
fn a_task_that_does_not_wait_for_what_its_job_needs_is_refused() {
    let (home, found) = discovered(
        "# P2P: p2p-only\njobs:\n  test: {steps: [run: 'true']}\n  deploy: {needs: test, steps: [run: 'true']}\n",
    );
    let deploy = task_of(&found, "deploy");
    let tasks = found["tasks"].as_array().unwrap();
    let genuine = tasks.iter().find(|task| task["task_id"] == *deploy).unwrap();
    let (workflow, payload) =
        (genuine["workflow_id"].as_str().unwrap(), genuine["payload"].to_string());
    for (id, waits_for) in [("hasty", &[][..]), ("elsewhere", &["--depends-on", "done"][..])] {
        let flags = ["submit", "--task-id", id, "--workflow-id", workflow, "--name", "x"];
        let more = ["--tags", "p2p-only", "--payload", &payload];
        home.json(&[&flags[..], &more[..], waits_for].concat());
    }
    let flags = ["--task-id", "done", "--workflow-id", "w", "--name", "x", "--tags", "p2p-only"];
    home.json(&[&["submit"], &flags[..]].concat());
    home.json(&["next", "--workflow-id", "w"]);
    home.json(&["complete", "--task-id", "done", "--result", r#"{"job": "test"}"#]);
    drain(&home, &[]);
    for id in ["hasty", "elsewhere"] {
        let task = show(&home, id);
        let error = task["error"].as_str().unwrap_or_else(|| panic!("{task}"));
        assert!(task["state"] == "failed" && error.contains("its job needs \"test\""), "{task}");
    }
    assert_eq!(result_of(&home, &found, "deploy")["conclusion"], "success");
}

/// What an expression came to was quoted in the refusal, which all peers hold.
#[test]
fn no_secret_stands_in_why_a_job_was_refused() {
    for place in [
        "timeout-minutes: '${{ secrets.TOKEN }}'",
        "env: {X: '${{ format(secrets.TOKEN) }}'}",
        "runs-on: 'windows-${{ secrets.TOKEN }}'",
    ] {
        let text =
            format!("# P2P: p2p-only\njobs:\n  it:\n    {place}\n    steps: [run: 'true']\n");
        let (home, _) = discovered(&text);
        let mut command = work(&home, &["--once", "--secret", "TOKEN"]);
        let run = Run::of(&command.env("TOKEN", "hun{ter\"2").output().unwrap());
        assert!(run.stderr.contains("***") && !run.stderr.contains("hun"), "{run:?}");
    }
}

/// A summary of more than 64 KiB was lost altogether.
#[test]
fn a_long_summary_is_cut() {
    let (_home, task) = run_steps("      - run: printf '%070000d' 1 >> $GITHUB_STEP_SUMMARY\n");
    assert_eq!(task["result"]["summary"].as_str().map(str::len), Some(64 * 1024), "{task}");
}

/// The job's process went at once and killed its step, which then left behind what it has to remove.
#[test]
fn a_step_that_is_asked_to_end_may_tidy_up_and_no_other_is_begun() {
    let home = Home::new();
    let [begun, tidied, next] = ["begun", "tidied", "next"].map(|name| home.path().join(name));
    let steps = format!(
        "      - run: |\n          trap 'sleep 0.5; touch {}; exit 1' TERM\n          touch {}\n          sleep 1000\n      - {{if: always(), run: touch {}}}\n",
        tidied.display(),
        begun.display(),
        next.display()
    );
    repository(&home, "app", &[("ci.yml", &one_job(&steps))]);
    let found = discover(&home);
    let mut command = work(&home, &[]);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut worker = Process::spawn(command);
    eventually("that the step runs", || begun.exists().then_some(()));
    worker.signal(Signal::TERM);
    worker.exit_code();
    assert!(tidied.exists() && !next.exists());
    let task = show(&home, &task_of(&found, "it"));
    assert_eq!((&task["state"], &task["attempt"]), (&json!("pending"), &json!(1)), "{task}");
    assert_eq!(fs::read_dir(home.data().join("jobs")).unwrap().count(), 0);
}

/// `kill 0` in a step reaches the job's own process: that is a failure of the job, and no reason to
/// hand it on for ever.
#[test]
fn a_step_that_ends_its_own_job_fails_it() {
    let (_home, task) = run_steps("      - run: kill -TERM 0; sleep 1000\n");
    assert_eq!((&task["state"], &task["attempt"]), (&json!("failed"), &json!(3)), "{task}");
    assert!(task["error"].as_str().unwrap().contains("`kill 0`"), "{task}");
}

/// Behind a job that took too long its clean-up was begun and ended in the same moment.
#[test]
fn the_steps_that_tidy_up_behind_a_job_that_took_too_long_have_time() {
    let steps = "      - {run: sleep 1000, continue-on-error: true}\n      - run: exit 1\n      - {if: always(), run: sleep 0.2; echo tidied}\n";
    let text = one_job(steps).replace("    steps", "    timeout-minutes: 0.01\n    steps");
    let (home, found) = discovered(&text);
    Run::of(&work(&home, &["--once"]).output().expect("it starts"));
    let task = show(&home, &task_of(&found, "it"));
    let error = task["error"].as_str().unwrap_or_else(|| panic!("{task}"));
    assert!(error.starts_with("step 1 of 3") && error.contains("took too long"), "{error}");
    let log = fs::read_to_string(error.rsplit_once("log: ").unwrap().1).unwrap();
    assert!(log.contains("\ntidied\n== success"), "{log}");
}

/// Waits until the process is gone whose id a step wrote.
fn gone(file: &Path) {
    let text = fs::read_to_string(file).expect("the step wrote it");
    let id: i32 = text.trim().parse().expect("a number");
    let process = Pid::from_raw(id).expect("a process");
    eventually("a process's end", || {
        let stat = fs::read_to_string(format!("/proc/{id}/stat"));
        let is_zombie = stat.is_ok_and(|stat| stat.contains(") Z "));
        (is_zombie || test_kill_process(process).is_err()).then_some(())
    });
}

#[test]
fn a_worker_that_is_killed_in_mid_job_leaves_no_process_and_its_job_is_run_again() {
    let home = Home::new();
    let mark: PathBuf = home.path().join("mark");
    let steps = format!(
        "      - run: |\n          echo $$ > sleeper-id; cp sleeper-id {0}-$P2P_ATTEMPT\n          test -e {0}-go || exec sleep 1000\n",
        mark.display()
    );
    repository(&home, "app", &[("ci.yml", &one_job(&steps))]);
    let found = discover(&home);
    let mut command = work(&home, &[]);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut worker = Process::spawn(command);
    let first = home.path().join("mark-1");
    eventually("that the job runs", || {
        fs::read_to_string(&first).ok().filter(|text| text.ends_with('\n'))
    });
    let left: Vec<_> = fs::read_dir(home.data().join("jobs")).unwrap().flatten().collect();
    assert_eq!(left.len(), 1);
    worker.kill();
    gone(&first);
    fs::write(home.path().join("mark-go"), "").unwrap();
    let run = drain(&home, &[]);
    assert_eq!(run.code, 0, "{run:?}");
    assert_eq!(result_of(&home, &found, "it")["conclusion"], "success");
    assert_eq!(fs::read_dir(home.data().join("jobs")).unwrap().count(), 0, "what was left is gone");
}

/// Two machines with a checkout each; one worker is killed while it runs jobs.
#[test]
fn two_machines_run_the_cells_of_a_matrix_once_each_though_a_worker_is_killed() {
    let (one, other) = (Home::new(), Home::new());
    let marks = one.path().join("marks");
    fs::create_dir(&marks).unwrap();
    let steps = format!(
        "      - id: it\n        run: |\n          echo \"$GITHUB_WORKSPACE\" >> {0}/${{{{ matrix.os }}}}-${{{{ matrix.n }}}}\n          while [ ! -e {0}/go ]; do sleep 0.05; done\n          echo 'it=${{{{ matrix.os }}}}-${{{{ matrix.n }}}}' >> \"$GITHUB_OUTPUT\"\n    outputs: {{it: '${{{{ steps.it.outputs.it }}}}'}}\n",
        marks.display()
    );
    let matrix = "    strategy: {matrix: {os: [a, b, c], n: [1, 2, 3, 4]}}\n    steps";
    repository(&one, "app", &[("ci.yml", &one_job(&steps).replace("    steps", matrix))]);
    let clone = ["clone", "-q", one.path().to_str().unwrap(), "app"];
    git(other.path(), &[clone[0], clone[1], &format!("{}/app", clone[2]), clone[3]]);
    let (_here, _there) = (one.start(), other.start());
    pair(&one, &other);
    let found = discover(&one);
    assert_eq!(found["tasks"].as_array().unwrap().len(), 12);
    in_sync(&[&one, &other]);
    let worker = |home: &Home| {
        let mut command = work(home, &["--concurrency", "2"]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        Process::spawn(command)
    };
    let (_worker, mut killed) = (worker(&one), worker(&other));
    let started = || {
        let files = fs::read_dir(&marks).unwrap().flatten();
        files.filter_map(|file| fs::read_to_string(file.path()).ok()).collect::<String>()
    };
    let runs_at = |home: &Home, text: &str| text.contains(home.path().to_str().unwrap());
    eventually("that jobs run on both machines", || {
        let text = started();
        (runs_at(&one, &text) && runs_at(&other, &text)).then_some(())
    });
    killed.kill();
    let _another = worker(&other);
    fs::write(marks.join("go"), "").unwrap();
    eventually("that all jobs are completed", || {
        let status = [one.status(), other.status()];
        status.iter().all(|of| of["completed_tasks"] == 12).then_some(())
    });
    in_sync(&[&one, &other]);
    for task in found["tasks"].as_array().unwrap() {
        let (cell, id) = (&task["payload"]["matrix"], task["task_id"].as_str().unwrap());
        let [shown, there] = [&one, &other].map(|home| show(home, id));
        let expected = format!("{}-{}", cell["os"].as_str().unwrap(), cell["n"]);
        assert_eq!(shown["result"]["outputs"]["it"], expected, "{shown}");
        assert_eq!(shown["result"], there["result"]);
        assert!(log_of(&shown["result"]).contains("== the job ended: success"), "{shown}");
    }
    assert_eq!(
        (&one.status()["duplicates"], &other.status()["duplicates"]),
        (&json!(0), &json!(0))
    );
}
