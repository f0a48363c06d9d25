//! A machine's two clocks, as functions of virtual time.

use p2p_workflow_scheduler::scheduler::Now;

/// The wall clock of a machine without skew when a simulation begins.
const WALL_START: u64 = 1_700_000_000_000;

/// What a process on this machine reads, `t` being milliseconds of virtual time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Clock {
    /// How far the wall clock is ahead of the true time.
    pub(crate) skew: i64,
    /// When the process started: its monotonic clock's 0.
    pub(crate) started: u64,
    /// For how long the monotonic clock stood still since then.
    pub(crate) stood: u64,
}

impl Clock {
    pub(crate) fn at(&self, t: u64) -> Now {
        Now {
            wall: (WALL_START + t).saturating_add_signed(self.skew),
            monotonic: t - self.started - self.stood,
        }
    }

    /// The virtual time at which the monotonic clock shows `monotonic`.
    pub(crate) fn when(&self, monotonic: u64) -> u64 {
        monotonic.saturating_add(self.started + self.stood)
    }
}
