//! Who else is there: each peer's liveness, and the candidates among whom tasks are ranked.
//!
//! A member is known by its heartbeats (Alive → Suspect → Down, as in SWIM: silence or a dropped
//! connection makes it suspect, a heartbeat of a newer count or incarnation refutes that), by a
//! clock that a tool reported for it (a candidate until a timeout), or as the holder of a lease
//! that was found on disk or in a merge (suspect from that moment).
//!
//! Membership writes nothing: it is this peer's view, and records never depend on it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::calls::Now;
use super::config::Config;
use super::ownership::Candidates;

/// What a peer says of itself, again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Heartbeat {
    /// Rises each time the peer starts, or refutes a suspicion.
    pub incarnation: u64,
    /// Rises with each heartbeat of an incarnation.
    pub counter: u64,
    /// Whether the peer runs tasks. One that does not is never an owner.
    pub takes_work: bool,
}

/// A member's liveness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Liveness {
    /// Heard of lately.
    Alive,
    /// Silent, or its connection dropped. Still an owner.
    Suspect,
    /// Silent for too long. What it held is free.
    Down,
}

#[derive(Debug)]
struct Member {
    /// The last heartbeat, if any came.
    beat: Option<Heartbeat>,
    liveness: Liveness,
    /// When liveness changes next without a word, on the monotonic clock.
    turns_at: u64,
    /// Until when a reported clock makes it a candidate, on the monotonic clock.
    reported_until: u64,
}

/// This peer's view of the swarm. See the module's page.
#[derive(Debug)]
pub(crate) struct Members {
    me: Arc<str>,
    members: BTreeMap<Arc<str>, Member>,
    candidates: Candidates,
    /// Before this point of the monotonic clock, time alone changes nothing; `u64::MAX` is never.
    /// Heartbeats only lower it; looking at all members is left to [`Members::advance`].
    next: u64,
}

impl Members {
    pub(crate) fn new(me: Arc<str>) -> Self {
        let mut candidates = Candidates::default();
        candidates.insert(me.clone());
        Members { me, members: BTreeMap::new(), candidates, next: u64::MAX }
    }

    /// Among whom tasks are ranked: this peer, and the members that are not down and take work.
    pub(crate) fn candidates(&self) -> &Candidates {
        &self.candidates
    }

    /// Members, this peer among them.
    pub(crate) fn known(&self) -> u64 {
        self.members.len() as u64 + 1
    }

    /// Whether `peer` is one of them.
    pub(crate) fn knows(&self, peer: &str) -> bool {
        *peer == *self.me || self.members.contains_key(peer)
    }

    /// Members that are not down, this peer among them.
    pub(crate) fn alive(&self, now: Now) -> u64 {
        let alive = |member: &&Member| {
            now.monotonic < member.reported_until
                || (member.beat.is_some() && member.liveness != Liveness::Down)
        };
        self.members.values().filter(alive).count() as u64 + 1
    }

    /// Whether what `peer` held is free.
    pub(crate) fn is_down(&self, peer: &str) -> bool {
        self.members.get(peer).is_some_and(|member| member.liveness == Liveness::Down)
    }

    /// The peer's liveness, if it is known.
    pub(crate) fn liveness(&self, peer: &str) -> Option<Liveness> {
        self.members.get(peer).map(|member| member.liveness)
    }

    /// Takes in a heartbeat. An older one than the last changes nothing.
    pub(crate) fn heartbeat(
        &mut self,
        now: Now,
        config: &Config,
        peer: &Arc<str>,
        beat: Heartbeat,
    ) {
        if *peer == self.me {
            return;
        }
        let member = self.member(peer);
        if member.beat.is_some_and(|last| {
            (beat.incarnation, beat.counter) <= (last.incarnation, last.counter)
        }) {
            return;
        }
        member.beat = Some(beat);
        member.liveness = Liveness::Alive;
        member.turns_at = now.monotonic.saturating_add(config.suspect_after);
        self.refresh(now, peer);
    }

    /// A connection to `peer` dropped: it is suspect at once.
    pub(crate) fn connection_lost(&mut self, now: Now, config: &Config, peer: &Arc<str>) {
        if let Some(member) = self.members.get_mut(peer)
            && member.liveness == Liveness::Alive
        {
            member.liveness = Liveness::Suspect;
            member.turns_at = now.monotonic.saturating_add(config.down_after);
            self.refresh(now, peer);
        }
    }

    /// A tool reported a clock for `peer`.
    pub(crate) fn reported(&mut self, now: Now, config: &Config, peer: &Arc<str>) {
        if *peer == self.me {
            return;
        }
        let until = now.monotonic.saturating_add(config.reported_member_timeout);
        self.member(peer).reported_until = until;
        self.refresh(now, peer);
    }

    /// A record names `peer` as a holder. If it was not heard of itself, it is suspect from now on.
    pub(crate) fn holds_a_lease(&mut self, now: Now, config: &Config, peer: &Arc<str>) {
        let is_watched = |member: &Member| member.turns_at != u64::MAX;
        if *peer == self.me || self.members.get(peer).is_some_and(is_watched) {
            return;
        }
        self.member(peer).turns_at = now.monotonic.saturating_add(config.down_after);
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
            }
            if member.liveness == Liveness::Suspect && member.turns_at <= now.monotonic {
                member.liveness = Liveness::Down;
                down.push(peer.clone());
            }
            if member.reported_until <= now.monotonic {
                member.reported_until = 0;
            }
            if !member.is_candidate() {
                self.candidates.remove(peer);
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
            liveness: Liveness::Suspect,
            turns_at: u64::MAX,
            reported_until: 0,
        })
    }

    /// Brings what is derived in line with what is known of `peer`.
    fn refresh(&mut self, now: Now, peer: &Arc<str>) {
        let Some(member) = self.members.get_mut(peer) else { return };
        if member.reported_until <= now.monotonic {
            member.reported_until = 0;
        }
        self.next = self.next.min(member.next_change());
        match member.is_candidate() {
            true => self.candidates.insert(peer.clone()),
            false => self.candidates.remove(peer),
        };
    }
}

impl Member {
    /// Whether tasks may go to it.
    fn is_candidate(&self) -> bool {
        let beats = self.beat.is_some_and(|beat| beat.takes_work);
        (beats && self.liveness != Liveness::Down) || self.reported_until > 0
    }

    /// Whether nothing is left to know of it: a reported clock that timed out.
    fn is_forgotten(&self) -> bool {
        self.beat.is_none() && self.reported_until == 0 && self.turns_at == u64::MAX
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
