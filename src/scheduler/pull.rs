//! The two sides of a pull (protocol rule 8): see the page of `replication`.
//!
//! Invariant of the requester: with `cursors[peer] = (run, n)` it holds, for each task, the state of
//! its last change up to `n` in that run of the peer, or a greater one. So it may go on from there in
//! any later pull. Only with the last page, which reaches the end of the order under one lock, does
//! it hold all that the responder's vector stands for, and only then is that vector merged.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::calls::Now;
use super::changes::Heard;
use super::clock::MerkleClock;
use super::foreign::Carried;
use super::limits::{MAX_CARRIED, MAX_CARRIED_BYTES, MAX_CLOCK_ENTRIES, MAX_PULL_SCAN};
use super::machine::P2PWorkflowScheduler;
use super::messages::{
    Content, Cursor, Outgoing, PullId, PullPage, PullRequest, Source, Vectors, size_with_texts,
};
use super::record::{Dot, Record, fingerprint};
use super::refused::Refused;
use super::replication::{Replication, below};
use super::tombstones::Tombstone;

/// Pulls that left equal vectors and differing records, before an audit looks for the reason.
const PULLS_BEFORE_AUDIT: u32 = 2;

/// A pull that waits for its next page.
#[derive(Debug)]
pub(super) struct Pull {
    pub(super) peer: Arc<str>,
    id: PullId,
    /// As it was when the pull began.
    have: Arc<BTreeMap<Arc<str>, u64>>,
    after: Option<Cursor>,
    /// Whether a page came.
    has_begun: bool,
    /// For an audit: fingerprints of the ids of the tasks that the peer holds.
    listed: Option<BTreeSet<u64>>,
    /// For an audit: the peer's records of tasks of which this one holds a greater record, as the
    /// peer holds them last, by the fingerprints of the ids.
    lesser: BTreeMap<u64, Carried>,
    /// When it ends unless a page comes, on the monotonic clock.
    pub(super) gives_up_at: u64,
}

impl P2PWorkflowScheduler {
    /// Lets time pass: a pull that waits in vain ends, and the next one begins.
    pub(super) fn advance_pull(&mut self, now: Now) {
        let Some(replication) = &self.replication else { return };
        match &replication.pull {
            Some(pull) if pull.gives_up_at <= now.monotonic => self.end_pull(now),
            None if replication.next_pull <= now.monotonic => self.begin_pull(now),
            _ => {}
        }
    }

    /// Pulls from one of the connected peers that may hold what this one lacks.
    fn begin_pull(&mut self, now: Now) {
        let roots = self.roots();
        let audit = self.is_in_doubt();
        let any = audit || self.is_settling();
        let Some(replication) = &mut self.replication else { return };
        let connected = replication.connected.iter();
        let mut differing: Vec<(&Arc<str>, bool)> = connected
            .filter(|(_, remote)| remote.roots.is_some_and(|theirs| any || theirs != roots))
            .map(|(peer, remote)| (peer, remote.wants_pull))
            .collect();
        if differing.iter().any(|(_, wants_pull)| *wants_pull) {
            differing.retain(|(_, wants_pull)| *wants_pull);
        }
        if differing.is_empty() {
            return self.plan_pull(now);
        }
        let peer = differing[below((self.jitter)(), differing.len())].0.clone();
        replication.pulls += 1;
        let id = PullId { run: replication.nonce, number: replication.pulls };
        // Where pulls do not help, something else is wrong than what they mend.
        let remote = &replication.connected[&peer];
        let enough = if any { 1 } else { PULLS_BEFORE_AUDIT };
        let audit = audit || remote.pulls_in_vain >= enough;
        let after = replication.cursors.get(&peer).filter(|_| !audit).copied();
        let have = Arc::new(self.have.clone());
        let listed = audit.then(BTreeSet::new);
        let (has_begun, gives_up_at) = (false, 0);
        let lesser = BTreeMap::new();
        replication.pull =
            Some(Pull { peer, id, have, after, has_begun, listed, lesser, gives_up_at });
        self.request_page(now);
    }

    fn request_page(&mut self, now: Now) {
        let Some(replication) = &mut self.replication else { return };
        let Some(pull) = &mut replication.pull else { return };
        pull.gives_up_at = now.monotonic.saturating_add(self.config.pull_timeout);
        let request = PullRequest {
            pull: pull.id,
            have: pull.have.clone(),
            after: pull.after,
            audit: pull.listed.is_some(),
        };
        let outgoing = Outgoing::new(&pull.peer, Content::PullRequest(request));
        replication.outgoing.push(Outgoing { is_next_page: pull.has_begun, ..outgoing });
    }

    /// Ends the pull, whether or not it reached its end. A peer whose pull failed is asked before
    /// others no longer: it may fail again.
    pub(super) fn end_pull(&mut self, now: Now) {
        if let Some(replication) = &mut self.replication {
            let failed = replication.pull.take().map(|pull| pull.peer);
            if let Some(remote) = failed.and_then(|peer| replication.connected.get_mut(&peer)) {
                remote.wants_pull = false;
            }
            self.plan_pull(now);
        }
    }

    /// The next pull comes after an interval with jitter, so that peers do not pull in step.
    fn plan_pull(&mut self, now: Now) {
        let Some(replication) = &mut self.replication else { return };
        let interval = self.config.pull_interval.max(1);
        let wait = interval / 2 + (self.jitter)() % interval;
        replication.next_pull = now.monotonic.saturating_add(wait.max(1));
    }

    /// A page came in. One that does not answer the last request changes nothing.
    pub(super) fn receive_page(
        &mut self,
        now: Now,
        from: &Arc<str>,
        page: PullPage,
    ) -> Result<(), Refused> {
        let pull = self.replication.as_ref().and_then(|replication| replication.pull.as_ref());
        let is_answer =
            |pull: &Pull| (&pull.peer, pull.id, pull.after) == (from, page.pull, page.after);
        if !pull.is_some_and(is_answer) {
            return Ok(());
        }
        let taken = self.take_page(now, from, page);
        if taken.is_err() {
            self.end_pull(now);
        }
        taken
    }

    fn take_page(&mut self, now: Now, from: &Arc<str>, page: PullPage) -> Result<(), Refused> {
        let PullPage { after, cursor, records, tombstones, listed, remaining, last, .. } = page;
        if after.is_some_and(|after| after.run != cursor.run) {
            // The peer started again and numbers its changes anew.
            if let Some(replication) = &mut self.replication {
                replication.cursors.remove(from);
            }
            self.end_pull(now);
            return Ok(());
        }
        let progress = cursor.number > after.map_or(0, |after| after.number);
        self.check_records(&records)?;
        self.check_tombstones(&tombstones)?;
        if listed.len() > MAX_PULL_SCAN {
            return Err(Refused::TooMany { what: "ids", count: listed.len() });
        }
        if let Some(last) = &last {
            self.check_have(&last.have)?;
            self.check_clock_of(&last.clock)?;
            self.check_members(&last.members)?;
        }
        self.follow_audit(&records, &tombstones, &listed);
        let count = records.len() as u64;
        self.take_in_page(now, records)?;
        tombstones.into_iter().for_each(|tombstone| self.take_in_tombstone(now, tombstone));
        let Some(replication) = &mut self.replication else { return Ok(()) };
        replication.catch_up.taken += count;
        replication.catch_up.remaining = remaining;
        if !replication.cursors.contains_key(from) && replication.cursors.len() >= MAX_CLOCK_ENTRIES
        {
            // Whoever it is begins at the first change again.
            replication.cursors.pop_first();
        }
        replication.cursors.insert(from.clone(), cursor);
        if let Some(last) = last {
            self.reach_end(now, from, last);
        } else if progress {
            if let Some(pull) = &mut replication.pull {
                (pull.after, pull.has_begun) = (Some(cursor), true);
            }
            self.request_page(now);
        } else {
            // It cannot read its next record; perhaps it can later.
            self.end_pull(now);
        }
        Ok(())
    }

    fn follow_audit(&mut self, records: &[Carried], tombstones: &[Tombstone], ids: &[u64]) {
        let pull = self.replication.as_mut().and_then(|replication| replication.pull.as_mut());
        let Some(Pull { listed: Some(listed), lesser, .. }) = pull else { return };
        let is_lesser = |carried: &&Carried| {
            let known = self.table.key_of(&carried.record.spec.task_id);
            known.is_some_and(|key| self.table.entry(key).record.order(&carried.record).is_gt())
        };
        let found = records.iter().filter(is_lesser);
        let found = found.map(|it| (fingerprint(it.record.spec.task_id.as_bytes()), it.clone()));
        let records = records.iter().map(|carried| &carried.record.spec.task_id);
        let here = records.chain(tombstones.iter().map(|tombstone| &tombstone.task_id));
        let here = here.map(|id| fingerprint(id.as_bytes())).chain(ids.iter().copied());
        for id in here {
            listed.insert(id);
            // What changed at the peer meanwhile comes again, and is not what it was.
            lesser.remove(&id);
        }
        lesser.extend(found);
    }

    /// All that the responder's vector stands for is here.
    fn reach_end(&mut self, now: Now, from: &Arc<str>, last: Vectors) {
        let have = Arc::new(last.have);
        for (actor, counter) in &*have {
            if self.have.get(actor).is_none_or(|known| known < counter) {
                self.vector_rose(&Dot { actor: actor.clone(), counter: *counter });
            }
        }
        let pull = self.replication.as_mut().and_then(|replication| {
            replication.catch_up.is_done = true;
            replication.pull.take()
        });
        if pull.as_ref().is_some_and(|pull| pull.listed.is_some() || self.is_first(pull)) {
            self.learn_members(now, last.members);
        }
        self.members.holds(from, &have);
        let (listed, lesser) =
            pull.map_or((None, BTreeMap::new()), |pull| (pull.listed, pull.lesser));
        if let Some(listed) = &listed {
            self.audited(now, &have, listed, lesser.into_values());
        }
        let mut theirs = MerkleClock::new(&**from);
        theirs.merge(&last.clock);
        self.members.set_clock_order(from, theirs.compare(&self.clock));
        self.merge_clock(&last.clock);
        self.end_pull(now);
        let (roots, is_settling) = (self.roots(), self.is_settling());
        let Some(replication) = &mut self.replication else { return };
        let mut in_vain = false;
        if let Some(remote) = replication.connected.get_mut(from) {
            remote.wants_pull = false;
            in_vain = remote
                .roots
                .is_some_and(|theirs| theirs.have == roots.have && theirs.records != roots.records);
            remote.pulls_in_vain = if in_vain { remote.pulls_in_vain + 1 } else { 0 };
        }
        if in_vain && is_settling {
            // It may hold what the others have forgotten: the next one tells.
            replication.next_pull = now.monotonic;
        } else if is_settling {
            self.settled();
        }
        let Some(replication) = &mut self.replication else { return };
        let mut others = replication.connected.values();
        if others.any(|remote| remote.wants_pull && remote.differs_from(roots)) {
            replication.next_pull = now.monotonic;
        }
    }

    /// Whether this peer knew of nobody's writes but its own when the pull began.
    fn is_first(&self, pull: &Pull) -> bool {
        let own = |actor: &Arc<str>| {
            actor.strip_prefix(&*self.peer).is_some_and(|rest| rest.starts_with('/'))
        };
        pull.have.keys().all(own)
    }

    /// Takes over whom another peer knows of. Those that are away may lack what this peer now holds,
    /// and nobody but such a list tells of them.
    fn learn_members(&mut self, now: Now, members: BTreeMap<Arc<str>, u64>) {
        for (peer, at) in members {
            let is_known = self.members.swarm().any(|known| *known == peer);
            if peer == self.peer || is_known || self.members.is_excluded(&peer) {
                continue;
            }
            let heard = Heard { at: at.min(now.wall), have: None };
            self.members.recall(now, &self.config, &peer, heard.clone());
            self.changes.members.push((peer, Some(heard)));
        }
    }

    /// Answers one request for a page.
    pub(super) fn answer_pull(
        &mut self,
        from: &Arc<str>,
        request: PullRequest,
    ) -> Result<(), Refused> {
        self.check_have(&request.have)?;
        let Some(replication) = &self.replication else { return Ok(()) };
        let run = replication.nonce;
        let PullRequest { pull, have, after, audit } = request;
        self.members.holds(from, &have);
        let mut page = PullPage {
            pull,
            after,
            cursor: after.unwrap_or(Cursor { run, number: 0 }),
            records: Vec::new(),
            tombstones: Vec::new(),
            listed: Vec::new(),
            remaining: 0,
            last: None,
        };
        let mut sources = Vec::new();
        if page.cursor.run != run || page.cursor.number > replication.order.last() {
            // Not a place in this run: the requester begins anew.
            page.cursor = Cursor { run, number: 0 };
        } else if self.fill_page(replication, &have, audit, &mut page, &mut sources) {
            let clock = self.clock.vector().clone();
            let members = self.members.swarm();
            let members =
                members.map(|it| (it.clone(), self.members.heard_at(it).unwrap_or(0))).collect();
            page.last = Some(Vectors { have: self.have.clone(), clock, members });
        }
        page.remaining = replication.order.last().saturating_sub(page.cursor.number);
        let outgoing = Outgoing { sources, ..Outgoing::new(from, Content::PullPage(page)) };
        if let Some(replication) = &mut self.replication {
            replication.outgoing.push(outgoing);
        }
        Ok(())
    }

    /// Goes on in the order of changes for one page. True at the end.
    fn fill_page(
        &self,
        replication: &Replication,
        have: &BTreeMap<Arc<str>, u64>,
        audit: bool,
        page: &mut PullPage,
        sources: &mut Vec<Source>,
    ) -> bool {
        let mut bytes = 0;
        let order = &replication.order;
        for (looked_at, (number, key)) in order.after(page.cursor.number).enumerate() {
            if looked_at == MAX_PULL_SCAN {
                return false;
            }
            let held = match self.table.get(key) {
                Some(entry) => Some(Kind::Record(&entry.record)),
                None => self.table.tombstones.get(key).map(Kind::Tombstone),
            };
            let Some(held) = held else { continue };
            if !covers(have, held.dot()) {
                bytes += held.size();
                let count = page.records.len() + page.tombstones.len();
                if count == MAX_CARRIED || (bytes > MAX_CARRIED_BYTES && count > 0) {
                    return false;
                }
                match held {
                    Kind::Record(record) => {
                        let (record, payload, result) = (record.clone(), None, None);
                        page.records.push(Carried { record, payload, result });
                        sources.push(Source { key, number });
                    }
                    Kind::Tombstone(tombstone) => page.tombstones.push(tombstone.clone()),
                }
            } else if audit {
                page.listed.push(fingerprint(held.id().as_bytes()));
            }
            page.cursor.number = number;
        }
        page.cursor.number = order.last().max(page.cursor.number);
        true
    }
}

/// What stands under a key.
enum Kind<'t> {
    Record(&'t Record),
    Tombstone(&'t Tombstone),
}

impl Kind<'_> {
    fn dot(&self) -> &Dot {
        match self {
            Kind::Record(record) => &record.dot,
            Kind::Tombstone(tombstone) => tombstone.dot(),
        }
    }

    fn id(&self) -> &str {
        match self {
            Kind::Record(record) => &record.spec.task_id,
            Kind::Tombstone(tombstone) => &tombstone.task_id,
        }
    }

    fn size(&self) -> usize {
        match self {
            Kind::Record(record) => size_with_texts(record),
            Kind::Tombstone(tombstone) => tombstone.size(),
        }
    }
}

/// Whether whoever has this vector holds the state of this write, or a greater one.
fn covers(have: &BTreeMap<Arc<str>, u64>, dot: &Dot) -> bool {
    have.get(&dot.actor).is_some_and(|known| *known >= dot.counter)
}
