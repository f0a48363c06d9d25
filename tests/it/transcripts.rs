//! The original's single-peer runs, step by step: the same tasks in the same order, the same
//! hashes, counts and clock roots.
//!
//! The `vector` in the file is the one of the end of each run, not of the step; the roots are those
//! of the steps.

use p2p_workflow_scheduler::P2PTask;
use p2p_workflow_scheduler::scheduler::{Now, P2PWorkflowScheduler, Rejection, State, task_hash};
use serde::Deserialize;

use crate::support::{S, at, caller, done, scheduler, task, timed};

#[derive(Deserialize)]
struct Vectors {
    single_peer_transcripts: Vec<Transcript>,
}

#[derive(Deserialize)]
struct Transcript {
    peer_id: String,
    steps: Vec<Step>,
}

#[derive(Deserialize)]
struct Step {
    op: String,
    task_id: Option<String>,
    workflow_id: Option<String>,
    priority: Option<u8>,
    accepted: Option<bool>,
    task_hash: Option<String>,
    clock: Clock,
    pending: Option<u64>,
    assigned: Option<u64>,
    completed: Option<u64>,
}

#[derive(Deserialize)]
struct Clock {
    merkle_root: String,
}

#[test]
fn the_originals_single_peer_runs_are_reproduced_step_by_step() {
    let file = include_str!("../vectors/original.json");
    let vectors: Vectors = serde_json::from_str(file).unwrap();
    assert_eq!(vectors.single_peer_transcripts.len(), 10);
    for (run, transcript) in vectors.single_peer_transcripts.iter().enumerate() {
        let mut peer = scheduler(&transcript.peer_id);
        for (index, step) in transcript.steps.iter().enumerate() {
            let place = format!("run {run}, step {index} ({} {:?})", step.op, step.task_id);
            replay(&mut peer, step, at(index as u64 * S), &place);
        }
    }
}

fn replay(peer: &mut P2PWorkflowScheduler, step: &Step, now: Now, place: &str) {
    match step.op.as_str() {
        "submit" => submit(peer, step, now, place),
        "next" => {
            let given = peer.claim(now, &caller("worker"), &timed(3600 * S)).ok();
            let given = given.map(|claimed| claimed.task.task_id.to_string());
            assert_eq!(given, step.task_id, "{place}");
        }
        "complete" => {
            let id = step.task_id.as_deref().unwrap();
            let answer = peer.mark(now, &caller("worker"), id, done(), None);
            assert_eq!(answer.is_ok(), step.accepted.unwrap(), "{place}: {answer:?}");
        }
        other => panic!("{place}: unknown step {other}"),
    }
    let status = peer.status(now);
    assert_eq!(status.merkle_root, step.clock.merkle_root, "{place}");
    for (expected, state) in [
        (step.pending, State::Pending),
        (step.assigned, State::Assigned),
        (step.completed, State::Completed),
    ] {
        if let Some(expected) = expected {
            assert_eq!(status.count(state), expected, "{place}: {state}");
        }
    }
}

fn submit(peer: &mut P2PWorkflowScheduler, step: &Step, now: Now, place: &str) {
    let id = step.task_id.as_deref().unwrap();
    let workflow_id = step.workflow_id.clone().unwrap();
    let submission =
        P2PTask { workflow_id: workflow_id.clone(), priority: step.priority.unwrap(), ..task(id) };
    let hash = task_hash(id, &workflow_id);
    assert_eq!(Some(hash.to_hex()), step.task_hash, "{place}");
    // Where the original refuses an id that it knows, the same task is answered as already there.
    match peer.submit(now, submission) {
        Ok(submitted) => {
            assert_eq!(Some(submitted.created), step.accepted, "{place}");
            assert_eq!(submitted.task_hash, hash, "{place}");
        }
        Err(Rejection::TaskExists { .. }) => assert_eq!(step.accepted, Some(false), "{place}"),
        Err(other) => panic!("{place}: {other}"),
    }
}
