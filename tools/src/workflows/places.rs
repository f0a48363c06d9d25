//! What a PATH on the command line means.
//!
//! A folder is a checkout (it holds `.git`), or holds workflows without git, or has such folders
//! one or two levels below, or lies inside of a checkout: the first of these that is so. A file is
//! one workflow, of the checkout that it lies in.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::git::{self, Source};
use super::{FOLDER, is_workflow_name};

/// Levels below a folder at which checkouts are looked for: `work/app` and `work/owner/app`.
const LEVELS: usize = 2;

/// Where workflow files are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Place {
    pub(crate) folder: PathBuf,
    has_git: bool,
    /// The one file that counts, from the top folder.
    only: Option<String>,
}

impl Place {
    /// Reads its workflow files.
    ///
    /// # Errors
    /// It cannot be read, for this reason.
    pub(crate) fn read(&self) -> Result<Source, String> {
        match self.has_git {
            true => git::read_checkout(&self.folder, self.only.as_deref()),
            false => git::read_folder(&self.folder, self.only.as_deref()),
        }
    }
}

/// What a place looked like: while it is the same, so are its tasks and what is said of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    commit: Option<String>,
    /// The workflow files that lie there, with their lengths and the times of their last changes.
    files: Vec<(String, u64, Option<SystemTime>)>,
}

impl Place {
    /// What it looks like now.
    ///
    /// # Errors
    /// It cannot be read, for this reason.
    pub(crate) fn mark(&self) -> Result<Mark, String> {
        let commit = match self.has_git {
            true => Some(git::head(&self.folder)?.commit),
            false => None,
        };
        let about = |path: String| {
            let about = fs::metadata(self.folder.join(&path)).ok();
            let length = about.as_ref().map_or(0, fs::Metadata::len);
            (path, length, about.and_then(|about| about.modified().ok()))
        };
        let files = git::lying(&self.folder, self.only.as_deref()).into_iter().map(about);
        Ok(Mark { commit, files: files.collect() })
    }
}

/// The places that a path stands for.
///
/// # Errors
/// There is none, for this reason.
pub(crate) fn find(path: &Path) -> Result<Vec<Place>, String> {
    let full = fs::canonicalize(path).map_err(|error| error.to_string())?;
    if full.is_file() {
        return file(&full).map(|place| vec![place]);
    }
    if let Some(place) = top(&full) {
        return Ok(vec![place]);
    }
    let mut below = Vec::new();
    collect(&full, LEVELS, &mut below);
    if below.is_empty() {
        let head = git::head(&full).map_err(|why| {
            format!("neither a checkout nor a folder of checkouts, and without {FOLDER} ({why})")
        })?;
        below.push(Place { folder: head.top.into(), has_git: true, only: None });
    }
    Ok(below)
}

/// A folder that is a place itself.
fn top(folder: &Path) -> Option<Place> {
    let has_git = folder.join(".git").exists();
    let is_place = has_git || folder.join(FOLDER).is_dir();
    is_place.then(|| Place { folder: folder.to_owned(), has_git, only: None })
}

/// The places below a folder, in the order of their names. Links are not followed.
fn collect(folder: &Path, levels: usize, places: &mut Vec<Place>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let is_folder = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
    let mut folders: Vec<PathBuf> =
        entries.flatten().filter(is_folder).map(|entry| entry.path()).collect();
    folders.sort();
    for folder in folders {
        match top(&folder) {
            Some(place) => places.push(place),
            None if levels > 1 => collect(&folder, levels - 1, places),
            None => {}
        }
    }
}

fn file(path: &Path) -> Result<Place, String> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if !is_workflow_name(name) {
        return Err("no workflow: its name ends neither in .yml nor in .yaml".into());
    }
    let parent = path.parent().unwrap_or(path);
    let checkout = parent.ancestors().find(|folder| folder.join(".git").exists());
    let workflows = parent.ends_with(FOLDER).then(|| parent.ancestors().nth(2)).flatten();
    let folder = checkout.or(workflows).unwrap_or(parent);
    let below = path.strip_prefix(folder).ok().and_then(Path::to_str);
    let only = below.ok_or("its path is not UTF-8")?.replace(std::path::MAIN_SEPARATOR, "/");
    Ok(Place { folder: folder.to_owned(), has_git: checkout.is_some(), only: Some(only) })
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn folders(names: &[&str]) -> TempDir {
        let folder = TempDir::new().unwrap();
        for name in names {
            fs::create_dir_all(folder.path().join(name)).unwrap();
        }
        folder
    }

    fn found(folder: &TempDir, path: &str) -> Vec<(String, bool)> {
        let top = fs::canonicalize(folder.path()).unwrap();
        let places = find(&folder.path().join(path)).unwrap();
        let below = |place: Place| {
            let below = place.folder.strip_prefix(&top).unwrap().to_str().unwrap().to_owned();
            (below, place.has_git)
        };
        places.into_iter().map(below).collect()
    }

    #[test]
    fn checkouts_are_found_two_levels_deep_and_not_in_one_another() {
        let folder = folders(&[
            "b/.git",
            "b/vendored/.git",
            "a/app/.git",
            "a/plain/.github/workflows",
            "a/deep/er/.git",
            "c",
        ]);
        assert_eq!(
            found(&folder, ""),
            [("a/app".into(), true), ("a/plain".into(), false), ("b".into(), true)]
        );
        assert_eq!(found(&folder, "b"), [("b".into(), true)]);
        assert_eq!(found(&folder, "a/plain"), [("a/plain".into(), false)]);
        assert!(find(&folder.path().join("c")).unwrap_err().contains("neither a checkout"));
        assert!(find(&folder.path().join("d")).is_err());
    }

    #[test]
    fn a_file_stands_for_itself_in_its_checkout() {
        let folder = folders(&["a/.git", "a/.github/workflows", "b/.github/workflows", "c"]);
        let place = |path: &str| {
            let path = folder.path().join(path);
            fs::write(&path, "").unwrap();
            let place = find(&path).unwrap().remove(0);
            (place.folder.file_name().unwrap().to_owned(), place.only.unwrap(), place.has_git)
        };
        let path = ".github/workflows/ci.yml";
        assert_eq!(place("a/.github/workflows/ci.yml"), ("a".into(), path.into(), true));
        assert_eq!(place("b/.github/workflows/ci.yml"), ("b".into(), path.into(), false));
        assert_eq!(place("c/ci.yaml"), ("c".into(), "ci.yaml".into(), false));
        fs::write(folder.path().join("c/notes.txt"), "").unwrap();
        assert!(find(&folder.path().join("c/notes.txt")).unwrap_err().contains(".yml"));
    }
}
