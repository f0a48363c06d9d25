//! A file that belongs to somebody else: read whole, backed up, replaced in one step.
//!
//! The new text is written beside the file, synced, and renamed over it, so that a reader finds the
//! old or the new text and never a part. A link stays a link: what it leads to is replaced. The
//! permissions stay.

use std::borrow::Cow;
use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use tempfile::{Builder, NamedTempFile};

use crate::cli::Failure;

/// What some editors on Windows begin a text with.
const BOM: char = '\u{feff}';

/// A file and what it holds.
pub(super) struct TextFile {
    /// As it was named.
    path: PathBuf,
    /// Where it really is.
    target: PathBuf,
    /// `None` where it is not there yet.
    metadata: Option<Metadata>,
    content: String,
}

impl TextFile {
    /// Reads it; one that is not there is empty.
    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        let fails =
            |error: io::Error| Failure::Failed(format!("cannot read {}: {error}", path.display()));
        let target = match path.is_symlink() {
            true => path.canonicalize().map_err(|error| match error.kind() {
                ErrorKind::NotFound => Failure::Failed(format!(
                    "{} is a link that leads nowhere: make the file that it names, or remove it",
                    path.display()
                )),
                _ => fails(error),
            })?,
            false => path.to_owned(),
        };
        let metadata = match fs::metadata(&target) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let (path, content) = (path.to_owned(), String::new());
                return Ok(TextFile { path, target, metadata: None, content });
            }
            Err(error) => return Err(fails(error)),
        };
        let content = String::from_utf8(fs::read(&target).map_err(fails)?).map_err(|error| {
            let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            let at = line_and_column(&String::from_utf8_lossy(valid), valid.len());
            Failure::Failed(format!("{} is not UTF-8 text ({at})", path.display()))
        })?;
        Ok(TextFile { path: path.to_owned(), target, metadata: Some(metadata), content })
    }

    /// What it holds, without a byte order mark.
    pub(super) fn text(&self) -> &str {
        self.content.strip_prefix(BOM).unwrap_or(&self.content)
    }

    /// Whether it is there.
    pub(super) fn exists(&self) -> bool {
        self.metadata.is_some()
    }

    /// Copies it to `NAME.bak`, or `NAME.bak.1` and so on where there is one already.
    pub(super) fn back_up(&self) -> Result<PathBuf, Failure> {
        self.refuse_read_only()?;
        let mut copy = self.beside(&self.content)?;
        for number in 0.. {
            let mut name = self.target.as_os_str().to_owned();
            name.push(match number {
                0 => ".bak".into(),
                number => format!(".bak.{number}"),
            });
            copy = match copy.persist_noclobber(&name) {
                Ok(_) => return Ok(name.into()),
                Err(taken) if taken.error.kind() == ErrorKind::AlreadyExists => taken.file,
                Err(failed) => return Err(self.cannot_write(&failed.error)),
            };
        }
        unreachable!("the numbers do not end")
    }

    /// Replaces its text, or makes it.
    pub(super) fn write(&self, text: &str) -> Result<(), Failure> {
        self.refuse_read_only()?;
        let fails = |error: io::Error| self.cannot_write(&error);
        if let Some(folder) = self.target.parent() {
            fs::create_dir_all(folder).map_err(fails)?;
        }
        let mark = if self.content.starts_with(BOM) { BOM.to_string() } else { String::new() };
        let new = self.beside(&(mark + text))?;
        match self.exists() {
            true => new.persist(&self.target).map_err(|failed| fails(failed.error))?,
            false => new.persist_noclobber(&self.target).map_err(|failed| fails(failed.error))?,
        };
        Ok(())
    }

    /// A new file in the same folder, synced, that nobody may read who may not read this one.
    fn beside(&self, content: &str) -> Result<NamedTempFile, Failure> {
        let fails = |error: io::Error| self.cannot_write(&error);
        let folder = match self.target.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let mut new = match &self.metadata {
            Some(metadata) => {
                let new = NamedTempFile::new_in(folder).map_err(fails)?;
                new.as_file().set_permissions(metadata.permissions()).map_err(fails)?;
                new
            }
            // With the permissions that any new file gets.
            None => Builder::new().make_in(folder, |path| File::create_new(path)).map_err(fails)?,
        };
        new.write_all(content.as_bytes()).and_then(|()| new.as_file().sync_all()).map_err(fails)?;
        Ok(new)
    }

    /// A rename would get past this, which is not what its owner meant.
    fn refuse_read_only(&self) -> Result<(), Failure> {
        match &self.metadata {
            Some(metadata) if metadata.permissions().readonly() => Err(Failure::Failed(format!(
                "{} is read-only: make it writable first. Nothing was changed",
                self.path.display()
            ))),
            _ => Ok(()),
        }
    }

    fn cannot_write(&self, error: &io::Error) -> Failure {
        Failure::Failed(format!("cannot write {}: {error}", self.path.display()))
    }
}

/// The place of a byte in a text, as people count: from 1, in characters.
pub(super) fn line_and_column(text: &str, at: usize) -> String {
    let before = text.get(..at).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    format!("line {line}, column {column}")
}

/// With line feeds alone.
pub(super) fn lf(text: &str) -> Cow<'_, str> {
    match text.contains("\r\n") {
        true => text.replace("\r\n", "\n").into(),
        false => text.into(),
    }
}

/// With Windows' line ends.
pub(super) fn crlf(text: &str) -> String {
    lf(text).replace('\n', "\r\n")
}
