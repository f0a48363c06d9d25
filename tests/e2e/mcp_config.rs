//! `mcp config`: the exact files that result, and what becomes of files that are there already.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::client_files::{CLIENTS, User, built, repository};
use crate::harness::{Home, Run};

#[test]
#[cfg(target_os = "linux")] // where the files are
fn every_client_scope_and_transport_gives_exactly_this_file() {
    let mut all = String::new();
    for client in CLIENTS {
        for (scope, transport, token) in [
            ("project", "stdio", &[][..]),
            ("user", "stdio", &[]),
            ("project", "http", &["--token-env", "QUEUE_TOKEN"]),
            ("user", "http", &[]),
            ("project", "sse", &[]),
            ("user", "sse", &["--token-env", "QUEUE_TOKEN"]),
        ] {
            let words = ["--client", client, "--scope", scope, "--transport", transport];
            let words = [&words[..], token].concat();
            all += &format!("== {}\n", words.join(" "));
            all += &what_comes_of(&words);
        }
    }
    let golden = repository("tests/e2e/mcp_config.txt");
    if std::env::var_os("UPDATE_CLIENTS").is_some() {
        fs::write(&golden, &all).expect("written");
    }
    let expected = fs::read_to_string(golden).expect("tests/e2e/mcp_config.txt");
    assert_eq!(all, expected, "if it is meant so: UPDATE_CLIENTS=1 cargo test");
}

/// The file's name and content, which is what the command prints without `--write`; or the refusal.
fn what_comes_of(words: &[&str]) -> String {
    let user = User::new();
    let printed = user.run(&[&["mcp", "config"], words].concat());
    let written = user.run(&[&["mcp", "config"], words, &["--write", "--json"]].concat());
    assert_eq!(printed.code, written.code, "{words:?}");
    if printed.code != 0 {
        assert_eq!((printed.code, printed.stdout.as_str()), (2, ""), "{words:?}");
        assert_eq!(user.list("."), Vec::<String>::new(), "{words:?}");
        return printed.stderr;
    }
    let said: Value = serde_json::from_str(&written.stdout).expect("one JSON object");
    let file = said["file"].as_str().expect("a file");
    assert_eq!((&said["entry"], &said["backup"]), (&Value::from("added"), &Value::Null));
    assert_eq!(user.get(file), printed.stdout, "{words:?}");
    assert!(printed.stderr.contains(file), "{words:?}: {}", printed.stderr);
    user.as_documented(&format!("{file}\n{}", printed.stdout))
}

#[test]
fn a_file_with_comments_and_other_servers_keeps_all_of_it() {
    let user = User::new();
    user.put(
        ".vscode/mcp.json",
        r#"// Servers of this project
{
	"inputs": [
		{ "type": "promptString", "id": "key", "password": true }, // asked once
	],
	/* in alphabetical order */
	"servers": {
		"github": { "type": "http", "url": "https://api.example.org/mcp" },

		// the one with the maps
		"maps": {
			"command": "npx", "args": ["-y", "maps"],
			"env": { "KEY": "${input:key}" },
		},
	},
	"zoom": 1.50,
}
"#,
    );
    user.config(&["--client", "vscode", "--write"]);
    assert_eq!(
        user.get(".vscode/mcp.json"),
        r#"// Servers of this project
{
	"inputs": [
		{ "type": "promptString", "id": "key", "password": true }, // asked once
	],
	/* in alphabetical order */
	"servers": {
		"github": { "type": "http", "url": "https://api.example.org/mcp" },

		// the one with the maps
		"maps": {
			"command": "npx", "args": ["-y", "maps"],
			"env": { "KEY": "${input:key}" },
		},
		"ipfs-accelerate": {
			"type": "stdio",
			"command": "ipfs-accelerate",
			"args": ["mcp", "start"],
		},
	},
	"zoom": 1.50,
}
"#
    );
}

#[test]
fn a_toml_file_keeps_its_comments_tables_and_order() {
    let user = User::new();
    user.put(
        ".codex/config.toml",
        r#"# mine
model = "large" # for now

[mcp_servers.docs]
command = "npx"
args = ["-y", "docs"]

[mcp_servers.docs.env]
KEY = 'x'

# how I work at night
[profiles.night]
model = "small"
"#,
    );
    user.config(&["--client", "codex", "--write"]);
    assert_eq!(
        user.get(".codex/config.toml"),
        r#"# mine
model = "large" # for now

[mcp_servers.docs]
command = "npx"
args = ["-y", "docs"]

[mcp_servers.docs.env]
KEY = 'x'

[mcp_servers.ipfs-accelerate]
command = "ipfs-accelerate"
args = ["mcp", "start"]

# how I work at night
[profiles.night]
model = "small"
"#
    );
}

#[test]
fn an_entry_of_the_same_name_is_replaced_where_it_stands() {
    let user = User::new();
    user.put(
        ".cursor/mcp.json",
        r#"{
  "mcpServers": {
    // ours
    "ipfs-accelerate": { "command": "/old/path", "env": { "A": "b" } }, // see the wiki
    "other": {}
  }
}
"#,
    );
    let told = user.config(&["--client", "cursor", "--write"]);
    assert!(told.contains("replaced"), "{told}");
    assert_eq!(
        user.get(".cursor/mcp.json"),
        r#"{
  "mcpServers": {
    // ours
    "ipfs-accelerate": {
      "type": "stdio",
      "command": "ipfs-accelerate",
      "args": ["mcp", "start"]
    }, // see the wiki
    "other": {}
  }
}
"#
    );
    user.put(
        ".codex/config.toml",
        r#"# ours
[mcp_servers.ipfs-accelerate]
command = "/old/path"
enabled = false

[mcp_servers.ipfs-accelerate.env]
A = "b"

[tui]
theme = "dark"
"#,
    );
    let http = ["--client", "codex", "--transport", "http", "--token-env", "QUEUE_TOKEN"];
    let told = user.config(&[&http[..], &["--write"]].concat());
    assert!(told.contains("replaced"), "{told}");
    assert_eq!(
        user.get(".codex/config.toml"),
        r#"# ours
[mcp_servers.ipfs-accelerate]
url = "http://127.0.0.1:9000/mcp"
bearer_token_env_var = "QUEUE_TOKEN"

[tui]
theme = "dark"
"#
    );
}

#[test]
fn toml_may_write_the_servers_in_any_of_its_ways() {
    let entry = "command = \"ipfs-accelerate\", args = [\"mcp\", \"start\"]";
    for (before, after) in [
        (
            "mcp_servers = { a = { url = \"x\" } }\n".to_owned(),
            format!(
                "mcp_servers = {{ a = {{ url = \"x\" }} , ipfs-accelerate = {{ {entry} }} }}\n"
            ),
        ),
        (
            "mcp_servers.ipfs-accelerate = { url = \"x\" } # short\n".to_owned(),
            format!("mcp_servers.ipfs-accelerate = {{ {entry} }} # short\n"),
        ),
        (
            "[mcp_servers]\nipfs-accelerate.url = \"x\"\n".to_owned(),
            "[mcp_servers]\nipfs-accelerate.command = \"ipfs-accelerate\"\n\
             ipfs-accelerate.args = [\"mcp\", \"start\"]\n"
                .to_owned(),
        ),
    ] {
        let user = User::new();
        user.put(".codex/config.toml", before);
        user.config(&["--client", "codex", "--write"]);
        assert_eq!(user.get(".codex/config.toml"), after);
    }
}

#[test]
fn line_ends_and_byte_order_marks_stay() {
    let user = User::new();
    user.put(".mcp.json", "\u{feff}{\r\n  \"mcpServers\": {\r\n    \"a\": {}\r\n  }\r\n}\r\n");
    user.config(&["--client", "claude-code", "--write"]);
    assert_eq!(
        user.get(".mcp.json"),
        "\u{feff}{\r\n  \"mcpServers\": {\r\n    \"a\": {},\r\n    \"ipfs-accelerate\": {\r\n      \
         \"type\": \"stdio\",\r\n      \"command\": \"ipfs-accelerate\",\r\n      \
         \"args\": [\"mcp\", \"start\"]\r\n    }\r\n  }\r\n}\r\n"
    );
    user.put(".codex/config.toml", "\u{feff}a = 1\r\n\r\n[b]\r\nc = 2 # d\r\n");
    user.config(&["--client", "codex", "--write"]);
    assert_eq!(
        user.get(".codex/config.toml"),
        "\u{feff}a = 1\r\n\r\n[b]\r\nc = 2 # d\r\n\r\n[mcp_servers.ipfs-accelerate]\r\n\
         command = \"ipfs-accelerate\"\r\nargs = [\"mcp\", \"start\"]\r\n"
    );
}

#[test]
fn empty_files_become_what_a_new_one_would_be() {
    let user = User::new();
    let new = user.config(&["--client", "zed"]);
    for (before, after) in [
        ("", new.clone()),
        ("{}\n", new.clone()),
        ("{}", new.trim_end().to_owned()),
        ("{\n}\n", new.clone()),
        ("// settings\n", format!("// settings\n{new}")),
    ] {
        user.put(".zed/settings.json", before);
        user.config(&["--client", "zed", "--write"]);
        assert_eq!(user.get(".zed/settings.json"), after, "{before:?}");
    }
}

#[test]
fn a_second_run_changes_nothing_and_says_so() {
    for client in CLIENTS {
        let user = User::new();
        let words = ["--client", client, "--write"];
        let told = user.config(&[&words[..], &["--json"]].concat());
        let said: Value = serde_json::from_str(&told).expect("one JSON object");
        let file = PathBuf::from(said["file"].as_str().expect("a file"));
        let path = user.home.path().join(file);
        let before = fs::metadata(&path).expect("written").modified().expect("a time");
        let told = user.config(&words);
        assert!(told.contains("already"), "{client}: {told}");
        let folder = path.parent().expect("a folder");
        let said = user.config(&[&words[..], &["--json"]].concat());
        assert!(said.contains("\"entry\":\"unchanged\""), "{client}: {said}");
        assert_eq!(fs::metadata(&path).expect("there").modified().expect("a time"), before);
        let names = fs::read_dir(folder).expect("a folder").count();
        assert_eq!(names, 1, "{client}: no backup, nothing left over");
    }
}

#[test]
fn what_says_the_same_in_another_layout_is_left_as_it_is() {
    let user = User::new();
    let text = r#"{"mcpServers":{"ipfs-accelerate":{"args":["mcp","start"],"type":"stdio","command":"ipfs-accelerate"}}}"#;
    user.put(".mcp.json", text);
    let told = user.config(&["--client", "claude-code", "--write"]);
    assert!(told.contains("already"), "{told}");
    assert_eq!(user.get(".mcp.json"), text);
}

#[test]
fn the_old_file_is_kept_and_no_older_copy_is_lost() {
    let user = User::new();
    user.put(".mcp.json", "{\"first\": 1}");
    user.put(".mcp.json.bak", "not ours");
    let told = user.config(&["--client", "claude-code", "--write"]);
    assert!(told.contains(".mcp.json.bak.1"), "{told}");
    user.config(&["--client", "claude-code", "--name", "second", "--write"]);
    assert_eq!(
        user.list("."),
        [".mcp.json", ".mcp.json.bak", ".mcp.json.bak.1", ".mcp.json.bak.2"]
    );
    assert_eq!(user.get(".mcp.json.bak"), "not ours");
    assert_eq!(user.get(".mcp.json.bak.1"), "{\"first\": 1}");
    assert!(user.get(".mcp.json.bak.2").contains("ipfs-accelerate"));
    assert!(!user.get(".mcp.json.bak.2").contains("second"));
}

#[test]
fn file_and_backup_keep_the_permissions_of_the_old_one() {
    let user = User::new();
    user.put(".claude.json", "{\"oauth\": \"secret\"}");
    let mode =
        |file: &str| fs::metadata(user.path(file)).expect("there").permissions().mode() & 0o777;
    for wanted in [0o600, 0o640] {
        fs::set_permissions(user.path(".claude.json"), fs::Permissions::from_mode(wanted))
            .expect("set");
        let name = format!("mode-{wanted}");
        let words = ["--client", "claude-code", "--scope", "user", "--name", &name, "--write"];
        user.config(&words);
        assert_eq!(mode(".claude.json"), wanted);
    }
    assert_eq!((mode(".claude.json.bak"), mode(".claude.json.bak.1")), (0o600, 0o640));
}

#[test]
fn a_file_that_cannot_be_understood_is_left_alone_with_line_and_column() {
    for (client, file, text, told) in [
        ("claude-code", ".mcp.json", "{\n  \"a\": 1\n  \"b\": 2\n}\n", "line 3, column 3"),
        ("claude-code", ".mcp.json", "{\n  // the client reads none\n}", "line 2, column 3"),
        ("claude-code", ".mcp.json", "{\n  \"a\": 1,\n}", "line 3, column 1"),
        ("cursor", ".cursor/mcp.json", "{\"mcpServers\": {", "line 1, column 16"),
        ("cursor", ".cursor/mcp.json", "{'a': 1}", "line 1, column 2"),
        ("zed", ".zed/settings.json", "[]", "no JSON object"),
        ("vscode", ".vscode/mcp.json", "{\"servers\": []}", "\"servers\" is no object"),
        ("cursor", ".cursor/mcp.json", "{\"mcpServers\":{},\"mcpServers\":{}}", "more than once"),
        ("codex", ".codex/config.toml", "a = 1\nb = [1,\n", "line 2, column 8"),
        ("codex", ".codex/config.toml", "a = 1\na = 2\n", "line 2, column 1"),
        ("codex", ".codex/config.toml", "mcp_servers = 1\n", "\"mcp_servers\" is no table"),
        ("codex", ".codex/config.toml", "[[mcp_servers]]\n", "\"mcp_servers\" is no table"),
    ] {
        let user = User::new();
        user.put(file, text);
        let words = ["mcp", "config", "--client", client, "--scope", "project", "--write"];
        let run = user.run(&words);
        assert_eq!((run.code, run.stdout.as_str()), (3, ""), "{text:?}\n{run:?}");
        assert!(run.stderr.contains(told), "{text:?}: {}", run.stderr);
        assert!(run.stderr.contains(file), "{text:?}: {}", run.stderr);
        assert_eq!(user.get(file), text);
        let folder = Path::new(file).parent().and_then(Path::to_str).expect("a folder");
        assert_eq!(user.list(folder).len(), 1, "{text:?}: nothing left over");
    }
}

#[test]
fn what_is_no_text_is_left_alone() {
    let user = User::new();
    user.put(".mcp.json", b"{\n \"a\": \"\xff\"}");
    let run = user.run(&["mcp", "config", "--client", "claude-code", "--write"]);
    assert_eq!(run.code, 3, "{run:?}");
    assert!(run.stderr.contains("not UTF-8 text (line 2, column 8)"), "{}", run.stderr);
    fs::remove_file(user.path(".mcp.json")).expect("removed");
    fs::create_dir(user.path(".mcp.json")).expect("made");
    let run = user.run(&["mcp", "config", "--client", "claude-code", "--write"]);
    assert_eq!(run.code, 3, "{run:?}");
    assert!(run.stderr.contains("cannot read .mcp.json"), "{}", run.stderr);
}

#[test]
fn a_link_stays_a_link() {
    let user = User::new();
    user.put("dotfiles/claude.json", "{\n  \"theme\": \"dark\"\n}\n");
    symlink("dotfiles/claude.json", user.path(".claude.json")).expect("linked");
    user.config(&["--client", "claude-code", "--scope", "user", "--write"]);
    assert!(user.path(".claude.json").is_symlink());
    assert!(user.get("dotfiles/claude.json").contains("\"ipfs-accelerate\""));
    assert_eq!(user.list("dotfiles"), ["claude.json", "claude.json.bak"]);

    symlink("nowhere.json", user.path(".mcp.json")).expect("linked");
    let run = user.run(&["mcp", "config", "--client", "claude-code", "--write"]);
    assert_eq!(run.code, 3, "{run:?}");
    assert!(run.stderr.contains("leads nowhere"), "{}", run.stderr);
}

#[test]
fn a_read_only_file_and_a_folder_in_the_way_are_told() {
    let user = User::new();
    user.put(".mcp.json", "{}");
    fs::set_permissions(user.path(".mcp.json"), fs::Permissions::from_mode(0o444)).expect("set");
    let run = user.run(&["mcp", "config", "--client", "claude-code", "--write"]);
    assert_eq!((run.code, run.stdout.as_str()), (3, ""), "{run:?}");
    assert!(run.stderr.contains(".mcp.json is read-only"), "{}", run.stderr);
    assert_eq!((user.get(".mcp.json").as_str(), user.list(".").len()), ("{}", 1));

    user.put(".cursor", "a file, no folder");
    let run = user.run(&["mcp", "config", "--client", "cursor", "--write"]);
    assert_eq!(run.code, 3, "{run:?}");
    assert!(run.stderr.contains(".cursor/mcp.json"), "{}", run.stderr);
}

#[test]
fn the_environment_says_where_a_user_s_files_are() {
    let user = User::new();
    for (variable, client, file) in [
        ("CLAUDE_CONFIG_DIR", "claude-code", "other/.claude.json"),
        ("CODEX_HOME", "codex", "other/config.toml"),
        ("XDG_CONFIG_HOME", "zed", "other/zed/settings.json"),
    ] {
        let mut command = user.command(&["mcp", "config", "--client", client]);
        command.args(["--scope", "user", "--write"]).env(variable, user.path("other"));
        let run = Run::of(&command.output().expect("the binary starts"));
        assert_eq!(run.code, 0, "{run:?}");
        assert!(user.path(file).is_file(), "{client}: {:?}", user.list("other"));
    }
    let mut command = user.command(&["mcp", "config", "--client", "codex"]);
    let run = Run::of(&command.env("HOME", "nowhere").output().expect("the binary starts"));
    assert_eq!(run.code, 3, "{run:?}");
    assert!(run.stderr.contains("set HOME"), "{}", run.stderr);
}

#[test]
fn a_user_s_file_names_the_program_so_that_the_client_finds_it() {
    let user = User::new();
    let program = |client: &str, path: &str| {
        let mut command = user.command(&["mcp", "config", "--json", "--client", client]);
        command.args(["--scope", "user"]).env("PATH", path);
        let run = Run::of(&command.output().expect("the binary starts"));
        let said: Value = serde_json::from_str(&run.stdout).expect("one JSON object");
        let snippet = said["snippet"].as_str().expect("a snippet").to_owned();
        let line = snippet.lines().find(|line| line.contains("command")).expect("a command");
        line.split('"').rev().nth(1).expect("a value").to_owned()
    };
    fs::create_dir(user.path("bin")).expect("made");
    symlink(built(), user.path("bin/ipfs-accelerate")).expect("linked");
    let bin = user.path("bin").display().to_string();
    let linked = user.path("bin/ipfs-accelerate").display().to_string();
    // A link survives the next upgrade, what it leads to may not.
    assert_eq!(program("claude-desktop", &bin), linked);
    assert_eq!(program("codex", &bin), "ipfs-accelerate");
    // Without it on the path, or with another of its name before it: this very one.
    assert_eq!(program("codex", "/nowhere"), built().display().to_string());
    user.put("first/ipfs-accelerate", "another program");
    let shadowed = format!("{}:{bin}", user.path("first").display());
    assert_eq!(program("codex", &shadowed), built().display().to_string());
    assert_eq!(program("cursor", "/nowhere"), built().display().to_string());
}

#[test]
fn a_project_s_file_names_the_program_alone_and_says_where_it_is_missing() {
    let user = User::new();
    let mut command = user.command(&["mcp", "config", "--client", "zed"]);
    let run = Run::of(&command.env("PATH", "/nowhere").output().expect("the binary starts"));
    assert!(run.stdout.contains("\"command\": \"ipfs-accelerate\""), "{run:?}");
    assert!(run.stderr.contains("on its PATH"), "{run:?}");
    assert!(!user.run(&["mcp", "config", "--client", "zed"]).stderr.contains("PATH"));
}

#[test]
fn the_data_directory_goes_along_and_stays_private_in_a_project() {
    let user = User::new();
    let given = ["--client", "cursor", "--data-dir", "tasks", "--durability", "relaxed"];
    let absolute = user.path("tasks").display().to_string();
    let expected = format!(
        "\"args\": [\"mcp\", \"start\", \"--data-dir\", \"{absolute}\", \"--durability\", \"relaxed\"]"
    );
    let printed = user.config(&given);
    // The folder's own name may be a link, as it is on macOS.
    let real = user.path("").canonicalize().expect("there").join("tasks").display().to_string();
    assert!(
        printed.contains(&expected) || printed.contains(&expected.replace(&absolute, &real)),
        "{printed}"
    );
    for (scope, is_there) in [("user", true), ("project", false)] {
        let mut command = user.command(&["mcp", "config", "--client", "cursor", "--scope", scope]);
        command.env("IPFS_ACCELERATE_HOME", "/srv/tasks");
        let run = Run::of(&command.output().expect("the binary starts"));
        assert_eq!(run.stdout.contains("/srv/tasks"), is_there, "{scope}: {run:?}");
    }
}

#[test]
fn what_makes_no_sense_is_wrong_usage_and_a_secret_is_not_repeated() {
    let user = User::new();
    let wrong: [(&[&str], &str); 10] = [
        (&["--url", "http://a/mcp"], "for --transport http"),
        (&["--token-env", "A"], "for --transport http"),
        (&["--transport", "http", "--url", "localhost:9000"], "begins with http://"),
        (&["--transport", "http", "--url", "https:///mcp"], "names a host"),
        (&["--transport", "http", "--url", "https://me:hunter2@a/"], "use --token-env"),
        (&["--transport", "http", "--token-env", "hunter2.x"], "never the token itself"),
        (&["--transport", "http", "--token-env", ""], "never the token itself"),
        (&["--name", "my queue"], "letters, digits"),
        (&["--name", ""], "letters, digits"),
        (&["--transport", "websocket"], "stdio"),
    ];
    for (words, told) in wrong {
        let words = [&["mcp", "config", "--client", "cursor", "--write"], words].concat();
        let run = user.run(&words);
        assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{words:?}\n{run:?}");
        assert!(run.stderr.contains(told), "{words:?}: {}", run.stderr);
        assert!(!run.stderr.contains("hunter2"), "{}", run.stderr);
    }
    assert_eq!(user.list("."), Vec::<String>::new());
}

#[test]
fn no_node_is_started_for_it() {
    let home = Home::new();
    let run = home.run(&["mcp", "config", "--client", "claude-code", "--write"]);
    assert_eq!(run.code, 0, "{run:?}");
    assert!(!home.data().exists());
}

#[test]
fn scripts_get_one_json_object() {
    let user = User::new();
    for words in [&["--client", "codex"][..], &["--client", "claude-code", "--write"]] {
        let run = user.run(&[&["mcp", "config", "--json"], words].concat());
        assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{words:?}");
        assert_eq!(run.stdout.lines().count(), 1, "{words:?}: {}", run.stdout);
        let said: Value = serde_json::from_str(&run.stdout).expect("JSON");
        assert_eq!((&said["client"], said["file"].is_string()), (&Value::from(words[1]), true));
    }
}
