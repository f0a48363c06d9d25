//! How peers come to hold the same: heartbeats, the push of fresh records, pulls by vectors.
//!
//! # How to drive it
//! The driver owns the connections; this machine says what goes over them.
//!
//! * **In**: [`P2PWorkflowScheduler::replicate`] once; then
//!   [`connected`](P2PWorkflowScheduler::connected) and
//!   [`connection_lost`](P2PWorkflowScheduler::connection_lost) for each peer, as often as they
//!   happen, and [`receive`](P2PWorkflowScheduler::receive) for each message of a connected peer.
//!   Time comes in with every call, and by [`advance`](P2PWorkflowScheduler::advance) at
//!   [`next_deadline`](P2PWorkflowScheduler::next_deadline), as for all of the scheduler.
//! * **Out**: after any call, under the same lock, first
//!   [`take_changes`](P2PWorkflowScheduler::take_changes), then
//!   [`take_outgoing`](P2PWorkflowScheduler::take_outgoing). What was taken out leaves only when
//!   those changes, and all that were taken before, are on disk (protocol rule 9); heartbeats
//!   ([`Outgoing::may_leave_at_once`]) need not wait, and stop when the commit fails. Before a page
//!   of a pull leaves, its texts are filled in from the disk ([`Outgoing::fill`]), without the lock.
//! * Messages may be lost, late, doubled and out of order. After a failed commit the scheduler is
//!   dropped and restored from disk, and replicates in a new run.
//!
//! # How it works
//! * **Push** (rule 7): each new record of this peer goes to a few connected peers, chosen at
//!   random; whoever takes one in from a push and did not know it sends it on likewise, to others
//!   than the push says were told. A push carries the texts that its change brought; a receiver that
//!   lacks others leaves the record to its next pull. Nobody resends a push: what is lost comes by a
//!   pull, which a gap that stays for a heartbeat brings about (see `gaps`).
//! * **Pull** (rule 8): one at a time, from a peer whose roots differ from this peer's, once they are
//!   known, once both have been quiet for a heartbeat (then what is missing was lost, and a task that
//!   waits for it would wait for the interval), and at an interval with jitter. The responder keeps nothing of it: the request says up to where
//!   the requester has followed the order of its changes, in which run, so that a pull goes on where
//!   an earlier one stopped, and one that finds little new looks at little.
//! * **Heartbeats** go to every connected peer. What was heard of others goes with them to a few, chosen
//!   at random each time: it spreads like a rumour, and costs little in a large swarm.
//!
//! ```text
//!   keep ──▶ fresh ──▶ push ─────────┐
//!      └───▶ change order ──▶ page ──┼──▶ outgoing ──(commit)──▶ wire
//!   advance ──▶ heartbeat, request ──┘
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::calls::Now;
use super::change_order::ChangeOrder;
use super::clock::{ClockOrder, vector_root};
use super::gaps::Gaps;
use super::limits::{MAX_BEATS, MAX_CLOCK_ENTRIES, MAX_FOREIGN_COUNTER};
use super::machine::P2PWorkflowScheduler;
use super::member_view::{Heartbeat, Presence};
use super::messages::{Beats, CatchUp, Content, Cursor, Message, Outgoing, Roots, VERSION};
use super::pull::Pull;
use super::push::{Fresh, Pushed, push_fresh, some_of};
use super::record::{Class, Dot};
use super::refused::{Refused, is_name};

/// What is known of a connected peer.
#[derive(Debug, Default)]
pub(super) struct Remote {
    /// As its last heartbeat said.
    pub(super) roots: Option<Roots>,
    /// This peer's [`Roots::records`] when that heartbeat came.
    own_records: u64,
    /// Whether neither side has changed for a heartbeat: nothing is on its way any more.
    is_quiet: bool,
    /// Whether to pull from it before others: it has just been connected, a record of its push
    /// lacked a text, or what it has and this peer lacks will not come by itself.
    pub(super) wants_pull: bool,
    /// Pulls in a row that left its vector equal to this peer's, and its records not.
    pub(super) pulls_in_vain: u32,
}

impl Remote {
    /// Whether it is known to hold something else than what has these roots.
    pub(super) fn differs_from(&self, roots: Roots) -> bool {
        self.roots.is_some_and(|theirs| theirs != roots)
    }

    /// Takes in what a heartbeat says. Returns whether there is a reason to pull at once: it is the
    /// first, or the first in which all is quiet.
    fn heard(&mut self, theirs: Roots, own_records: u64) -> bool {
        let before = (self.roots.replace(theirs), self.own_records, self.is_quiet);
        self.own_records = own_records;
        self.is_quiet = before.0 == Some(theirs) && before.1 == own_records;
        before.0.is_none() || (self.is_quiet && !before.2)
    }
}

/// See the module's page.
#[derive(Debug)]
pub(super) struct Replication {
    /// Names this run where a place in the order of its changes is named: drawn at random as well,
    /// so that a clock that was put back cannot make two runs alike.
    pub(super) nonce: u64,
    /// The run's number, or more where a peer remembers a larger one.
    pub(super) incarnation: u64,
    beats: u64,
    next_beat: u64,
    /// Whether this peer said that it leaves.
    left: bool,
    pub(super) next_pull: u64,
    pub(super) connected: BTreeMap<Arc<str>, Remote>,
    pub(super) catch_up: CatchUp,
    /// Up to where the changes of peers were followed, also of peers that are not connected now.
    pub(super) cursors: BTreeMap<Arc<str>, Cursor>,
    pub(super) pull: Option<Pull>,
    pub(super) pulls: u64,
    pub(super) order: ChangeOrder,
    /// See [`Roots::records`].
    pub(super) records: u64,
    /// The writes of records that ended and lie beyond a gap in this peer's vector.
    pub(super) beyond: BTreeSet<Dot>,
    /// The heartbeats of others that were passed on last.
    passed_on: BTreeMap<Arc<str>, Heartbeat>,
    pub(super) fresh: Vec<Fresh>,
    /// Counters of the shown clock that rose and were not pushed yet.
    pub(super) fresh_clock: BTreeMap<String, u64>,
    pub(super) pushed: Pushed,
    pub(super) gaps: Gaps,
    pub(super) outgoing: Vec<Outgoing>,
}

impl Replication {
    fn next_deadline(&self) -> Option<u64> {
        if self.connected.is_empty() {
            return None;
        }
        let pull = self.pull.as_ref().map_or(self.next_pull, |pull| pull.gives_up_at);
        Some(self.next_beat.min(pull))
    }
}

impl P2PWorkflowScheduler {
    /// Begins to replicate, in a run whose number no earlier one of this peer had, a larger one where
    /// that can be: the milliseconds since the Unix epoch will do. Called once in a run, before the
    /// first connection.
    pub fn replicate(&mut self, now: Now, run: u64) {
        let nonce = run ^ (self.jitter)();
        let mut keys: Vec<u64> = self.table.keys_after(None).collect();
        keys.extend(self.table.tombstones.keys_from(0));
        keys.sort_unstable();
        self.replication = Some(Box::new(Replication {
            nonce,
            incarnation: run,
            beats: 0,
            next_beat: now.monotonic,
            left: false,
            next_pull: now.monotonic,
            connected: BTreeMap::new(),
            catch_up: CatchUp::default(),
            cursors: BTreeMap::new(),
            pull: None,
            pulls: 0,
            order: ChangeOrder::of(keys.iter().copied()),
            records: 0,
            beyond: BTreeSet::new(),
            passed_on: BTreeMap::new(),
            fresh: Vec::new(),
            fresh_clock: BTreeMap::new(),
            pushed: Pushed::default(),
            gaps: Gaps::default(),
            outgoing: Vec::new(),
        }));
        for key in keys {
            let (class, dot) = match self.table.get(key) {
                Some(entry) => (entry.record.class, entry.record.dot.clone()),
                None => match self.table.tombstones.get(key) {
                    Some(tombstone) => (tombstone.standing.class, tombstone.dot().clone()),
                    None => continue,
                },
            };
            self.count_in(class, &dot);
        }
        self.settle_with_peers(now);
        self.doubt_if_forgotten(now, self.members.last_heard_at());
    }

    /// A record is held from now on: see [`Roots::records`].
    pub(super) fn count_in(&mut self, class: Class, dot: &Dot) {
        let Some(replication) = &mut self.replication else { return };
        let is_beyond = || self.have.get(&dot.actor).is_none_or(|known| *known < dot.counter);
        if class == Class::Live || (is_beyond() && replication.beyond.insert(dot.clone())) {
            replication.records = replication.records.wrapping_add(dot.fingerprint());
        }
    }

    /// It is held no longer, or another in its place.
    pub(super) fn count_out(&mut self, class: Class, dot: &Dot) {
        let Some(replication) = &mut self.replication else { return };
        if class == Class::Live || replication.beyond.remove(dot) {
            replication.records = replication.records.wrapping_sub(dot.fingerprint());
        }
    }

    /// A peer is connected now. A second connection to it changes nothing.
    pub fn connected(&mut self, now: Now, peer: &Arc<str>) {
        let Some(replication) = &mut self.replication else { return };
        if *peer == self.peer || replication.connected.contains_key(peer) {
            return;
        }
        replication.connected.insert(peer.clone(), Remote::default());
        self.members.connected(peer);
        self.members.changed = true;
        replication.next_beat = now.monotonic;
    }

    /// The connection to a member dropped: it is suspect at once.
    pub fn connection_lost(&mut self, now: Now, peer: &Arc<str>) {
        self.members.connection_lost(now, &self.config, peer);
        let Some(replication) = &mut self.replication else { return };
        self.members.changed |= replication.connected.remove(peer).is_some();
        if replication.pull.as_ref().is_some_and(|pull| pull.peer == *peer) {
            self.end_pull(now);
        }
    }

    /// This peer is in no swarm from now on: it forgets the others, and replicates no longer. Nobody
    /// waits for it with what is to be forgotten, so it doubts what it holds if it joins again.
    pub fn depart(&mut self, now: Now) {
        self.doubt();
        self.replication = None;
        let others: Vec<Arc<str>> = self.members.swarm().cloned().collect();
        others.iter().for_each(|peer| self.forget(now, peer));
        self.settled();
    }

    /// Says to all connected peers that this one leaves for good. Nothing else follows in this run.
    pub fn leave(&mut self, now: Now) {
        let Some(replication) = &mut self.replication else { return };
        replication.left = true;
        self.send_beats(now);
    }

    /// A peer is not wanted in the swarm: from now on it counts as a member no longer, whatever
    /// others say of it. To be called in each run.
    pub fn exclude(&mut self, now: Now, peer: &Arc<str>) {
        self.connection_lost(now, peer);
        self.members.exclude(peer);
        self.forget(now, peer);
    }

    /// A peer is wanted in the swarm after all.
    pub fn include(&mut self, peer: &str) {
        self.members.include(peer);
    }

    fn forget(&mut self, now: Now, peer: &Arc<str>) {
        let before = self.members.sizes();
        self.members.forget(peer);
        self.changes.members.push((peer.clone(), None));
        self.membership_changed(now, peer, before, false);
        for key in self.table.held_by(peer) {
            self.members.holds_a_lease(now, &self.config, peer);
            self.settle(now, key);
        }
    }

    /// Connected peers that fell silent since this was last called: whoever drives closes the
    /// connection, so that one that leads nowhere is made anew.
    pub fn take_silent(&mut self) -> Vec<Arc<str>> {
        let mut silent = self.members.take_silent();
        let replication = self.replication.as_ref();
        silent.retain(|peer| replication.is_some_and(|it| it.connected.contains_key(peer)));
        silent
    }

    /// A message of a connected peer came in.
    ///
    /// # Errors
    /// [`Refused`]: it is not what a peer of this version and in its senses says.
    /// [`Refused::OwnWrites`] is an error that changed something: from then on this peer writes under
    /// a new actor (see `actor`).
    pub fn receive(&mut self, now: Now, from: &Arc<str>, message: Message) -> Result<(), Refused> {
        if message.version != VERSION {
            return Err(Refused::Version { theirs: message.version });
        }
        let replication = self.replication.as_ref();
        if !replication.is_some_and(|it| it.connected.contains_key(from)) {
            return Err(Refused::NotConnected);
        }
        let received = match message.content {
            Content::Heartbeat(beats) => self.receive_beats(now, from, beats),
            Content::Push { records, clock, told } => {
                let records = Arc::unwrap_or_clone(records);
                self.receive_push(now, from, records, &clock, told)
            }
            Content::PullRequest(request) => self.answer_pull(from, request),
            Content::PullPage(page) => self.receive_page(now, from, page),
            Content::Held(held) => self.receive_held(from, held, now),
        };
        if let Err(Refused::OwnWrites { .. }) = received {
            self.take_new_actor(now);
        }
        received
    }

    /// Takes out what is to be sent. It may leave when all changes that were taken out before are on
    /// disk; a heartbeat at once. A page's texts are filled in first ([`Outgoing::fill`]).
    ///
    /// # Panics
    /// If there are changes that were not taken out: they must be on disk first.
    pub fn take_outgoing(&mut self) -> Vec<Outgoing> {
        assert!(self.changes.is_empty(), "changes are taken out, and kept, before messages");
        let Some(replication) = &mut self.replication else { return Vec::new() };
        push_fresh(replication, &mut self.jitter, self.config.push_fanout);
        std::mem::take(&mut replication.outgoing)
    }

    /// The same, but for what is fresh, which gathers meanwhile: whoever drives may let the peers take
    /// what was pushed before, so that a busy peer pushes much at a time.
    ///
    /// # Panics
    /// As [`take_outgoing`](Self::take_outgoing).
    pub fn take_outgoing_but_fresh(&mut self) -> Vec<Outgoing> {
        assert!(self.changes.is_empty(), "changes are taken out, and kept, before messages");
        let replication = self.replication.as_mut();
        replication.map_or_else(Vec::new, |it| std::mem::take(&mut it.outgoing))
    }

    /// Whether there is something to be taken out.
    #[must_use]
    pub fn has_outgoing(&self) -> bool {
        let replication = self.replication.as_ref();
        replication.is_some_and(|it| !it.outgoing.is_empty() || !it.fresh.is_empty())
    }

    /// Whether there is something to be taken out beside what is fresh.
    #[must_use]
    pub fn has_outgoing_but_fresh(&self) -> bool {
        self.replication.as_ref().is_some_and(|it| !it.outgoing.is_empty())
    }

    /// Whether there is a heartbeat to be taken out.
    #[must_use]
    pub fn has_heartbeats(&self) -> bool {
        let mut outgoing = self.replication.iter().flat_map(|replication| &replication.outgoing);
        outgoing.any(Outgoing::may_leave_at_once)
    }

    /// Takes out the heartbeats alone, which wait for nothing.
    pub fn take_heartbeats(&mut self) -> Vec<Outgoing> {
        let Some(replication) = &mut self.replication else { return Vec::new() };
        replication.outgoing.extract_if(.., |message| message.may_leave_at_once()).collect()
    }

    /// What stands for each of this peer's vectors, and for its records once it replicates.
    #[must_use]
    pub fn roots(&self) -> Roots {
        let records = self.replication.as_ref().map_or(0, |replication| replication.records);
        Roots { have: vector_root(&self.have), clock: self.clock.head(), records }
    }

    /// How far this peer is with taking in what the others hold; nothing is said outside of a swarm.
    #[must_use]
    pub fn catch_up(&self) -> CatchUp {
        let Some(replication) = &self.replication else { return CatchUp::default() };
        let roots = Some(self.roots());
        let mut remotes = replication.connected.values();
        let is_done = replication.catch_up.is_done || remotes.any(|remote| remote.roots == roots);
        CatchUp { is_done, ..replication.catch_up }
    }

    /// Whether all connected peers said that they hold what this one does.
    pub(super) fn in_sync(&self) -> bool {
        let Some(replication) = self.replication.as_ref() else { return true };
        let mut remotes = replication.connected.values().peekable();
        remotes.peek().is_none() || {
            let roots = Some(self.roots());
            remotes.all(|remote| remote.roots == roots)
        }
    }

    /// Drops what was to be said of writes that have new names now, and where others were followed:
    /// less is held than was believed.
    pub(super) fn forget_peers_progress(&mut self, now: Now) {
        self.end_pull(now);
        let Some(replication) = &mut self.replication else { return };
        replication.fresh.clear();
        replication.outgoing.retain(Outgoing::may_leave_at_once);
        replication.cursors.clear();
        replication.gaps = Gaps::default();
        replication.connected.values_mut().for_each(|remote| remote.wants_pull = true);
        replication.next_pull = now.monotonic;
    }

    /// When [`P2PWorkflowScheduler::advance_replication`] has something to do.
    pub(super) fn next_replication(&self) -> Option<u64> {
        let connected = self.replication.as_ref().and_then(|it| it.next_deadline());
        [connected, self.next_settling()].into_iter().flatten().min()
    }

    /// Lets time pass: heartbeats and pulls are due.
    pub(super) fn advance_replication(&mut self, now: Now) {
        self.advance_settling(now);
        let Some(replication) = &self.replication else { return };
        if replication.connected.is_empty() {
            return;
        }
        if replication.next_beat <= now.monotonic {
            self.send_beats(now);
            self.mend_gaps(now);
        }
        self.advance_pull(now);
    }

    /// The next heartbeat waits for nothing: it has news.
    pub(super) fn beat_at_once(&mut self, now: Now) {
        if let Some(replication) = &mut self.replication {
            replication.next_beat = now.monotonic;
        }
    }

    fn send_beats(&mut self, now: Now) {
        self.follow_workers(now);
        let (roots, takes_work) = (self.roots(), self.takes_work());
        let Some(replication) = &mut self.replication else { return };
        replication.beats += 1;
        replication.next_beat = now.monotonic.saturating_add(self.config.heartbeat_interval);
        let own = Heartbeat {
            incarnation: replication.incarnation,
            counter: replication.beats,
            presence: match takes_work {
                _ if replication.left => Presence::Left,
                true => Presence::Works,
                false => Presence::Watches,
            },
        };
        let is_news = |(peer, beat): &(&Arc<str>, Heartbeat)| {
            replication.passed_on.get(*peer).is_none_or(|last| last < beat)
        };
        let mut heard: Vec<(Arc<str>, Heartbeat)> =
            self.members.beats().filter(is_news).map(|(peer, beat)| (peer.clone(), beat)).collect();
        if heard.len() > MAX_BEATS {
            // Others each time, so that each is passed on soon.
            let begin = below((self.jitter)(), heard.len());
            heard.rotate_left(begin);
            heard.truncate(MAX_BEATS);
        }
        replication.passed_on.extend(heard.iter().cloned());
        let told = some_of(replication, &mut self.jitter, self.config.push_fanout, &[]);
        for peer in replication.connected.keys() {
            let mut heard = if told.contains(peer) { heard.clone() } else { Vec::new() };
            heard.retain(|(other, _)| other != peer);
            // A peer that started again with a clock put back learns what it must overtake.
            heard.extend(self.members.beat_of(peer).map(|beat| (peer.clone(), beat)));
            let beats = Beats { own, heard, roots };
            replication.outgoing.push(Outgoing::new(peer, Content::Heartbeat(beats)));
        }
    }

    fn receive_beats(&mut self, now: Now, from: &Arc<str>, beats: Beats) -> Result<(), Refused> {
        let count = beats.heard.len();
        if count > MAX_BEATS + 1 {
            return Err(Refused::TooMany { what: "heartbeats", count });
        }
        let fits = |beat: &Heartbeat| beat.incarnation.max(beat.counter) <= MAX_FOREIGN_COUNTER;
        let heard_fits = |(peer, beat): &(Arc<str>, Heartbeat)| is_name(peer) && fits(beat);
        if !fits(&beats.own) || !beats.heard.iter().all(heard_fits) {
            return Err(Refused::Malformed { what: "heartbeat" });
        }
        if let Some(replication) = &mut self.replication
            && let Some(remote) = replication.connected.get_mut(from)
        {
            // Whether all are in sync is shown.
            self.members.changed |= remote.roots != Some(beats.roots);
            if remote.heard(beats.roots, replication.records) {
                remote.wants_pull = true;
                replication.next_pull = now.monotonic;
            }
        }
        self.doubt_if_forgotten(now, self.members.heard_at(from));
        self.heartbeat(now, from, beats.own);
        // The first one made it a member.
        self.members.connected(from);
        if beats.roots.clock == self.clock.head() {
            self.members.set_clock_order(from, ClockOrder::Equal);
        }
        for (peer, beat) in beats.heard {
            if peer == self.peer {
                self.refute(beat);
            } else if self.members.knows(&peer) || self.members.known() < MAX_CLOCK_ENTRIES as u64 {
                self.doubt_if_forgotten(now, self.members.heard_at(&peer));
                self.heartbeat(now, &peer, beat);
            }
        }
        Ok(())
    }

    /// A peer remembers a later incarnation of this one, from before its clock was put back.
    fn refute(&mut self, beat: Heartbeat) {
        if let Some(replication) = &mut self.replication
            && beat.incarnation > replication.incarnation
        {
            replication.incarnation = beat.incarnation + 1;
        }
    }
}

/// A random number as one below `count`, which is not 0.
pub(super) fn below(random: u64, count: usize) -> usize {
    usize::try_from(random % count as u64).expect("it is below a usize")
}
