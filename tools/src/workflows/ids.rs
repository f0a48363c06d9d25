//! The names of tasks, and of the workflow that they are of.
//!
//! ```text
//!   task      ci/build/3f9c2a…                the file's stem, the job, 24 digits of a SHA-256
//!   workflow  1a2b3c4d5e6f/ci.yml@9f8e7d6c5b4a   12 digits of the first commit, the file, 12 of the commit
//! ```
//!
//! The hash covers all that a task is named by, as a JSON array, which says where each part ends:
//! the repository's first commit, the commit, the path, the job, its cell, and when it was due. So
//! every clone, whatever its remote is called, names the same tasks, and two parts that only look
//! alike in the readable half name different ones.
//!
//! Without git the folder's name stands for the repository, and the file's hash for the commit.

use p2p_workflow_scheduler::scheduler::Hash256;
use p2p_workflow_scheduler::scheduler::limits::MAX_ID_CHARS;
use serde_json::json;

use super::matrix::Cell;
use super::tasks::Origin;

/// Digits of the hash in a task's id: 96 bits, so that a billion tasks hardly share one.
const HASH_DIGITS: usize = 24;
/// Digits of a commit's hash in a workflow's id.
const COMMIT_DIGITS: usize = 12;
/// Characters of a file's and of a job's name in an id: what is left beside the hash, halved.
const PART_CHARS: usize = 100;
/// What stands for the repository where there is none.
const LOCAL: &str = "local";

pub(super) fn task_id(
    origin: &Origin,
    job: &str,
    cell: Option<&Cell>,
    due: Option<&str>,
) -> String {
    let repository = match &origin.root {
        Some(root) => json!(root),
        None => json!([origin.repository]),
    };
    let commit = origin.commit.as_ref().unwrap_or(&origin.sha256);
    let tuple = json!(["workflow-job", repository, commit, origin.path, job, cell, due]);
    let hash = Hash256::of(tuple.to_string().as_bytes()).to_hex();
    let stem = file_name(&origin.path);
    let stem = stem.rsplit_once('.').map_or(stem, |(stem, _)| stem);
    format!("{}/{}/{}", part(stem), part(job), first(&hash, HASH_DIGITS))
}

pub(super) fn workflow_id(origin: &Origin) -> String {
    let repository = origin.root.as_deref().map_or(LOCAL, |root| first(root, COMMIT_DIGITS));
    let commit = origin.commit.as_ref().unwrap_or(&origin.sha256);
    format!("{repository}/{}@{}", part(file_name(&origin.path)), first(commit, COMMIT_DIGITS))
}

/// What a person reads: one line, cut to what a name may have.
pub(super) fn title(workflow: &str, job: &str, cell: Option<&Cell>) -> String {
    let mut title = format!("{workflow} / {job}");
    if let Some(cell) = cell {
        let mut values = Vec::new();
        cell.values().for_each(|value| flatten(value, &mut values));
        title += &format!(" ({})", values.join(", "));
    }
    let printable = title.chars().map(|c| if c.is_control() { ' ' } else { c });
    printable.take(MAX_ID_CHARS).collect()
}

/// The scalars of a value, in order.
fn flatten(value: &serde_json::Value, texts: &mut Vec<String>) {
    match value {
        serde_json::Value::Array(items) => items.iter().for_each(|item| flatten(item, texts)),
        serde_json::Value::Object(fields) => fields.values().for_each(|item| flatten(item, texts)),
        serde_json::Value::String(text) => texts.push(text.clone()),
        scalar => texts.push(scalar.to_string()),
    }
}

pub(super) fn file_name(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

/// A name as a part of an id: without what would be taken for the id's own marks, or for none.
fn part(name: &str) -> String {
    let is_odd = |c: char| c.is_control() || c.is_whitespace() || matches!(c, '/' | '@');
    name.chars().map(|c| if is_odd(c) { '_' } else { c }).take(PART_CHARS).collect()
}

fn first(digits: &str, count: usize) -> &str {
    digits.get(..count).unwrap_or(digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin() -> Origin {
        Origin {
            repository: "github.com/owner/app".into(),
            root: Some("1a2b3c4d5e6f".repeat(4)[..40].into()),
            commit: Some("9f8e7d6c5b4a".repeat(4)[..40].into()),
            path: ".github/workflows/ci.yml".into(),
            sha256: "5".repeat(64),
        }
    }

    fn cell(text: &str) -> Cell {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn ids_are_readable_and_do_not_change() {
        let os = cell(r#"{"os": "linux"}"#);
        assert_eq!(task_id(&origin(), "build", Some(&os), None), PINNED);
        assert_eq!(workflow_id(&origin()), "1a2b3c4d5e6f/ci.yml@9f8e7d6c5b4a");
    }

    /// Tasks that are in queues carry such ids: another one would submit everything again.
    const PINNED: &str = "ci/build/ff4e1887e73d52dbf96af21c";

    #[test]
    fn each_part_of_the_tuple_counts_and_the_remote_s_name_does_not() {
        let (linux, macos) = (cell(r#"{"os": "linux"}"#), cell(r#"{"os": "macos"}"#));
        let noon = Some("2001-09-09T01:47:00Z");
        let named = |change: &dyn Fn(&mut Origin)| {
            let mut origin = origin();
            change(&mut origin);
            task_id(&origin, "a", None, None)
        };
        let mut ids = vec![
            named(&|_| {}),
            named(&|origin| origin.root = Some("2".repeat(40))),
            named(&|origin| origin.root = None),
            named(&|origin| origin.commit = Some("3".repeat(40))),
            named(&|origin| origin.commit = None),
            named(&|origin| origin.path = "ci.yml".into()),
            task_id(&origin(), "b", None, None),
            task_id(&origin(), "a", Some(&linux), None),
            task_id(&origin(), "a", Some(&macos), None),
            task_id(&origin(), "a", None, noon),
        ];
        assert_eq!(ids[0], named(&|origin| origin.repository = "elsewhere".into()));
        assert_eq!(ids[0], named(&|origin| origin.sha256 = "6".repeat(64)));
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 10);
    }

    #[test]
    fn without_git_the_folder_and_the_file_s_hash_count() {
        let local = |change: &dyn Fn(&mut Origin)| {
            let mut origin = Origin { root: None, commit: None, ..origin() };
            change(&mut origin);
            task_id(&origin, "a", None, None)
        };
        assert_ne!(local(&|_| {}), local(&|origin| origin.repository = "elsewhere".into()));
        assert_ne!(local(&|_| {}), local(&|origin| origin.sha256 = "6".repeat(64)));
        let origin = Origin { root: None, commit: None, ..origin() };
        assert_eq!(workflow_id(&origin), "local/ci.yml@555555555555");
    }

    #[test]
    fn odd_and_long_names_stay_within_what_an_id_may_be() {
        let long = "ü".repeat(300);
        let origin = Origin { path: format!("{long}\n@.yml"), ..origin() };
        for id in [task_id(&origin, &format!("a\u{7}/{long}"), None, None), workflow_id(&origin)] {
            assert!(id.chars().count() <= MAX_ID_CHARS, "{id}");
            assert!(!id.contains(char::is_control), "{id:?}");
        }
        let title = title(&long, "a\nb", None);
        assert_eq!((title.chars().count(), title.contains('\n')), (MAX_ID_CHARS, false));
    }

    #[test]
    fn a_title_names_the_cell_s_values() {
        let nested =
            cell(r#"{"os": "linux", "n": 3.1, "target": {"cpu": ["arm", 64]}, "x": null}"#);
        assert_eq!(title("CI", "Build", Some(&nested)), "CI / Build (linux, 3.1, arm, 64, null)");
        assert_eq!(title("ci.yml", "build", None), "ci.yml / build");
    }
}
