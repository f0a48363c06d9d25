//! What a step hands on by files: `GITHUB_OUTPUT`, `GITHUB_ENV`, `GITHUB_PATH`,
//! `GITHUB_STEP_SUMMARY`.
//!
//! A line is `name=value`; a value of several lines is `name<<END`, the lines, and `END`.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Bytes that a step may hand on in one file: GitHub's limit for outputs and summaries.
const MAX_BYTES: u64 = 1024 * 1024;
/// Variables that a step cannot set for those behind it: the runner's own.
const RESERVED: [&str; 3] = ["GITHUB_", "RUNNER_", "P2P_"];

/// The files of one step.
#[derive(Debug)]
pub(super) struct Files {
    output: PathBuf,
    env: PathBuf,
    path: PathBuf,
    summary: PathBuf,
}

/// What a step handed on.
#[derive(Debug, Default)]
pub(super) struct HandedOn {
    pub(super) outputs: Vec<(String, String)>,
    pub(super) env: Vec<(String, String)>,
    /// Each before those that were there before it.
    pub(super) path: Vec<String>,
    pub(super) summary: String,
}

impl Files {
    /// Makes them, empty, in a folder that no other step uses.
    pub(super) fn create(folder: &Path, step: usize) -> io::Result<Self> {
        let file = |name: &str| {
            let path = folder.join(format!("{step}-{name}"));
            fs::write(&path, "").map(|()| path)
        };
        Ok(Files {
            output: file("output")?,
            env: file("env")?,
            path: file("path")?,
            summary: file("summary")?,
        })
    }

    /// The variables that name them to the step.
    pub(super) fn variables(&self) -> [(&'static str, &Path); 4] {
        [
            ("GITHUB_OUTPUT", &self.output),
            ("GITHUB_ENV", &self.env),
            ("GITHUB_PATH", &self.path),
            ("GITHUB_STEP_SUMMARY", &self.summary),
        ]
    }

    /// Reads what the step left in them.
    ///
    /// # Errors
    /// Which file is not as it should be, and why.
    pub(super) fn read(&self) -> Result<HandedOn, String> {
        let handed_on = HandedOn {
            outputs: pairs(&read("GITHUB_OUTPUT", &self.output)?)
                .map_err(|why| format!("GITHUB_OUTPUT: {why}"))?,
            env: pairs(&read("GITHUB_ENV", &self.env)?)
                .map_err(|why| format!("GITHUB_ENV: {why}"))?,
            path: read("GITHUB_PATH", &self.path)?
                .lines()
                .map(str::trim)
                .filter(|line| !line.is_empty())
                .rev()
                .map(str::to_owned)
                .collect(),
            summary: read("GITHUB_STEP_SUMMARY", &self.summary)?,
        };
        let is_reserved = |name: &str| {
            RESERVED.iter().any(|prefix| name.to_ascii_uppercase().starts_with(prefix))
        };
        match handed_on.env.iter().find(|(name, _)| is_reserved(name)) {
            Some((name, _)) => Err(format!("GITHUB_ENV: {name} is the runner's own")),
            None => Ok(handed_on),
        }
    }
}

fn read(name: &str, path: &Path) -> Result<String, String> {
    // A step may tidy up the folder that they lie in, and put something else there: to open a pipe
    // would wait for its other end.
    match fs::metadata(path) {
        Ok(about) if about.is_file() => {}
        Ok(_) => return Err(format!("{name}: it is no file any more")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(String::new()),
        Err(error) => return Err(format!("{name}: {error}")),
    }
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(|error| format!("{name}: {error}"))?;
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(|error| format!("{name}: {error}"))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(format!("{name}: more than {} KiB", MAX_BYTES / 1024));
    }
    String::from_utf8(bytes).map_err(|_| format!("{name}: it is not UTF-8"))
}

fn pairs(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut pairs = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.is_empty() {
            continue;
        }
        // Whichever comes first says which of the two forms it is.
        let (equals, heredoc) = (line.find('='), line.find("<<"));
        let pair = match (equals, heredoc) {
            (equals, Some(at)) if equals.is_none_or(|equals| at < equals) => {
                let (name, end) = (&line[..at], &line[at + 2..]);
                let mut value: Vec<&str> = Vec::new();
                loop {
                    match lines.next() {
                        Some(line) if line == end => break,
                        Some(line) => value.push(line),
                        None => return Err(format!("the line {end:?} is missing at the end")),
                    }
                }
                (name, value.join("\n"))
            }
            (Some(at), _) => (&line[..at], line[at + 1..].to_owned()),
            (None, _) => return Err(format!("{line:?} is neither name=value nor name<<END")),
        };
        let (name, value) = (pair.0.trim(), pair.1);
        if name.is_empty() || name.contains('\0') || value.contains('\0') {
            return Err(format!("{line:?} names nothing"));
        }
        pairs.push((name.to_owned(), value));
    }
    Ok(pairs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn values_stand_on_a_line_or_on_several() {
        let text = "a=1\n\nb=x=y<<z\nc<<END\none\n\ntwo=2\nEND\nd=\n";
        let found = pairs(text).unwrap();
        assert_eq!(found, owned(&[("a", "1"), ("b", "x=y<<z"), ("c", "one\n\ntwo=2"), ("d", "")]));
        assert_eq!(pairs("json<<E\nE\n").unwrap(), owned(&[("json", "")]));
    }

    #[test]
    fn what_is_neither_is_refused() {
        assert!(pairs("no value\n").unwrap_err().contains("name=value"));
        assert!(pairs("a<<END\nx\n").unwrap_err().contains("\"END\""));
        assert!(pairs("=x\n").is_err());
    }

    #[test]
    fn a_step_hands_on_what_it_wrote_and_not_the_runner_s_own_variables() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::create(folder.path(), 3).unwrap();
        let [(_, output), (_, env), (_, path), (_, summary)] = files.variables();
        fs::write(output, "x=1\n").unwrap();
        fs::write(env, "MODE=fast\n").unwrap();
        fs::write(path, "/a\n/b\n").unwrap();
        fs::write(summary, "# done\n").unwrap();
        let handed_on = files.read().unwrap();
        assert_eq!(handed_on.outputs, owned(&[("x", "1")]));
        assert_eq!(handed_on.env, owned(&[("MODE", "fast")]));
        assert_eq!(
            (&handed_on.path[..], &*handed_on.summary),
            (&["/b".into(), "/a".into()][..], "# done\n")
        );
        fs::write(env, "github_sha=0\n").unwrap();
        assert!(files.read().unwrap_err().contains("the runner's own"));
        fs::write(env, [0xff, b'\n']).unwrap();
        assert!(files.read().unwrap_err().contains("UTF-8"));
        fs::write(output, vec![b'x'; 2 * 1024 * 1024]).unwrap();
        assert!(files.read().unwrap_err().contains("1024 KiB"));
    }

    /// `rm -rf "$RUNNER_TEMP"/*` failed its step, and a pipe in a file's place hung the job for ever.
    #[test]
    fn files_that_a_step_removed_hand_on_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::create(folder.path(), 0).unwrap();
        let [(_, output), (_, env), ..] = files.variables();
        fs::write(env, "MODE=fast\n").unwrap();
        fs::remove_file(output).unwrap();
        let handed_on = files.read().unwrap();
        assert_eq!((handed_on.outputs, handed_on.env), (vec![], owned(&[("MODE", "fast")])));
        fs::create_dir(output).unwrap();
        assert!(files.read().unwrap_err().contains("no file"));
    }
}
