use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use rusqlite::Connection;
use tempfile::TempDir;

use crate::scheduler::{
    Body, Burial, Changes, Class, Conflict, Dot, Duplicate, Hash256, Heard, KeptTask, Lease,
    Outcome, Phase, Record, Rest, Spec, Standing, TagSet, TaskChange, Tombstone, WorkflowTag,
};

use super::history::MAX_CHANGES;
use super::open::{FILE, beside, migrate};
use super::*;

const PEER: &str = "12D3KooWGatheringOfTheClouds";

fn options(durability: Durability) -> Options<'static> {
    Options { durability, peer_id: PEER, restored: false }
}

fn open(folder: &Path) -> Store {
    Store::open(folder, options(Durability::Full)).unwrap()
}

fn refusal(folder: &Path) -> OpenError {
    Store::open(folder, options(Durability::Full)).unwrap_err()
}

fn load(store: &Store) -> (Vec<KeptTask>, Kept) {
    let mut kept = store.load().unwrap();
    (std::mem::take(&mut kept.tasks), kept)
}

fn dot(actor: &str, counter: u64) -> Dot {
    Dot { actor: actor.into(), counter }
}

fn record(task_id: &str) -> Record {
    let spec = Spec {
        task_id: task_id.into(),
        workflow_id: "nightly".into(),
        name: "Build".into(),
        tags: TagSet::default(),
        priority: 5,
        payload_size: 0,
        depends_on: Box::default(),
        requires: Box::default(),
        delay: 0,
        max_attempts: 3,
        lease_duration: 0,
        head: Hash256::of(b"head"),
        created_at: 1_760_000_000_000,
        hash: Hash256::default(),
    };
    Record {
        spec: Arc::new(spec.sealed(None)),
        class: Class::Live,
        phase: Phase::Pending,
        priority: 5,
        epoch: 1,
        rev: 0,
        failures: 0,
        losses: 0,
        not_before: 0,
        lease: None,
        outcome: None,
        rest: None,
        dot: dot("us/1", 1),
    }
}

/// A record in which no field has its default.
fn rich_record(task_id: &str, payload: &str, result: &str) -> Record {
    let plain = record(task_id);
    let spec = Spec {
        workflow_id: "Überprüfung 検査".into(),
        name: "It's \"done\"; DROP TABLE tasks; -- 🚀".into(),
        tags: [WorkflowTag::P2pOnly, WorkflowTag::CodeGeneration].into_iter().collect(),
        priority: 9,
        depends_on: ["a, b", "c\"d", "é"].map(Arc::from).into(),
        requires: ["gpu", "rust 1.95"].map(Arc::from).into(),
        delay: 86_400_000,
        max_attempts: u32::MAX,
        lease_duration: 604_800_000,
        created_at: u64::MAX,
        ..Spec::clone(&plain.spec)
    };
    Record {
        spec: Arc::new(spec.sealed(Some(payload))),
        class: Class::Completed,
        phase: Phase::Leased,
        priority: 10,
        epoch: u32::MAX,
        rev: 127,
        failures: 128,
        losses: 255,
        not_before: 1_760_000_001_234,
        lease: Some(Arc::new(Lease {
            holder: "12D3KooWHolder".into(),
            worker: "worker-7f".into(),
            dot: dot("12D3KooWHolder/9", (1 << 53) - 1),
            duration: 3_600_000,
        })),
        outcome: Some(Arc::new(Outcome {
            result: Some(Body::of(result)),
            error: Some("line one\nline two".into()),
            note: Some("½ way".into()),
        })),
        rest: Some(Arc::new(Rest {
            born: Some(dot("us/1", 1 << 40)),
            more: [("since_2".into(), r#"{"π": [3]}"#.into())].into(),
        })),
        dot: dot("12D3KooWOther/a", 300),
    }
}

fn submitted(key: u64, record: Record, payload: Option<&str>) -> TaskChange {
    TaskChange {
        key,
        record,
        leases_here: 0,
        spec_is_new: true,
        payload: payload.map(Arc::from),
        result: None,
    }
}

fn updated(key: u64, record: Record, result: Option<&str>) -> TaskChange {
    TaskChange {
        key,
        record,
        leases_here: 1,
        spec_is_new: false,
        payload: None,
        result: result.map(Arc::from),
    }
}

fn with_result(mut record: Record, result: &str) -> Record {
    record.outcome =
        Some(Arc::new(Outcome { result: Some(Body::of(result)), ..Outcome::default() }));
    record
}

fn with_payload(mut record: Record, payload: &str) -> Record {
    record.spec = Arc::new(Spec::clone(&record.spec).sealed(Some(payload)));
    record
}

fn tasks(tasks: Vec<TaskChange>) -> Changes {
    Changes { tasks, ..Changes::default() }
}

/// The folder as a kill would leave it: the log is there, nothing was tidied up.
fn as_if_killed(folder: &Path) -> TempDir {
    let copy = TempDir::new().unwrap();
    for file in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
    }
    copy
}

fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(Result::unwrap)
        .map(|file| (file.file_name().into_string().unwrap(), fs::read(file.path()).unwrap()))
        .collect();
    files.sort();
    files
}

#[test]
fn every_field_of_a_record_comes_back() {
    let folder = TempDir::new().unwrap();
    let (payload, result) = (r#"{"π":"3.14…"}"#, r#"["\u0000", "ok"]"#);
    let rich = rich_record("🦀/1", payload, result);
    let mut empty_outcome = record("2");
    empty_outcome.outcome = Some(Arc::new(Outcome::default()));
    let changes = Changes {
        tasks: vec![
            TaskChange {
                leases_here: 77,
                result: Some(result.into()),
                ..submitted(1, rich.clone(), Some(payload))
            },
            submitted(2, empty_outcome.clone(), None),
            submitted(3, record("3"), None),
        ],
        clock: vec![("peer b".into(), 9), ("peer a".into(), 1 << 52)],
        have: vec![dot("12D3KooWOther/a", 300), dot("never seen/1", 4)],
        conflicts: vec![Conflict { key: 1, record: rich.clone(), payload: Some(payload.into()) }],
        duplicates: vec![Duplicate {
            task_id: "🦀/1".into(),
            peer: "p".into(),
            worker: "w".into(),
            dot: dot("p/1", 2),
        }],
        ..Changes::default()
    };
    let mut store = open(folder.path());
    store.commit(&[changes]).unwrap();
    store.close().unwrap();

    let store = open(folder.path());
    let (tasks, kept) = load(&store);
    let task = |key, record, leases_here| KeptTask { key, record, leases_here };
    let expected = [task(1, rich, 77), task(2, empty_outcome, 0), task(3, record("3"), 0)];
    assert_eq!(tasks, expected);
    let expected = Kept {
        clock: [("peer a".into(), 1 << 52), ("peer b".into(), 9)].into(),
        have: [("12D3KooWOther/a".into(), 300), ("never seen/1".into(), 4)].into(),
        tasks: Vec::new(),
        conflicts: 1,
        lost_runs: [dot("p/1", 2)].into(),
        next_key: 4,
        ..Kept::default()
    };
    assert_eq!(kept, expected);
    let reader = store.reader().unwrap();
    assert_eq!(reader.payload(1).unwrap().as_deref(), Some(payload));
    assert_eq!(reader.result(1).unwrap().as_deref(), Some(result));
    assert_eq!(reader.payload(2).unwrap(), None);
    assert_eq!(reader.result(99).unwrap(), None);
}

#[test]
fn what_is_left_of_a_task_comes_back_until_nothing_is() {
    let folder = TempDir::new().unwrap();
    let (payload, result) = ("[1]", "[2]");
    let rich = rich_record("t", payload, result);
    let tombstone = Tombstone {
        task_id: "t".into(),
        born: dot("never seen/2", 3),
        standing: Standing { class: Class::Completed, ..rich.standing() },
    };
    let submission =
        TaskChange { result: Some(result.into()), ..submitted(7, rich, Some(payload)) };
    let bury =
        |tombstone| Changes { buried: vec![Burial { key: 7, tombstone }], ..Changes::default() };
    let mut store = open(folder.path());
    // In one batch as in two.
    for together in [true, false] {
        let batch = [tasks(vec![submission.clone()]), bury(Some(tombstone.clone()))];
        match together {
            true => store.commit(&batch).unwrap(),
            false => batch.iter().for_each(|it| store.commit(std::slice::from_ref(it)).unwrap()),
        }
        let (left, kept) = load(&store);
        assert_eq!(left, []);
        assert_eq!((kept.tombstones, kept.next_key), (vec![(7, tombstone.clone())], 8));
        let reader = store.reader().unwrap();
        assert_eq!((reader.payload(7).unwrap(), reader.result(7).unwrap()), (None, None));
        store.commit(&[bury(None)]).unwrap();
        assert_eq!(load(&store).1.tombstones, []);
    }
}

#[test]
fn members_come_back_with_what_they_held_until_they_are_forgotten() {
    let folder = TempDir::new().unwrap();
    let mut store = open(folder.path());
    let member = |heard| Changes { members: vec![("p".into(), heard)], ..Changes::default() };
    let have = Some(Arc::new(BTreeMap::from([("p/1".into(), 3)])));
    store.commit(&[member(Some(Heard { at: 1, have: have.clone() }))]).unwrap();
    store.commit(&[member(Some(Heard { at: 2, have: None }))]).unwrap();
    store.close().unwrap();
    let mut store = open(folder.path());
    assert_eq!(load(&store).1.members, BTreeMap::from([("p".into(), Heard { at: 2, have })]));
    store.commit(&[member(None)]).unwrap();
    assert_eq!(load(&store).1.members, BTreeMap::new());
}

#[test]
fn a_new_actor_is_that_of_the_store_from_then_on() {
    let folder = TempDir::new().unwrap();
    let mut store = open(folder.path());
    let actor = Some(format!("{PEER}/0123").into());
    store.commit(&[Changes { actor: actor.clone(), ..Changes::default() }]).unwrap();
    assert_eq!(Some(store.actor().clone()), actor);
    store.close().unwrap();
    assert_eq!(Some(open(folder.path()).actor().clone()), actor);
}

#[test]
fn every_class_and_phase_comes_back_with_the_word_that_people_read() {
    let folder = TempDir::new().unwrap();
    let mut store = open(folder.path());
    let expected = [
        (Class::Live, Phase::Pending, "pending"),
        (Class::Live, Phase::Leased, "assigned"),
        (Class::Live, Phase::Failed, "failed"),
        (Class::Cancelled, Phase::Pending, "cancelled"),
        (Class::Cancelled, Phase::Failed, "cancelled"),
        (Class::Completed, Phase::Leased, "completed"),
    ];
    let changes = (1..).zip(expected).map(|(key, (class, phase, _))| {
        let record = Record { class, phase, ..record("t") };
        submitted(key, record, None)
    });
    store.commit(&[tasks(changes.collect())]).unwrap();
    let (kept, _) = load(&store);
    let words: Vec<String> = store
        .connection
        .prepare("SELECT state FROM tasks ORDER BY key")
        .unwrap()
        .query_map([], |row| row.get(0))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let found: Vec<_> = kept
        .iter()
        .zip(&words)
        .map(|(task, word)| (task.record.class, task.record.phase, word.as_str()))
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn several_changes_of_a_task_in_one_batch_leave_the_last() {
    let folder = TempDir::new().unwrap();
    let mut store = open(folder.path());
    let new = with_payload(record("1"), "1");
    let done = Record { class: Class::Completed, ..with_result(new.clone(), "2") };
    let batch = [
        Changes {
            have: vec![dot("us/1", 1)],
            clock: vec![("us".into(), 1)],
            ..tasks(vec![submitted(1, new.clone(), Some("1")), submitted(2, record("2"), None)])
        },
        Changes {
            have: vec![dot("us/1", 2)],
            clock: vec![("us".into(), 2)],
            ..tasks(vec![updated(1, new, None), updated(1, done.clone(), Some("2"))])
        },
    ];
    store.commit(&batch).unwrap();

    assert_eq!(store.commits(), 1);
    let (kept_tasks, kept) = load(&store);
    assert_eq!(kept_tasks.len(), 2);
    assert_eq!(kept_tasks[0].record, done);
    assert_eq!(kept_tasks[0].leases_here, 1);
    assert_eq!(kept.have, [("us/1".into(), 2)].into());
    assert_eq!(kept.clock, [("us".into(), 2)].into());
    let reader = store.reader().unwrap();
    assert_eq!(reader.payload(1).unwrap().as_deref(), Some("1"));
    assert_eq!(reader.result(1).unwrap().as_deref(), Some("2"));
}

#[test]
fn the_text_kept_is_the_one_that_the_record_names() {
    let folder = TempDir::new().unwrap();
    let mut store = open(folder.path());
    let reader = store.reader().unwrap();
    let mut after = |change: TaskChange| {
        store.commit(&[tasks(vec![change])]).unwrap();
        (reader.payload(1).unwrap(), reader.result(1).unwrap())
    };
    let text = |text: &str| Some(text.to_owned());
    let first = with_payload(record("1"), "old");
    assert_eq!(after(submitted(1, first.clone(), Some("old"))), (text("old"), None));

    // A later attempt's result replaces the earlier one; a change that is silent about it keeps it.
    let earlier = with_result(first.clone(), "first");
    assert_eq!(after(updated(1, earlier.clone(), Some("first"))), (text("old"), text("first")));
    assert_eq!(after(updated(1, earlier, None)), (text("old"), text("first")));
    let later = with_result(first.clone(), "second");
    assert_eq!(after(updated(1, later.clone(), Some("second"))), (text("old"), text("second")));
    assert_eq!(after(updated(1, first, None)), (text("old"), None));

    // Another spec that won a merge takes the place of payload and result.
    assert_eq!(after(updated(1, later, Some("second"))), (text("old"), text("second")));
    let winner = with_payload(record("1"), "new");
    assert_eq!(after(submitted(1, winner, Some("new"))), (text("new"), None));
    assert_eq!(after(submitted(1, record("1"), None)), (None, None));
}

#[test]
fn what_was_committed_survives_a_kill() {
    for durability in [Durability::Full, Durability::Relaxed] {
        let folder = TempDir::new().unwrap();
        let mut store = Store::open(folder.path(), options(durability)).unwrap();
        for key in 1..=50 {
            let batch = [tasks(vec![submitted(key, record(&key.to_string()), None)])];
            store.commit(&batch).unwrap();
        }
        let killed = as_if_killed(folder.path());
        let (tasks, kept) = load(&open(killed.path()));
        assert_eq!(tasks.len(), 50);
        assert_eq!(kept.next_key, 51);
    }
}

#[test]
fn a_task_can_change_in_a_later_run() {
    let folder = TempDir::new().unwrap();
    let mut store = open(folder.path());
    let new = with_payload(record("1"), "p");
    store.commit(&[tasks(vec![submitted(1, new.clone(), Some("p"))])]).unwrap();
    drop(store);

    let mut store = open(folder.path());
    assert_eq!(store.origin(), Origin::Continued);
    let changed = Record { dot: dot("another actor/1", 5), ..new };
    store.commit(&[tasks(vec![updated(1, changed.clone(), None)])]).unwrap();
    let (kept, _) = load(&store);
    assert_eq!(kept[0].record, changed);
    assert_eq!(store.reader().unwrap().payload(1).unwrap().as_deref(), Some("p"));
}

#[test]
fn many_tasks_come_back_in_the_order_of_their_keys() {
    let folder = TempDir::new().unwrap();
    let mut store = open(folder.path());
    let keys: Vec<u64> = (1..=50_000).filter(|key| key % 7 != 0).collect();
    let changes = keys.iter().map(|&key| submitted(key, record(&key.to_string()), None));
    store.commit(&[tasks(changes.collect())]).unwrap();
    let (tasks, kept) = load(&store);
    assert_eq!(tasks.iter().map(|task| task.key).collect::<Vec<_>>(), keys);
    assert!(tasks.iter().all(|task| *task.record.spec.task_id == *task.key.to_string()));
    assert_eq!(kept.next_key, 50_001);
}

#[test]
fn a_reader_sees_whole_commits_only() {
    let folder = TempDir::new().unwrap();
    let mut store = open(folder.path());
    let one = with_payload(record("1"), "1");
    store.commit(&[tasks(vec![submitted(1, one, Some("1"))])]).unwrap();
    let reader = store.reader().unwrap();
    store.connection.execute_batch("BEGIN IMMEDIATE; UPDATE payloads SET body = '2';").unwrap();
    let seen = std::thread::spawn(move || reader.payload(1)).join().unwrap().unwrap();
    assert_eq!(seen.as_deref(), Some("1"));
}

#[test]
fn people_can_read_the_file_while_it_is_open() {
    let folder = TempDir::new().unwrap();
    let mut store = open(folder.path());
    let change = TaskChange {
        result: Some("[2]".into()),
        ..submitted(7, rich_record("t-7", "[1]", "[2]"), Some("[1]"))
    };
    store.commit(&[tasks(vec![change])]).unwrap();

    let person = Connection::open(folder.path().join(FILE)).unwrap();
    let columns = "task_id, workflow_id, name, tags, state, holder, worker, error, note, payload, \
                   result, ended_at_utc";
    let query = format!("SELECT {columns} FROM tasks_readable WHERE priority = 10 AND key = 7");
    let shown: Vec<String> = person
        .query_row(&query, [], |row| (0..12).map(|column| row.get(column)).collect())
        .unwrap();
    let expected = [
        "t-7",
        "Überprüfung 検査",
        "It's \"done\"; DROP TABLE tasks; -- 🚀",
        "p2p-only, code-generation",
        "completed",
        "12D3KooWHolder",
        "worker-7f",
        "line one\nline two",
        "½ way",
        "[1]",
        "[2]",
        "2025-10-09 08:53:21",
    ];
    assert_eq!(shown, expected);
    let count = "SELECT count(*) FROM tasks, json_each(depends_on) WHERE value = 'a, b'";
    assert_eq!(person.query_row(count, [], |row| row.get::<_, u32>(0)).unwrap(), 1);
}

#[test]
fn a_file_that_is_not_ours_is_refused_and_left_as_it_is() {
    let other_program = {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join(FILE);
        Connection::open(&path).unwrap().execute_batch("CREATE TABLE notes (text)").unwrap();
        fs::read(path).unwrap()
    };
    let cases = [
        (&b"Dear diary,"[..], "not an SQLite file"),
        (b"", "it is empty"),
        (&other_program, "another program"),
    ];
    for (content, words) in cases {
        let folder = TempDir::new().unwrap();
        fs::write(folder.path().join(FILE), content).unwrap();
        let error = refusal(folder.path());
        assert!(matches!(error, OpenError::Foreign { .. }), "{error}");
        assert!(error.to_string().contains(words), "{error}");
        assert_eq!(files(folder.path()), [(FILE.to_owned(), content.to_vec())]);
    }
}

/// A closed store of 100 tasks, as bytes.
fn closed_store() -> Vec<u8> {
    let folder = TempDir::new().unwrap();
    let mut store = open(folder.path());
    let changes = (1..=100).map(|key| submitted(key, record(&key.to_string()), None));
    store.commit(&[tasks(changes.collect())]).unwrap();
    store.close().unwrap();
    let files = files(folder.path());
    assert_eq!(files.len(), 1, "closing leaves the database alone");
    files.into_iter().next().unwrap().1
}

#[test]
fn a_newer_file_is_refused_and_left_as_it_is() {
    let folder = TempDir::new().unwrap();
    let mut content = closed_store();
    content[60..64].copy_from_slice(&9_u32.to_be_bytes());
    fs::write(folder.path().join(FILE), &content).unwrap();
    let error = refusal(folder.path());
    assert!(matches!(error, OpenError::Newer { found: 9, known: 3, .. }), "{error}");
    assert_eq!(files(folder.path()), [(FILE.to_owned(), content)]);
}

#[test]
fn a_damaged_file_is_refused_and_left_as_it_is() {
    let whole = closed_store();
    let cut_in_the_header = whole[..50].to_vec();
    let cut_in_half = whole[..whole.len() / 2].to_vec();
    let mut overwritten = whole;
    overwritten[100..4096].fill(0xa5);
    for content in [cut_in_the_header, cut_in_half, overwritten] {
        let folder = TempDir::new().unwrap();
        fs::write(folder.path().join(FILE), &content).unwrap();
        let error = refusal(folder.path());
        assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
        assert!(error.to_string().contains("backup"), "{error}");
        assert_eq!(files(folder.path()), [(FILE.to_owned(), content)]);
    }
}

#[test]
fn a_damaged_row_is_named() {
    let folder = TempDir::new().unwrap();
    let mut store = open(folder.path());
    store.commit(&[tasks(vec![submitted(5, record("5"), None)])]).unwrap();
    for damage in ["record = x'02'", "record = substr(record, 1, 60)", "record = x''"] {
        store.connection.execute(&format!("UPDATE tasks SET {damage}"), []).unwrap();
        let error = store.load().unwrap_err();
        assert!(error.to_string().contains("table tasks, row 5"), "{error}");
    }
}

#[test]
fn a_log_without_its_database_is_not_thrown_away() {
    let folder = TempDir::new().unwrap();
    let mut store = open(folder.path());
    store.commit(&[tasks(vec![submitted(1, record("1"), None)])]).unwrap();
    let killed = as_if_killed(folder.path());
    fs::remove_file(killed.path().join(FILE)).unwrap();
    let before = files(killed.path());
    let error = refusal(killed.path());
    assert!(matches!(error, OpenError::OnlyLog { .. }), "{error}");
    assert_eq!(files(killed.path()), before);
}

#[test]
fn a_crash_while_the_database_was_made_leaves_nothing_behind() {
    let folder = TempDir::new().unwrap();
    let draft = beside(&folder.path().join(FILE), ".new");
    fs::write(&draft, "half").unwrap();
    fs::write(beside(&draft, "-wal"), "of it").unwrap();
    let store = open(folder.path());
    assert_eq!(store.origin(), Origin::New);
    store.close().unwrap();
    assert_eq!(files(folder.path()).len(), 1);
}

#[test]
fn an_older_schema_is_brought_up_step_by_step() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join(FILE);
    let connection = Connection::open(&path).unwrap();
    let steps = [
        "CREATE TABLE pets (name TEXT); INSERT INTO pets VALUES ('Ada');",
        "ALTER TABLE pets ADD COLUMN age INTEGER DEFAULT 1;",
        "UPDATE pets SET age = age + 1;",
    ];
    migrate(&connection, &path, &steps[..1]).unwrap();
    migrate(&connection, &path, &steps).unwrap();
    migrate(&connection, &path, &steps).unwrap();
    let pet = "SELECT name || age FROM pets";
    let pet: String = connection.query_row(pet, [], |row| row.get(0)).unwrap();
    assert_eq!(pet, "Ada2");

    // A step that fails leaves the version from before.
    let broken = [steps[0], steps[1], steps[2], "UPDATE pets SET age = 7;", "nonsense"];
    migrate(&connection, &path, &broken).unwrap_err();
    migrate(&connection, &path, &steps).unwrap();
    let error = migrate(&connection, &path, &steps[..2]).unwrap_err();
    assert!(matches!(error, OpenError::Newer { found: 3, known: 2, .. }), "{error}");
}

#[test]
fn the_tasks_of_another_peer_are_refused() {
    let folder = TempDir::new().unwrap();
    open(folder.path()).close().unwrap();
    let before = files(folder.path());
    let other = Options { peer_id: "12D3KooWSomebodyElse", ..options(Durability::Relaxed) };
    let error = Store::open(folder.path(), other).unwrap_err();
    assert!(matches!(error, OpenError::OtherPeer { .. }), "{error}");
    assert_eq!(files(folder.path()), before);
}

#[test]
fn a_missing_folder_is_named() {
    let folder = TempDir::new().unwrap();
    let missing = folder.path().join("missing");
    let error = refusal(&missing).to_string();
    assert!(error.contains("missing/tasks.sqlite3.new"), "{error}");
}

#[test]
fn the_same_file_goes_on_under_the_same_actor() {
    let folder = TempDir::new().unwrap();
    let store = open(folder.path());
    let (first, origin) = (store.actor().clone(), store.origin());
    assert_eq!(origin, Origin::New);
    assert!(first.starts_with(&format!("{PEER}/")), "{first}");
    drop(store);
    for durability in [Durability::Full, Durability::Relaxed, Durability::Full] {
        let store = Store::open(folder.path(), options(durability)).unwrap();
        assert_eq!(*store.actor(), first);
        assert_eq!(store.origin(), Origin::Continued);
        store.close().unwrap();
    }
}

#[test]
fn a_store_that_may_have_been_put_back_gets_a_new_actor_once() {
    let folder = TempDir::new().unwrap();
    let store = open(folder.path());
    let first = store.actor().clone();
    store.close().unwrap();

    let copy = as_if_killed(folder.path());
    let store = open(copy.path());
    assert_eq!(store.origin(), Origin::Restored(Sign::OtherFile));
    assert!(load(&store).1.doubtful, "peers may have forgotten what it holds");
    let second = store.actor().clone();
    assert_ne!(second, first);
    store.close().unwrap();
    let mut store = open(copy.path());
    assert_eq!((store.actor(), load(&store).1.doubtful), (&second, true));
    store.commit(&[Changes { doubtful: Some(false), ..Changes::default() }]).unwrap();
    store.close().unwrap();
    assert!(!load(&open(copy.path())).1.doubtful);

    let told = Options { restored: true, ..options(Durability::Full) };
    let store = Store::open(copy.path(), told).unwrap();
    assert_eq!(store.origin(), Origin::Restored(Sign::Told));
    assert_ne!(*store.actor(), second);
}

#[test]
fn an_unclean_stop_in_relaxed_mode_gets_a_new_actor() {
    let folder = TempDir::new().unwrap();
    let relaxed = Store::open(folder.path(), options(Durability::Relaxed)).unwrap();
    let first = relaxed.actor().clone();
    drop(relaxed);
    let store = open(folder.path());
    assert_eq!(store.origin(), Origin::Restored(Sign::UncleanStop));
    assert_ne!(*store.actor(), first);
    assert!(!load(&store).1.doubtful, "what a power cut costs nobody has forgotten");
    let second = store.actor().clone();
    drop(store);
    assert_eq!(*open(folder.path()).actor(), second, "full mode needs no closing");
}

#[test]
fn a_full_disk_costs_only_the_batch_that_met_it() {
    let folder = TempDir::new().unwrap();
    let mut store = open(folder.path());
    let actor = store.actor().clone();
    store.commit(&[tasks(vec![submitted(1, record("1"), None)])]).unwrap();
    store.connection.pragma_update(None, "max_page_count", 1).unwrap();
    let text = format!("\"{}\"", "x".repeat(200_000));
    let large = Record {
        dot: dot("an actor first named in the batch that fails/1", 1),
        ..with_payload(record("2"), &text)
    };
    let batch = [tasks(vec![
        updated(1, Record { rev: 1, ..record("1") }, None),
        submitted(2, large, Some(&text)),
    ])];
    let error = store.commit(&batch).unwrap_err();
    assert!(matches!(error, CommitError::Failed { .. }), "{error}");
    assert!(error.to_string().contains("the disk is full"), "{error}");
    let error = store.commit(&[]).unwrap_err();
    assert!(matches!(error, CommitError::Unusable { .. }), "{error}");
    store.probe().unwrap();

    store.reopen().unwrap();
    assert_eq!(*store.actor(), actor);
    let (kept, _) = load(&store);
    assert_eq!(kept.len(), 1);
    assert_eq!(kept[0].record, record("1"));
    store.commit(&batch).unwrap();
    assert_eq!(load(&store).0.len(), 2);
}

#[test]
fn a_probe_tells_whether_the_disk_takes_writes() {
    let folder = TempDir::new().unwrap();
    let mut store = open(folder.path());
    store.probe().unwrap();
    store.connection.pragma_update(None, "query_only", true).unwrap();
    let error = store.probe().unwrap_err();
    assert!(error.to_string().contains("may not be written to"), "{error}");
}

#[test]
fn a_grown_log_is_moved_into_the_database_when_nothing_waits() {
    let folder = TempDir::new().unwrap();
    let mut store = open(folder.path());
    let size = |store: &Store| fs::metadata(&store.path).unwrap().len();
    let empty = size(&store);
    let text = format!("\"{}\"", "x".repeat(250_000));
    let big = |key: u64| tasks(vec![submitted(key, with_payload(record("1"), &text), Some(&text))]);
    store.commit(&[big(1)]).unwrap();
    store.checkpoint_if_idle().unwrap();
    assert_eq!(size(&store), empty, "too little to be worth a sync");
    for key in 2..=40 {
        store.commit(&[big(key)]).unwrap();
    }
    store.checkpoint_if_idle().unwrap();
    assert!(size(&store) > 40 * 250_000);
}

#[test]
fn a_log_that_grows_under_unbroken_load_is_bounded() {
    let folder = TempDir::new().unwrap();
    let mut store = Store::open(folder.path(), options(Durability::Relaxed)).unwrap();
    let text = format!("\"{}\"", "x".repeat(250_000));
    for key in 1..=600 {
        let change = submitted(key, with_payload(record("1"), &text), Some(&text));
        store.commit(&[tasks(vec![change])]).unwrap();
    }
    let log = fs::metadata(beside(&store.path, "-wal")).unwrap().len();
    assert!(log < (LONGEST_LOG_PAGES + 100) * 4200, "{log} bytes");
}

#[cfg(unix)]
#[test]
fn nobody_else_may_read_the_files() {
    use std::os::unix::fs::PermissionsExt;
    let folder = TempDir::new().unwrap();
    let mut store = open(folder.path());
    store.commit(&[tasks(vec![submitted(1, record("1"), None)])]).unwrap();
    for file in fs::read_dir(folder.path()).unwrap().map(Result::unwrap) {
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{file:?}");
    }
}

#[test]
fn an_answer_waits_for_the_sync_in_full_durability_only() {
    for (durability, synchronous) in [(Durability::Full, 2), (Durability::Relaxed, 1)] {
        let folder = TempDir::new().unwrap();
        let mut store = Store::open(folder.path(), options(durability)).unwrap();
        // Also the connection that takes over after a failed commit.
        for _ in 0..2 {
            let asked = |name| {
                store
                    .connection
                    .pragma_query_value(None, name, |row| row.get::<_, rusqlite::types::Value>(0))
            };
            assert_eq!(asked("synchronous").unwrap(), rusqlite::types::Value::Integer(synchronous));
            assert_eq!(asked("journal_mode").unwrap(), rusqlite::types::Value::Text("wal".into()));
            store.reopen().unwrap();
        }
    }
}

#[test]
fn a_backup_is_a_store_of_its_own_that_only_its_owner_may_read() {
    let folder = TempDir::new().unwrap();
    let mut store = open(folder.path());
    let change = submitted(1, with_payload(record("t"), "[1]"), Some("[1]"));
    store.commit(&[tasks(vec![change])]).unwrap();
    let reader = store.reader().unwrap();
    let other = TempDir::new().unwrap();
    let file = other.path().join(FILE);
    let bytes = reader.backup(&file).unwrap();
    assert_eq!(fs::metadata(&file).unwrap().len(), bytes);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    }
    let refused = reader.backup(&file).unwrap_err().to_string();
    assert!(refused.contains("Choose another name"), "{refused}");
    let missing = reader.backup(&other.path().join("missing/file")).unwrap_err().to_string();
    assert!(missing.contains("missing/file"), "{missing}");

    let restored = open(other.path());
    assert_eq!(restored.origin(), Origin::Restored(Sign::OtherFile));
    assert_eq!(load(&restored).0, load(&store).0);
    assert_eq!(restored.reader().unwrap().payload(1).unwrap().as_deref(), Some("[1]"));
}

#[test]
fn what_lost_against_a_task_is_read_by_its_id() {
    let folder = TempDir::new().unwrap();
    let mut store = open(folder.path());
    // The text of the one that lost was here: on disk, and in the same batch.
    let conflict = |key| Conflict { key, record: with_payload(record("t"), "[1]"), payload: None };
    let lost = conflict(7);
    let first = submitted(7, lost.record.clone(), Some("[1]"));
    store.commit(&[tasks(vec![first.clone()])]).unwrap();
    let winner = submitted(7, with_payload(record("t"), "[2]"), Some("[2]"));
    let won = Changes { conflicts: vec![lost.clone()], ..tasks(vec![winner.clone()]) };
    store.commit(&[won]).unwrap();
    assert_eq!(store.reader().unwrap().payload(7).unwrap().as_deref(), Some("[2]"));
    let again = |change: &TaskChange| TaskChange { key: 8, ..change.clone() };
    let won = Changes { conflicts: vec![conflict(8)], ..tasks(vec![again(&winner)]) };
    store.commit(&[tasks(vec![again(&first)]), won]).unwrap();
    let run =
        Duplicate { task_id: "t".into(), peer: "p".into(), worker: "w".into(), dot: dot("p/1", 2) };
    store.commit(&[Changes { duplicates: vec![run.clone()], ..Changes::default() }]).unwrap();
    let reader = store.reader().unwrap();
    let spec = &lost.record.spec;
    let shown = LostSpec {
        workflow_id: spec.workflow_id.to_string(),
        name: spec.name.to_string(),
        created_at: spec.created_at,
        payload: Some("[1]".into()),
    };
    assert_eq!(reader.conflicts("t").unwrap(), [shown.clone(), shown]);
    assert_eq!(reader.duplicates("t").unwrap(), [LostRun { peer: "p".into(), worker: "w".into() }]);
    assert!(
        reader.conflicts("u").unwrap().is_empty() && reader.duplicates("u").unwrap().is_empty()
    );
    store.commit(&[Changes { not_lost: vec![run], ..Changes::default() }]).unwrap();
    assert_eq!(reader.duplicates("t").unwrap(), [], "it counts after all");
    assert!(store.load().unwrap().lost_runs.is_empty());
}

/// A record that took the place of `before`.
fn next(before: &Record, change: impl FnOnce(&mut Record)) -> Record {
    let mut record = before.clone();
    if record.rest.is_none() {
        record.rest = Some(Arc::new(Rest { born: Some(before.dot.clone()), ..Rest::default() }));
    }
    change(&mut record);
    record
}

fn leased(before: &Record, holder: &str, worker: &str) -> Record {
    next(before, |record| {
        (record.phase, record.rev) = (Phase::Leased, 0);
        record.dot = dot(&format!("{holder}/1"), 7);
        record.lease = Some(Arc::new(Lease {
            holder: holder.into(),
            worker: worker.into(),
            dot: record.dot.clone(),
            duration: 0,
        }));
    })
}

fn back(before: &Record, change: impl FnOnce(&mut Record)) -> Record {
    next(before, |record| {
        (record.phase, record.rev) = (Phase::Pending, 0);
        record.epoch += 1;
        change(record);
    })
}

fn failed_with(record: &mut Record, error: &str) {
    record.failures += 1;
    record.outcome = Some(Arc::new(Outcome { error: Some(error.into()), ..Outcome::default() }));
}

/// An event without its time.
type Told = (Happened, String, Option<String>, u32, Option<String>);

fn told(store: &Store, key: u64) -> Vec<Told> {
    let events = store.reader().unwrap().history(key).unwrap().unwrap();
    events.into_iter().map(|it| (it.what, it.peer, it.worker, it.attempt, it.reason)).collect()
}

fn rows(store: &Store) -> u64 {
    let query = "SELECT count(*) FROM history";
    store.connection.query_row(query, [], |row| row.get::<_, i64>(0)).unwrap() as u64
}

#[test]
fn what_happened_to_a_task_is_told_from_its_submission_to_its_end() {
    use Happened::*;
    let folder = TempDir::new().unwrap();
    let mut store = open(folder.path());
    let first = record("a");
    let taken = leased(&first, "us", "w-1");
    let noted = next(&taken, |record| {
        record.rev += 1;
        let note = Some("half".into());
        record.outcome = Some(Arc::new(Outcome { note, ..Outcome::default() }));
    });
    let renewed = next(&noted, |record| record.rev += 1);
    let tried = back(&renewed, |record| failed_with(record, "no disk"));
    let urgent = next(&tried, |record| (record.rev, record.priority) = (1, 9));
    let elsewhere = leased(&urgent, "them", "w-2");
    let lost = back(&elsewhere, |record| record.losses += 1);
    let again = leased(&lost, "us", "w-3");
    let released = back(&again, |_| {});
    let held = leased(&released, "them", "w-4");
    // Its peer was down, and so it went on in the next epoch.
    let over = next(&leased(&held, "us", "w-5"), |record| record.epoch += 1);
    let broken = next(&over, |record| {
        record.phase = Phase::Failed;
        failed_with(record, "no memory");
    });
    let requeued = back(&broken, |record| (record.failures, record.losses) = (0, 0));
    let last = leased(&requeued, "us", "w-6");
    let completed = next(&last, |record| {
        record.class = Class::Completed;
        record.not_before = 1_760_000_009_000;
    });
    let changes = [
        taken, noted, renewed, tried, urgent, elsewhere, lost, again, released, held, over, broken,
        requeued, last, completed,
    ];
    // Some of them share a commit, of which the tasks table keeps the last only.
    store.commit(&[tasks(vec![submitted(1, first, None)])]).unwrap();
    for part in changes.chunks(4) {
        let batch = part.iter().map(|record| tasks(vec![updated(1, record.clone(), None)]));
        store.commit(&batch.collect::<Vec<_>>()).unwrap();
    }

    let us = |what, worker: &str, attempt, reason: Option<&str>| {
        let worker = Some(worker.to_owned()).filter(|worker| !worker.is_empty());
        (what, "us".to_owned(), worker, attempt, reason.map(str::to_owned))
    };
    let them = |what, worker: &str, attempt| {
        (what, "them".to_owned(), Some(worker.to_owned()), attempt, None)
    };
    let expected = [
        us(Submitted, "", 1, None),
        us(Taken, "w-1", 1, None),
        us(Progressed, "w-1", 1, Some("half")),
        us(AttemptFailed, "w-1", 1, Some("no disk")),
        us(Reprioritized, "", 2, Some("priority 9")),
        them(Taken, "w-2", 2),
        them(WorkerLost, "w-2", 2),
        us(Taken, "w-3", 2, None),
        us(Released, "w-3", 2, None),
        them(Taken, "w-4", 2),
        us(TakenOver, "w-5", 2, None),
        us(Failed, "w-5", 2, Some("no memory")),
        us(Requeued, "", 1, None),
        us(Taken, "w-6", 1, None),
        us(Completed, "w-6", 1, None),
    ];
    assert_eq!(told(&store, 1), expected);
    let events = store.reader().unwrap().history(1).unwrap().unwrap();
    assert_eq!((events[0].at, events[14].at), (1_760_000_000_000, 1_760_000_009_000));
    assert!(events[1..14].is_sorted_by_key(|event| event.at), "{events:?}");
    assert_eq!(store.reader().unwrap().history(2).unwrap(), None);

    // A later run goes on behind it.
    drop(store);
    let store = open(folder.path());
    assert_eq!(told(&store, 1), expected);
}

#[test]
fn a_task_that_goes_well_costs_one_row_of_history() {
    let folder = TempDir::new().unwrap();
    let mut store = open(folder.path());
    let first = record("a");
    let taken = leased(&first, "us", "w");
    let renewed = next(&taken, |record| record.rev += 1);
    let completed = next(&renewed, |record| record.class = Class::Completed);
    let changes = [submitted(1, first, None)]
        .into_iter()
        .chain([taken, renewed, completed].into_iter().map(|record| updated(1, record, None)));
    store.commit(&[tasks(changes.collect())]).unwrap();
    assert_eq!(rows(&store), 1);
    assert_eq!(told(&store, 1).len(), 3);
}

#[test]
fn of_a_task_that_changes_again_and_again_the_last_changes_are_told() {
    let folder = TempDir::new().unwrap();
    let mut store = open(folder.path());
    let mut now = record("a");
    store.commit(&[tasks(vec![submitted(1, now.clone(), None)])]).unwrap();
    for attempt in 1..=200 {
        let taken = leased(&now, "us", "w");
        now = back(&taken, |record| failed_with(record, &format!("error {attempt}")));
        let changes = [taken, now.clone()].map(|record| updated(1, record, None));
        store.commit(&[tasks(changes.into())]).unwrap();
        assert!(rows(&store) <= 100, "{attempt}: {}", rows(&store));
    }
    let told = told(&store, 1);
    assert_eq!(told.len(), 1 + MAX_CHANGES);
    assert_eq!(told[MAX_CHANGES].4.as_deref(), Some("error 200"));
    assert_eq!(told[2].4.as_deref(), Some("error 176"));
}

#[test]
fn beyond_the_limit_over_all_tasks_the_first_ones_lose_their_history() {
    let folder = TempDir::new().unwrap();
    let mut store = open(folder.path());
    store.history.limit_to(100);
    for key in 1..=250 {
        let first = record(&format!("t-{key}"));
        let taken = leased(&first, "us", "w");
        let changes = vec![submitted(key, first, None), updated(key, taken, None)];
        store.commit(&[tasks(changes)]).unwrap();
        assert!(rows(&store) <= 100);
    }
    assert_eq!(told(&store, 250).len(), 2);
    assert_eq!(told(&store, 1).len(), 1, "its submission stands in its record");
}

#[test]
fn a_task_that_is_stripped_takes_its_history_along() {
    let folder = TempDir::new().unwrap();
    let mut store = open(folder.path());
    let first = record("a");
    let taken = leased(&first, "us", "w");
    store.commit(&[tasks(vec![submitted(1, first, None), updated(1, taken, None)])]).unwrap();
    assert_eq!(rows(&store), 1);
    let buried = vec![Burial { key: 1, tombstone: None }];
    store.commit(&[Changes { buried, ..Changes::default() }]).unwrap();
    assert_eq!(rows(&store), 0);
}

#[test]
fn a_long_error_is_told_by_its_beginning() {
    let folder = TempDir::new().unwrap();
    let mut store = open(folder.path());
    let first = record("a");
    let taken = leased(&first, "us", "w");
    let failed = back(&taken, |record| failed_with(record, &"é".repeat(2000)));
    let changes = [taken, failed].map(|record| updated(1, record, None));
    store.commit(&[tasks(vec![submitted(1, first, None)]), tasks(changes.into())]).unwrap();
    let told = told(&store, 1);
    assert_eq!(told[2].4.as_deref(), Some(&*"é".repeat(128)));
}

#[test]
fn a_store_from_before_there_was_a_history_tells_what_its_records_say() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join(FILE);
    let mut store = open(folder.path());
    store.commit(&[tasks(vec![submitted(1, record("a"), None)])]).unwrap();
    store.close().unwrap();
    let older = Connection::open(&path).unwrap();
    older.execute_batch("DROP TABLE history; PRAGMA user_version = 2;").unwrap();
    older.close().unwrap();

    let mut store = open(folder.path());
    assert_eq!(told(&store, 1).len(), 1);
    let taken = leased(&record("a"), "us", "w");
    store.commit(&[tasks(vec![updated(1, taken, None)])]).unwrap();
    assert_eq!(told(&store, 1)[1].0, Happened::Taken);
}
