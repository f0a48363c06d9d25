//! Machines on a LAN of their own, which are network namespaces, so that nothing of this machine's
//! network is touched.
//!
//! ```text
//!   machine 0        machine 1        …      each a namespace with its own eth0 and loopback
//!     eth0             eth0
//!       │ cable 0        │ cable 1           pairs of veth
//!   ┌── port0 ────────── port1 ──────┐
//!   │     one ──╌╌╌╌╌╌╌╌── other     │       the switch: a namespace with two bridges that are not
//!   └────────────────────────────────┘       connected; usually all ports belong to the first
//! ```
//!
//! A namespace lasts as long as a process in it. The one that holds it here reads from a pipe of the
//! test, so it ends with the test, however that ends, and takes the cables along: there is nothing to
//! sweep up.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::harness::{Process, Run, in_namespace};

/// The bridge that connects all machines.
const ONE: &str = "one";
/// The bridge of those that are cut off.
const OTHER: &str = "other";

/// Some machines and their switch.
pub(crate) struct Lan {
    switch: Namespace,
    machines: Vec<Namespace>,
}

impl Lan {
    /// Cables so many machines to a switch; says why where that cannot be.
    pub(crate) fn of(machines: usize) -> Result<Self, String> {
        let switch = Namespace::new()?;
        for bridge in [ONE, OTHER] {
            switch.ip(&format!("link add {bridge} type bridge"))?;
            switch.ip(&format!("link set {bridge} up"))?;
        }
        let mut lan = Lan { switch, machines: Vec::new() };
        for number in 0..machines {
            let machine = Namespace::new()?;
            lan.cable(number, &machine)?;
            lan.machines.push(machine);
        }
        Ok(lan)
    }

    fn cable(&self, number: usize, machine: &Namespace) -> Result<(), String> {
        let inside = machine.holder.id();
        let switch = &self.switch;
        switch.ip(&format!("link add port{number} type veth peer name eth0 netns {inside}"))?;
        switch.ip(&format!("link set port{number} master {ONE}"))?;
        switch.ip(&format!("link set port{number} up"))?;
        machine.ip("link set lo up")?;
        machine.ip(&format!("address add 10.0.0.{}/24 dev eth0", number + 1))?;
        machine.ip("link set eth0 up")
    }

    /// What a command in that machine enters.
    pub(crate) fn namespace(&self, machine: usize) -> &Path {
        &self.machines[machine].path
    }

    /// Pulls a machine's cable out of the switch: both ends see that the link is down.
    pub(crate) fn pull(&self, machine: usize) {
        self.switch.must(&format!("link set port{machine} down"));
    }

    pub(crate) fn plug_in(&self, machine: usize) {
        self.switch.must(&format!("link set port{machine} up"));
    }

    /// Cuts some machines off from the rest; among themselves they stay connected. No link is seen
    /// to go down.
    pub(crate) fn part(&self, machines: &[usize]) {
        for machine in machines {
            self.switch.must(&format!("link set port{machine} master {OTHER}"));
        }
    }

    pub(crate) fn heal(&self, machines: &[usize]) {
        for machine in machines {
            self.switch.must(&format!("link set port{machine} master {ONE}"));
        }
    }
}

/// A network without any interface but its own loopback, which is down at first.
struct Namespace {
    holder: Process,
    path: PathBuf,
}

impl Namespace {
    fn new() -> Result<Self, String> {
        let mut command = Command::new("unshare");
        command.args(["--net", "cat"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut holder =
            Process::try_spawn(command).map_err(|error| format!("unshare: {error}"))?;
        let child = holder.child();
        let (Some(stdin), Some(stdout)) = (&mut child.stdin, &mut child.stdout) else {
            unreachable!("both are pipes")
        };
        // What comes back was written by `cat`, which runs in the namespace.
        let mut echo = [0];
        let echoed = stdin.write_all(b"\n").and_then(|()| stdout.read_exact(&mut echo));
        if echoed.is_err() {
            let mut why = String::new();
            let stderr = child.stderr.as_mut().map(|stderr| stderr.read_to_string(&mut why));
            stderr.transpose().map_err(|error| error.to_string())?;
            return Err(why.trim().to_owned());
        }
        let path = format!("/proc/{}/ns/net", holder.id()).into();
        Ok(Namespace { holder, path })
    }

    /// Runs `ip` in it.
    fn ip(&self, arguments: &str) -> Result<(), String> {
        let output = in_namespace(&self.path, "ip").args(arguments.split(' ')).output();
        let run = Run::of(&output.map_err(|error| format!("nsenter: {error}"))?);
        match run.code {
            0 => Ok(()),
            _ => Err(format!("ip {arguments}: {}", run.stderr.trim())),
        }
    }

    fn must(&self, arguments: &str) {
        self.ip(arguments).expect("the switch does what it did before");
    }
}
