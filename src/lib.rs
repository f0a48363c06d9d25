//! A peer-to-peer workflow scheduler: durable tasks that agents on several machines share without a
//! server.
//!
//! ```text
//!   doors (package ipfs-accelerate)   MCP, command line
//!     │
//!   node                              one lock, one committer, one socket
//!     ├── store                       SQLite, one sync for each group of calls
//!     └── swarm                       libp2p: who this peer is, who may come in, messages between peers
//!           │
//!   scheduler                         the core: pure, the whole crate without default features
//! ```
//!
//! Each layer imports only what stands below it. `scheduler` decides, `store` keeps, `node` runs
//! both for its sessions. Programs that want a node in their own process start at `node::attach`;
//! programs that want only the algorithm start at [`P2PWorkflowScheduler`].
//!
//! # Decisions worth knowing
//!
//! * **The shown clock counts submissions and outcomes, not every write.** Each write of a record
//!   has a dot, and the replication vector counts those. Were the clock the maximum of that vector,
//!   a claim would tick it, which the original's never did; so the clock has ticks of its own, is
//!   kept beside the vector, and peers merge it with [`MerkleClock::merge`].
//! * **A record keeps its last lease** after the task went back to the queue. A report whose answer
//!   was lost is then recognised when it is repeated, also by the next node, and answered again
//!   without a change; and a late worker is told that its lease ended rather than that it never was.
//! * **A session's lease has no deadline while the session is attached**, so renewing it writes
//!   nothing. A lease on time (`lease_seconds`, and every lease of the command line) has one.
//! * **The priority in force stands beside the spec**, which never changes: a submission repeated
//!   after a change of priority is still the same submission.
//! * **A pull goes on where the last one stopped**, not only within a pull: the place in a peer's
//!   order of changes is remembered for that peer's run, since all up to it is held. So peers that
//!   are nearly in sync look at what changed, not at a million tasks.
//! * **Peers in sync have equal sums of their live records' names too**, not only equal vectors, and
//!   of those that ended beyond a gap: a record beyond a gap that nobody can fill any more, since its
//!   writer died, shows in no vector, and would stay where it is. What ended otherwise is left out:
//!   each peer forgets it in its own time.
//! * **Forgetting writes nothing.** A task is stripped to a tombstone by each peer's own clock; the
//!   tombstone merges as the record did, and goes when the vectors of all known members cover it.
//!   Members are kept on disk, and tell each other their vectors once an hour.
//! * **What a peer has seen and does not hold is gone.** A record names the write by which its task was
//!   submitted. Whoever has seen that write, and does not hold the task, has forgotten it, and does not
//!   take it in again, whoever brings it back to life. And an audit (a pull in which the peer lists
//!   what it holds) tells a store that was put back what the others have forgotten, and until one is
//!   through such a store changes nothing. The same for a member that heard of nobody for nearly 180
//!   days, and where peers with equal vectors hold different live tasks.
//! * **A peer that starts or wakes in a swarm first asks the others**, for five seconds at most: what
//!   waits in its store they may have done. Else each restart would run something twice.
//! * **A restored store that its peers tell of takes a new actor by itself**, in the same transaction
//!   as the new names of what it wrote.
//! * **Members that nobody works at rank last** (rule 13): a heartbeat says whether a worker asked for
//!   a task within five minutes. Else half of the tasks of two machines, of which one only runs a node,
//!   would wait a turn for nobody.
//! * **The vector rises over gaps that close** (rule 7): pushes overtake each other, so what lies beyond
//!   a gap is held, and counted, until the gap is filled; one that stays for a heartbeat is pulled.
//! * **A task's end that is told again is taken in by peers that forgot it** (rules 10 and 11): it may
//!   have to reach, by way of them, one that never heard of it. So a tombstone goes only where the
//!   submission of its task was seen, and results that come late are kept from when they came.
//! * **Submissions stop at two million live tasks, records of peers at twice that**: what was
//!   acknowledged elsewhere by members that were apart is kept, also where it is too much together.
//! * **Leaving is a heartbeat**: a member that left for good counts neither as known nor as out of
//!   reach. A task is given out as provisional unless more than half of the known members are in reach.
//! * **What later versions add to a record lies in a field of its own** (`more`), is part of the
//!   order, and is passed on unread.
//! * **A push carries the counters of the shown clock that rose with it**, or peers would hold the
//!   same tasks and show different clocks until their next pull.
//! * **A push leaves out texts that its change did not bring.** A receiver that lacks one leaves the
//!   record to its next pull, which always has them, so nobody ever holds a record without its texts.
//! * **Heartbeats are passed on** to peers that are not connected to the member, else the tasks of a
//!   member behind another one would be taken over from it.
//! * **Payloads and results stay on disk.** The core holds hashes, so that a million waiting tasks
//!   fit in 600 MB.

#[cfg(feature = "node")]
pub mod node;
pub mod scheduler;
#[cfg(feature = "node")]
pub mod store;
#[cfg(feature = "node")]
pub mod swarm;

pub use scheduler::{
    FibonacciHeap, MerkleClock, P2PTask, P2PWorkflowScheduler, WorkflowTag,
    calculate_hamming_distance,
};
