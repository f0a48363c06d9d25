//! What a record from another peer must be like before it may touch anything.
//!
//! The check of a record alone ([`Carried::check`]) is that of a submission and of a report, once
//! more, and of what only the scheduler writes: counters that can still be counted on, a lease
//! where the phase needs one, hashes that are those of the texts. Whether its texts are here and
//! whether this peer could have written it are asked when it is merged.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::limits::{
    self, MAX_COUNTER, MAX_DELAY, MAX_DEPENDENCIES, MAX_ERROR_BYTES, MAX_FOREIGN_COUNT,
    MAX_FOREIGN_COUNTER, MAX_LABELS, MAX_LEASE, MAX_LOSSES, MAX_MORE_BYTES, MAX_PAYLOAD_BYTES,
    MIN_LEASE,
};
use super::record::{Body, Class, Dot, Lease, Phase, Record, Spec, Standing};
use super::tombstones::Tombstone;

/// A record on its way between peers, with the texts that its receiver may lack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Carried {
    /// The record.
    pub record: Record,
    /// Its payload's text. A push leaves it out where only the record changed.
    pub payload: Option<Arc<str>>,
    /// Its result's text. A push leaves it out where only the record changed.
    pub result: Option<Arc<str>>,
}

/// Why a record from another peer is refused. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// An id or name is empty, too long or not printable.
    #[error("{0} is not a name of 1 to 256 printable characters")]
    Name(&'static str),
    /// A priority, asked for or in force.
    #[error("priority {0} is out of range")]
    Priority(u8),
    /// More dependencies than a task may have.
    #[error("it has {0} dependencies")]
    TooManyDependencies(usize),
    /// More capabilities than a task may require.
    #[error("it requires {0} capabilities")]
    TooManyCapabilities(usize),
    /// A list that must be sorted, each entry once.
    #[error("{0} is not sorted, or names one entry twice")]
    Unsorted(&'static str),
    /// The task waits for itself.
    #[error("it depends on itself")]
    DependsOnItself,
    /// The delay is longer than a submission may ask for.
    #[error("its delay of {0} ms is out of range")]
    Delay(u64),
    /// The lease's duration, asked for or taken.
    #[error("its lease of {0} ms is out of range")]
    LeaseDuration(u64),
    /// A time that JSON readers cannot keep.
    #[error("its {0} is out of range")]
    Time(&'static str),
    /// The payload is larger than a submission's may be, or not as long as the record says.
    #[error("its payload is too large, or not of the size that the record names")]
    PayloadSize,
    /// The result is larger than a report's may be.
    #[error("its result of {0} bytes is too large")]
    ResultSize(u32),
    /// An error or note is longer than a report's may be.
    #[error("its {0} is too long")]
    TextTooLong(&'static str),
    /// The epoch does not count from 1, or is so high that fences would pass 2^53 in time.
    #[error("its epoch {0} is out of range")]
    Epoch(u32),
    /// A counter within the record that is out of range.
    #[error("its count of {0} is out of range")]
    Count(&'static str),
    /// A dot's counter does not count from 1, or is near the last that there is.
    #[error("counter {0} of a dot is out of range")]
    Counter(u64),
    /// The phase, the class and the lease do not go together.
    #[error("it is {0}")]
    Inconsistent(&'static str),
    /// The lease's dot is not one of its holder, or is younger than the record.
    #[error("its lease's dot is not one that the holder can have written before it")]
    ClaimDot,
    /// The spec's hash is not that of the spec and its payload.
    #[error("its spec's hash is not that of its spec and payload")]
    SpecHash,
    /// The result's hash and size are not those of the text that came along.
    #[error("its result's hash or size is not that of the text")]
    ResultHash,
}

impl Carried {
    /// Checks everything that can be told from the record and its texts alone.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self) -> Result<(), RecordError> {
        let record = &self.record;
        check_spec(&record.spec)?;
        check_payload(&record.spec, self.payload.as_deref())?;
        check_counts(record)?;
        check_dot(&record.dot)?;
        if let Some(lease) = &record.lease {
            check_lease(record, lease)?;
        }
        check_standing(record)?;
        check_more(record)?;
        check_outcome(record, self.result.as_deref())
    }
}

impl Tombstone {
    /// Checks everything that can be told from it alone.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self) -> Result<(), RecordError> {
        check_name("task_id", &self.task_id)?;
        check_dot(self.dot())?;
        let Standing { class, epoch, rev, .. } = self.standing;
        if class == Class::Live {
            return Err(RecordError::Inconsistent("a tombstone of a live task"));
        }
        if !(1..=MAX_FOREIGN_COUNT).contains(&epoch) {
            return Err(RecordError::Epoch(epoch));
        }
        match rev <= MAX_FOREIGN_COUNT {
            true => Ok(()),
            false => Err(RecordError::Count("rev")),
        }
    }
}

fn check_spec(spec: &Spec) -> Result<(), RecordError> {
    check_name("task_id", &spec.task_id)?;
    check_name("workflow_id", &spec.workflow_id)?;
    check_name("name", &spec.name)?;
    check_priority(spec.priority)?;
    if spec.depends_on.len() > MAX_DEPENDENCIES {
        return Err(RecordError::TooManyDependencies(spec.depends_on.len()));
    }
    if spec.requires.len() > MAX_LABELS {
        return Err(RecordError::TooManyCapabilities(spec.requires.len()));
    }
    check_list("depends_on", &spec.depends_on)?;
    check_list("requires", &spec.requires)?;
    if spec.depends_on.contains(&spec.task_id) {
        return Err(RecordError::DependsOnItself);
    }
    if spec.delay > MAX_DELAY {
        return Err(RecordError::Delay(spec.delay));
    }
    check_duration(u64::from(spec.lease_duration))?;
    check_time("created_at", spec.created_at)
}

/// A text that did not come along is looked for when the record is merged.
fn check_payload(spec: &Spec, payload: Option<&str>) -> Result<(), RecordError> {
    let size = spec.payload_size as usize;
    if size > MAX_PAYLOAD_BYTES || payload.is_some_and(|text| text.len() != size) {
        return Err(RecordError::PayloadSize);
    }
    if (payload.is_some() || size == 0) && spec.hash_with(payload) != spec.hash {
        return Err(RecordError::SpecHash);
    }
    Ok(())
}

fn check_counts(record: &Record) -> Result<(), RecordError> {
    check_priority(record.priority)?;
    if !(1..=MAX_FOREIGN_COUNT).contains(&record.epoch) {
        return Err(RecordError::Epoch(record.epoch));
    }
    let counts = [
        ("rev", record.rev, MAX_FOREIGN_COUNT),
        ("failures", record.failures, MAX_FOREIGN_COUNT),
        ("losses", record.losses.into(), MAX_LOSSES.into()),
    ];
    match counts.iter().find(|(_, count, most)| count > most) {
        Some((what, ..)) => Err(RecordError::Count(what)),
        None => check_time("not_before", record.not_before),
    }
}

fn check_dot(dot: &Dot) -> Result<(), RecordError> {
    check_name("actor", &dot.actor)?;
    match dot.counter {
        1..=MAX_FOREIGN_COUNTER => Ok(()),
        counter => Err(RecordError::Counter(counter)),
    }
}

fn check_lease(record: &Record, lease: &Lease) -> Result<(), RecordError> {
    check_name("holder", &lease.holder)?;
    check_name("worker", &lease.worker)?;
    check_dot(&lease.dot)?;
    check_duration(lease.duration)?;
    let of_holder = lease.dot.actor.strip_prefix(&*lease.holder);
    let is_younger = lease.dot.actor == record.dot.actor && lease.dot > record.dot;
    match of_holder.is_some_and(|rest| rest.starts_with('/')) && !is_younger {
        true => Ok(()),
        false => Err(RecordError::ClaimDot),
    }
}

/// Whether the scheduler can have brought a task there: the first claim brings the lease, and what
/// goes back to the queue keeps the last one and starts the next epoch.
fn check_standing(record: &Record) -> Result<(), RecordError> {
    let wrong = |what| Err(RecordError::Inconsistent(what));
    match (record.class, record.phase, &record.lease) {
        (Class::Completed, Phase::Pending | Phase::Failed, _) => {
            wrong("completed without having been held")
        }
        (_, Phase::Leased, None) => wrong("held by nobody"),
        (_, Phase::Failed, None) => wrong("failed without having been held"),
        (_, Phase::Pending, Some(_)) if record.epoch == 1 => {
            wrong("back in the queue in its first epoch")
        }
        (_, Phase::Pending, None) if record.epoch > 1 => {
            wrong("in a later epoch without having been held")
        }
        _ => Ok(()),
    }
}

/// What this version does not know is passed on, but not without bound.
fn check_more(record: &Record) -> Result<(), RecordError> {
    let more = record.more.iter().flat_map(|more| more.iter());
    let bytes: usize = more.map(|(name, value)| name.len() + value.len()).sum();
    match bytes <= MAX_MORE_BYTES {
        true => Ok(()),
        false => Err(RecordError::TextTooLong("unknown part")),
    }
}

fn check_outcome(record: &Record, text: Option<&str>) -> Result<(), RecordError> {
    let outcome = record.outcome.as_deref();
    let said = outcome.map(|outcome| [("error", &outcome.error), ("note", &outcome.note)]);
    for (what, text) in said.into_iter().flatten() {
        if text.as_ref().is_some_and(|text| text.len() > MAX_ERROR_BYTES) {
            return Err(RecordError::TextTooLong(what));
        }
    }
    let result = outcome.and_then(|outcome| outcome.result);
    if let Some(body) = result
        && body.size as usize > MAX_PAYLOAD_BYTES
    {
        return Err(RecordError::ResultSize(body.size));
    }
    match text {
        Some(text) if result != Some(Body::of(text)) => Err(RecordError::ResultHash),
        _ => Ok(()),
    }
}

fn check_name(field: &'static str, text: &str) -> Result<(), RecordError> {
    limits::check_name(field, text).map_err(|_why| RecordError::Name(field))
}

fn check_priority(priority: u8) -> Result<(), RecordError> {
    limits::check_priority(priority).map_err(|_why| RecordError::Priority(priority))
}

fn check_list(field: &'static str, list: &[Arc<str>]) -> Result<(), RecordError> {
    if !list.is_sorted_by(|a, b| a < b) {
        return Err(RecordError::Unsorted(field));
    }
    list.iter().try_for_each(|item| check_name(field, item))
}

fn check_duration(millis: u64) -> Result<(), RecordError> {
    match millis {
        0 | MIN_LEASE..=MAX_LEASE => Ok(()),
        _ => Err(RecordError::LeaseDuration(millis)),
    }
}

fn check_time(what: &'static str, millis: u64) -> Result<(), RecordError> {
    match millis <= MAX_COUNTER {
        true => Ok(()),
        false => Err(RecordError::Time(what)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{
        Caller, Config, LeaseTerm, Mark, Now, Outcome, P2PTask, P2PWorkflowScheduler, TagSet, Want,
    };
    use super::*;

    const NOW: Now = Now { wall: 1_700_000_000_000, monotonic: 0 };

    /// What a scheduler writes of a task in its life, with the texts.
    fn life() -> Vec<Carried> {
        let jitter = Box::new(|| 0);
        let mut s = P2PWorkflowScheduler::new("peer", "peer/1", Config::default(), jitter);
        let worker = Caller { worker: "worker".into(), shared: false };
        let want = Want { lease: LeaseTerm::Timed(60_000), ..Want::default() };
        let task = P2PTask {
            payload: Some("[1]".into()),
            requires: vec!["gpu".into(), "cpu".into()],
            ..P2PTask::new("t", "w", "a task", TagSet::default())
        };
        let want = Want { capabilities: vec!["gpu".into(), "cpu".into()], ..want };
        s.submit(NOW, task).unwrap();
        let marks = [
            Mark::InProgress { note: Some("half".into()) },
            Mark::Released,
            Mark::Failed { error: Some("no".into()), result: Some("[2]".into()), retry: false },
            Mark::Completed { result: Some("[3]".into()) },
            Mark::Cancelled { error: None },
        ];
        for mark in marks {
            if s.claim(NOW, &worker, &want).is_err() && !matches!(mark, Mark::Cancelled { .. }) {
                // It is held, or failed.
                s.requeue(NOW, "t").map(|_| s.claim(NOW, &worker, &want).unwrap()).ok();
            }
            s.mark(NOW, &worker, "t", mark, None).ok();
        }
        let changes = s.take_changes().tasks;
        let carried = changes.into_iter().map(|change| Carried {
            record: change.record,
            payload: change.payload,
            result: change.result,
        });
        carried.collect()
    }

    fn refused(index: usize, spoil: impl Fn(&mut Carried)) -> RecordError {
        let mut carried = life()[index].clone();
        spoil(&mut carried);
        carried.check().unwrap_err()
    }

    /// The same, with a hash that fits.
    fn spec_refused(spoil: impl Fn(&mut Spec)) -> RecordError {
        refused(0, |carried| {
            let mut spec = (*carried.record.spec).clone();
            spoil(&mut spec);
            carried.record.spec = Arc::new(spec.sealed(carried.payload.as_deref()));
        })
    }

    fn with_lease(index: usize, spoil: impl Fn(&mut Lease)) -> RecordError {
        refused(index, |carried| {
            let mut lease = (**carried.record.lease.as_ref().unwrap()).clone();
            spoil(&mut lease);
            carried.record.lease = Some(Arc::new(lease));
        })
    }

    #[test]
    fn whatever_a_scheduler_writes_is_accepted() {
        let life = life();
        let met = |class, phase| {
            life.iter().any(|it| (it.record.class, it.record.phase) == (class, phase))
        };
        assert!(met(Class::Live, Phase::Pending) && met(Class::Live, Phase::Leased));
        assert!(met(Class::Live, Phase::Failed) && met(Class::Completed, Phase::Leased));
        for carried in life {
            assert_eq!(carried.check(), Ok(()), "{carried:?}");
        }
    }

    #[test]
    fn a_spec_beyond_the_limits_of_a_submission_is_refused() {
        use RecordError as E;
        assert_eq!(spec_refused(|spec| spec.task_id = "".into()), E::Name("task_id"));
        assert_eq!(spec_refused(|spec| spec.workflow_id = "\n".into()), E::Name("workflow_id"));
        assert_eq!(spec_refused(|spec| spec.name = "x".repeat(257).into()), E::Name("name"));
        assert_eq!(spec_refused(|spec| spec.priority = 11), E::Priority(11));
        let many = |n| (0..n).map(|i| format!("{i:03}").into()).collect();
        assert_eq!(spec_refused(|spec| spec.depends_on = many(257)), E::TooManyDependencies(257));
        assert_eq!(spec_refused(|spec| spec.requires = many(65)), E::TooManyCapabilities(65));
        let twice = || ["a".into(), "a".into()].into();
        assert_eq!(spec_refused(|spec| spec.depends_on = twice()), E::Unsorted("depends_on"));
        assert_eq!(spec_refused(|spec| spec.requires = twice()), E::Unsorted("requires"));
        assert_eq!(spec_refused(|spec| spec.depends_on = ["t".into()].into()), E::DependsOnItself);
        assert_eq!(spec_refused(|spec| spec.delay = MAX_DELAY + 1), E::Delay(MAX_DELAY + 1));
        assert_eq!(spec_refused(|spec| spec.lease_duration = 999), E::LeaseDuration(999));
        assert_eq!(spec_refused(|spec| spec.created_at = 1 << 53), E::Time("created_at"));
    }

    #[test]
    fn a_text_that_is_not_the_records_is_refused() {
        let other = |carried: &mut Carried| carried.payload = Some("[9]".into());
        assert_eq!(refused(0, other), RecordError::SpecHash);
        let longer = |carried: &mut Carried| carried.payload = Some("[10]".into());
        assert_eq!(refused(0, longer), RecordError::PayloadSize);
        let last = life().len() - 1;
        let result = |carried: &mut Carried| carried.result = Some("[4]".into());
        assert_eq!(refused(last, result), RecordError::ResultHash);
        let changed = |carried: &mut Carried| {
            let spec = Spec { delay: 1, ..(*carried.record.spec).clone() };
            carried.record.spec = Arc::new(spec);
        };
        assert_eq!(refused(0, changed), RecordError::SpecHash);
    }

    #[test]
    fn counters_without_room_to_count_on_are_refused() {
        use RecordError as E;
        assert_eq!(refused(0, |it| it.record.priority = 0), E::Priority(0));
        assert_eq!(refused(0, |it| it.record.epoch = 0), E::Epoch(0));
        assert_eq!(refused(0, |it| it.record.epoch = u32::MAX), E::Epoch(u32::MAX));
        assert_eq!(refused(0, |it| it.record.rev = u32::MAX), E::Count("rev"));
        assert_eq!(refused(0, |it| it.record.failures = u32::MAX), E::Count("failures"));
        assert_eq!(refused(0, |it| it.record.losses = 17), E::Count("losses"));
        let more = |it: &mut Carried| {
            let long = "x".repeat(MAX_MORE_BYTES);
            it.record.more = Some(Arc::new([("field".into(), long.into())].into()));
        };
        assert_eq!(refused(0, more), E::TextTooLong("unknown part"));
        assert_eq!(refused(0, |it| it.record.not_before = u64::MAX), E::Time("not_before"));
        assert_eq!(refused(0, |it| it.record.dot.counter = 0), E::Counter(0));
        let last = MAX_COUNTER;
        assert_eq!(refused(0, |it| it.record.dot.counter = last), E::Counter(last));
        assert_eq!(refused(0, |it| it.record.dot.actor = "".into()), E::Name("actor"));
    }

    #[test]
    fn a_lease_that_nobody_can_have_taken_is_refused() {
        use RecordError as E;
        assert_eq!(with_lease(1, |lease| lease.holder = "".into()), E::Name("holder"));
        assert_eq!(with_lease(1, |lease| lease.worker = "".into()), E::Name("worker"));
        assert_eq!(with_lease(1, |lease| lease.holder = "another".into()), E::ClaimDot);
        assert_eq!(with_lease(1, |lease| lease.dot.counter += 1), E::ClaimDot);
        assert_eq!(with_lease(1, |lease| lease.duration = 1), E::LeaseDuration(1));
        let standing = |index, spoil: fn(&mut Record)| {
            matches!(refused(index, |it| spoil(&mut it.record)), E::Inconsistent(_))
        };
        assert!(standing(1, |record| record.lease = None), "leased by nobody");
        assert!(standing(1, |record| record.phase = Phase::Pending), "the first epoch");
        assert!(standing(0, |record| record.epoch = 2), "a later epoch without a lease");
        assert!(standing(0, |record| record.class = Class::Completed), "completed, never held");
        assert!(standing(0, |record| record.phase = Phase::Failed), "failed, never held");
    }

    #[test]
    fn an_outcome_beyond_the_limits_of_a_report_is_refused() {
        let last = life().len() - 1;
        let long = || Some("x".repeat(MAX_ERROR_BYTES + 1).into());
        let with = |outcome: Outcome| {
            refused(last, |carried| {
                carried.result = None;
                carried.record.outcome = Some(Arc::new(outcome.clone()));
            })
        };
        let error = Outcome { error: long(), ..Outcome::default() };
        assert_eq!(with(error), RecordError::TextTooLong("error"));
        let note = Outcome { note: long(), ..Outcome::default() };
        assert_eq!(with(note), RecordError::TextTooLong("note"));
        let size = MAX_PAYLOAD_BYTES as u32 + 1;
        let body = Body { size, ..Body::of("") };
        let result = Outcome { result: Some(body), ..Outcome::default() };
        assert_eq!(with(result), RecordError::ResultSize(size));
    }
}
