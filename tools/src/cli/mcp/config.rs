//! `mcp config`: what a client's own configuration file says of this server.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde_json::json;

use super::clients::{McpClient, Places, Reach, Remote, Scope, Syntax};
use super::command::{self, PROGRAM};
use super::file::TextFile;
use super::{Change, Entry, Merged, json, toml};
use crate::cli::render::Card;
use crate::cli::{Failure, GlobalOptions};

#[derive(Debug, Args)]
#[command(after_help = "\
Without --write, stdout is the snippet and nothing else, in the syntax of the client's file; what
file that is goes to stderr. With --write, a second run changes nothing. --data-dir and
--durability go into the entry.

Examples:
  ipfs-accelerate mcp config --client claude-code
  ipfs-accelerate mcp config --client vscode --write
  ipfs-accelerate mcp config --client codex --transport http --token-env QUEUE_TOKEN --write

Exit codes: 0 done, 2 wrong usage, 3 the file cannot be read, understood or written.")]
pub(in crate::cli) struct Config {
    /// The program that is to use the server
    #[arg(long)]
    client: McpClient,

    /// Merge it into the client's file; what is there stays, and is copied to NAME.bak before
    #[arg(long)]
    write: bool,

    /// For whoever works in this folder, or for you everywhere [default: project; user for
    /// claude-desktop, codex and windsurf]
    #[arg(long, value_enum, hide_possible_values = true, value_name = "project|user")]
    scope: Option<Scope>,

    /// How the client talks to the server: it starts one (stdio), or one runs already
    #[arg(long, value_enum, default_value_t, hide_possible_values = true)]
    #[arg(value_name = "stdio|http|sse")]
    transport: Transport,

    /// Where the server listens [default: http://127.0.0.1:9000/mcp, or /sse]
    #[arg(long)]
    url: Option<String>,

    /// The environment variable in which the client finds the bearer token
    #[arg(long, value_name = "NAME")]
    token_env: Option<String>,

    /// What the client calls the server
    #[arg(long, default_value = PROGRAM)]
    name: String,

    /// Print one JSON object: the file, and the snippet or what was done
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Transport {
    #[default]
    Stdio,
    Http,
    Sse,
}

impl Config {
    pub(in crate::cli) fn run(&self, options: &GlobalOptions) -> Result<String, Failure> {
        let scope = self.scope.unwrap_or(self.client.default_scope());
        let path = match scope {
            Scope::Project => self.client.project_file()?,
            Scope::User => self.client.user_file(&Places::from_env()?),
        };
        check_name(&self.name)?;
        let entry = self.client.entry(&self.reach(scope, options)?)?;
        let text = match self.write {
            true => self.write(path, &entry)?,
            false => self.print(path, &entry)?,
        };
        if !self.json {
            self.tell_what_is_missing(scope);
        }
        Ok(text)
    }

    fn reach(&self, scope: Scope, options: &GlobalOptions) -> Result<Reach, Failure> {
        let remote = match self.transport {
            Transport::Stdio => {
                if self.url.is_some() || self.token_env.is_some() {
                    return Err(Failure::Usage(
                        "--url and --token-env are for --transport http or sse".into(),
                    ));
                }
                let program = command::program(self.client, scope)?;
                return Ok(Reach::Start { program, args: command::arguments(scope, options)? });
            }
            Transport::Http => Remote::Http,
            Transport::Sse => Remote::Sse,
        };
        let url = self.url.clone().unwrap_or_else(|| match remote {
            Remote::Http => "http://127.0.0.1:9000/mcp".into(),
            Remote::Sse => "http://127.0.0.1:9000/sse".into(),
        });
        check_url(&url)?;
        if let Some(variable) = &self.token_env {
            check_variable(variable)?;
        }
        Ok(Reach::Connect { remote, url, token_env: self.token_env.clone() })
    }

    /// The entry as it would stand in an empty file.
    fn print(&self, path: PathBuf, entry: &Entry) -> Result<String, Failure> {
        let snippet = self.merge("", entry).map_err(Failure::Failed)?.text;
        if self.json {
            let said = json!({"client": self.client.name(), "file": path, "snippet": snippet});
            return Ok(format!("{said}\n"));
        }
        anstream::eprintln!("# for {}: {}", self.client.title(), path.display());
        Ok(snippet)
    }

    fn write(&self, path: PathBuf, entry: &Entry) -> Result<String, Failure> {
        let file = TextFile::read(&path)?;
        let Merged { text, change } = self.merge(file.text(), entry).map_err(|why| {
            Failure::Failed(format!(
                "{} was left as it is: {why}.\nMend it there, or put in by hand what this command \
                 prints without --write.",
                path.display()
            ))
        })?;
        let mut backup = None;
        if change != Change::Unchanged {
            if !file.text().is_empty() {
                backup = Some(file.back_up()?);
            }
            file.write(&text)?;
        }
        let done = match change {
            Change::Added => "added",
            Change::Replaced => "replaced",
            Change::Unchanged => "unchanged",
        };
        let mut said = json!({"client": self.client.name(), "file": path, "entry": done});
        if let Some(backup) = backup {
            said["backup"] = json!(backup);
        }
        Ok(match self.json {
            true => format!("{said}\n"),
            false => {
                let title = match change {
                    Change::Added => format!("{} knows {} now", self.client.title(), self.name),
                    Change::Replaced => format!(
                        "{} knew {} by another entry, which was replaced",
                        self.client.title(),
                        self.name
                    ),
                    Change::Unchanged => {
                        format!("{} knows {} already", self.client.title(), self.name)
                    }
                };
                Card::new(&title)
                    .field("file", &said["file"])
                    .field("backup", &said["backup"])
                    .into_text()
            }
        })
    }

    fn merge(&self, text: &str, entry: &Entry) -> Result<Merged, String> {
        let key = self.client.servers_key();
        match self.client.syntax() {
            Syntax::Json => json::merge(text, key, &self.name, entry),
            Syntax::JsonWithComments => json::merge_with_comments(text, key, &self.name, entry),
            Syntax::Toml => toml::merge(text, key, &self.name, entry),
        }
    }

    /// What else has to be there for the entry to work.
    fn tell_what_is_missing(&self, scope: Scope) {
        match self.transport {
            Transport::Stdio if scope == Scope::Project && command::on_path().is_none() => {
                anstream::eprintln!(
                    "# the client starts the {PROGRAM} on its PATH, which here is not this one"
                );
            }
            Transport::Http | Transport::Sse if self.url.is_none() => {
                let transport = if self.transport == Transport::Sse { "sse" } else { "http" };
                anstream::eprintln!(
                    "# the client does not start it: {PROGRAM} mcp start --transport {transport}"
                );
            }
            _ => {}
        }
    }
}

/// What every client takes as a name.
fn check_name(name: &str) -> Result<(), Failure> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    match !name.is_empty() && name.chars().all(plain) {
        true => Ok(()),
        false => Err(Failure::Usage(format!(
            "--name {name:?} is not a name for every client: use letters, digits, - and _"
        ))),
    }
}

/// An address, without a secret in it.
fn check_url(url: &str) -> Result<(), Failure> {
    let rest = url.strip_prefix("http://").or(url.strip_prefix("https://"));
    let host = rest.and_then(|rest| rest.split(['/', '?', '#']).next()).unwrap_or_default();
    match (host.is_empty(), host.contains('@')) {
        (false, false) => Ok(()),
        (true, _) => Err(Failure::Usage(format!(
            "--url {url:?} is no address: it begins with http:// or https://, and names a host"
        ))),
        (false, true) => Err(Failure::Usage(
            "--url holds a user or a password, which the client's file would show: use --token-env"
                .into(),
        )),
    }
}

/// A variable's name. What is none may be the secret itself, so it is not repeated.
fn check_variable(name: &str) -> Result<(), Failure> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    match name.starts_with(|c: char| !c.is_ascii_digit()) && name.chars().all(plain) {
        true => Ok(()),
        false => Err(Failure::Usage(
            "--token-env takes the name of an environment variable, never the token itself".into(),
        )),
    }
}
