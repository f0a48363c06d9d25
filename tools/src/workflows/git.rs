//! The committed workflow files of a checkout, read with the `git` command.
//!
//! ```text
//!   rev-parse ─► top folder, is it shallow, HEAD
//!   rev-list --max-parents=0 ─► the first commits; the smallest hash names the repository
//!   config remote.origin.url ─► what people call it
//!   ls-tree -l ─► the files of .github/workflows ─► cat-file --batch ─► their bytes
//! ```
//!
//! A repository's first commit is the same in every clone. Only a shallow clone lacks it, and is
//! refused. Git fetches nothing here, asks nothing, and follows no variable that a hook left in the
//! environment.
//!
//! A folder without git is read as it lies.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use p2p_workflow_scheduler::scheduler::Hash256;

use super::{FOLDER, is_workflow_name};

/// Bytes of a file that is read: what the reader of YAML takes, and one more to see that it is more.
const MAX_BYTES: u64 = super::yaml::MAX_BYTES as u64 + 1;
/// What a hook or another program may have set, and would lead to another repository.
const VARIABLES: [&str; 8] = [
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_NAMESPACE",
    "GIT_PREFIX",
];

/// A repository's version, and its workflow files.
#[derive(Debug)]
pub(crate) struct Source {
    /// The top folder.
    pub(crate) folder: PathBuf,
    pub(crate) repository: String,
    pub(crate) root: Option<String>,
    pub(crate) commit: Option<String>,
    pub(crate) files: Vec<Found>,
    /// Files that are not committed, or cannot be read.
    pub(crate) left_out: Vec<(String, String)>,
}

/// A workflow file.
#[derive(Debug)]
pub(crate) struct Found {
    /// From the top folder, with slashes.
    pub(crate) path: String,
    pub(crate) sha256: String,
    pub(crate) bytes: Vec<u8>,
    /// How it differs in the working tree.
    pub(crate) remark: Option<&'static str>,
}

/// Reads the workflow files that are committed in a checkout, or one file of it.
///
/// # Errors
/// Git cannot read it, or it is shallow or without a commit.
pub(super) fn read_checkout(folder: &Path, only: Option<&str>) -> Result<Source, String> {
    let head = head(folder)?;
    let top = PathBuf::from(&head.top);
    let root = root(&top, &head.commit)?;
    let repository = remote(&top).unwrap_or_else(|| folder_name(&top));
    let listed = list(&top, &head.commit, only.unwrap_or(FOLDER))?;
    let mut source = Source {
        folder: top,
        repository,
        root: Some(root),
        commit: Some(head.commit),
        files: Vec::new(),
        left_out: Vec::new(),
    };
    for (path, bytes) in contents(&source.folder, listed.clone())? {
        let remark = working_tree(&source.folder.join(&path), &bytes);
        source.files.push(Found { sha256: sha256(&bytes), path, bytes, remark });
    }
    for path in lying(&source.folder, only) {
        if !listed.iter().any(|(_, committed)| *committed == path) {
            source.left_out.push((path, "not committed: `git add` and commit it first".into()));
        }
    }
    Ok(source)
}

/// Reads the workflow files of a folder without git, or one file of it.
///
/// # Errors
/// The folder cannot be read.
pub(super) fn read_folder(folder: &Path, only: Option<&str>) -> Result<Source, String> {
    let mut source = Source {
        folder: folder.to_owned(),
        repository: folder_name(folder),
        root: None,
        commit: None,
        files: Vec::new(),
        left_out: Vec::new(),
    };
    for path in lying(folder, only) {
        match read(&folder.join(&path)) {
            Ok(bytes) => {
                source.files.push(Found { sha256: sha256(&bytes), path, bytes, remark: None });
            }
            Err(error) => source.left_out.push((path, error.to_string())),
        }
    }
    Ok(source)
}

/// What is checked out.
pub(crate) struct Head {
    pub(crate) top: String,
    pub(crate) commit: String,
}

/// The checkout that a folder lies in.
pub(crate) fn head(folder: &Path) -> Result<Head, String> {
    let arguments = ["rev-parse", "--show-toplevel", "--is-shallow-repository", "HEAD"];
    let output = run(folder, &arguments)?;
    let text = String::from_utf8(output.stdout).map_err(|_| "its path is not UTF-8".to_owned())?;
    let mut lines: Vec<&str> = text.lines().collect();
    let (last, shallow) = (lines.pop(), lines.pop());
    match (shallow, last) {
        // Git says this much before it finds no commit.
        _ if !output.is_success && text.contains("\nfalse\n") => {
            Err("it has no commit yet: commit the workflows first".into())
        }
        _ if !output.is_success => Err(output.complaint),
        (Some("true"), _) => Err("a shallow clone, whose first commit is not known: \
                                  run `git fetch --unshallow` in it"
            .into()),
        (Some("false"), Some(commit)) if !lines.is_empty() => {
            Ok(Head { top: lines.join("\n"), commit: commit.to_owned() })
        }
        _ => Err(format!("git rev-parse answers {text:?}, which is not understood")),
    }
}

pub(crate) fn root(top: &Path, commit: &str) -> Result<String, String> {
    let text = text_of(run(top, &["rev-list", "--max-parents=0", commit, "--"])?)?;
    text.lines().min().map(str::to_owned).ok_or_else(|| "it has no first commit".into())
}

/// The name of `origin`, without what is a matter of the connection: scheme, user, port, `.git`.
pub(crate) fn remote(top: &Path) -> Option<String> {
    let text = text_of(run(top, &["config", "--get", "remote.origin.url"]).ok()?).ok()?;
    remote_name(text.trim())
}

fn remote_name(url: &str) -> Option<String> {
    let (authority, path) = match url.split_once("://") {
        Some(("file", _)) => return None,
        Some((_, rest)) => rest.split_once('/')?,
        // As ssh has it: host:path. What has a slash before the colon is a path.
        None => url.split_once(':').filter(|(host, _)| !host.contains('/') && host.len() > 1)?,
    };
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let host = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|c| c.is_ascii_digit()) => name,
        _ => host,
    };
    let path = path.trim_matches('/');
    let path = path.strip_suffix(".git").unwrap_or(path);
    let is_name = !host.is_empty() && !path.is_empty();
    is_name.then(|| format!("{}/{path}", host.to_lowercase()))
}

/// A folder's own name.
pub(crate) fn folder_name(folder: &Path) -> String {
    folder.file_name().map_or_else(|| "/".into(), |name| name.to_string_lossy().into_owned())
}

/// The objects and paths of the committed workflow files in a folder, or of one file.
fn list(top: &Path, commit: &str, path: &str) -> Result<Vec<(String, String)>, String> {
    let inside = if path == FOLDER { format!("{FOLDER}/") } else { path.to_owned() };
    let arguments = ["ls-tree", "-z", "--full-tree", commit, "--", &inside];
    let text = text_of(run(top, &arguments)?)?;
    let entry = |entry: &str| {
        let (about, path) = entry.split_once('\t')?;
        let [mode, "blob", object] = about.split(' ').collect::<Vec<_>>()[..] else { return None };
        // A link's text is no workflow.
        let is_file = mode.starts_with("100") && is_workflow_name(path);
        is_file.then(|| (object.to_owned(), path.to_owned()))
    };
    Ok(text.split('\0').filter_map(entry).collect())
}

/// The bytes of objects, each with its path. One process reads them all.
fn contents(top: &Path, listed: Vec<(String, String)>) -> Result<Vec<(String, Vec<u8>)>, String> {
    if listed.is_empty() {
        return Ok(Vec::new());
    }
    let failed = |error: io::Error| format!("git cat-file: {error}");
    let mut command = git(top);
    command.args(["cat-file", "--batch"]).stdin(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(failed)?;
    let (Some(mut stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
        return Err("git cat-file has no pipes".into());
    };
    let objects: String = listed.iter().map(|(object, _)| format!("{object}\n")).collect();
    // It answers while it is asked: both pipes may be full.
    let asking = thread::spawn(move || stdin.write_all(objects.as_bytes()));
    let mut answers = BufReader::new(stdout);
    let mut read = Vec::new();
    for (_, path) in listed {
        match next_content(&mut answers) {
            Ok(bytes) => read.push((path, bytes)),
            Err(error) => {
                drop(answers);
                // It ends by itself, since nobody listens any more.
                let _ended = child.wait();
                return Err(format!("git cat-file: {path}: {error}"));
            }
        }
    }
    drop(answers);
    child.wait().map_err(failed)?;
    match asking.join() {
        Ok(asked) => asked.map_err(failed)?,
        Err(_) => return Err("the thread that asked git cat-file panicked".into()),
    }
    Ok(read)
}

/// One object: a line `object type size`, its bytes, and a line end. Of one that is longer than any
/// workflow, the beginning.
fn next_content(answers: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut line = String::new();
    answers.read_line(&mut line)?;
    let size = line.trim_end().rsplit_once(" blob ").or(line.trim_end().rsplit_once(' '));
    let size: u64 = size
        .and_then(|(_, size)| size.parse().ok())
        .ok_or_else(|| io::Error::other(format!("it answers {:?}", line.trim_end())))?;
    let mut bytes = Vec::new();
    answers.take(size.min(MAX_BYTES)).read_to_end(&mut bytes)?;
    // What is left of it, and the line end.
    io::copy(&mut answers.take(size - bytes.len() as u64 + 1), &mut io::sink())?;
    Ok(bytes)
}

/// How the file that lies there differs from its committed version. Line ends do not count: git may
/// have changed those.
fn working_tree(path: &Path, committed: &[u8]) -> Option<&'static str> {
    let lines = |bytes: &[u8]| bytes.iter().copied().filter(|c| *c != b'\r').collect::<Vec<_>>();
    match read(path) {
        Ok(bytes) if bytes == committed || lines(&bytes) == lines(committed) => None,
        Ok(_) => Some("differs from its committed version, which counts"),
        Err(_) => Some("is not in the working tree; its committed version counts"),
    }
}

/// The workflow files that lie in a folder, committed or not.
pub(super) fn lying(folder: &Path, only: Option<&str>) -> Vec<String> {
    if let Some(only) = only {
        return vec![only.to_owned()];
    }
    let Ok(entries) = fs::read_dir(folder.join(FOLDER)) else { return Vec::new() };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let paths = names.filter(|name| is_workflow_name(name)).map(|name| format!("{FOLDER}/{name}"));
    let mut paths: Vec<String> = paths.filter(|path| folder.join(path).is_file()).collect();
    paths.sort();
    paths
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(MAX_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn sha256(bytes: &[u8]) -> String {
    Hash256::of(bytes).to_hex()
}

/// What git printed.
pub(crate) struct Output {
    pub(crate) is_success: bool,
    pub(crate) stdout: Vec<u8>,
    /// The first line on stderr.
    pub(crate) complaint: String,
}

pub(crate) fn run(folder: &Path, arguments: &[&str]) -> Result<Output, String> {
    let output = git(folder).args(arguments).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("cannot run git: {error}"))?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    let complaint = stderr.lines().next().unwrap_or("git failed").to_owned();
    Ok(Output { is_success: output.status.success(), stdout: output.stdout, complaint })
}

pub(crate) fn text_of(output: Output) -> Result<String, String> {
    match output.is_success {
        true => String::from_utf8(output.stdout).map_err(|_| "a name that is not UTF-8".into()),
        false => Err(output.complaint),
    }
}

/// The `git` command, for a folder.
pub(crate) fn git(folder: &Path) -> Command {
    let mut command = Command::new("git");
    command.arg("--no-replace-objects").arg("-C").arg(folder).stdout(Stdio::piped());
    for variable in VARIABLES {
        command.env_remove(variable);
    }
    // Nothing is fetched or asked, and messages are those that are looked for.
    command.env("GIT_NO_LAZY_FETCH", "1").env("GIT_TERMINAL_PROMPT", "0").env("LC_ALL", "C");
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remote_is_named_without_what_is_a_matter_of_the_connection() {
        for (url, name) in [
            ("https://github.com/owner/app.git", Some("github.com/owner/app")),
            ("https://user:secret@GitHub.com:443/owner/app/", Some("github.com/owner/app")),
            ("git@github.com:owner/app.git", Some("github.com/owner/app")),
            ("ssh://git@example.org:2222/~/x.git", Some("example.org/~/x")),
            ("git://host/a/b/c", Some("host/a/b/c")),
            ("/srv/git/app.git", None),
            ("../app", None),
            ("./a:b", None),
            ("file:///srv/git/app.git", None),
            ("C:\\work\\app", None),
            ("https://github.com/", None),
            ("", None),
        ] {
            assert_eq!(remote_name(url).as_deref(), name, "{url}");
        }
    }

    #[test]
    fn an_object_is_read_to_its_end_and_a_long_one_in_part() {
        let long = "x".repeat(3_000_000);
        let text = format!("a1 blob 3\na\nb\nb2 blob 3000000\n{long}\nc3 blob 0\n\nd4 missing\n");
        let mut answers = text.as_bytes();
        assert_eq!(next_content(&mut answers).unwrap(), b"a\nb");
        assert_eq!(next_content(&mut answers).unwrap().len() as u64, MAX_BYTES);
        assert_eq!(next_content(&mut answers).unwrap(), b"");
        assert!(next_content(&mut answers).unwrap_err().to_string().contains("d4 missing"));
    }
}
