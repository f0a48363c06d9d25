//! The core: pure, synchronous, no clock, no I/O, no ambient randomness, ordered iteration.
//!
//! [`P2PWorkflowScheduler`] is one peer's state machine: calls and time go in, answers and
//! [`Changes`] come out. Whoever drives it keeps the changes, in order, before it answers.
//!
//! ```text
//!   calls, time ──▶ machine ──▶ answers          record   what is known of a task, and how two merge
//!                     │  └────▶ Changes          table    records, what is derived from them, indices
//!   submit claim mark merge view news            ready    what may be claimed now, best first
//!                     │                          members  who else is there
//!   clock  heap  ownership  tags  limits
//!
//!   messages ──▶ replication ──▶ Outgoing    refused       what a message must be like
//!                     │                      foreign       what a record in it must be like
//!       push  pull  gaps  change_order     stale         what is not done while this peer may be behind
//!                                      pruning       tombstones, and how they go
//! ```

mod actor;
mod bit_slices;
mod calls;
mod change_order;
mod changes;
mod claim;
mod clock;
mod config;
mod dependencies;
mod foreign;
mod gaps;
mod hash;
mod heap;
mod key_set;
pub mod limits;
mod machine;
mod mark;
mod member_view;
mod members;
mod merge;
mod messages;
mod news;
mod overview;
mod ownership;
mod pruning;
mod pull;
mod push;
mod ready;
mod record;
mod refused;
mod rejection;
mod replication;
mod settle;
mod slots;
mod stale;
mod submit;
mod table;
mod tags;
mod tombstones;
mod view;

pub use calls::*;
pub use changes::{Burial, Changes, Conflict, Duplicate, Heard, Kept, KeptTask, TaskChange};
pub use clock::{ClockOrder, MerkleClock, vector_root};
pub use config::Config;
pub use foreign::{Carried, RecordError};
pub use hash::{Hash256, ParseHashError};
pub use heap::{DecreaseKeyError, FibonacciHeap, Handle};
pub use machine::{Jitter, P2PWorkflowScheduler};
pub use member_view::{Heartbeat, Liveness, MemberView, Presence};
pub use messages::{
    Beats, CatchUp, Content, Cursor, Held, Message, Outgoing, PullId, PullPage, PullRequest, Roots,
    Text, VERSION, Vectors,
};
pub use news::News;
pub use overview::{Look, MAX_SHOWN, Overview, WorkflowView};
pub use ownership::{
    Candidates, Distance, HammingDistanceError, calculate_hamming_distance, combined_hash,
    task_hash, tie,
};
pub use record::{Body, Class, Dot, Lease, More, Outcome, Phase, Record, Rest, Spec, Standing};
pub use refused::Refused;
pub use rejection::Rejection;
pub use tags::{ParseTagError, TagSet, WorkflowTag};
pub use tombstones::Tombstone;
