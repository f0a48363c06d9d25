//! The running node: one per data folder, whoever needs it first becomes it.
//!
//! ```text
//!   door ──▶ Session ──▶ lock the core ─▶ apply ─▶ hand the changes over ─▶ unlock
//!                              │                          │
//!                              │                   committer's thread: all that waits goes into
//!                              │                   one transaction with one sync
//!                              ▼                          │
//!                     answer ◀── wait until on disk ◀─────┘
//! ```
//!
//! The lock is a `tokio::sync::Mutex`, held for microseconds and never across I/O. An answer, also
//! to a question, leaves only after the sync that covers what it shows. A failed commit drops the
//! core and takes it up again from the disk before anyone is answered; from then on calls that
//! write are refused until the disk takes a write again, and calls that read go on.
//!
//! Whoever wants to be told of changes rather than ask has a [`Watch`]. While the data folder holds a
//! swarm's key, `network` carries the core's messages to other machines' nodes and theirs to it.
//!
//! [`attach()`] is the way in: it makes this process the node, or connects it to the one that is.
//! Everything that differs between operating systems is in `local`, [`process`] and [`stdio`].

mod attach;
mod calls;
mod committer;
mod local;
mod network;
mod outbox;
mod pairing;
mod place;
pub mod process;
mod running;
mod session;
pub mod stdio;
mod texts;
mod watch;
mod wire;

#[cfg(test)]
mod tests;

pub use attach::{
    AttachError, Attached, Leaving, Options, attach, attach_again, default_folder, find,
};
pub use calls::{CallError, ClockView, Given, Next, ReportedClock, Shown};
pub use local::{LocalStream, read_or_make_private, read_private, terminated};
pub use pairing::{Admit, PairingError};
pub use place::{Admitted, Here, Peers, SwarmError};
pub use running::Node;
pub use session::{Hello, Session, random_worker};
pub use watch::{Topic, Watch};

pub use crate::store::{Durability, Event, Happened, LostRun, LostSpec};
pub use crate::swarm::PeerId;
