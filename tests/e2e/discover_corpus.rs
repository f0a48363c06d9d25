//! Workflow files of many shapes, as they are met in the wild, and what `discover` makes of them.
//!
//! `tests/corpus/workflows` has the files, `tests/corpus/expected.txt` what they come to:
//! `UPDATE_CORPUS=1` writes it anew, to be looked at.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::Value;

use crate::harness::{Home, Random};

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository").join("tests/corpus")
}

/// The files, by their names.
fn files() -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(corpus().join("workflows")).expect("the corpus");
    let mut files: Vec<_> = entries
        .map(|entry| {
            let entry = entry.expect("an entry");
            let name = entry.file_name().into_string().expect("UTF-8");
            (name, fs::read(entry.path()).expect("a file"))
        })
        .collect();
    files.sort();
    files
}

/// A folder without git that has these workflows, discovered.
fn discover(home: &Home, files: &[(String, Vec<u8>)]) -> Value {
    let folder = home.path().join("corpus/.github/workflows");
    fs::create_dir_all(&folder).expect("a folder");
    for (name, bytes) in files {
        fs::write(folder.join(name), bytes).expect("a file");
    }
    let run = home.run(&["p2p-workflow", "discover", "corpus", "--dry-run", "--json"]);
    assert!(run.code == 0 || run.code == 1, "{run:?}");
    serde_json::from_str(&run.stdout).expect("JSON on stdout")
}

/// A task's id without most of its hash.
fn short(id: &Value) -> &str {
    let id = id.as_str().unwrap_or_default();
    &id[..id.len().saturating_sub(18)]
}

/// What the files come to, a line for each task, warning and error.
fn told(found: &Value, names: impl Iterator<Item = String>) -> String {
    let list = |key: &str| found[key].as_array().cloned().unwrap_or_default();
    let (tasks, warnings, errors) = (list("tasks"), list("warnings"), list("errors"));
    let mut text = String::new();
    for name in names {
        text += &format!("{name}\n");
        let path = format!(".github/workflows/{name}");
        for task in tasks.iter().filter(|task| task["payload"]["path"] == path.as_str()) {
            let needs = task["depends_on"].as_array().cloned().unwrap_or_default();
            let needs: Vec<&str> = needs.iter().map(short).collect();
            let tags = task["tags"].as_array().cloned().unwrap_or_default();
            let tags: Vec<&str> = tags.iter().filter_map(Value::as_str).collect();
            let (id, name) = (short(&task["task_id"]), task["name"].as_str().unwrap_or_default());
            let matrix = &task["payload"]["matrix"];
            text += &format!("  {id} {} {name:?} [{}]", task["priority"], tags.join(" "));
            if !matrix.is_null() {
                text += &format!(" {matrix}");
            }
            if !needs.is_empty() {
                text += &format!(" after {}", needs.join(" "));
            }
            text.push('\n');
        }
        for (kind, problems) in [("warning", &warnings), ("error", &errors)] {
            let file = format!("corpus/{path}");
            for problem in problems.iter().filter(|problem| problem["file"] == file.as_str()) {
                let place = format!("{}:{}", problem["line"], problem["column"]);
                text +=
                    &format!("  {kind} {place} {}\n", problem["what"].as_str().unwrap_or_default());
            }
        }
    }
    text
}

#[test]
fn every_file_comes_to_what_was_written_down() {
    let files = files();
    assert!(files.len() >= 25, "the corpus lost its files");
    let found = discover(&Home::new(), &files);
    let told = told(&found, files.into_iter().map(|(name, _)| name));
    let path = corpus().join("expected.txt");
    if std::env::var_os("UPDATE_CORPUS").is_some() {
        fs::write(&path, &told).expect("a file");
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    for (kept, told) in kept.lines().zip(told.lines()) {
        assert_eq!(told, kept, "set UPDATE_CORPUS=1 and look at the difference");
    }
    assert_eq!(told.lines().count(), kept.lines().count(), "set UPDATE_CORPUS=1 and look at it");
}

/// Files that were damaged at random: each is read or refused, and none ends the command.
#[test]
fn damaged_files_are_refused_and_end_nothing() {
    let mut random = Random::new();
    let files = files();
    let began = Instant::now();
    let mut damaged = Vec::new();
    for number in 0..500 {
        let (_, bytes) = &files[index(&mut random, files.len())];
        damaged.push((format!("{number}.yml"), damage(bytes.clone(), &mut random)));
    }
    let found = discover(&Home::new(), &damaged);
    let count = |key: &str| found[key].as_array().expect("a list").len();
    assert!(count("files") + count("errors") >= 500, "{} and {}", count("files"), count("errors"));
    eprintln!(
        "{} files were read, {} refused, in {:?}",
        count("files"),
        count("errors"),
        began.elapsed()
    );
}

/// Changes, takes out, repeats and swaps some bytes.
fn damage(mut bytes: Vec<u8>, random: &mut Random) -> Vec<u8> {
    let odd = b"\t\n\r #:-[]{}&*!|>'\"%@`,?\\~\0\xff\xe9";
    for _ in 0..=random.below(8) {
        let (first, second) = (index(random, bytes.len() + 1), index(random, bytes.len() + 1));
        let (from, to) = (first.min(second), first.max(second));
        match random.below(4) {
            0 => bytes.insert(from, odd[index(random, odd.len())]),
            1 => {
                bytes.drain(from..to.min(from + 20));
            }
            2 => {
                let part = bytes[from..to.min(from + 200)].to_vec();
                bytes.splice(from..from, part);
            }
            _ if from < bytes.len() => bytes[from] = odd[index(random, odd.len())],
            _ => {}
        }
    }
    bytes
}

fn index(random: &mut Random, end: usize) -> usize {
    usize::try_from(random.below(end as u64)).expect("it is below a usize")
}
