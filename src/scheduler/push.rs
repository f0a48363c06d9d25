//! The push of fresh records (protocol rule 7), and how records of any message are taken in: see the
//! page of `replication`.

use std::collections::BTreeMap;
use std::iter::Peekable;
use std::sync::Arc;

use super::calls::Now;
use super::changes::TaskChange;
use super::foreign::{Carried, RecordError};
use super::hash::Hash256;
use super::limits::{MAX_CARRIED, MAX_CARRIED_BYTES, MAX_FRESH, MAX_TOLD};
use super::machine::{Jitter, P2PWorkflowScheduler};
use super::messages::{Content, Outgoing, size_carried};
use super::record::{Class, Record};
use super::refused::Refused;
use super::replication::{Replication, below};

/// A record that waits to be pushed.
#[derive(Debug)]
pub(super) struct Fresh {
    /// Who has it: whoever pushed it here, and whom that one told. Nobody of this peer's own.
    told: Arc<[Arc<str>]>,
    carried: Carried,
}

/// Whom records are pushed to as they are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Pushed {
    /// Anybody: they are this peer's own.
    #[default]
    Anybody,
    /// Anybody but those that have them.
    OthersThan(Arc<[Arc<str>]>),
    /// Nobody: they came by a pull.
    Nobody,
}

impl Replication {
    /// Follows a record that is kept.
    pub(super) fn kept(&mut self, change: &TaskChange) {
        self.order.changed(change.key);
        let told = match &self.pushed {
            Pushed::Anybody => Arc::default(),
            Pushed::OthersThan(told) => told.clone(),
            Pushed::Nobody => return,
        };
        // Where all have it nobody is told.
        if self.connected.keys().all(|peer| told.contains(peer)) {
            return;
        }
        if self.fresh.len() < MAX_FRESH {
            let TaskChange { record, payload, result, .. } = change.clone();
            self.fresh.push(Fresh { told, carried: Carried { record, payload, result } });
        }
    }

    /// Follows a counter of the shown clock that rose by a call, or by another peer's push.
    pub(super) fn clock_rose(&mut self, peer: &str, counter: u64) {
        if !self.connected.is_empty() {
            self.fresh_clock.insert(peer.to_owned(), counter);
        }
    }
}

impl P2PWorkflowScheduler {
    pub(super) fn receive_push(
        &mut self,
        now: Now,
        from: &Arc<str>,
        records: Vec<Carried>,
        clock: &BTreeMap<String, u64>,
        mut told: Vec<Arc<str>>,
    ) -> Result<(), Refused> {
        self.check_records(&records)?;
        self.check_clock_of(clock)?;
        if told.len() > MAX_TOLD {
            return Err(Refused::TooMany { what: "peers that were told", count: told.len() });
        }
        told.push(from.clone());
        self.set_pushed(Pushed::OthersThan(told.into()));
        let taken = records.into_iter().try_for_each(|carried| match self.take_in(now, carried) {
            Err(Refused::TextMissing { .. }) => {
                self.wants_pull(from);
                Ok(())
            }
            taken => taken,
        });
        self.set_pushed(Pushed::Anybody);
        let known = self.changes.clock.len();
        self.merge_clock(clock);
        if let Some(replication) = &mut self.replication {
            for (peer, counter) in &self.changes.clock[known..] {
                replication.clock_rose(peer, *counter);
            }
        }
        taken
    }

    /// Takes in records of a page, which nobody is told of: the others pull as well.
    pub(super) fn take_in_page(&mut self, now: Now, records: Vec<Carried>) -> Result<(), Refused> {
        self.set_pushed(Pushed::Nobody);
        let taken = records.into_iter().try_for_each(|carried| self.take_in(now, carried));
        self.set_pushed(Pushed::Anybody);
        taken
    }

    /// Returns whom they were pushed to so far.
    pub(super) fn set_pushed(&mut self, pushed: Pushed) -> Pushed {
        match &mut self.replication {
            Some(replication) => std::mem::replace(&mut replication.pushed, pushed),
            None => pushed,
        }
    }

    fn wants_pull(&mut self, from: &Arc<str>) {
        if let Some(replication) = &mut self.replication
            && let Some(remote) = replication.connected.get_mut(from)
        {
            remote.wants_pull = true;
        }
    }

    /// Merges a record that was checked, if its texts came along or are here.
    fn take_in(&mut self, now: Now, carried: Carried) -> Result<(), Refused> {
        let Carried { mut record, payload, result } = carried;
        if !self.is_new(&record.dot) {
            return Ok(());
        }
        let task_id = &record.spec.task_id;
        let known = self.table.key_of(task_id);
        let known = known.filter(|_| self.end_to_forget(now, &record).is_none());
        let known = known.map(|key| &self.table.entry(key).record);
        let most = 2 * self.config.max_live_tasks;
        if known.is_none() && record.class == Class::Live && self.table.live() >= most {
            return Err(Refused::Full { most });
        }
        let missing = || Err(Refused::TextMissing { task_id: task_id.clone() });
        if payload.is_none() && record.spec.payload_size > 0 {
            match known.filter(|known| known.spec.hash == record.spec.hash) {
                None => return missing(),
                Some(known) if !known.spec.asks_for_the_same(&record.spec) => {
                    return Err(Refused::record(&record, RecordError::SpecHash));
                }
                Some(_) => {}
            }
        }
        let needed = result_of(&record).filter(|_| result.is_none());
        if needed.is_some() && known.and_then(result_of) != needed {
            return missing();
        }
        self.share_names(&mut record);
        self.merge(now, record, payload, result);
        Ok(())
    }

    /// One copy of each peer's and workflow's name in memory.
    fn share_names(&self, record: &mut Record) {
        let share_actor = |actor: &mut Arc<str>| {
            if let Some((shared, _)) = self.have.get_key_value(actor) {
                *actor = shared.clone();
            }
        };
        share_actor(&mut record.dot.actor);
        let workflow_id = self.table.shared_workflow_id(&record.spec.workflow_id);
        Arc::make_mut(&mut record.spec).workflow_id = workflow_id;
        if let Some(lease) = &mut record.lease {
            let lease = Arc::make_mut(lease);
            share_actor(&mut lease.dot.actor);
            if let Some(holder) = self.members.shared_name(&lease.holder) {
                lease.holder = holder;
            }
        }
    }
}

/// The hash of what a record's last attempt put out.
fn result_of(record: &Record) -> Option<Hash256> {
    record.outcome.as_ref()?.result.map(|body| body.hash)
}

/// Sends what is fresh to a few connected peers, in messages of bounded size.
pub(super) fn push_fresh(replication: &mut Replication, jitter: &mut Jitter, fanout: usize) {
    let fresh = std::mem::take(&mut replication.fresh);
    if fresh.is_empty() {
        return;
    }
    let clock = std::mem::take(&mut replication.fresh_clock);
    let mut fresh = fresh.into_iter().peekable();
    while let Some(Fresh { told, .. }) = fresh.peek() {
        let told = told.clone();
        let to = some_of(replication, jitter, fanout, &told);
        let also_told: Vec<_> = to.iter().chain(&*told).take(MAX_TOLD).cloned().collect();
        let batch = std::iter::from_fn(|| fresh.next_if(|fresh| fresh.told == told));
        let mut records = batch.map(|fresh| fresh.carried).peekable();
        while records.peek().is_some() {
            let records = Arc::new(next_message(&mut records));
            for peer in &to {
                let (records, clock, told) = (records.clone(), clock.clone(), also_told.clone());
                let content = Content::Push { records, clock, told };
                replication.outgoing.push(Outgoing::new(peer, content));
            }
        }
    }
}

fn next_message(records: &mut Peekable<impl Iterator<Item = Carried>>) -> Vec<Carried> {
    let (mut message, mut bytes) = (Vec::new(), 0);
    while let Some(carried) = records.next_if(|carried| {
        bytes += size_carried(carried);
        message.is_empty() || (message.len() < MAX_CARRIED && bytes <= MAX_CARRIED_BYTES)
    }) {
        message.push(carried);
    }
    message
}

/// At most `count` connected peers but these, chosen at random.
pub(super) fn some_of(
    replication: &Replication,
    jitter: &mut Jitter,
    count: usize,
    but: &[Arc<str>],
) -> Vec<Arc<str>> {
    let mut peers: Vec<Arc<str>> =
        replication.connected.keys().filter(|peer| !but.contains(peer)).cloned().collect();
    for place in 0..count.min(peers.len()) {
        let chosen = place + below(jitter(), peers.len() - place);
        peers.swap(place, chosen);
    }
    peers.truncate(count);
    peers
}
