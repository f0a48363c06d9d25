//! The order of records is total, and merging by it gives every peer the same, whatever the order,
//! loss or repetition of what arrives.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use p2p_workflow_scheduler::scheduler::*;
use proptest::prelude::*;

use crate::support::{Disk, at, scheduler, task, views};

/// Few values for each part, so that records often agree in all parts but one.
fn any_record(dot: Dot) -> impl Strategy<Value = Record> {
    let ended = (0..6u8, 0..3u8, 1..4u32, 0..2u32);
    let spec = (0..3u8, any::<bool>(), any::<bool>());
    let lease = (0..3u8, any::<bool>(), 1..3u64);
    let rest = (0..2u32, 0..2u8, 0..2u64, 0..4u8, 1..3u8);
    (ended, spec, lease, rest).prop_map(move |(ended, spec, lease, rest)| {
        let (class, phase, epoch, rev) = ended;
        let class = [
            Class::Live,
            Class::Live,
            Class::Live,
            Class::Live,
            Class::Cancelled,
            Class::Completed,
        ][usize::from(class)];
        let phase = [Phase::Pending, Phase::Leased, Phase::Failed][usize::from(phase)];
        let (failures, losses, not_before, outcome, priority) = rest;
        let (holder, session, counter) = lease;
        let never_held = phase == Phase::Pending && epoch == 1;
        let lease = (!never_held).then(|| {
            Arc::new(Lease {
                holder: format!("holder-{holder}").into(),
                worker: "worker".into(),
                dot: Dot { actor: format!("holder-{holder}/1").into(), counter },
                duration: if session { 0 } else { 5000 },
            })
        });
        let text = |bit: u8, text: &str| (outcome & bit > 0).then(|| text.into());
        let outcome = (outcome > 0).then(|| {
            Arc::new(Outcome { result: None, error: text(1, "boom"), note: text(2, "half way") })
        });
        Record {
            spec: Arc::new(spec_of(spec)),
            class,
            phase,
            priority,
            epoch,
            rev,
            failures,
            losses,
            not_before,
            lease,
            outcome,
            more: None,
            dot: dot.clone(),
        }
    })
}

fn spec_of((task, other_workflow, other_head): (u8, bool, bool)) -> Spec {
    let id = |task: u8| -> Arc<str> { format!("task-{task}").into() };
    Spec {
        task_id: id(task),
        workflow_id: if other_workflow { "v".into() } else { "w".into() },
        name: "a task".into(),
        tags: TagSet::default(),
        priority: 1,
        payload_size: 0,
        // With both kinds of specs about, the three may wait for each other in a circle.
        depends_on: if other_workflow { [id((task + 1) % 3)].into() } else { [].into() },
        requires: [].into(),
        delay: 0,
        max_attempts: 3,
        lease_duration: 0,
        head: Hash256::of(if other_head { b"a" } else { b"b" }),
        created_at: 0,
        hash: Hash256::default(),
    }
    .sealed(None)
}

/// Records as three actors may have written them, each under a dot of its own.
fn any_records() -> impl Strategy<Value = Vec<Record>> {
    (0..24u64).prop_flat_map(|count| {
        let dot = |n: u64| Dot { actor: format!("actor-{}", n % 3).into(), counter: n / 3 + 1 };
        (0..count).map(|n| any_record(dot(n))).collect::<Vec<_>>()
    })
}

/// What a peer of this name holds and shows after these records, apart from the order of arrival.
fn merged(peer: &str, records: &[Record]) -> (BTreeMap<Arc<str>, Record>, Vec<TaskView>, [u64; 6]) {
    let mut scheduler = scheduler(peer);
    let mut disk = Disk::default();
    for record in records {
        scheduler.merge(at(0), record.clone(), None, None);
        disk.keep(&scheduler.take_changes());
    }
    let restored = disk.restore(peer, at(0));
    let (live, kept) = (views(&scheduler, at(0)), views(&restored, at(0)));
    assert_eq!(live, kept, "what was kept shows the same");
    (disk.records(), by_id(live), scheduler.status(at(0)).counts)
}

fn by_id(mut views: Vec<TaskView>) -> Vec<TaskView> {
    views.sort_by(|a, b| a.task_id.cmp(&b.task_id));
    for view in &mut views {
        view.key = 0;
    }
    views
}

/// Where the last tasks had been removed, their keys were given out again.
#[test]
fn keys_are_never_used_twice() {
    for (tasks, next_key) in [(0, 7), (3, 7), (3, 3)] {
        let mut first = scheduler("me");
        for n in 0..tasks {
            first.submit(at(0), task(&format!("t{n}"))).unwrap();
        }
        let kept = first.take_changes().tasks.into_iter();
        let kept = kept.map(|TaskChange { key, record, leases_here, .. }| KeptTask {
            key,
            record,
            leases_here,
        });
        let kept = Kept { tasks: kept.collect(), next_key, ..Kept::default() };
        let (config, jitter) = (Config::default(), Box::new(|| 0));
        let mut s = P2PWorkflowScheduler::restore("me", "me/1", config, jitter, at(0), kept);
        s.submit(at(0), task("new")).unwrap();
        assert_eq!(s.show(at(0), "new").unwrap().key, next_key);
        assert_eq!(views(&s, at(0)).len(), tasks + 1);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn the_order_of_records_is_total_and_transitive(records in any_records()) {
        for a in &records {
            prop_assert_eq!(a.order(a), Ordering::Equal);
            for b in &records {
                prop_assert_eq!(a.order(b), b.order(a).reverse());
                prop_assert_eq!(a.order(b) == Ordering::Equal, a == b);
                for c in &records {
                    if a.order(b).is_lt() && b.order(c).is_lt() {
                        prop_assert!(a.order(c).is_lt());
                    }
                }
            }
        }
    }

    #[test]
    fn merging_gives_the_same_in_any_order_and_with_repetitions(
        (first, second, repeated) in any_records().prop_flat_map(|records| {
            let shuffled = Just(records.clone()).prop_shuffle();
            let doubled: Vec<Record> = records.iter().chain(&records).cloned().collect();
            (Just(records), shuffled, Just(doubled).prop_shuffle())
        })
    ) {
        let expected = merged("peer-1", &first);
        prop_assert_eq!(&merged("peer-2", &second), &expected);
        prop_assert_eq!(&merged("peer-3", &repeated), &expected);
        for (id, kept) in &expected.0 {
            let greatest = first.iter().filter(|r| r.spec.task_id == *id).max_by(|a, b| a.order(b));
            prop_assert_eq!(Some(kept), greatest);
        }
    }
}
