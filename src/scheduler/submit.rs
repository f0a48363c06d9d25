//! Handing a task in. The task id is the idempotency key: the same task again changes nothing.

use std::sync::Arc;

use super::calls::{Now, P2PTask, Submitted};
use super::hash::Hash256;
use super::machine::P2PWorkflowScheduler;
use super::record::{Class, Phase, Record, Spec};
use super::rejection::Rejection;
use super::table::{Entry, Outlook};
use super::tombstones::Tombstone;

impl P2PWorkflowScheduler {
    /// Hands a task in, stamped with the clock's head.
    ///
    /// # Errors
    /// A [`Rejection`]; nothing was changed.
    pub fn submit(&mut self, now: Now, task: P2PTask) -> Result<Submitted, Rejection> {
        task.check()?;
        self.check_in_doubt()?;
        let spec = self.spec_of(now, &task);
        if let Some(key) = self.table.key_of(&task.task_id) {
            let known = &self.table.entry(key).record;
            return match known.spec.hash == spec.hash {
                true => Ok(self.submitted(key, false)),
                false => Err(Rejection::TaskExists {
                    differs: differences(&known.spec, &spec),
                    task_id: task.task_id,
                }),
            };
        }
        if let Some((_, tombstone)) = self.table.tombstones.find(&task.task_id) {
            return self.submitted_long_ago(&task, &spec, tombstone);
        }
        let most = self.config.max_live_tasks;
        if self.table.live() >= most {
            let what = format!("this node already holds {most} tasks that have not ended");
            return Err(Rejection::Overloaded { what });
        }
        let unknown = self.unknown_dependencies(&spec);
        if task.dependencies_must_exist && !unknown.is_empty() {
            return Err(Rejection::UnknownDependency { ids: unknown });
        }
        if let Some(path) = self.table.path_back(&spec.task_id, &spec.depends_on) {
            return Err(Rejection::DependencyCycle { path });
        }
        Ok(self.accept(now, spec, task.payload.map(Arc::from)))
    }

    /// The answer to a submission of a task of which a tombstone is left.
    fn submitted_long_ago(
        &self,
        task: &P2PTask,
        spec: &Spec,
        tombstone: &Tombstone,
    ) -> Result<Submitted, Rejection> {
        match tombstone.spec_hash() == spec.hash {
            true => Ok(Submitted {
                created: false,
                task_hash: spec.task_hash(),
                priority: spec.priority,
                state: tombstone.state(),
                owner: self.peer.clone(),
                unknown_dependencies: Vec::new(),
            }),
            false => Err(Rejection::TaskExists {
                task_id: task.task_id.clone(),
                differs: "content".into(),
            }),
        }
    }

    fn accept(&mut self, now: Now, mut spec: Spec, payload: Option<Arc<str>>) -> Submitted {
        self.tick();
        spec.head = self.clock.head();
        let record = Record {
            class: Class::Live,
            phase: Phase::Pending,
            priority: spec.priority,
            epoch: 1,
            rev: 0,
            failures: 0,
            losses: 0,
            not_before: if spec.delay == 0 { 0 } else { now.wall.saturating_add(spec.delay) },
            lease: None,
            outcome: None,
            rest: None,
            dot: self.next_dot(),
            spec: Arc::new(spec),
        };
        let key = self.table.next_key();
        self.keep(key, &record, Some(payload), None);
        self.add(now, key, Entry::new(record, 0));
        self.submitted(key, true)
    }

    /// Adds a task that was not known, and derives what follows from it.
    pub(super) fn add(&mut self, now: Now, key: u64, mut entry: Entry) {
        entry.state = entry.derive_state(false, |_| false);
        let outlook = entry.state.into();
        let id = entry.record.spec.task_id.clone();
        self.table.insert(key, entry);
        self.gathered.tasks.push(key);
        self.index_lease(now, key);
        self.table.count_dependencies(key);
        let dependents = self.table.dependents_of(&id).filter(|dependent| *dependent != key);
        let dependents: Vec<u64> = dependents.collect();
        for dependent in dependents {
            // An unknown dependency counted as open until now.
            self.table.entry_mut(dependent).count_dependency(Outlook::Open, outlook);
            if outlook != Outlook::Open {
                self.gathered.tasks.push(dependent);
            }
            self.settle(now, dependent);
        }
        for key in self.table.find_cycle(key) {
            self.gathered.tasks.push(key);
            self.settle(now, key);
        }
        self.settle(now, key);
    }

    fn spec_of(&self, now: Now, task: &P2PTask) -> Spec {
        Spec {
            task_id: task.task_id.as_str().into(),
            workflow_id: self.table.shared_workflow_id(&task.workflow_id),
            name: task.name.as_str().into(),
            tags: task.tags,
            priority: task.priority,
            payload_size: 0,
            depends_on: sorted(&task.depends_on),
            requires: sorted(&task.requires),
            delay: task.delay,
            max_attempts: task.max_attempts,
            // Checked before: a week is far below what fits.
            lease_duration: u32::try_from(task.lease_duration).unwrap_or(u32::MAX),
            head: Hash256::default(),
            created_at: now.wall,
            hash: Hash256::default(),
        }
        .sealed(task.payload.as_deref())
    }

    fn unknown_dependencies(&self, spec: &Spec) -> Vec<String> {
        let is_known =
            |id: &str| self.table.key_of(id).or(self.table.tombstones.find(id).map(|it| it.0));
        let unknown = spec.depends_on.iter().filter(|id| is_known(id).is_none());
        unknown.map(|id| id.to_string()).collect()
    }

    fn submitted(&self, key: u64, created: bool) -> Submitted {
        let entry = self.table.entry(key);
        Submitted {
            created,
            task_hash: entry.record.spec.task_hash(),
            priority: entry.record.priority,
            state: entry.state,
            owner: self.owner_of(entry),
            unknown_dependencies: self.unknown_dependencies(&entry.record.spec),
        }
    }

    /// The peer whose turn is first for the task's next claim, or for the one that it is under.
    pub(super) fn owner_of(&self, entry: &Entry) -> Arc<str> {
        if self.members.candidates().len() == 1 {
            return self.peer.clone();
        }
        let record = &entry.record;
        let epoch = self.epoch_of_turns(entry);
        let owner = self.owners().owner(&record.combined_hash(), u64::from(epoch));
        owner.map_or_else(|| self.peer.clone(), |(peer, _)| peer.clone())
    }
}

fn sorted(names: &[String]) -> Box<[Arc<str>]> {
    let mut sorted: Vec<Arc<str>> = names.iter().map(|name| name.as_str().into()).collect();
    sorted.sort_unstable();
    sorted.dedup();
    sorted.into()
}

fn differences(a: &Spec, b: &Spec) -> String {
    let fields = [
        ("workflow_id", a.workflow_id != b.workflow_id),
        ("name", a.name != b.name),
        ("tags", a.tags != b.tags),
        ("priority", a.priority != b.priority),
        ("depends_on", a.depends_on != b.depends_on),
        ("requires", a.requires != b.requires),
        ("delay_seconds", a.delay != b.delay),
        ("max_attempts", a.max_attempts != b.max_attempts),
        ("lease_seconds", a.lease_duration != b.lease_duration),
    ];
    let differing: Vec<&str> =
        fields.iter().filter(|(_, differs)| *differs).map(|(name, _)| *name).collect();
    match differing.is_empty() {
        true => "payload".into(),
        false => differing.join(", "),
    }
}
