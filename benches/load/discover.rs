//! `p2p-workflow discover` over a repository of workflow files, beside git reading the same files
//! and doing no more with them.

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::bench::Bench;
use crate::report::{Bound, Compared, Report, Unit, count};

/// What is asked.
const FILES_PER_SECOND: f64 = 500.0;
/// Files in the repository, for each of a round's seconds.
const FILES: f64 = 2_500.0;
/// Tasks of a file: a job alone, and one with three cells that needs it.
const TASKS_PER_FILE: usize = 4;

/// A workflow as people have them: some 60 lines, most of which are scripts.
fn workflow(number: usize) -> String {
    let steps: String = (0..6)
        .map(|step| {
            format!(
                "      - name: Step {step}\n        run: |\n          # part {step} of {number}\n          \
                 make part-{step}\n          echo \"done: ${{{{ github.sha }}}}\"\n"
            )
        })
        .collect();
    format!(
        "name: Workflow {number}\n# P2P: p2p-eligible, unit-test\non:\n  push: {{branches: [main]}}\njobs:\n  \
         build:\n    runs-on: ubuntu-latest\n    steps:\n{steps}  test:\n    needs: build\n    \
         strategy:\n      matrix:\n        os: [linux, macos]\n        include: [{{os: windows}}]\n    \
         steps:\n{steps}"
    )
}

/// Discovers all files, without a node and with one that takes the tasks durably.
pub(crate) fn discover(bench: &Bench, report: &mut Report) -> io::Result<()> {
    let files = (FILES * bench.round.as_secs_f64()).ceil() as usize;
    let repository = bench.dir.path().join("discover-repository");
    make_repository(&repository, files)?;
    let (mut floors, mut dry, mut submitted) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..bench.rounds {
        let per_second = |began: Instant| files as f64 / began.elapsed().as_secs_f64();
        let began = Instant::now();
        let objects = ["cat-file", "--batch", "--batch-all-objects"];
        git(&repository, &objects)?;
        floors.push(per_second(began));

        let began = Instant::now();
        run(bench, &repository, round, "--dry-run", files)?;
        dry.push(per_second(began));

        let began = Instant::now();
        run(bench, &repository, round, "--json", files)?;
        submitted.push(per_second(began));
    }
    let ratio = |rates: &[f64]| {
        let mut ratios: Vec<f64> =
            rates.iter().zip(&floors).map(|(rate, floor)| rate / floor).collect();
        ratios.sort_by(f64::total_cmp);
        ratios[ratios.len() / 2]
    };
    report.section(format_args!("discover, {files} files in one repository, durable"));
    let mut sorted = floors.clone();
    sorted.sort_by(f64::total_cmp);
    let floor = count(sorted[sorted.len() / 2]).to_string() + " files/s";
    report.fact("git cat-file --batch of the same files", floor);
    for (what, rates) in [("discover --dry-run", &dry), ("discover", &submitted)] {
        report.fact(format_args!("{what}, as a part of that"), format_args!("{:.3}", ratio(rates)));
        let compared: Vec<_> =
            rates.iter().map(|rate| Compared { floor: FILES_PER_SECOND, product: *rate }).collect();
        report.judge(what, (Bound::AtLeast(1.0), Unit::FilesPerSecond), "", &compared);
    }
    Ok(())
}

fn make_repository(folder: &Path, files: usize) -> io::Result<()> {
    let workflows = folder.join(".github/workflows");
    fs::create_dir_all(&workflows)?;
    for number in 0..files {
        fs::write(workflows.join(format!("workflow-{number}.yml")), workflow(number))?;
    }
    let who = ["-c", "user.name=load", "-c", "user.email=load@localhost"];
    git(folder, &["init", "-q"])?;
    git(folder, &["add", "-A"])?;
    git(folder, &[&who[..], &["commit", "-q", "-m", "Workflows"]].concat())
}

/// Runs git to its end, and drops what it prints.
fn git(folder: &Path, arguments: &[&str]) -> io::Result<()> {
    let mut command = Command::new("git");
    let output = command.arg("-C").arg(folder).args(arguments).stdin(Stdio::null()).output()?;
    match output.status.success() {
        true => Ok(()),
        false => Err(io::Error::other(format!(
            "git {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        ))),
    }
}

/// Discovers once, on a store of this round's own, and checks that all tasks were found.
fn run(bench: &Bench, repository: &Path, round: usize, flag: &str, files: usize) -> io::Result<()> {
    let repository = repository.to_string_lossy();
    let arguments = ["p2p-workflow", "discover", &repository, flag];
    let said = bench.run(&format!("discover-{round}"), &arguments)?;
    let tasks = match flag {
        "--json" => said.matches("\"created\":true").count(),
        _ => said.matches("workflow-").count() - files,
    };
    match tasks == files * TASKS_PER_FILE {
        true => Ok(()),
        false => Err(io::Error::other(format!("{tasks} tasks were found in {files} files"))),
    }
}
