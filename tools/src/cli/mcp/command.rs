//! Which program a client's entry starts, and with what.
//!
//! A project's file goes to others with the project, so it names the program alone, for each to
//! have on their own `PATH`. A user's file is for this machine: the program alone where a shell
//! starts the client, and else its whole path, because a program with windows has a `PATH` of its
//! own.

use std::env;
use std::path::{Path, PathBuf, absolute};

use super::clients::{McpClient, Scope};
use crate::cli::{Durability, Failure, GlobalOptions, HOME_VARIABLE};

/// The program's name.
pub(super) const PROGRAM: &str = "ipfs-accelerate";

/// What an entry names as its command.
pub(super) fn program(client: McpClient, scope: Scope) -> Result<String, Failure> {
    match (scope, on_path()) {
        (Scope::Project, _) => Ok(PROGRAM.into()),
        (Scope::User, Some(_)) if client.lives_in_a_terminal() => Ok(PROGRAM.into()),
        (Scope::User, Some(path)) => text(&path),
        (Scope::User, None) => text(&this_program()?),
    }
}

/// What it names as the arguments.
///
/// # Errors
/// The data directory is no text that a file could hold.
pub(super) fn arguments(scope: Scope, options: &GlobalOptions) -> Result<Vec<String>, Failure> {
    let mut arguments = vec!["mcp".to_owned(), "start".to_owned()];
    if let Some(folder) = data_dir(scope, options) {
        // Absolute: a client starts it in a folder of its own choice.
        let folder = absolute(folder).map_err(|error| {
            Failure::Usage(format!("--data-dir {} is no folder: {error}", folder.display()))
        })?;
        arguments.extend(["--data-dir".into(), text(&folder)?]);
    }
    if options.durability == Durability::Relaxed {
        arguments.extend(["--durability".into(), "relaxed".into()]);
    }
    Ok(arguments)
}

/// The data directory that the server is to have. What only this user's environment says stays out
/// of a file for others.
fn data_dir(scope: Scope, options: &GlobalOptions) -> Option<&Path> {
    let folder = options.data_dir.as_deref()?;
    let from_env = env::var_os(HOME_VARIABLE).is_some_and(|value| folder == value);
    (scope == Scope::User || !from_env).then_some(folder)
}

/// Where on the `PATH` this very program is, if its name leads to it.
pub(super) fn on_path() -> Option<PathBuf> {
    let name = format!("{PROGRAM}{}", env::consts::EXE_SUFFIX);
    let paths = env::var_os("PATH")?;
    let found = env::split_paths(&paths)
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(&name))
        .find(|path| path.is_file())?;
    let this = this_program().ok()?.canonicalize().ok()?;
    (found.canonicalize().ok()? == this).then_some(found)
}

fn this_program() -> Result<PathBuf, Failure> {
    env::current_exe()
        .map_err(|error| Failure::Failed(format!("this program's path is not known: {error}")))
}

fn text(path: &Path) -> Result<String, Failure> {
    path.to_str().map(str::to_owned).ok_or_else(|| {
        Failure::Usage(format!("{} is no Unicode: a client's file cannot name it", path.display()))
    })
}
