//! Workers on the machines, and the journal of what they did.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};

use serde_json::{Value, json};

use super::machine::Machine;
use crate::harness::{Client, code};

/// One attempt at a task, as its worker saw it.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    pub(crate) machine: usize,
    /// What it reported: no other attempt reports the same.
    pub(crate) result: Value,
    pub(crate) end: End,
}

/// What became of an attempt's report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It was not answered, perhaps not even made: whether it counts is not known.
    Unknown,
    Accepted,
    /// With this code.
    Refused(String),
}

/// What was attempted, by task. Its clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Journal(Arc<Mutex<BTreeMap<String, Vec<Attempt>>>>);

impl Journal {
    /// Notes that a worker began, and what it is to report.
    pub(crate) fn begin(&self, task_id: &str, machine: usize) -> Value {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let attempt = NEXT.fetch_add(1, Ordering::Relaxed);
        let result = json!({"machine": machine, "attempt": attempt});
        let attempt = Attempt { machine, result: result.clone(), end: End::Unknown };
        self.attempts().entry(task_id.to_owned()).or_default().push(attempt);
        result
    }

    fn end(&self, task_id: &str, result: &Value, end: End) {
        let mut attempts = self.attempts();
        let of_task = attempts.get_mut(task_id).expect("it began");
        let attempt = of_task.iter_mut().find(|attempt| attempt.result == *result);
        attempt.expect("it began").end = end;
    }

    /// Reports an attempt that began, and notes what became of that. False once the node is gone.
    pub(crate) fn report(
        &self,
        client: &mut Client,
        task_id: &str,
        fence: u64,
        result: &Value,
    ) -> bool {
        let report = json!({"task_id": task_id, "fence": fence, "result": result});
        let id = client.start_call("p2p_mark_task_complete", &report);
        let Some(answer) = client.try_answer(id) else { return false };
        let end = match answer["result"]["isError"] == true {
            true => End::Refused(code(&answer["result"])),
            false => End::Accepted,
        };
        self.end(task_id, result, end);
        true
    }

    /// The attempts at one task, in the order in which they began.
    pub(crate) fn of(&self, task_id: &str) -> Vec<Attempt> {
        self.attempts().get(task_id).cloned().unwrap_or_default()
    }

    fn attempts(&self) -> MutexGuard<'_, BTreeMap<String, Vec<Attempt>>> {
        self.0.lock().expect("nothing panics under this lock")
    }
}

/// Workers of one machine, which do whatever task they get, until they are dismissed or their node
/// goes away.
pub(crate) struct Workers {
    dismissed: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Workers {
    pub(crate) fn of(machine: &Machine, journal: &Journal) -> Self {
        const AT_ONCE: usize = 2;
        let dismissed = Arc::<AtomicBool>::default();
        let start = |_| {
            let (number, client) = (machine.number, machine.home.connect());
            let (journal, dismissed) = (journal.clone(), dismissed.clone());
            thread::spawn(move || work(number, client, &journal, &dismissed))
        };
        let threads = (0..AT_ONCE).map(start).collect();
        Workers { dismissed, threads }
    }

    /// Lets them end what they do, and waits for that.
    pub(crate) fn dismiss(self) {
        self.dismissed.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("a worker meets nothing unexpected");
        }
    }
}

fn work(machine: usize, mut client: Client, journal: &Journal, dismissed: &AtomicBool) {
    client.introduce();
    while !dismissed.load(Ordering::Relaxed) {
        let id = client.start_call("p2p_get_next_task", &json!({"wait_seconds": 1}));
        let Some(answer) = client.try_answer(id) else { return };
        let given = &answer["result"]["structuredContent"];
        let Some(task_id) = given["task"]["task_id"].as_str() else {
            assert_eq!(answer["result"]["isError"], false, "{answer}");
            continue;
        };
        let fence = given["lease"]["fence"].as_u64().expect("a number");
        let result = journal.begin(task_id, machine);
        if !journal.report(&mut client, task_id, fence, &result) {
            return;
        }
    }
}
