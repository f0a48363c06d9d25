//! The tasks that this peer may claim now, best first.
//!
//! Tasks that ask the same of a worker (the same required capabilities and tags) share one
//! [`FibonacciHeap`] keyed by priority, first in, first out among equals. A caller looks at the
//! top of each heap that it can serve and takes the best of those: as many looks as there are
//! kinds of demand, however many tasks wait. For callers that name a workflow, or
//! how the ids of those begin that they work on, each workflow has ordered sets of its own by demand.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::sync::Arc;

use super::calls::Want;
use super::heap::{FibonacciHeap, Handle};
use super::record::{Record, Spec};
use super::tags::TagSet;

/// What a task asks of a worker. Ordered by capabilities first, so that the demands of a worker
/// that has none stand together.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Demand {
    requires: Box<[Arc<str>]>,
    tags: TagSet,
}

impl Demand {
    fn of(spec: &Spec) -> Self {
        Demand { requires: spec.requires.clone(), tags: spec.tags }
    }

    fn is_met_by(&self, want: &Want) -> bool {
        (want.tags.is_empty() || want.tags.intersects(self.tags))
            && self.requires.iter().all(|name| want.capabilities.iter().any(|has| **has == **name))
    }
}

/// Higher priority first, then the one that became ready first, in one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Order(NonZeroU64);

impl Order {
    fn new(priority: u8, arrival: u64) -> Self {
        let rank = u64::from(u8::MAX - priority) << 56 | arrival << 1;
        Order(NonZeroU64::MIN | rank)
    }
}

/// Ready tasks, best first.
type Queue = BTreeMap<Order, u64>;

/// Where a ready task stands, to take it out again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    handle: Handle,
    order: Order,
}

#[derive(Debug, Default)]
pub(crate) struct Ready {
    heaps: BTreeMap<Demand, FibonacciHeap<Reverse<u8>, (Order, u64)>>,
    workflows: BTreeMap<(Arc<str>, Demand), Queue>,
    len: u64,
    arrivals: u64,
}

impl Ready {
    /// How many tasks are ready.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Adds the task behind all ready ones of its priority.
    pub(crate) fn insert(&mut self, key: u64, record: &Record) -> Place {
        let order = Order::new(record.priority, self.arrivals);
        let demand = Demand::of(&record.spec);
        let workflow = (record.spec.workflow_id.clone(), demand.clone());
        let handle =
            self.heaps.entry(demand).or_default().insert(Reverse(record.priority), (order, key));
        self.workflows.entry(workflow).or_default().insert(order, key);
        self.arrivals += 1;
        self.len += 1;
        Place { handle, order }
    }

    /// Takes out the task that [`Ready::insert`] put at `place`.
    pub(crate) fn remove(&mut self, key: u64, spec: &Spec, place: Place) {
        let demand = Demand::of(spec);
        if let Some(heap) = self.heaps.get_mut(&demand) {
            let removed = heap.delete(place.handle);
            debug_assert_eq!(removed.map(|(_, (_, key))| key), Some(key), "a place is used once");
            if heap.is_empty() {
                self.heaps.remove(&demand);
            }
        }
        let workflow = (spec.workflow_id.clone(), demand);
        if let Some(tasks) = self.workflows.get_mut(&workflow) {
            tasks.remove(&place.order);
            if tasks.is_empty() {
                self.workflows.remove(&workflow);
            }
        }
        self.len -= 1;
    }

    /// The best task that a worker who wants `want` can run.
    pub(crate) fn best(&self, want: &Want) -> Option<u64> {
        // Demands that require something come last: a worker without capabilities is done there.
        let may_be_met =
            |demand: &Demand| !want.capabilities.is_empty() || demand.requires.is_empty();
        let from = |id: &str| self.workflows.range((Arc::from(id), Demand::default())..);
        if let Some(workflow_id) = &want.workflow_id {
            let prefixes = &want.workflow_prefixes;
            if !prefixes.is_empty() && !prefixes.iter().any(|it| workflow_id.starts_with(&**it)) {
                return None;
            }
            let demands = from(workflow_id);
            return best_of(
                demands.take_while(|((id, demand), _)| **id == **workflow_id && may_be_met(demand)),
                want,
            );
        }
        if !want.workflow_prefixes.is_empty() {
            let under = |prefix: &'_ String| {
                let prefix = prefix.clone();
                from(&prefix).take_while(move |((id, _), _)| id.starts_with(&*prefix))
            };
            return best_of(want.workflow_prefixes.iter().flat_map(under), want);
        }
        self.heaps
            .iter()
            .take_while(|(demand, _)| may_be_met(demand))
            .filter(|(demand, _)| demand.is_met_by(want))
            .filter_map(|(_, heap)| heap.get_min())
            .map(|(_, best)| best)
            .min()
            .map(|(_, key)| *key)
    }
}

/// The best of the first tasks of these demands, where the worker meets them.
fn best_of<'a>(
    demands: impl Iterator<Item = (&'a (Arc<str>, Demand), &'a Queue)>,
    want: &Want,
) -> Option<u64> {
    demands
        .filter(|((_, demand), _)| demand.is_met_by(want))
        .filter_map(|(_, tasks)| tasks.first_key_value())
        .min()
        .map(|(_, key)| *key)
}
