//! What goes wrong, and how it comes right again.

use std::sync::Arc;

use super::events::Event;
use super::node::{Peer, StandStill};
use super::scenario::Weather;
use super::trace::What;
use super::world::World;

/// Writes that a node makes by itself, at most, between two looks at how many it may make.
const SPARE_WRITES: u64 = 6;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The swarm falls into pieces that do not reach each other.
    Partition,
    /// A connection ends.
    Break,
    /// A peer's cable is pulled.
    Unplug,
    /// Messages of one peer to another stay away.
    Deaf,
    /// A process, or a machine, ends.
    Crash,
    /// A machine stands still.
    Pause,
    /// A wall clock jumps.
    Jump,
    /// Loss, delays and doublings change.
    Weather,
    /// A disk becomes slow.
    SlowDisk,
    /// A disk refuses writes.
    BrokenDisk,
    /// A peer comes, with an empty store.
    Join,
    /// A peer goes for good, and its disk with it.
    Leave,
    /// A store is put back to its backup, and its node is told.
    Restore,
    /// A store is put back to its backup, and nobody knows.
    RestoreUntold,
    /// A tool reports a clock that no peer has.
    ForgedClock,
}

impl Fault {
    pub(crate) const ALL: [Fault; 15] = [
        Fault::Partition,
        Fault::Break,
        Fault::Unplug,
        Fault::Deaf,
        Fault::Crash,
        Fault::Pause,
        Fault::Jump,
        Fault::Weather,
        Fault::SlowDisk,
        Fault::BrokenDisk,
        Fault::Join,
        Fault::Leave,
        Fault::Restore,
        Fault::RestoreUntold,
        Fault::ForgedClock,
    ];
}

/// The end of a fault.
#[derive(Clone, Copy, Debug)]
pub(crate) enum End {
    Partition,
    Unplugged(usize),
    Deaf(usize, usize),
    /// A node starts again.
    Down(usize),
    /// A machine goes on that stood still since then.
    Paused {
        peer: usize,
        since: u64,
    },
    SlowDisk(usize),
    BrokenDisk(usize),
}

impl World {
    /// Something goes wrong, and something else will.
    pub(crate) fn fault_strikes(&mut self) {
        if self.is_calm() || self.profile.faults.is_empty() {
            return;
        }
        let wait = self.random.within(500..self.profile.between_faults);
        self.events.plan(self.now + wait, Event::Fault);
        let fault = *self.random.one_of(&self.profile.faults);
        let p = self.random.below(self.peers.len());
        let other = self.random.below(self.peers.len());
        if self.peers[p].gone || self.peers[other].gone {
            return;
        }
        self.disturbed();
        if self.random.percent(30) {
            self.peers[other].backup = Some(self.peers[other].disk.clone());
        }
        match fault {
            Fault::Partition => self.partition(),
            Fault::Break => self.break_one(),
            Fault::Unplug => self.unplug(p),
            Fault::Deaf if p != other => self.deafen(p, other),
            Fault::Deaf => {}
            Fault::Crash => self.crash_for_a_while(p),
            Fault::Pause => self.pause(p),
            Fault::Jump => self.jump(p),
            Fault::Weather => {
                let weather = Weather::foul(&mut self.random);
                self.set_weather(weather);
            }
            Fault::SlowDisk => self.slow_disk(p),
            Fault::BrokenDisk => self.break_disk(p),
            Fault::Join => self.join(),
            Fault::Leave => self.leave_for_good(p),
            Fault::Restore => self.restore_told(p),
            Fault::RestoreUntold => self.restore_untold(p),
            Fault::ForgedClock => self.report_clock(p, other),
        }
    }

    fn fault(&mut self, p: Option<usize>, what: &'static str, detail: u64) {
        self.summary.count(what, 1);
        self.trace.note(self.now, p, What::Fault { what, detail });
    }

    fn ends_after(&mut self, longest: u64, end: End) -> u64 {
        let after = self.random.spread(500..longest);
        self.events.plan(self.now + after, Event::End(end));
        after
    }

    fn partition(&mut self) {
        if self.network.island.iter().any(|island| *island != 0) {
            return;
        }
        let islands = 2 + self.random.within(0..2);
        for p in 0..self.peers.len() {
            self.network.island[p] = self.random.within(0..islands);
        }
        let after = self.ends_after(120_000, End::Partition);
        self.fault(None, "partition", after);
        for p in 0..self.peers.len() {
            let island = self.network.island[p];
            self.fault(Some(p), "island", island);
        }
        let links = self.network.all_links();
        self.silence(&links);
    }

    fn break_one(&mut self) {
        let links = self.network.all_links();
        if links.is_empty() {
            return;
        }
        let link = *self.random.one_of(&links);
        let [a, b] = self.network.ends(link);
        self.fault(Some(a), "a link breaks", b as u64);
        self.break_link(link);
    }

    fn unplug(&mut self, p: usize) {
        if self.network.unplugged.insert(p) {
            let after = self.ends_after(60_000, End::Unplugged(p));
            self.fault(Some(p), "cable pulled", after);
            let links = self.network.links_of(p);
            self.silence(&links);
        }
    }

    fn deafen(&mut self, from: usize, to: usize) {
        if self.network.deaf.insert((from, to)) {
            self.ends_after(60_000, End::Deaf(from, to));
            self.fault(Some(from), "is not heard any more", to as u64);
            let links = self.network.links_of(from);
            self.silence(&links);
        }
    }

    fn crash_for_a_while(&mut self, p: usize) {
        // A store that was put back and opened twice does not know since when it writes what others
        // take for something else: that is in the known hole as well.
        if self.peers[p].node.is_none() || self.doubtful.contains(&p) {
            return;
        }
        let machine_too = self.random.percent(40);
        self.crash(p, machine_too);
        let longest = if machine_too { 120_000 } else { 20_000 };
        self.ends_after(longest, End::Down(p));
    }

    fn pause(&mut self, p: usize) {
        if !self.peers[p].is_running() {
            return;
        }
        let (since, clock_too) = (self.now, self.random.percent(50));
        self.peers[p].stands_still = Some(StandStill { since, clock_too, waiting: Vec::new() });
        let end = End::Paused { peer: p, since };
        let longest = if self.random.percent(5) { 3_600_000 } else { 90_000 };
        let after = self.ends_after(longest, end);
        self.fault(
            Some(p),
            if clock_too { "stands still, clock too" } else { "stands still" },
            after,
        );
        let links = self.network.links_of(p);
        self.silence(&links);
    }

    fn jump(&mut self, p: usize) {
        let by = self.random.spread(100..7_200_000) as i64;
        let by = if self.random.percent(50) { by } else { -by };
        self.peers[p].clock.skew = by;
        self.fault(Some(p), "wall clock jumps", by.unsigned_abs());
    }

    pub(crate) fn set_weather(&mut self, weather: Weather) {
        let Weather { loss, doubled, delay, .. } = weather;
        let now = self.now;
        self.trace.note(now, None, What::Weather { loss, doubled, delay });
        self.weather = weather;
    }

    fn slow_disk(&mut self, p: usize) {
        if self.slow_disks.insert(p) {
            let after = self.ends_after(60_000, End::SlowDisk(p));
            self.fault(Some(p), "slow disk", after);
        }
    }

    fn break_disk(&mut self, p: usize) {
        if !self.doubtful.contains(&p) && self.broken_disks.insert(p) {
            let after = self.ends_after(30_000, End::BrokenDisk(p));
            self.fault(Some(p), "disk refuses", after);
        }
    }

    fn join(&mut self) {
        if self.peers.len() >= 2 * self.at_first || !self.doubtful.is_empty() {
            return;
        }
        let p = self.peers.len();
        self.add_peer();
        self.network.island[p] = self.network.island[self.random.below(p)];
        self.note(p, What::Joined);
        self.summary.count("joined", 1);
        self.start_node(p);
    }

    fn leave_for_good(&mut self, p: usize) {
        if self.living().count() <= 3 || !self.doubtful.is_empty() {
            return;
        }
        if self.random.percent(50) {
            // It says so, and what it says may come through.
            self.call(p, |_, core, now| {
                core.leave(now);
                None
            });
        }
        self.note(p, What::Left);
        self.summary.count("left", 1);
        self.crash(p, self.now.is_multiple_of(2));
        self.peers[p].gone = true;
        self.oracle.forget_lost(&self.peers);
        // Those that knew each other through it know each other by now.
        let links = self.network.links_of(p);
        let ends = links.iter().flat_map(|link| self.network.ends(*link));
        let known: Vec<usize> = ends.filter(|q| !self.peers[*q].gone).collect();
        for pair in known.windows(2) {
            let link = self.network.link(pair[0], pair[1], 10);
            self.dial_soon(link);
        }
    }

    fn restore_told(&mut self, p: usize) {
        if self.put_back(p) {
            self.fault(Some(p), "store put back, told", 0);
            self.actors += 1;
            let peer = &mut self.peers[p];
            let actor: Arc<str> = format!("{}/{}", peer.name, self.actors).into();
            peer.disk = std::mem::take(&mut peer.disk).put_back(&actor);
        }
    }

    /// Not where a peer could take a write of the store's second life for one of its first that it
    /// lacks: that is the known hole of the protocol, a store that writes while it is cut off from
    /// those who know better.
    fn restore_untold(&mut self, p: usize) {
        let Some(backup) = &self.peers[p].backup else { return };
        let known = backup.have.get(&backup.actor).copied().unwrap_or(0);
        let held = backup.records().filter_map(|(_, record)| record.held());
        let own = held.filter(|lease| lease.holder == self.peers[p].name).count() as u64;
        if backup.actor != self.peers[p].disk.actor
            || self.broken_disks.contains(&p)
            || known + own + SPARE_WRITES > self.known_by_all_others(p)
        {
            return;
        }
        if self.put_back(p) {
            self.fault(Some(p), "store put back, untold", known);
            self.doubtful.insert(p);
        }
    }

    fn put_back(&mut self, p: usize) -> bool {
        if !self.doubtful.is_empty() || self.peers[p].backup.is_none() {
            return false;
        }
        self.crash_for_a_while(p);
        let peer = &mut self.peers[p];
        let put_back = peer.node.is_none() && !peer.gone;
        if let Some(backup) = peer.backup.clone().filter(|_| put_back) {
            peer.disk = backup;
            peer.other_lives += 1;
            self.workers_forget(p);
            self.oracle.forget_lost(&self.peers);
        }
        put_back
    }

    /// How many writes of a peer's actor are on the disks of all others.
    fn known_by_all_others(&self, p: usize) -> u64 {
        let actor = &self.peers[p].disk.actor;
        let others = self.living().filter(|(q, _)| *q != p);
        others.map(|(_, it)| it.disk.have.get(actor).copied().unwrap_or(0)).min().unwrap_or(0)
    }

    /// Whether people and workers may let a peer write: one whose store was put back without a word
    /// only what all others know already of its first life.
    pub(crate) fn may_write(&self, p: usize) -> bool {
        if !self.doubtful.contains(&p) {
            return true;
        }
        let Peer { node: Some(node), actor, .. } = &self.peers[p] else { return false };
        let written = node.core.have().get(actor).copied().unwrap_or(0);
        written + SPARE_WRITES <= self.known_by_all_others(p)
    }

    /// Something comes right again.
    pub(crate) fn ends(&mut self, end: End) {
        self.disturbed();
        let (p, what) = match end {
            End::Partition => {
                self.network.island.fill(0);
                (None, "partition")
            }
            End::Unplugged(p) => {
                self.network.unplugged.remove(&p);
                (Some(p), "cable pulled")
            }
            End::Deaf(from, to) => {
                self.network.deaf.remove(&(from, to));
                (Some(from), "is not heard")
            }
            End::Down(p) => {
                if self.peers[p].node.is_none() && !self.peers[p].gone {
                    self.start_node(p);
                }
                return;
            }
            End::Paused { peer, since } => {
                // Not if it was turned off and on meanwhile.
                if self.peers[peer].stands_still.as_ref().is_none_or(|still| still.since != since) {
                    return;
                }
                self.goes_on(peer);
                (Some(peer), "stands still")
            }
            End::SlowDisk(p) => {
                self.slow_disks.remove(&p);
                (Some(p), "slow disk")
            }
            End::BrokenDisk(p) => {
                self.broken_disks.remove(&p);
                self.disk_recovers(p);
                (Some(p), "disk refuses")
            }
        };
        let now = self.now;
        self.trace.note(now, p, What::Over { what });
    }

    fn goes_on(&mut self, p: usize) {
        let Some(still) = self.peers[p].stands_still.take() else { return };
        if still.clock_too {
            self.peers[p].clock.stood += self.now - still.since;
        }
        for event in still.waiting {
            self.events.plan(self.now + 1, event);
        }
    }

    /// Everything comes right: from now on nothing goes wrong.
    pub(crate) fn heal(&mut self) {
        let now = self.now;
        self.trace.note(now, None, What::Over { what: "everything" });
        self.set_weather(Weather::FAIR);
        self.network.island.fill(0);
        self.network.unplugged.clear();
        self.network.deaf.clear();
        self.slow_disks.clear();
        let broken = std::mem::take(&mut self.broken_disks);
        broken.into_iter().for_each(|p| self.disk_recovers(p));
        for p in 0..self.peers.len() {
            self.goes_on(p);
            if self.peers[p].node.is_none() && !self.peers[p].gone {
                self.start_node(p);
            }
        }
    }
}
