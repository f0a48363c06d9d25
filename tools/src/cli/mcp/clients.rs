//! What each client calls things, and where: its files, the names of its fields, what it knows of.
//!
//! From the clients' own documentation and, where it is public, their source, as of November 2026;
//! Claude Code 2.1.197 and Codex 0.169.0 were seen to read what is written here:
//!
//! | client | project's file | user's file | remote transports | token |
//! |---|---|---|---|---|
//! | Claude Code | `.mcp.json` | `~/.claude.json` | http, sse | `${NAME}` |
//! | Cursor | `.cursor/mcp.json` | `~/.cursor/mcp.json` | http, sse by the same field | `${env:NAME}` |
//! | VS Code | `.vscode/mcp.json` | `mcp.json` of the user's profile | http, sse | `${env:NAME}` |
//! | Claude Desktop | | `claude_desktop_config.json` | | |
//! | Codex | `.codex/config.toml` | `~/.codex/config.toml` | http | a field with the name |
//! | Windsurf | | `~/.codeium/windsurf/mcp_config.json` | http, sse by the same field | `${env:NAME}` |
//! | Zed | `.zed/settings.json` | `settings.json` | http | |

use std::env;
use std::path::PathBuf;

use clap::ValueEnum;
use serde_json::{Value, json};

use super::Entry;
use crate::cli::Failure;

/// A program that has agents in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum McpClient {
    ClaudeCode,
    Cursor,
    Vscode,
    ClaudeDesktop,
    Codex,
    Windsurf,
    Zed,
}

/// For whom the client is configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Scope {
    /// Whoever works in this folder
    Project,
    /// This user, wherever they work
    User,
}

/// How a client reaches a server that runs already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Remote {
    Http,
    Sse,
}

/// What the client is to know of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// Start it, and talk over stdin and stdout.
    Start { program: String, args: Vec<String> },
    /// Connect to it; the token is in the environment variable.
    Connect { remote: Remote, url: String, token_env: Option<String> },
}

/// The syntax of a client's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Syntax {
    Json,
    JsonWithComments,
    Toml,
}

impl McpClient {
    /// What the command line calls it.
    pub(super) fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// What it calls itself.
    pub(super) fn title(self) -> &'static str {
        match self {
            McpClient::ClaudeCode => "Claude Code",
            McpClient::Cursor => "Cursor",
            McpClient::Vscode => "VS Code",
            McpClient::ClaudeDesktop => "Claude Desktop",
            McpClient::Codex => "Codex",
            McpClient::Windsurf => "Windsurf",
            McpClient::Zed => "Zed",
        }
    }

    /// The project where it has a file for one; but Codex's own command writes to the user's, and
    /// the project's counts only once Codex trusts the project.
    pub(super) fn default_scope(self) -> Scope {
        match self {
            McpClient::ClaudeCode | McpClient::Cursor | McpClient::Vscode | McpClient::Zed => {
                Scope::Project
            }
            McpClient::ClaudeDesktop | McpClient::Codex | McpClient::Windsurf => Scope::User,
        }
    }

    /// Whether it is started from a shell, with the shell's `PATH`.
    pub(super) fn lives_in_a_terminal(self) -> bool {
        matches!(self, McpClient::ClaudeCode | McpClient::Codex)
    }

    pub(super) fn syntax(self) -> Syntax {
        match self {
            McpClient::Codex => Syntax::Toml,
            // One comment, and they ignore the whole file.
            McpClient::ClaudeCode | McpClient::ClaudeDesktop => Syntax::Json,
            McpClient::Cursor | McpClient::Vscode | McpClient::Windsurf | McpClient::Zed => {
                Syntax::JsonWithComments
            }
        }
    }

    /// The key under which its file names servers.
    pub(super) fn servers_key(self) -> &'static str {
        match self {
            McpClient::Vscode => "servers",
            McpClient::Codex => "mcp_servers",
            McpClient::Zed => "context_servers",
            _ => "mcpServers",
        }
    }

    /// Its file for the current folder, if it has one.
    pub(super) fn project_file(self) -> Result<PathBuf, Failure> {
        match self {
            McpClient::ClaudeCode => Ok(".mcp.json".into()),
            McpClient::Cursor => Ok(".cursor/mcp.json".into()),
            McpClient::Vscode => Ok(".vscode/mcp.json".into()),
            McpClient::Codex => Ok(".codex/config.toml".into()),
            McpClient::Zed => Ok(".zed/settings.json".into()),
            McpClient::ClaudeDesktop | McpClient::Windsurf => Err(Failure::Usage(format!(
                "{} has no configuration for a single project: use --scope user",
                self.title()
            ))),
        }
    }

    /// Its file for the user.
    pub(super) fn user_file(self, places: &Places) -> PathBuf {
        let Places { platform, home, settings, .. } = places;
        match self {
            McpClient::ClaudeCode => {
                places.claude_config.as_ref().unwrap_or(home).join(".claude.json")
            }
            McpClient::Cursor => home.join(".cursor/mcp.json"),
            McpClient::Vscode => settings.join("Code/User/mcp.json"),
            McpClient::ClaudeDesktop => settings.join("Claude/claude_desktop_config.json"),
            McpClient::Codex => match &places.codex_home {
                Some(folder) => folder.join("config.toml"),
                None => home.join(".codex/config.toml"),
            },
            McpClient::Windsurf => home.join(".codeium/windsurf/mcp_config.json"),
            McpClient::Zed => match platform {
                Platform::Linux => settings.join("zed/settings.json"),
                Platform::Mac => home.join(".config/zed/settings.json"),
                Platform::Windows => settings.join("Zed/settings.json"),
            },
        }
    }

    /// What its file says of a server.
    pub(super) fn entry(self, reach: &Reach) -> Result<Entry, Failure> {
        let mut entry = Entry::new();
        match reach {
            Reach::Start { program, args } => {
                if matches!(self, McpClient::ClaudeCode | McpClient::Cursor | McpClient::Vscode) {
                    entry.insert("type".into(), json!("stdio"));
                }
                entry.insert("command".into(), json!(program));
                entry.insert("args".into(), json!(args));
            }
            Reach::Connect { remote, url, token_env } => {
                if matches!(self, McpClient::ClaudeCode | McpClient::Vscode) {
                    entry.insert("type".into(), json!(remote.name()));
                }
                entry.insert(self.url_key(*remote)?.into(), json!(url));
                if let Some(variable) = token_env {
                    let (key, value) = self.token(variable)?;
                    entry.insert(key.into(), value);
                }
            }
        }
        Ok(entry)
    }

    /// The field for the address, where it knows the transport.
    fn url_key(self, remote: Remote) -> Result<&'static str, Failure> {
        match (self, remote) {
            (McpClient::ClaudeDesktop, _) => Err(Failure::Usage(
                "Claude Desktop's file holds only servers that it starts: use --transport stdio"
                    .into(),
            )),
            (McpClient::Codex | McpClient::Zed, Remote::Sse) => Err(Failure::Usage(format!(
                "{} does not speak the old SSE transport: use --transport http",
                self.title()
            ))),
            (McpClient::Windsurf, _) => Ok("serverUrl"),
            _ => Ok("url"),
        }
    }

    /// How it is told to take a bearer token from its environment.
    fn token(self, variable: &str) -> Result<(&'static str, Value), Failure> {
        let bearer = match self {
            McpClient::Codex => return Ok(("bearer_token_env_var", json!(variable))),
            McpClient::ClaudeCode => format!("Bearer ${{{variable}}}"),
            McpClient::Cursor | McpClient::Vscode | McpClient::Windsurf => {
                format!("Bearer ${{env:{variable}}}")
            }
            McpClient::Zed | McpClient::ClaudeDesktop => {
                return Err(Failure::Usage(format!(
                    "{} reads no environment variables in its headers, and a token belongs in no \
                     file that others may read: use --transport stdio, which needs none",
                    self.title()
                )));
            }
        };
        Ok(("headers", json!({ "Authorization": bearer })))
    }
}

impl Remote {
    pub(super) fn name(self) -> &'static str {
        match self {
            Remote::Http => "http",
            Remote::Sse => "sse",
        }
    }
}

/// Where on this machine users' settings are.
#[derive(Debug)]
pub(super) struct Places {
    platform: Platform,
    home: PathBuf,
    /// Where programs with windows keep their settings.
    settings: PathBuf,
    claude_config: Option<PathBuf>,
    codex_home: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Platform {
    Linux,
    Mac,
    Windows,
}

impl Places {
    /// As the environment says.
    pub(super) fn from_env() -> Result<Self, Failure> {
        let platform = match () {
            () if cfg!(target_os = "macos") => Platform::Mac,
            () if cfg!(windows) => Platform::Windows,
            () => Platform::Linux,
        };
        let home = env::home_dir().filter(|home| home.is_absolute()).ok_or_else(|| {
            Failure::Failed(
                "the home directory is not known: set HOME, or use --scope project".into(),
            )
        })?;
        Ok(Places::new(platform, home, |name| env::var_os(name).map(PathBuf::from)))
    }

    fn new(platform: Platform, home: PathBuf, env: impl Fn(&str) -> Option<PathBuf>) -> Self {
        // The specification has a relative one ignored; the two clients take theirs as it is.
        let folder = |name: &str| env(name).filter(|path| path.is_absolute());
        let given = |name: &str| env(name).filter(|path| !path.as_os_str().is_empty());
        let settings = match platform {
            Platform::Linux => folder("XDG_CONFIG_HOME").unwrap_or_else(|| home.join(".config")),
            Platform::Mac => home.join("Library/Application Support"),
            Platform::Windows => folder("APPDATA").unwrap_or_else(|| home.join("AppData/Roaming")),
        };
        Places {
            platform,
            settings,
            claude_config: given("CLAUDE_CONFIG_DIR"),
            codex_home: given("CODEX_HOME"),
            home,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO_ENV: fn(&str) -> Option<PathBuf> = |_| None;

    fn user_files(places: &Places) -> Vec<String> {
        McpClient::value_variants()
            .iter()
            .map(|client| client.user_file(places).display().to_string())
            .collect()
    }

    #[test]
    fn linux_keeps_settings_in_the_configuration_folder() {
        let places = Places::new(Platform::Linux, "/home/me".into(), NO_ENV);
        assert_eq!(
            user_files(&places),
            [
                "/home/me/.claude.json",
                "/home/me/.cursor/mcp.json",
                "/home/me/.config/Code/User/mcp.json",
                "/home/me/.config/Claude/claude_desktop_config.json",
                "/home/me/.codex/config.toml",
                "/home/me/.codeium/windsurf/mcp_config.json",
                "/home/me/.config/zed/settings.json",
            ]
        );
    }

    #[test]
    fn macos_keeps_them_in_the_library_but_zed_does_not() {
        let places = Places::new(Platform::Mac, "/Users/me".into(), NO_ENV);
        assert_eq!(
            user_files(&places),
            [
                "/Users/me/.claude.json",
                "/Users/me/.cursor/mcp.json",
                "/Users/me/Library/Application Support/Code/User/mcp.json",
                "/Users/me/Library/Application Support/Claude/claude_desktop_config.json",
                "/Users/me/.codex/config.toml",
                "/Users/me/.codeium/windsurf/mcp_config.json",
                "/Users/me/.config/zed/settings.json",
            ]
        );
    }

    #[test]
    fn windows_keeps_them_in_roaming_application_data() {
        let places = Places::new(Platform::Windows, "/me".into(), NO_ENV);
        assert_eq!(
            [McpClient::Vscode, McpClient::ClaudeDesktop, McpClient::Zed]
                .map(|client| client.user_file(&places).display().to_string()),
            [
                "/me/AppData/Roaming/Code/User/mcp.json",
                "/me/AppData/Roaming/Claude/claude_desktop_config.json",
                "/me/AppData/Roaming/Zed/settings.json",
            ]
        );
    }

    #[test]
    fn the_environment_moves_them() {
        let env = |name: &str| match name {
            "XDG_CONFIG_HOME" => Some("/xdg".into()),
            "CLAUDE_CONFIG_DIR" => Some("/claude".into()),
            "CODEX_HOME" => Some("/codex".into()),
            _ => None,
        };
        let places = Places::new(Platform::Linux, "/home/me".into(), env);
        assert_eq!(
            user_files(&places),
            [
                "/claude/.claude.json",
                "/home/me/.cursor/mcp.json",
                "/xdg/Code/User/mcp.json",
                "/xdg/Claude/claude_desktop_config.json",
                "/codex/config.toml",
                "/home/me/.codeium/windsurf/mcp_config.json",
                "/xdg/zed/settings.json",
            ]
        );
        let places = Places::new(Platform::Linux, "/home/me".into(), |_| Some("".into()));
        assert_eq!(
            McpClient::Codex.user_file(&places),
            PathBuf::from("/home/me/.codex/config.toml")
        );
        assert_eq!(
            McpClient::Zed.user_file(&places),
            PathBuf::from("/home/me/.config/zed/settings.json")
        );
    }
}
