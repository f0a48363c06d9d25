//! Virtual time: what is to happen, in order. A binary heap; events of one moment happen in the
//! order in which they were planned.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use p2p_workflow_scheduler::scheduler::Message;

use super::faults::End;
use super::network::LinkId;

/// Something that happens to the world.
#[derive(Debug)]
pub(crate) enum Event {
    /// A message comes out of a connection.
    Arrival(Box<Flight>),
    /// The deadline of a peer's core.
    Wake { peer: usize, life: u64 },
    /// The commit under way ends.
    Commit { peer: usize, life: u64 },
    /// A link that is down is tried.
    Dial { link: LinkId },
    /// One side learns that a connection is gone.
    Notice { link: LinkId, connection: u64, peer: usize },
    /// A worker goes on.
    Worker { peer: usize, slot: usize, step: u64 },
    /// A person or script does something.
    Person,
    /// Something goes wrong.
    Fault,
    /// Something that went wrong comes right again.
    End(End),
}

/// A message under way.
#[derive(Clone, Debug)]
pub(crate) struct Flight {
    pub(crate) link: LinkId,
    pub(crate) connection: u64,
    pub(crate) to: usize,
    pub(crate) message: Message,
}

/// See the module's page.
#[derive(Debug, Default)]
pub(crate) struct Events {
    heap: BinaryHeap<Reverse<Planned>>,
    planned: u64,
}

#[derive(Debug)]
struct Planned {
    at: u64,
    number: u64,
    event: Event,
}

impl Events {
    pub(crate) fn plan(&mut self, at: u64, event: Event) {
        self.planned += 1;
        self.heap.push(Reverse(Planned { at, number: self.planned, event }));
    }

    /// The next event, if it happens before `until`.
    pub(crate) fn next(&mut self, until: u64) -> Option<(u64, Event)> {
        if self.heap.peek()?.0.at >= until {
            return None;
        }
        self.heap.pop().map(|Reverse(planned)| (planned.at, planned.event))
    }
}

impl PartialEq for Planned {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.number) == (other.at, other.number)
    }
}

impl Eq for Planned {}

impl PartialOrd for Planned {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Planned {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}
