//! Commands of this machine in process groups of their own, and the signals that end this process.
//!
//! A group is a command with all that it started and that did not leave it: what a terminal's
//! Ctrl-C reaches, were it in the foreground. As a group of its own it hears nothing of that, and is
//! ended as a whole by [`Group::terminate`] and [`Group::kill`].

use std::io;

use rustix::process::{Pid, Signal, getpgid, kill_process, kill_process_group};
use tokio::process::{Child, Command};
use tokio::signal::unix::{self, SignalKind};

/// A process group that was made by [`start`]. Copies are the same group.
///
/// A group's number is given to another only once none of its processes is left: whoever ends one
/// does so before its command was waited for, or at once after that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Group(Pid);

/// Starts a command as the leader of a group of its own.
///
/// # Errors
/// The operating system's: there is no such program, or it may not be run.
pub fn start(command: &mut Command) -> io::Result<(Child, Group)> {
    let child = command.process_group(0).spawn()?;
    let id = child.id().and_then(|id| Group::from_id(id.into()));
    let group = id.ok_or_else(|| io::Error::other("a process without an id"))?;
    Ok((child, group))
}

impl Group {
    /// The group with this number, if it can be one.
    #[must_use]
    pub fn from_id(id: i64) -> Option<Self> {
        // 0 and 1 are never a command's: the caller's own group, and all that there is.
        let id = i32::try_from(id).ok().filter(|id| *id > 1)?;
        Pid::from_raw(id).map(Group)
    }

    /// Its number.
    #[must_use]
    pub fn id(self) -> i32 {
        self.0.as_raw_nonzero().get()
    }

    /// Asks every process of the group to end. One without processes is no error.
    pub fn terminate(self) {
        self.signal(Signal::TERM);
    }

    /// Ends every process of the group at once.
    pub fn kill(self) {
        self.signal(Signal::KILL);
    }

    fn signal(self, signal: Signal) {
        if let Err(error) = kill_process_group(self.0, signal) {
            tracing::debug!("process group {}: {error}", self.id());
        }
    }
}

/// The groups of this user's processes that were started with `variable` set to `value` in their
/// environment. Only Linux tells; elsewhere none.
#[must_use]
pub fn groups_started_with(variable: &str, value: &str) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for id in started_with(variable, value) {
        let group = getpgid(Some(id))
            .ok()
            .and_then(|group| Group::from_id(group.as_raw_nonzero().get().into()));
        groups.extend(group.filter(|group| !groups.contains(group)));
    }
    groups
}

/// How a process is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It is asked to.
    Terminate,
    /// At once.
    Kill,
}

/// Ends all of this user's processes that were started with `variable` set to `value` in their
/// environment, in whichever groups. Only Linux tells which these are; elsewhere `leader` is all
/// that is ended, a child that was not waited for yet.
pub fn end_started_with(variable: &str, value: &str, leader: Option<u32>, how: Ending) {
    let signal = match how {
        Ending::Terminate => Signal::TERM,
        Ending::Kill => Signal::KILL,
    };
    let leader = leader.and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    let mut processes = started_with(variable, value);
    processes.extend(leader.filter(|leader| !processes.contains(leader)));
    for id in processes {
        if let Err(error) = kill_process(id, signal) {
            tracing::debug!("process {}: {error}", id.as_raw_nonzero());
        }
    }
}

fn started_with(variable: &str, value: &str) -> Vec<Pid> {
    let wanted = format!("{variable}={value}").into_bytes();
    let is_wanted = |id: i32| {
        // It may have ended meanwhile, or be another user's.
        let environment = std::fs::read(format!("/proc/{id}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|entry| entry == wanted)
    };
    let Ok(processes) = std::fs::read_dir("/proc") else { return Vec::new() };
    let ids = processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    ids.filter(|id| is_wanted(*id)).filter_map(Pid::from_raw).collect()
}

/// What the operating system asks of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Ctrl-C.
    Interrupt,
    /// To end: SIGTERM, or the terminal is gone.
    End,
}

/// The signals that end a process, which they do no more once there is a value of this type.
#[derive(Debug)]
pub struct Requests {
    interrupt: unix::Signal,
    terminate: unix::Signal,
    hangup: unix::Signal,
}

impl Requests {
    /// Watches the signals from now on.
    ///
    /// # Errors
    /// The operating system's.
    pub fn watch() -> io::Result<Self> {
        Ok(Requests {
            interrupt: unix::signal(SignalKind::interrupt())?,
            terminate: unix::signal(SignalKind::terminate())?,
            hangup: unix::signal(SignalKind::hangup())?,
        })
    }

    /// The next one.
    pub async fn next(&mut self) -> Request {
        tokio::select! {
            _ = self.interrupt.recv() => Request::Interrupt,
            _ = self.terminate.recv() => Request::End,
            _ = self.hangup.recv() => Request::End,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_that_would_be_the_caller_s_own_or_everybody_is_none() {
        for id in [-1, 0, 1, i64::MAX] {
            assert_eq!(Group::from_id(id), None, "{id}");
        }
        assert_eq!(Group::from_id(2).map(Group::id), Some(2));
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_group_is_found_by_what_it_was_started_with() {
        let value = std::process::id().to_string();
        let found = || groups_started_with("P2P_TEST_OF_GROUPS", &value);
        assert_eq!(found(), []);
        let mut command = Command::new("sleep");
        command.arg("1000").env("P2P_TEST_OF_GROUPS", &value);
        let (mut child, group) = start(&mut command).unwrap();
        assert_eq!(found(), [group]);
        group.kill();
        child.wait().await.unwrap();
        assert_eq!(found(), []);
    }

    /// In a group of somebody else's, as the steps of a job are.
    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn processes_end_with_what_they_started_by_what_they_were_started_with() {
        let value = format!("{}-tree", std::process::id());
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 1000 & wait"]).env("P2P_TEST_OF_TREES", &value);
        let mut child = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
        let mut stdout = child.stdout.take().unwrap();
        while started_with("P2P_TEST_OF_TREES", &value).len() < 2 {
            tokio::task::yield_now().await;
        }
        end_started_with("P2P_TEST_OF_TREES", &value, child.id(), Ending::Kill);
        assert!(!child.wait().await.unwrap().success());
        // The end of the pipe: the grandchild is gone too.
        let mut text = String::new();
        tokio::io::AsyncReadExt::read_to_string(&mut stdout, &mut text).await.unwrap();
    }

    #[tokio::test]
    async fn a_group_ends_with_what_its_command_started() {
        let mut command = Command::new("sh");
        // The reader sees the end of the pipe when both processes are gone, and not before.
        command.args(["-c", "sleep 1000 & wait"]).stdout(std::process::Stdio::piped());
        let (mut child, group) = start(&mut command).unwrap();
        let mut stdout = child.stdout.take().unwrap();
        group.terminate();
        assert!(!child.wait().await.unwrap().success());
        group.kill();
        let mut text = String::new();
        tokio::io::AsyncReadExt::read_to_string(&mut stdout, &mut text).await.unwrap();
        group.kill();
    }
}
