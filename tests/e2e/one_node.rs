//! One data directory has one node, and a directory that cannot be used is refused as it is.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::harness::{Home, Run, Server};

/// Which of these processes have a file open.
#[cfg(target_os = "linux")]
fn who_has_open(path: &Path, servers: &[Server]) -> Vec<u32> {
    let opened = |id: &u32| {
        let descriptors = fs::read_dir(format!("/proc/{id}/fd")).expect("it runs");
        let mut links = descriptors.flatten().flat_map(|entry| fs::read_link(entry.path()));
        links.any(|link| link == path)
    };
    servers.iter().map(Server::id).filter(opened).collect()
}

#[cfg(target_os = "linux")]
#[test]
fn of_twenty_processes_at_once_one_is_the_node() {
    let home = Home::new();
    let mut servers: Vec<Server> = (0..20)
        .map(|_| {
            let mut command = home.command();
            command.args(["mcp", "start"]);
            Server::spawn(command)
        })
        .collect();
    for (number, server) in servers.iter_mut().enumerate() {
        server.introduce();
        server.submit(&format!("t{number}"));
    }
    let first = servers[0].status();
    assert_eq!(first["pending_tasks"], 20);
    for server in &mut servers {
        assert_eq!(server.status(), first, "one peer, one state");
    }
    let database = fs::canonicalize(home.data().join("tasks.sqlite3")).expect("it is there");
    assert_eq!(who_has_open(&database, &servers), [home.node()]);
    // One after the other ends, the node among them, and the last one has it all.
    while servers.len() > 1 {
        let ends = servers.swap_remove(0);
        ends.close();
    }
    assert_eq!(servers[0].status()["pending_tasks"], 20);
    assert_eq!(home.node(), servers[0].id());
}

#[test]
fn the_files_are_the_owner_s_alone() {
    let home = Home::new();
    let mut server = home.start();
    server.submit("a");
    let mode = |path: &Path| fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
    assert_eq!(mode(home.data()), 0o700);
    for entry in fs::read_dir(home.data()).expect("a folder").flatten() {
        assert_eq!(mode(&entry.path()), 0o600, "{}", entry.path().display());
    }
}

/// A socket's address has room for about a hundred bytes, a path for thousands.
#[test]
fn a_long_path_has_its_socket_elsewhere() {
    let home = Home::with_data(&"long/".repeat(40));
    let runtime = home.path().join("run");
    let start = || {
        let mut command = home.command();
        command.args(["mcp", "start"]).env("XDG_RUNTIME_DIR", &runtime);
        let mut server = Server::spawn(command);
        server.introduce();
        server
    };
    let (mut node, mut relay) = (start(), start());
    node.submit("a");
    assert_eq!(relay.take()["task"]["task_id"], "a");
    assert_eq!(home.node(), node.id());
    let private: Vec<PathBuf> =
        fs::read_dir(&runtime).expect("it was made").flatten().map(|entry| entry.path()).collect();
    let [private] = private.as_slice() else { panic!("one folder: {private:?}") };
    assert_eq!(fs::metadata(private).expect("a folder").permissions().mode() & 0o777, 0o700);
    node.close();
    relay.close();
    fs::set_permissions(private, fs::Permissions::from_mode(0o777)).expect("it is ours");
    let mut command = home.command();
    command.args(["p2p-workflow", "status"]).env("XDG_RUNTIME_DIR", &runtime);
    let refused = Run::of(&command.output().expect("it starts"));
    assert_eq!(refused.code, 3, "{refused:?}");
    assert!(refused.stderr.contains("only you may enter"), "{refused:?}");
}

/// Every door exits with 3 and says why.
fn is_refused(home: &Home, why: &str) {
    for arguments in [&["mcp", "start"][..], &["p2p-workflow", "status"]] {
        let run = home.run(arguments);
        assert_eq!((run.code, run.stdout.as_str()), (3, ""), "{arguments:?}: {run:?}");
        assert!(run.stderr.contains(why), "{arguments:?}: {run:?}");
        assert!(run.stderr.contains(&home.path().display().to_string()), "which file: {run:?}");
    }
}

#[test]
fn a_file_in_the_place_of_the_directory_is_refused_and_kept() {
    let home = Home::new();
    fs::write(home.data(), "something else").expect("a file");
    is_refused(&home, "--data-dir");
    assert_eq!(fs::read(home.data()).expect("it is there"), b"something else");
}

#[test]
fn a_directory_that_may_not_be_written_to_is_refused() {
    let home = Home::new();
    fs::create_dir(home.data()).expect("a folder");
    fs::set_permissions(home.data(), fs::Permissions::from_mode(0o500)).expect("it is ours");
    let mut command = home.command();
    command.args(["p2p-workflow", "status"]);
    if rustix::process::geteuid().is_root() {
        // Root may write anywhere, so somebody else tries.
        const NOBODY: u32 = 65534;
        std::os::unix::process::CommandExt::uid(&mut command, NOBODY);
        for path in [home.path(), home.data()] {
            std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).expect("root may");
        }
    }
    let run = Run::of(&command.output().expect("it starts"));
    assert_eq!(run.code, 3, "{run:?}");
    assert!(run.stderr.contains("may be written to"), "{run:?}");
    assert!(run.stderr.contains(&home.data().display().to_string()), "{run:?}");
}

/// A home that was used and closed.
fn used() -> Home {
    let home = Home::new();
    let mut server = home.start();
    for number in 0..50 {
        server.submit(&format!("t{number}"));
    }
    server.close();
    home
}

#[test]
fn a_database_that_is_not_ours_or_not_whole_is_refused_and_left_as_it_is() {
    type Harm = fn(&mut Vec<u8>);
    let harms: [(&str, Harm, &str); 5] = [
        ("text", |bytes| *bytes = b"my notes".to_vec(), "not an SQLite file"),
        ("empty", Vec::clear, "it is empty"),
        ("truncated", |bytes| bytes.truncate(bytes.len() / 2), "damaged"),
        ("another program's", |bytes| bytes[68..72].copy_from_slice(b"abcd"), "not a database of"),
        ("pages of zeros", |bytes| bytes[4096..].fill(0), "damaged"),
    ];
    for (name, harm, why) in harms {
        let home = used();
        let path = home.data().join("tasks.sqlite3");
        let mut bytes = fs::read(&path).expect("the database");
        harm(&mut bytes);
        fs::write(&path, &bytes).expect("it is ours");
        is_refused(&home, why);
        assert_eq!(fs::read(&path).expect("it is there"), bytes, "{name}");
    }
}

#[test]
fn the_identity_and_the_tasks_of_one_directory_belong_together() {
    let (home, other) = (used(), used());
    let key = home.data().join("identity.key");
    let own = fs::read(&key).expect("a key");
    fs::copy(other.data().join("identity.key"), &key).expect("a copy");
    let database = fs::read(home.data().join("tasks.sqlite3")).expect("the database");
    is_refused(&home, "belongs to the peer");
    fs::write(&key, "no key").expect("it is ours");
    is_refused(&home, "not an ed25519 key");
    assert_eq!(fs::read(home.data().join("tasks.sqlite3")).expect("the database"), database);
    fs::write(&key, own).expect("it is ours");
    assert_eq!(home.status()["pending_tasks"], 50);
}

/// A client that waits for its server must not wait for one that could not start.
#[test]
fn a_server_that_cannot_start_ends_while_its_client_still_listens() {
    let home = Home::new();
    fs::write(home.data(), "something else").expect("a file");
    let mut command = home.command();
    command.args(["mcp", "start"]).stderr(Stdio::null());
    let mut server = Server::spawn(command);
    assert_eq!(server.process.exit_code(), 3);
    assert_eq!(server.message(), None);
}
