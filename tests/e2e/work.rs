//! `p2p-workflow work`: the operator's own command for each task, and what becomes of it when
//! something goes wrong.
//!
//! The commands are shell scripts that tell where they are by files in the home's folder, and wait
//! there for files.

use std::collections::BTreeMap;
use std::fs;
use std::process::Stdio;

use rustix::process::{Pid, Signal, test_kill_process};
use serde_json::{Value, json};

use crate::harness::{Home, Process, Run, Server, eventually, task};

/// A script in the home's folder that gives `text` to the shell.
fn script(home: &Home, text: &str) -> String {
    let path = home.path().join("job.sh");
    fs::write(&path, text).expect("a script");
    path.to_str().expect("UTF-8").to_owned()
}

fn work(home: &Home, flags: &[&str], command: &[&str]) -> std::process::Command {
    let mut worker = home.command();
    worker.args(["p2p-workflow", "work"]).args(flags).arg("--").args(command);
    worker
}

/// A worker that runs beside the test.
fn start(home: &Home, flags: &[&str], command: &[&str]) -> Process {
    let mut worker = work(home, flags, command);
    worker.stdout(Stdio::null()).stderr(Stdio::null());
    Process::spawn(worker)
}

/// A worker that ends by itself.
fn run(home: &Home, flags: &[&str], command: &[&str]) -> Run {
    Run::of(&work(home, flags, command).output().expect("the binary starts"))
}

/// Runs a script for all tasks that there are, and returns the counts.
fn drain(home: &Home, text: &str) -> Value {
    let run = run(home, &["--drain", "--json"], &["sh", &script(home, text)]);
    serde_json::from_str(&run.stdout).unwrap_or_else(|error| panic!("{error}: {run:?}"))
}

/// A file that a script writes, once it did.
fn written(home: &Home, name: &str) -> String {
    let path = home.path().join(name);
    eventually(&format!("the file {name}"), || {
        fs::read_to_string(&path).ok().filter(|text| text.ends_with('\n'))
    })
}

/// The process that a script wrote the id of.
fn process(home: &Home, name: &str) -> Pid {
    let id = written(home, name).trim().parse().expect("a number");
    Pid::from_raw(id).expect("a process")
}

/// Waits until a process is gone; one that ended and was not waited for is.
fn gone(process: Pid) {
    eventually("a process's end", || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", process.as_raw_nonzero()));
        let is_zombie = stat.is_ok_and(|stat| stat.contains(") Z "));
        (is_zombie || test_kill_process(process).is_err()).then_some(())
    });
}

fn touch(home: &Home, name: &str) {
    fs::write(home.path().join(name), "").expect("a file");
}

/// Waits until a task stands like that.
fn until(server: &mut Server, id: &str, state: &str) -> Value {
    eventually(&format!("task {id} to be {state}"), || {
        Some(server.show(id)).filter(|task| task["state"] == state)
    })
}

/// Says that it runs, and waits until it may end.
const WAITS: &str = "echo $$ > running\nwhile [ ! -e go ]; do sleep 0.02; done\n";

#[test]
fn a_command_gets_the_task_and_its_stdout_is_the_result() {
    let home = Home::new();
    let mut server = home.start();
    let payload = r#"{"z":1.10,"a":123456789012345678901234567890}"#;
    let submit = format!(
        r#"{{"jsonrpc":"2.0","id":{},"method":"tools/call","params":{{"name":"p2p_submit_task","arguments":{{"task_id":"in","workflow_id":"w 1","name":"The \"name\"","tags":["p2p-only"],"payload":{payload}}}}}}}"#,
        server.reserve()
    );
    server.send_bytes(format!("{submit}\n").as_bytes());
    server.submit("out");
    server.submit("silent");
    let text = r#"
        case "$P2P_TASK_ID" in
          in) cat > task.json; printf '%s|%s|%s|%s\n' "$P2P_WORKFLOW_ID" "$P2P_TASK_NAME" "$P2P_ATTEMPT" "$P2P_FENCE" ;;
          out) printf '{\n  "kept": 1.10\n}\n' ;;
        esac
    "#;
    assert_eq!(drain(&home, text)["completed"], 3);

    let result = server.show("in")["result"].as_str().unwrap().to_owned();
    let fence = result.strip_prefix("w 1|The \"name\"|1|").unwrap();
    assert!(fence.parse::<u64>().unwrap() > 0, "{result}");
    let given = fs::read_to_string(home.path().join("task.json")).unwrap();
    assert!(given.contains(&format!(r#""payload":{payload}"#)), "to the digit: {given}");
    assert_eq!(serde_json::from_str::<Value>(&given).unwrap()["workflow_id"], "w 1");
    assert_eq!(server.show("out")["result"], json!({"kept": 1.10}));
    assert_eq!(server.show("silent")["result"], Value::Null);
    server.close();
}

#[test]
fn a_dependency_s_result_reaches_the_command_after_it() {
    let home = Home::new();
    let mut server = home.start();
    server.submit("first");
    let mut second = task("second");
    second["depends_on"] = json!(["first"]);
    server.call("p2p_submit_task", &second);
    let text = "echo \"after:\" $(sed 's/.*dependency_results\":{\\([^}]*\\)}.*/\\1/')";
    assert_eq!(drain(&home, text)["completed"], 2);
    let result = server.show("second")["result"].as_str().unwrap().to_owned();
    assert_eq!(result, r#"after: "first":"after:""#);
    server.close();
}

#[test]
fn another_exit_code_fails_the_attempt_with_the_end_of_stderr() {
    let home = Home::new();
    let mut server = home.start();
    for id in ["loud", "silent", "killed"] {
        let mut task = task(id);
        task["max_attempts"] = json!(1);
        server.call("p2p_submit_task", &task);
    }
    let text = r#"
        case "$P2P_TASK_ID" in
          loud) i=0; while [ $i -lt 2000 ]; do echo "line $i"; i=$((i+1)); done >&2; exit 3 ;;
          silent) echo 'no result'; exit 4 ;;
          killed) kill -KILL $$ ;;
        esac
    "#;
    let tally = drain(&home, text);
    assert_eq!((&tally["completed"], &tally["failed"]), (&json!(0), &json!(3)));
    let error = |task: Value| task["error"].as_str().unwrap().to_owned();
    let loud = error(server.show("loud"));
    assert!(loud.ends_with("line 1998\nline 1999"), "{loud}");
    assert!((4000..=4096).contains(&loud.len()), "{}", loud.len());
    let silent = server.show("silent");
    assert!(error(silent.clone()).contains("exit status: 4"), "{silent}");
    assert_eq!(silent["result"], Value::Null);
    assert!(error(server.show("killed")).contains("signal: 9"));
    server.close();
}

#[test]
fn a_failed_attempt_is_tried_again_and_counted() {
    let home = Home::new();
    let mut server = home.start();
    server.submit("a");
    let tally = drain(&home, "[ $P2P_ATTEMPT = 2 ] && echo $P2P_ATTEMPT");
    assert_eq!(tally["completed"], 1);
    assert_eq!(tally["to_be_retried"], 1, "the drain waits for the second attempt: {tally}");
    assert_eq!(server.show("a")["result"], 2);
    server.close();
}

#[test]
fn more_output_than_a_result_may_have_fails_the_attempt_and_ends_the_command() {
    let home = Home::new();
    let mut server = home.start();
    let mut endless = task("endless");
    endless["max_attempts"] = json!(1);
    server.call("p2p_submit_task", &endless);
    assert_eq!(drain(&home, "while :; do echo 0123456789012345678901234567890; done")["failed"], 1);
    let error = server.show("endless")["error"].as_str().unwrap().to_owned();
    assert!(error.contains("more than a result may have (256 KiB)"), "{error}");
    server.close();
}

/// Peers hand in tasks; none of what they write may be read by a shell or taken for a program.
#[test]
fn nothing_that_a_task_says_is_executed() {
    let home = Home::new();
    let mut server = home.start();
    let evil = "$(touch pwned); `touch pwned`; touch pwned & | touch pwned";
    let arguments = json!({"task_id": evil, "workflow_id": evil, "name": evil,
                           "tags": ["p2p-only"], "payload": {"command": "touch pwned"}});
    server.call("p2p_submit_task", &arguments);
    let mut flag = task("--help");
    flag["name"] = json!("-c touch${IFS}pwned");
    server.call("p2p_submit_task", &flag);
    let run = run(&home, &["--drain", "--json"], &["cat"]);
    assert_eq!(run.code, 0, "{run:?}");
    assert_eq!(server.show(evil)["result"]["name"], evil);
    assert!(!home.path().join("pwned").exists());
    server.close();
}

#[test]
fn a_command_that_takes_too_long_is_ended_with_all_that_it_started() {
    let home = Home::new();
    let mut server = home.start();
    let mut slow = task("slow");
    slow["max_attempts"] = json!(1);
    server.call("p2p_submit_task", &slow);
    // Neither of the two ends when it is asked to.
    let text = r#"
        trap 'echo asked >> asked' TERM
        sh -c 'trap "" TERM; echo $$ > grandchild; while :; do sleep 0.1; done' &
        echo $$ > child
        echo 'so far' >&2
        while :; do sleep 0.1; done
    "#;
    let job = script(&home, text);
    let run = run(&home, &["--once", "--timeout", "1s"], &["sh", &job]);
    assert_eq!(run.code, 1, "{run:?}");
    gone(process(&home, "child"));
    gone(process(&home, "grandchild"));
    assert_eq!(written(&home, "asked"), "asked\n", "it was asked first");
    let shown = server.show("slow");
    // The shell may add that its `sleep` was ended.
    let error = shown["error"].as_str().unwrap();
    assert!(error.starts_with("it took longer than 1 s and was ended\nso far"), "{error}");
    server.close();
}

#[test]
fn what_a_command_leaves_running_is_ended_with_it() {
    let home = Home::new();
    let mut server = home.start();
    server.submit("a");
    let text = "sh -c 'echo $$ > left; while :; do sleep 0.1; done' &\nwhile [ ! -s left ]; do :; done; echo done";
    assert_eq!(drain(&home, text)["completed"], 1);
    gone(process(&home, "left"));
    assert_eq!(server.show("a")["result"], "done");
    server.close();
}

#[test]
fn a_worker_that_is_killed_gives_its_task_back_and_its_command_ends() {
    let home = Home::new();
    let mut server = home.start();
    server.submit("a");
    let job = script(&home, WAITS);
    let mut worker = start(&home, &[], &["sh", &job]);
    let command = process(&home, "running");
    assert_eq!(server.state("a"), "assigned");
    worker.kill();
    gone(command);
    until(&mut server, "a", "pending");
    touch(&home, "go");
    assert_eq!(run(&home, &["--once"], &["true"]).code, 0);
    let shown = server.show("a");
    assert_eq!((&shown["state"], &shown["attempt"]), (&json!("completed"), &json!(1)));
    server.close();
}

/// It is the node as well, so that nobody is left who could notice at once.
#[test]
fn a_worker_that_is_killed_as_the_node_gives_its_task_back_too() {
    let home = Home::new();
    home.json(&[
        "submit",
        "--task-id",
        "a",
        "--workflow-id",
        "w",
        "--name",
        "A",
        "--tags",
        "p2p-only",
    ]);
    let job = script(&home, WAITS);
    let mut worker = start(&home, &[], &["sh", &job]);
    let command = process(&home, "running");
    assert_eq!(home.node(), worker.id());
    worker.kill();
    gone(command);
    let run = run(&home, &["--once", "--json"], &["true"]);
    assert_eq!(run.code, 0, "{run:?}");
}

#[test]
fn a_worker_goes_on_when_the_node_is_killed() {
    let home = Home::new();
    let mut server = home.start();
    server.submit("a");
    let job = script(&home, &format!("{WAITS}echo $P2P_FENCE"));
    let mut worker = start(&home, &["--once"], &["sh", &job]);
    written(&home, "running");
    let fence = server.show("a")["fence"].clone();
    server.kill();
    touch(&home, "go");
    assert_eq!(worker.exit_code(), 0);
    let mut server = home.start();
    assert_eq!(server.show("a")["result"], fence, "under the lease that it had");
    server.close();
}

#[test]
fn an_interrupt_lets_what_runs_finish_and_takes_nothing_more() {
    let home = Home::new();
    let mut server = home.start();
    server.submit("a");
    let job = script(&home, WAITS);
    let mut worker = start(&home, &["--concurrency", "3"], &["sh", &job]);
    written(&home, "running");
    worker.signal(Signal::INT);
    // The slots that had nothing are gone; this one finds nobody.
    eventually("the idle slots' end", || {
        let waiting = server.call("p2p_submit_task", &task("b"));
        assert_eq!(waiting["success"], true);
        (server.state("b") == "pending").then_some(())
    });
    touch(&home, "go");
    assert_eq!(worker.exit_code(), 0);
    assert_eq!(server.state("a"), "completed");
    assert_eq!(server.state("b"), "pending");
    server.close();
}

#[test]
fn a_second_interrupt_ends_what_runs_and_its_task_goes_back() {
    for signals in [&[Signal::INT, Signal::INT][..], &[Signal::TERM]] {
        let home = Home::new();
        let mut server = home.start();
        server.submit("a");
        let job = script(&home, &format!("trap 'echo tidied > tidied; exit 1' TERM\n{WAITS}"));
        let mut command = work(&home, &[], &["sh", &job]);
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut worker = Process::spawn(command);
        let running = process(&home, "running");
        let said = Lines::of(&mut worker);
        for signal in signals {
            worker.signal(*signal);
            // Two signals of a kind at once count as one.
            said.wait_for("; ");
        }
        assert_eq!(worker.exit_code(), 0, "{signals:?}");
        gone(running);
        written(&home, "tidied");
        let shown = server.show("a");
        assert_eq!((&shown["state"], &shown["attempt"]), (&json!("pending"), &json!(1)));
        assert_eq!(shown["error"], Value::Null, "it did not fail");
        server.close();
    }
}

#[test]
fn a_node_that_is_stopped_ends_its_workers_and_what_they_run() {
    let home = Home::new();
    let mut server = home.start();
    server.submit("a");
    let job = script(&home, WAITS);
    let mut worker = start(&home, &[], &["sh", &job]);
    let command = process(&home, "running");
    assert_eq!(home.run(&["node", "stop"]).code, 0);
    gone(command);
    assert_eq!(worker.exit_code(), 3);
}

#[test]
fn a_task_that_is_cancelled_ends_its_command() {
    let home = Home::new();
    let mut server = home.start();
    server.submit("a");
    let job = script(&home, WAITS);
    let mut worker = start(&home, &["--once"], &["sh", &job]);
    let command = process(&home, "running");
    server.call("p2p_mark_task_complete", &json!({"task_id": "a", "outcome": "cancelled"}));
    gone(command);
    assert_eq!(worker.exit_code(), 1);
    assert_eq!(server.state("a"), "cancelled");
    server.close();
}

#[test]
fn a_lease_on_time_is_renewed_while_the_command_runs() {
    let home = Home::new();
    let mut server = home.start();
    server.submit("a");
    let job = script(&home, WAITS);
    let mut worker = start(&home, &["--once", "--lease", "2s"], &["sh", &job]);
    written(&home, "running");
    let taken = server.show("a");
    let first = taken["expires_at"].as_u64().unwrap();
    let later = eventually("the lease to have outlived its first term", || {
        let shown = server.show("a");
        assert_eq!((&shown["state"], &shown["fence"]), (&json!("assigned"), &taken["fence"]));
        // It is renewed each third of its term: this is after the first one's end.
        shown["expires_at"].as_u64().filter(|at| *at > first + 2000)
    });
    assert!(later > first);
    touch(&home, "go");
    assert_eq!(worker.exit_code(), 0);
    assert_eq!(server.state("a"), "completed");
    server.close();
}

#[test]
fn once_runs_one_task_and_ends_as_the_command_did() {
    let home = Home::new();
    let mut server = home.start();
    for id in ["a", "b", "c"] {
        server.submit(id);
    }
    let good = run(&home, &["--once", "--json"], &["true"]);
    assert_eq!(good.code, 0, "{good:?}");
    let tally: Value = serde_json::from_str(&good.stdout).unwrap();
    let expected =
        json!({"completed": 1, "failed": 0, "to_be_retried": 0, "released": 0, "lost": 0});
    assert_eq!(tally, expected);
    let bad = run(&home, &["--once"], &["false"]);
    assert_eq!(
        (bad.code, bad.stdout.as_str()),
        (1, "✓ 0 completed, 1 failed and to be tried again\n")
    );
    let status = server.status();
    assert_eq!((&status["completed_tasks"], &status["pending_tasks"]), (&json!(1), &json!(2)));
    server.close();
}

#[test]
fn once_waits_for_a_task() {
    let home = Home::new();
    let mut server = home.start();
    let mut worker = start(&home, &["--once"], &["true"]);
    server.submit("late");
    assert_eq!(worker.exit_code(), 0);
    assert_eq!(server.state("late"), "completed");
    server.close();
}

#[test]
fn a_drain_waits_for_what_others_run_and_not_for_what_begins_later() {
    let home = Home::new();
    let mut server = home.start();
    server.submit("elsewhere");
    let mut after = task("after");
    after["depends_on"] = json!(["elsewhere"]);
    server.call("p2p_submit_task", &after);
    let mut later = task("later");
    later["delay_seconds"] = json!(100_000);
    server.call("p2p_submit_task", &later);
    let held = server.take();
    assert_eq!(held["task"]["task_id"], "elsewhere");
    let mut worker = start(&home, &["--drain"], &["true"]);
    // It is connected, and waits.
    let mut other = home.start();
    other.submit("more");
    until(&mut other, "more", "completed");
    let done = json!({"task_id": "elsewhere", "fence": held["lease"]["fence"]});
    server.call("p2p_mark_task_complete", &done);
    assert_eq!(worker.exit_code(), 0);
    assert_eq!(server.state("after"), "completed");
    assert_eq!(server.state("later"), "pending");
    other.close();
    server.close();
}

#[test]
fn a_drain_with_tasks_that_it_may_not_take_ends() {
    let home = Home::new();
    let mut server = home.start();
    let mut demanding = task("demanding");
    demanding["requires"] = json!(["gpu"]);
    server.call("p2p_submit_task", &demanding);
    let mut other = task("other");
    other["tags"] = json!(["unit-test"]);
    server.call("p2p_submit_task", &other);
    assert_eq!(run(&home, &["--drain", "--tags", "P2P_ONLY"], &["true"]).code, 0);
    assert_eq!(run(&home, &["--drain", "--workflow", "none"], &["true"]).code, 0);
    assert_eq!(server.status()["pending_tasks"], 2);
    let all = ["--drain", "--capabilities", "gpu", "--workflow", "w"];
    assert_eq!(run(&home, &all, &["true"]).code, 0);
    assert_eq!(server.status()["completed_tasks"], 2);
    server.close();
}

#[test]
fn two_workers_never_run_one_task_twice() {
    const TASKS: usize = 60;
    let home = Home::new();
    let mut server = home.start();
    for number in 0..TASKS {
        server.submit(&format!("t{number}"));
    }
    let job = script(&home, "echo $P2P_TASK_ID $P2P_FENCE >> log\n");
    let mut workers =
        [(); 2].map(|()| start(&home, &["--drain", "--concurrency", "4"], &["sh", &job]));
    for worker in &mut workers {
        assert_eq!(worker.exit_code(), 0);
    }
    let mut runs: BTreeMap<String, usize> = BTreeMap::new();
    for line in written(&home, "log").lines() {
        *runs.entry(line.split(' ').next().unwrap().to_owned()).or_default() += 1;
    }
    assert_eq!(runs.len(), TASKS);
    assert!(runs.values().all(|count| *count == 1), "{runs:?}");
    assert_eq!(server.status()["completed_tasks"], TASKS);
    server.close();
}

#[test]
fn a_command_that_is_not_there_costs_no_task_an_attempt() {
    let home = Home::new();
    let mut server = home.start();
    server.submit("a");
    let run = run(&home, &[], &["/nowhere/command"]);
    assert_eq!(run.code, 2, "{run:?}");
    assert!(run.stderr.contains("cannot run /nowhere/command"), "{run:?}");
    let shown = server.show("a");
    assert_eq!((&shown["state"], &shown["attempt"]), (&json!("pending"), &json!(1)));
    server.close();
}

#[test]
fn a_tag_that_nobody_knows_is_refused() {
    let run = run(&Home::new(), &["--tags", "nonsense"], &["true"]);
    assert_eq!(run.code, 1, "{run:?}");
    assert!(run.stderr.contains("code: unknown_tag"), "{run:?}");
}

/// The worker is killed after it started a command, and before it could say which process that is.
#[cfg(target_os = "linux")]
#[test]
fn a_command_is_ended_whose_start_its_killed_worker_could_not_tell_of() {
    use std::io::Write;
    use std::os::unix::process::CommandExt;

    let home = Home::new();
    let run = format!("test-{}", std::process::id());
    let mut guard = home.command();
    guard.args(["p2p-workflow", "guard"]).stdin(Stdio::piped()).stderr(Stdio::null());
    let mut guard = Process::spawn(guard);
    let mut pipe = guard.child().stdin.take().unwrap();
    writeln!(pipe, "start {run}").unwrap();
    let mut command = home.prepare(std::process::Command::new("sleep"));
    command.arg("1000").env("P2P_RUN", &run).process_group(0);
    let mut other = home.prepare(std::process::Command::new("sleep"));
    other.arg("1000").env("P2P_RUN", format!("{run}0")).process_group(0);
    let (mut command, mut other) = (Process::spawn(command), Process::spawn(other));
    drop(pipe);
    eventually("the command's end", || command.child().try_wait().unwrap());
    assert_eq!(guard.exit_code(), 0);
    assert!(other.child().try_wait().unwrap().is_none(), "another run is let alone");
}

/// As when a log's collector was restarted.
#[test]
fn a_worker_whose_stderr_nobody_reads_any_more_goes_on() {
    let home = Home::new();
    let mut server = home.start();
    server.submit("a");
    server.submit("b");
    let mut command = work(&home, &["--drain"], &["true"]);
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut worker = Process::spawn(command);
    drop(worker.child().stderr.take());
    assert_eq!(worker.exit_code(), 0);
    assert_eq!(server.status()["completed_tasks"], 2);
    server.close();
}

/// What a process says on stderr.
struct Lines {
    lines: std::sync::mpsc::Receiver<String>,
}

impl Lines {
    fn of(process: &mut Process) -> Self {
        use std::io::{BufRead, BufReader};
        let stderr = process.child().stderr.take().expect("a pipe");
        let (sender, lines) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Lines { lines }
    }

    fn wait_for(&self, part: &str) {
        eventually(part, || self.lines.recv().ok().filter(|line| line.contains(part)));
    }
}

#[test]
fn a_command_can_say_that_a_task_is_for_another_machine_or_of_no_use() {
    let home = Home::new();
    let mut server = home.start();
    server.submit("of no use");
    let run_of = run(&home, &["--once"], &["sh", &script(&home, "echo nonsense >&2; exit 65")]);
    assert_eq!(run_of.code, 1, "{run_of:?}");
    let task = server.show("of no use");
    assert_eq!((&task["state"], &task["error"]), (&json!("failed"), &json!("nonsense")), "{task}");
    server.submit("elsewhere");
    let text = "echo x >> ran; echo no gpu today >&2; exit 75";
    let mut worker = work(&home, &[], &["sh", &script(&home, text)]);
    worker.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut worker = Process::spawn(worker);
    let said = Lines::of(&mut worker);
    said.wait_for("elsewhere released, to be run elsewhere or later: no gpu today");
    let task = server.show("elsewhere");
    assert_eq!((&task["state"], &task["attempt"]), (&json!("pending"), &json!(1)), "{task}");
    // Another worker has it at once, and the first one does not ask for it meanwhile.
    assert_eq!(drain(&home, "echo done")["completed"], 1);
    assert_eq!(fs::read_to_string(home.path().join("ran")).unwrap(), "x\n");
    server.close();
}
