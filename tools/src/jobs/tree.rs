//! Folders that go when they are done with, though steps made folders in them read-only, as tools do
//! with what they fetched (Go's module cache). The user may not remove what lies in such a folder.

use std::fs;
use std::io;
use std::path::Path;

use tempfile::TempDir;

/// A folder that is removed when it is dropped.
#[derive(Debug)]
pub(crate) struct Tree(TempDir);

impl Tree {
    /// Makes a folder with a name of its own.
    ///
    /// # Errors
    /// The operating system's.
    pub(crate) fn new_in(folder: &Path, prefix: &str) -> io::Result<Self> {
        tempfile::Builder::new().prefix(prefix).tempdir_in(folder).map(Tree)
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        if let Err(error) = remove(self.path()) {
            tracing::warn!("{} is left: {error}", self.path().display());
        }
    }
}

/// Removes a folder with all that is in it.
///
/// # Errors
/// The operating system's.
pub(crate) fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            make_writable(folder);
            fs::remove_dir_all(folder)
        }
        removed => removed,
    }
}

/// Links are not followed: they may lead anywhere.
fn make_writable(folder: &Path) {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        if let Ok(about) = fs::metadata(&folder) {
            let mut permissions = about.permissions();
            #[expect(
                clippy::permissions_set_readonly_false,
                reason = "for others, too, for the moment until it is removed"
            )]
            permissions.set_readonly(false);
            // What cannot be changed cannot be removed either, and that is told.
            let _changed = fs::set_permissions(&folder, permissions);
        }
        let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
        let inner = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        folders.extend(inner.map(|entry| entry.path()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A job with a module cache in its working tree left it there for ever, and nothing was said.
    #[test]
    fn a_tree_goes_though_folders_in_it_are_read_only() {
        let folder = tempfile::tempdir().unwrap();
        let tree = Tree::new_in(folder.path(), "job-").unwrap();
        let inner = tree.path().join("mod/inner");
        fs::create_dir_all(&inner).unwrap();
        for folder in [inner.clone(), tree.path().join("mod")] {
            fs::write(folder.join("file"), "").unwrap();
            let mut permissions = fs::metadata(&folder).unwrap().permissions();
            permissions.set_readonly(true);
            fs::set_permissions(folder, permissions).unwrap();
        }
        drop(tree);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
