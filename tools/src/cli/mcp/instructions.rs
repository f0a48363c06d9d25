//! `mcp instructions`: tells agents how to use the queue, in the file that they read first.
//!
//! The text stands between two comments, which make a second run find and refresh it.

use std::path::PathBuf;

use clap::{Args, ValueHint};
use serde_json::json;

use super::file::{TextFile, crlf, lf, line_and_column};
use crate::cli::Failure;
use crate::cli::render::Card;

const TEXT: &str = include_str!("instructions.md");
const BEGIN: &str = "<!-- ipfs-accelerate: begin -->\n";
const END: &str = "<!-- ipfs-accelerate: end -->\n";

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ipfs-accelerate mcp instructions >> AGENTS.md
  ipfs-accelerate mcp instructions --write
  ipfs-accelerate mcp instructions --write CLAUDE.md

Exit codes: 0 done, 2 wrong usage, 3 the file cannot be read, understood or written.")]
pub(in crate::cli) struct Instructions {
    /// Put it into this file (AGENTS.md if none is named), or refresh it there, and leave the rest
    /// as it is
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "AGENTS.md")]
    #[arg(value_hint = ValueHint::FilePath)]
    write: Option<PathBuf>,

    /// Print one JSON object: the text, or what was done
    #[arg(long)]
    json: bool,
}

impl Instructions {
    pub(in crate::cli) fn run(&self) -> Result<String, Failure> {
        let Some(path) = &self.write else {
            return Ok(match self.json {
                true => format!("{}\n", json!({ "snippet": snippet() })),
                false => snippet(),
            });
        };
        let file = TextFile::read(path)?;
        let text = insert(file.text()).map_err(|why| {
            Failure::Failed(format!("{} was left as it is: {why}", path.display()))
        })?;
        let (done, title) = match (text == file.text(), lf(file.text()).contains(BEGIN)) {
            (true, _) => ("unchanged", "The instructions are there already"),
            (false, true) => ("replaced", "Instructions refreshed"),
            (false, false) => ("added", "Instructions added"),
        };
        if done != "unchanged" {
            file.write(&text)?;
        }
        let said = json!({"file": path, "instructions": done});
        Ok(match self.json {
            true => format!("{said}\n"),
            false => Card::new(title).field("file", &said["file"]).into_text(),
        })
    }
}

fn snippet() -> String {
    format!("{BEGIN}{TEXT}{END}")
}

/// The text with the snippet: where it was, or else at the end.
fn insert(text: &str) -> Result<String, String> {
    let old = lf(text);
    // The last line of a file may have no end.
    let old =
        if old.is_empty() || old.ends_with('\n') { old } else { (old.into_owned() + "\n").into() };
    let begins: Vec<usize> = old.match_indices(BEGIN).map(|(at, _)| at).collect();
    let ends: Vec<usize> = old.match_indices(END).map(|(at, _)| at).collect();
    let new = match (begins.as_slice(), ends.as_slice()) {
        ([], []) if old.is_empty() => snippet(),
        ([], []) => format!("{old}\n{}", snippet()),
        ([begin], [end]) if begin < end => {
            format!("{}{}{}", &old[..*begin], snippet(), &old[end + END.len()..])
        }
        (begins, ends) => {
            let at = begins.iter().chain(ends).min().map_or(0, |at| *at);
            return Err(format!(
                "{}: the comments that mark the instructions are not one pair. Remove them and \
                 what they enclose, then run this again",
                line_and_column(&old, at)
            ));
        }
    };
    Ok(if text.contains("\r\n") { crlf(&new) } else { new })
}
