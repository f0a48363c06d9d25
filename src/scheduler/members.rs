//! Who else is there: each peer's liveness, and the candidates among whom tasks are ranked.
//!
//! A member is known by its heartbeats (Alive → Suspect → Down, as in SWIM: silence or a dropped
//! connection makes it suspect, a heartbeat of a newer count or incarnation refutes that, unless it
//! may have been sent before the connection dropped), by a clock that a tool reported for it (a candidate until a timeout), or as the holder of a lease
//! that was found on disk or in a merge (suspect from that moment).
//!
//! Candidates are the members that are not down and run tasks: a peer says with each heartbeat
//! whether one of its workers asked for a task lately ([`Config::works_for`]), so that no task waits
//! a turn for a machine on which nobody works.
//!
//! Membership writes nothing: it is this peer's view, and records never depend on it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::calls::Now;
use super::changes::Heard;
use super::clock::ClockOrder;
use super::config::Config;
use super::member_view::{Heartbeat, Liveness, MemberView, Presence};
use super::ownership::Candidates;

/// Members that are connected to each other as a rule: in a larger swarm a word goes through others.
const NEIGHBOURS: u64 = 16;

/// In milliseconds.
const DAY: u64 = 24 * 3600 * 1000;

/// How late the time may be that is kept of when a member was heard of, in milliseconds.
const NOTE_INTERVAL: u64 = 3600 * 1000;

#[derive(Debug)]
struct Member {
    /// The last heartbeat, if any came.
    beat: Option<Heartbeat>,
    /// Whether it is connected to this peer.
    connected: bool,
    /// The count of the heartbeat that may have been under way when the connection dropped: it
    /// comes by way of others, and says nothing of what happened since.
    under_way: u64,
    /// Whether it is kept as a peer of the swarm, also if nothing was heard of it in this run.
    kept: bool,
    /// When that was last kept, on the wall clock.
    noted_at: u64,
    /// What it is known to hold on its disk, and when it said so by way of others.
    have: Option<Arc<BTreeMap<Arc<str>, u64>>>,
    have_stamp: (u64, u64),
    liveness: Liveness,
    /// When liveness changes next without a word, on the monotonic clock.
    turns_at: u64,
    /// Until when a reported clock makes it a candidate, on the monotonic clock.
    reported_until: u64,
    /// When a heartbeat or a reported clock last came, on the wall clock.
    heard_at: Option<u64>,
    /// How the clock that was last reported stood to this peer's.
    clock_order: Option<ClockOrder>,
}

/// This peer's view of the swarm. See the module's page.
#[derive(Debug)]
pub(crate) struct Members {
    me: Arc<str>,
    members: BTreeMap<Arc<str>, Member>,
    candidates: Candidates,
    /// The same without this peer.
    others: Candidates,
    /// The same with those that take no work.
    everyone: Candidates,
    /// Before this point of the monotonic clock, time alone changes nothing; `u64::MAX` is never.
    /// Heartbeats only lower it; looking at all members is left to [`Members::advance`].
    next: u64,
    /// Whether what [`Members::views`] shows changed, but for when a member was heard of.
    pub(crate) changed: bool,
    /// Members that fell silent, to be asked for once.
    silent: Vec<Arc<str>>,
    /// Peers that are no members whatever is heard of them.
    excluded: BTreeSet<Arc<str>>,
}

impl Members {
    pub(crate) fn new(me: Arc<str>) -> Self {
        let mut candidates = Candidates::default();
        candidates.insert(me.clone());
        let everyone = candidates.clone();
        let (members, others, next) = (BTreeMap::new(), Candidates::default(), u64::MAX);
        let (silent, excluded) = (Vec::new(), BTreeSet::new());
        let changed = false;
        Members { me, members, candidates, others, everyone, next, changed, silent, excluded }
    }

    /// Among whom tasks are ranked: this peer, and the members that are not down and take work.
    pub(crate) fn candidates(&self) -> &Candidates {
        &self.candidates
    }

    /// This peer and all that are not down, also those that take no work.
    pub(crate) fn everyone(&self) -> &Candidates {
        &self.everyone
    }

    /// Changes whenever a ranking does.
    pub(crate) fn sizes(&self) -> (usize, usize) {
        (self.candidates.len(), self.everyone.len())
    }

    /// The candidates without this peer, if it takes no work and somebody else does.
    pub(crate) fn owners(&self, takes_work: bool) -> &Candidates {
        match takes_work || self.others.is_empty() {
            true => &self.candidates,
            false => &self.others,
        }
    }

    /// Members, this peer among them.
    pub(crate) fn known(&self) -> u64 {
        self.members.values().filter(|member| !member.has_left()).count() as u64 + 1
    }

    /// Whether this peer and those in its reach are no majority of the swarm: then another part of
    /// it may do the same work.
    pub(crate) fn is_provisional(&self) -> bool {
        let swarm = self.members.values().filter(|member| member.kept);
        let (known, in_reach) = swarm.fold((1, 1), |(known, in_reach), member| {
            (known + 1, in_reach + usize::from(member.liveness != Liveness::Down))
        });
        2 * in_reach <= known
    }

    /// Whether `peer` is one of them.
    pub(crate) fn knows(&self, peer: &str) -> bool {
        *peer == *self.me || self.members.contains_key(peer)
    }

    /// Members that are not down, this peer among them.
    pub(crate) fn alive(&self, now: Now) -> u64 {
        self.members.values().filter(|member| member.is_alive(now)).count() as u64 + 1
    }

    /// The others, in the order of their ids.
    pub(crate) fn views(&self, now: Now) -> impl Iterator<Item = MemberView> {
        self.members.iter().map(move |(peer, member)| MemberView {
            peer_id: peer.clone(),
            liveness: (member.turns_at != u64::MAX).then_some(member.liveness),
            has_left: member.has_left(),
            alive: member.is_alive(now),
            takes_work: member.is_candidate(),
            heard_at: member.heard_at,
            clock_order: member.clock_order,
        })
    }

    /// The last heartbeats of the members that are not down, and of those that left.
    pub(crate) fn beats(&self) -> impl Iterator<Item = (&Arc<str>, Heartbeat)> {
        let told = |member: &Member| member.liveness != Liveness::Down || member.has_left();
        let told = self.members.iter().filter(move |(_, member)| told(member));
        told.filter_map(|(peer, member)| member.beat.map(|beat| (peer, beat)))
    }

    /// The last heartbeat of `peer`, also if it is down.
    pub(crate) fn beat_of(&self, peer: &str) -> Option<Heartbeat> {
        self.members.get(peer)?.beat
    }

    /// The copy of a peer's name that is in memory already.
    pub(crate) fn shared_name(&self, peer: &str) -> Option<Arc<str>> {
        match *peer == *self.me {
            true => Some(self.me.clone()),
            false => self.members.get_key_value(peer).map(|(shared, _)| shared.clone()),
        }
    }

    /// Whether what `peer` held is free.
    pub(crate) fn is_down(&self, peer: &str) -> bool {
        self.members.get(peer).is_some_and(|member| member.liveness == Liveness::Down)
    }

    /// The peer's liveness, if it is known.
    pub(crate) fn liveness(&self, peer: &str) -> Option<Liveness> {
        self.members.get(peer).map(|member| member.liveness)
    }

    /// Takes up a peer of the swarm that was kept, or that another peer knows of. It is suspect until
    /// it is heard of.
    pub(crate) fn recall(&mut self, now: Now, config: &Config, peer: &Arc<str>, heard: Heard) {
        let member = self.member(peer);
        (member.kept, member.have) = (true, heard.have);
        (member.noted_at, member.heard_at) = (heard.at, Some(heard.at));
        member.turns_at = now.monotonic.saturating_add(config.down_after);
        self.refresh(now, peer);
    }

    /// Whether `peer` does not count as a member, whatever others say of it.
    pub(crate) fn is_excluded(&self, peer: &str) -> bool {
        self.excluded.contains(peer)
    }

    /// Whether there are other peers in the swarm.
    pub(crate) fn has_swarm(&self) -> bool {
        self.members.values().any(|member| member.kept)
    }

    /// The peers of the swarm, all that are kept.
    pub(crate) fn swarm(&self) -> impl Iterator<Item = &Arc<str>> {
        self.members.iter().filter(|(_, member)| member.kept).map(|(peer, _)| peer)
    }

    /// When any peer of the swarm was last heard of, on the wall clock.
    pub(crate) fn last_heard_at(&self) -> Option<u64> {
        let swarm = self.members.values().filter(|member| member.kept);
        swarm.filter_map(|member| member.heard_at).max()
    }

    /// When `peer` was last heard of, on the wall clock.
    pub(crate) fn heard_at(&self, peer: &str) -> Option<u64> {
        self.members.get(peer)?.heard_at
    }

    /// What each other peer of the swarm holds, where that is known.
    pub(crate) fn vectors(&self) -> impl Iterator<Item = Option<&BTreeMap<Arc<str>, u64>>> {
        let swarm = self.members.values().filter(|member| member.kept);
        swarm.map(|member| member.have.as_deref())
    }

    /// How many counters those have together.
    pub(crate) fn counters(&self) -> usize {
        self.vectors().flatten().map(BTreeMap::len).sum()
    }

    /// A peer of the swarm holds this, on its disk, and said so itself.
    pub(crate) fn holds(&mut self, peer: &str, have: &Arc<BTreeMap<Arc<str>, u64>>) {
        if let Some(member) = self.members.get_mut(peer) {
            member.have = Some(have.clone());
        }
    }

    /// The same, by way of others. Returns whether it was news.
    pub(crate) fn held(
        &mut self,
        peer: &str,
        stamp: (u64, u64),
        have: &Arc<BTreeMap<Arc<str>, u64>>,
    ) -> bool {
        let member = self.members.get_mut(peer).filter(|member| member.kept);
        let Some(member) = member.filter(|member| member.have_stamp < stamp) else { return false };
        (member.have, member.have_stamp) = (Some(have.clone()), stamp);
        true
    }

    /// The peers of the swarm that were not heard of for so long.
    pub(crate) fn silent_for(&self, now: Now, millis: u64) -> Vec<Arc<str>> {
        let is_silent = |member: &Member| {
            let heard_at = member.heard_at.unwrap_or(0);
            member.kept
                && member.liveness == Liveness::Down
                && heard_at.saturating_add(millis) <= now.wall
                // A wall clock may jump: it is down for a day at least, as this peer has seen itself.
                && member.turns_at.saturating_add(millis.min(DAY)) <= now.monotonic
        };
        let silent = self.members.iter().filter(|(_, member)| is_silent(member));
        silent.map(|(peer, _)| peer.clone()).collect()
    }

    /// Takes in a heartbeat. An older one than the last changes nothing. Returns whether it is to be
    /// kept that the peer was heard of.
    pub(crate) fn heartbeat(
        &mut self,
        now: Now,
        config: &Config,
        peer: &Arc<str>,
        beat: Heartbeat,
    ) -> bool {
        if *peer == self.me || self.excluded.contains(peer) {
            return false;
        }
        let detours = self.detours();
        let member = self.member(peer);
        if let Some(last) = member.beat {
            if (beat.incarnation, beat.counter) <= (last.incarnation, last.counter) {
                return false;
            }
            let is_same_run = beat.incarnation == last.incarnation;
            if is_same_run && beat.counter <= member.under_way && beat.presence != Presence::Left {
                member.beat = Some(beat);
                return false;
            }
        }
        let standing = |member: &Member| {
            (member.beat.map(|beat| beat.presence), member.liveness, member.turns_at == u64::MAX)
        };
        let before = standing(member);
        member.beat = Some(beat);
        member.liveness = match beat.presence {
            Presence::Works | Presence::Watches => Liveness::Alive,
            Presence::Left => Liveness::Down,
        };
        member.heard_at = Some(now.wall);
        let silence = config.suspect_after * if member.connected { 1 } else { detours };
        member.turns_at = now.monotonic.saturating_add(silence);
        let stays = beat.presence != Presence::Left;
        let is_due = now.wall.abs_diff(member.noted_at) >= NOTE_INTERVAL;
        let to_be_kept = stays != member.kept || (stays && is_due);
        member.kept = stays;
        if !stays {
            // It may come back with less: nothing is kept of it on disk either.
            member.have = None;
        }
        if to_be_kept {
            member.noted_at = now.wall;
        }
        let changed = standing(member) != before;
        self.changed |= changed;
        self.refresh(now, peer);
        to_be_kept
    }

    /// How the clock of `peer` stands to this peer's.
    pub(crate) fn set_clock_order(&mut self, peer: &str, order: ClockOrder) {
        if let Some(member) = self.members.get_mut(peer)
            && member.clock_order != Some(order)
        {
            member.clock_order = Some(order);
            self.changed = true;
        }
    }

    /// Forgets `peer` as if it had never been heard of. What it held is as free as that of any peer
    /// that nobody hears of: after the time that a suspect has.
    pub(crate) fn forget(&mut self, peer: &str) {
        if self.members.remove(peer).is_some() {
            self.leave_candidates(peer);
            self.everyone.remove(peer);
            self.changed = true;
        }
    }

    /// Nothing that is heard of `peer` makes it a member from now on.
    pub(crate) fn exclude(&mut self, peer: &Arc<str>) {
        self.excluded.insert(peer.clone());
    }

    /// See [`Members::exclude`]: the other way round.
    pub(crate) fn include(&mut self, peer: &str) {
        self.excluded.remove(peer);
    }

    /// The members that fell silent since this was last called.
    pub(crate) fn take_silent(&mut self) -> Vec<Arc<str>> {
        std::mem::take(&mut self.silent)
    }

    /// How many times as long a word may take that comes by way of others: the way grows with the
    /// logarithm of the swarm.
    fn detours(&self) -> u64 {
        let log = (self.members.len() as u64 / NEIGHBOURS).checked_ilog2();
        log.map_or(1, |log| u64::from(log) + 2)
    }

    /// A connection to `peer` stands.
    pub(crate) fn connected(&mut self, peer: &Arc<str>) {
        if let Some(member) = self.members.get_mut(peer) {
            member.connected = true;
        }
    }

    /// A connection to `peer` dropped: it is suspect at once. Where it lives, others may tell so.
    pub(crate) fn connection_lost(&mut self, now: Now, config: &Config, peer: &Arc<str>) {
        let others_may_tell = config.suspect_after * (self.detours() - 1);
        let Some(member) = self.members.get_mut(peer) else { return };
        member.connected = false;
        if member.liveness == Liveness::Alive {
            member.liveness = Liveness::Suspect;
            let silence = config.down_after.max(others_may_tell);
            member.turns_at = now.monotonic.saturating_add(silence);
            member.under_way = member.beat.map_or(0, |last| last.counter + 1);
            self.changed = true;
            self.refresh(now, peer);
        }
    }

    /// A tool reported a clock for `peer`, which stood to this peer's like that.
    pub(crate) fn reported(
        &mut self,
        now: Now,
        config: &Config,
        peer: &Arc<str>,
        order: ClockOrder,
    ) {
        if *peer == self.me {
            return;
        }
        let until = now.monotonic.saturating_add(config.reported_member_timeout);
        let member = self.member(peer);
        (member.reported_until, member.heard_at) = (until, Some(now.wall));
        member.clock_order = Some(order);
        self.changed = true;
        self.refresh(now, peer);
    }

    /// A record names `peer` as a holder. If it was not heard of itself, it is suspect from now on.
    pub(crate) fn holds_a_lease(&mut self, now: Now, config: &Config, peer: &Arc<str>) {
        let is_watched = |member: &Member| member.turns_at != u64::MAX;
        if *peer == self.me || self.members.get(peer).is_some_and(is_watched) {
            return;
        }
        self.member(peer).turns_at = now.monotonic.saturating_add(config.down_after);
        self.changed = true;
        self.refresh(now, peer);
    }

    /// Lets time pass. Returns the peers that went down.
    ///
    /// A suspect has all of its time from now, however late this is called: a process that was
    /// stopped has not read yet what the others said meanwhile.
    pub(crate) fn advance(&mut self, now: Now, config: &Config) -> Vec<Arc<str>> {
        let mut down = Vec::new();
        if now.monotonic < self.next {
            return down;
        }
        for (peer, member) in &mut self.members {
            if member.liveness == Liveness::Alive && member.turns_at <= now.monotonic {
                member.liveness = Liveness::Suspect;
                member.turns_at = now.monotonic.saturating_add(config.down_after);
                self.silent.push(peer.clone());
                self.changed = true;
            }
            if member.liveness == Liveness::Suspect && member.turns_at <= now.monotonic {
                member.liveness = Liveness::Down;
                down.push(peer.clone());
                self.changed = true;
            }
            if member.reported_until > 0 && member.reported_until <= now.monotonic {
                member.reported_until = 0;
                self.changed = true;
            }
            if !member.is_candidate() {
                self.candidates.remove(peer);
                self.others.remove(peer);
            }
            if !member.counts() {
                self.everyone.remove(peer);
            }
        }
        self.members.retain(|_, member| !member.is_forgotten());
        self.next = self.members.values().map(Member::next_change).min().unwrap_or(u64::MAX);
        down
    }

    /// When [`Members::advance`] has something to do, on the monotonic clock.
    pub(crate) fn next_deadline(&self) -> Option<u64> {
        (self.next != u64::MAX).then_some(self.next)
    }

    fn member(&mut self, peer: &Arc<str>) -> &mut Member {
        self.members.entry(peer.clone()).or_insert(Member {
            beat: None,
            connected: false,
            under_way: 0,
            kept: false,
            noted_at: 0,
            have: None,
            have_stamp: (0, 0),
            liveness: Liveness::Suspect,
            turns_at: u64::MAX,
            reported_until: 0,
            heard_at: None,
            clock_order: None,
        })
    }

    /// Brings what is derived in line with what is known of `peer`.
    fn refresh(&mut self, now: Now, peer: &Arc<str>) {
        let Some(member) = self.members.get_mut(peer) else { return };
        if member.reported_until <= now.monotonic {
            member.reported_until = 0;
        }
        self.next = self.next.min(member.next_change());
        match member.counts() {
            true => self.everyone.insert(peer.clone()),
            false => self.everyone.remove(peer),
        };
        match member.is_candidate() {
            true => {
                self.candidates.insert(peer.clone());
                self.others.insert(peer.clone());
            }
            false => self.leave_candidates(peer),
        }
    }

    fn leave_candidates(&mut self, peer: &str) {
        self.candidates.remove(peer);
        self.others.remove(peer);
    }
}

impl Member {
    fn is_alive(&self, now: Now) -> bool {
        let beats = self.beat.is_some() && self.liveness != Liveness::Down;
        beats || now.monotonic < self.reported_until
    }

    /// Whether tasks may go to it.
    fn is_candidate(&self) -> bool {
        let beats = self.beat.is_some_and(|beat| beat.presence == Presence::Works);
        (beats && self.liveness != Liveness::Down) || self.reported_until > 0
    }

    /// Whether it is there, whether or not it takes work.
    fn counts(&self) -> bool {
        let beats = self.beat.is_some() && !self.has_left();
        (beats && self.liveness != Liveness::Down) || self.reported_until > 0
    }

    fn has_left(&self) -> bool {
        self.beat.is_some_and(|beat| beat.presence == Presence::Left)
    }

    /// Whether nothing is left to know of it: a reported clock that timed out.
    fn is_forgotten(&self) -> bool {
        !self.kept && self.beat.is_none() && self.reported_until == 0 && self.turns_at == u64::MAX
    }

    fn next_change(&self) -> u64 {
        let turn = match self.liveness {
            Liveness::Down => u64::MAX,
            Liveness::Alive | Liveness::Suspect => self.turns_at,
        };
        match self.reported_until {
            0 => turn,
            until => turn.min(until),
        }
    }
}
