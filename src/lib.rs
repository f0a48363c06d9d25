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
//! * **Peers in sync have equal sums of their records' names too**, not only equal vectors: a record
//!   beyond a gap that nobody can fill any more, since its writer died, shows in no vector, and would
//!   stay where it is.
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
