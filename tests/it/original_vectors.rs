//! The pure functions give what the original system computes, on values that it computed.
//!
//! Two differences are meant. `compare` of the original is inverted; ours follows its
//! documentation, which the vectors hold as `order`. And the original breaks ties between
//! equally close peers by the order of a dict; ours by the smallest XOR.

use std::collections::BTreeMap;

use p2p_workflow_scheduler::scheduler::{
    Candidates, ClockOrder, Distance, Hash256, MerkleClock, TagSet, WorkflowTag,
    calculate_hamming_distance, combined_hash, task_hash, vector_root,
};
use serde::Deserialize;

type Vector = BTreeMap<String, u64>;

#[derive(Deserialize)]
struct Vectors {
    merkle_root: Vec<MerkleRoot>,
    clock_sequences: Vec<ClockSequence>,
    clock_compare: Vec<ClockCompare>,
    hamming_distance: Vec<HammingDistance>,
    task_hash: Vec<TaskHash>,
    task_owner: Vec<TaskOwner>,
    task_owner_ties: Vec<TaskOwner>,
    workflow_tags: Vec<WorkflowTags>,
}

#[derive(Deserialize)]
struct MerkleRoot {
    vector: Vector,
    merkle_root: String,
}

#[derive(Deserialize)]
struct ClockSequence {
    nodes: Vec<String>,
    steps: Vec<ClockStep>,
}

#[derive(Deserialize)]
struct ClockStep {
    op: String,
    node: String,
    from: Option<String>,
    vector: Vector,
    merkle_root: String,
}

#[derive(Deserialize)]
struct ClockCompare {
    a: Vector,
    b: Vector,
    order: String,
}

#[derive(Deserialize)]
struct HammingDistance {
    a: String,
    b: String,
    distance: u32,
}

#[derive(Deserialize)]
struct TaskHash {
    task_id: String,
    workflow_id: String,
    task_hash: String,
}

#[derive(Deserialize)]
struct TaskOwner {
    clock_head: Hash256,
    task_id: String,
    workflow_id: String,
    combined: Hash256,
    peers: Vec<String>,
    distances: BTreeMap<String, u32>,
    /// Where one peer is closest.
    owner: Option<String>,
    /// Where several are.
    #[serde(default)]
    closest: Vec<String>,
}

#[derive(Deserialize)]
struct WorkflowTags {
    tags: TagSet,
    should_bypass_github: bool,
    is_p2p_only: bool,
}

fn vectors() -> Vectors {
    let text = include_str!("../vectors/original.json");
    serde_json::from_str(text).expect("the vectors have this shape")
}

fn clock_with(vector: &Vector) -> MerkleClock {
    let mut clock = MerkleClock::new("");
    clock.merge(vector);
    clock
}

#[test]
fn merkle_roots_are_those_of_the_original() {
    let cases = vectors().merkle_root;
    assert!(!cases.is_empty());
    for case in cases {
        assert_eq!(vector_root(&case.vector).to_hex(), case.merkle_root, "{:?}", case.vector);
    }
}

#[test]
fn clocks_tick_and_update_like_the_originals() {
    let sequences = vectors().clock_sequences;
    assert!(!sequences.is_empty());
    for ClockSequence { nodes, steps } in sequences {
        let mut clocks: BTreeMap<String, MerkleClock> =
            nodes.into_iter().map(|node| (node.clone(), MerkleClock::new(node))).collect();
        for step in steps {
            let received = step.from.map(|from| clocks[&from].vector().clone());
            let clock = clocks.get_mut(&step.node).expect("a step is of one of the nodes");
            match (step.op.as_str(), received) {
                ("tick", None) => clock.tick(),
                ("update", Some(vector)) => clock.update(&vector),
                (op, _) => panic!("unknown step {op}"),
            }
            assert_eq!(clock.vector(), &step.vector);
            assert_eq!(clock.merkle_root(), step.merkle_root);
        }
    }
}

#[test]
fn clocks_compare_as_the_original_documents() {
    let cases = vectors().clock_compare;
    assert!(!cases.is_empty());
    for case in cases {
        let expected = match case.order.as_str() {
            "before" => ClockOrder::Before,
            "after" => ClockOrder::After,
            "equal" => ClockOrder::Equal,
            "concurrent" => ClockOrder::Concurrent,
            other => panic!("unknown order {other}"),
        };
        let order = clock_with(&case.a).compare(&clock_with(&case.b));
        assert_eq!(order, expected, "{:?} against {:?}", case.a, case.b);
    }
}

#[test]
fn hamming_distances_are_those_of_the_original() {
    let cases = vectors().hamming_distance;
    assert!(!cases.is_empty());
    for case in cases {
        assert_eq!(calculate_hamming_distance(&case.a, &case.b), Ok(case.distance));
    }
}

#[test]
fn task_hashes_are_those_of_the_original() {
    let cases = vectors().task_hash;
    assert!(!cases.is_empty());
    for case in cases {
        assert_eq!(task_hash(&case.task_id, &case.workflow_id).to_hex(), case.task_hash);
    }
}

#[test]
fn the_owner_is_the_originals_where_one_peer_is_closest() {
    let cases = vectors().task_owner;
    assert!(!cases.is_empty());
    for case in cases {
        let candidates = candidates_of(&case);
        let (owner, _) = candidates.owner(&case.combined, 1).expect("there are candidates");
        assert_eq!(Some(&**owner), case.owner.as_deref());
    }
}

#[test]
fn the_owner_of_a_tie_is_the_one_with_the_smallest_xor() {
    let cases = vectors().task_owner_ties;
    assert!(!cases.is_empty());
    for case in cases {
        let candidates = candidates_of(&case);
        let smallest_xor = case.closest.iter().min_by_key(|peer| {
            Distance::between(&Hash256::of(peer.as_bytes()), &case.combined).xor
        });
        let (owner, _) = candidates.owner(&case.combined, 1).expect("there are candidates");
        assert_eq!(Some(&**owner), smallest_xor.map(String::as_str));
    }
}

/// The candidates of a case, after a look at its hashes and distances.
fn candidates_of(case: &TaskOwner) -> Candidates {
    let task_hash = task_hash(&case.task_id, &case.workflow_id);
    assert_eq!(combined_hash(&case.clock_head, &task_hash), case.combined);
    let mut candidates = Candidates::default();
    for peer in &case.peers {
        candidates.insert(peer.as_str().into());
    }
    let distances = candidates
        .iter()
        .map(|(peer, hash)| (peer.to_string(), Distance::between(hash, &case.combined).hamming));
    assert_eq!(distances.collect::<BTreeMap<_, _>>(), case.distances);
    candidates
}

#[test]
fn tags_decide_about_github_as_in_the_original() {
    let cases = vectors().workflow_tags;
    assert_eq!(cases.len(), 1 << WorkflowTag::ALL.len());
    for case in cases {
        assert_eq!(case.tags.should_bypass_github(), case.should_bypass_github);
        assert_eq!(case.tags.is_p2p_only(), case.is_p2p_only);
    }
}
