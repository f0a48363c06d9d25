//! The jobs of workflow files, run on this machine from a checkout of its own.
//!
//! ```text
//!   task (data only) ─ checkout ─► the file at the commit, from the local repository, SHA-256 equal
//!                                    │
//!                                  job ─► every step, condition and name in it, looked through
//!                                    │    before the first one runs
//!                                  run ─► steps, one after another, in a working tree of their own
//!                                    ├─► log, secrets masked
//!                                    └─► result: conclusion, outputs, steps
//! ```
//!
//! What a peer sent names what is to be run and is never run itself: the scripts are those of the
//! local repository, the matrix cell must be one of the file's own, and what other jobs answered
//! (`needs`) reaches a script only by way of its environment, never as a part of its text.

mod checkout;
mod commands;
mod context;
mod expression;
mod job;
mod log;
mod prepare;
mod run;
mod steps;
pub(crate) mod tree;

pub(crate) use self::checkout::Repository;
pub(crate) use self::prepare::Settings;
pub(crate) use self::run::{Verdict, run};

/// Why a job was not begun. Nothing of it ran.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// Another machine, or this one later, may run it.
    #[error("{0}")]
    NotHere(String),
    /// Nobody can, as it stands there.
    #[error("{0}")]
    Never(String),
}

impl Refusal {
    /// Without secrets.
    fn masked(self, mask: &log::Mask) -> Self {
        match self {
            Refusal::NotHere(why) => Refusal::NotHere(mask.text(&why)),
            Refusal::Never(why) => Refusal::Never(mask.text(&why)),
        }
    }
}
