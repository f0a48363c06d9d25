//! What the shell and `man` want to know: completions and manual pages, made from the same
//! definition that parses.

use std::path::PathBuf;

use clap::{Args, CommandFactory, ValueHint};
use clap_complete::Shell;
use clap_mangen::Man as Page;

use super::render::Card;
use super::{Cli, Failure};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  source <(ipfs-accelerate completions bash)
  ipfs-accelerate completions zsh > ~/.zfunc/_ipfs-accelerate
  ipfs-accelerate completions fish > ~/.config/fish/completions/ipfs-accelerate.fish")]
pub(super) struct Completions {
    /// The shell to complete in
    shell: Shell,
}

impl Completions {
    pub(super) fn run(self) -> String {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "ipfs-accelerate", &mut script);
        let script = String::from_utf8_lossy(&script).into_owned();
        // The generator writes a hyphen in the program's name in two ways, and the script then
        // looks for states that it never sets.
        script.replace("ipfs__subcmd__accelerate", "ipfs__accelerate")
    }
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ipfs-accelerate man | man -l -
  ipfs-accelerate man --dir ~/.local/share/man/man1")]
pub(super) struct Man {
    /// Write a page for every command into this directory instead
    #[arg(long, value_hint = ValueHint::DirPath)]
    dir: Option<PathBuf>,
}

impl Man {
    pub(super) fn run(self) -> Result<String, Failure> {
        let Some(dir) = self.dir else {
            let mut page = Vec::new();
            Page::new(Cli::command())
                .render(&mut page)
                .map_err(|error| Failure::Failed(format!("cannot make the page: {error}")))?;
            return Ok(String::from_utf8_lossy(&page).into_owned());
        };
        std::fs::create_dir_all(&dir)
            .and_then(|()| clap_mangen::generate_to(Cli::command(), &dir))
            .map_err(|error| {
                Failure::Usage(format!("cannot write pages to {}: {error}", dir.display()))
            })?;
        Ok(Card::new(&format!("Manual pages written to {}", dir.display())).into_text())
    }
}
