//! Watches: who is told that something changed of what is shown.
//!
//! A [`Watch`] has topics. Each topic lists the watches that are *armed*: to be told of its next
//! change. A change moves them all to their own lists of what changed and wakes their owners; the
//! change after it finds nobody armed. Taking what changed arms those topics again. So a flood of
//! changes costs each of them one look into a map, however many watch, and whoever takes slowly
//! finds each topic once.
//!
//! * **Nothing is lost.** A change is marked under the core's lock, once it is applied; a topic is
//!   armed again before whoever took it goes to look. What changes before that is in what they see,
//!   what changes after marks it again.
//! * **Nothing is told too early.** Whoever was told looks through a [`Session`](super::Session):
//!   under the core's lock, so after the change, and answered only once all that the answer shows is
//!   on disk. Where that commit fails the core is taken up anew, and every watch is told of all that
//!   it watches.
//! * **Nothing is left over.** A watch that is dropped leaves every list. The registry has a lock of
//!   its own, since dropping cannot wait for the core's.
//! * **Nobody watching costs nothing**: one look at a counter for each call.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::scheduler::P2PWorkflowScheduler;

/// Something that is shown.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Topic {
    /// The counts.
    Status,
    /// This peer's clock.
    Clock,
    /// The members.
    Peers,
    /// Which workflows are the newest.
    Workflows,
    /// One task, by its id. It need not be known yet.
    Task(Arc<str>),
    /// One workflow, by its id: its counts and tasks. It need not be known yet.
    Workflow(Arc<str>),
}

/// Topics that somebody wants to be told of. Dropped, it is told nothing more.
#[derive(Debug)]
pub struct Watch {
    watches: Arc<Watches>,
    number: u64,
    woken: Arc<Notify>,
}

impl Watch {
    /// Watches a topic from now on. Returns false if it does already.
    pub fn add(&self, topic: Topic) -> bool {
        self.watches.lock().add(self.number, topic, &self.watches.topics)
    }

    /// Leaves a topic. Returns false if it was not watched.
    pub fn remove(&self, topic: &Topic) -> bool {
        self.watches.lock().remove(self.number, topic, &self.watches.topics)
    }

    /// Waits until a topic changed. May be dropped and called again.
    pub async fn changed(&self) {
        while !self.watches.lock().is_dirty(self.number) {
            self.woken.notified().await;
        }
    }

    /// Takes the topics that changed since this was last called, each once, in the order in which
    /// each first did.
    #[must_use]
    pub fn take(&self) -> Vec<Topic> {
        self.watches.lock().take(self.number)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.watches.lock().forget(self.number, &self.watches.topics);
    }
}

/// All watches of a node.
#[derive(Debug, Default)]
pub(super) struct Watches {
    registry: Mutex<Registry>,
    /// Topics watched, over all watches.
    topics: AtomicUsize,
}

impl Watches {
    pub(super) fn watch(self: &Arc<Self>) -> Watch {
        let woken = Arc::<Notify>::default();
        let number = self.lock().admit(woken.clone());
        Watch { watches: self.clone(), number, woken }
    }

    /// Topics watched, over all watches.
    pub(super) fn count(&self) -> usize {
        self.topics.load(Ordering::SeqCst)
    }

    /// Tells those who watch what the scheduler has news of. Under the core's lock, before the
    /// changes are taken out.
    pub(super) fn tell(&self, scheduler: &P2PWorkflowScheduler) {
        if self.count() == 0 {
            return;
        }
        let news = scheduler.news();
        if news.is_empty() {
            return;
        }
        let mut registry = self.lock();
        registry.changed(&Topic::Status);
        for (is_new, topic) in [
            (news.clock, Topic::Clock),
            (news.members, Topic::Peers),
            (news.workflows, Topic::Workflows),
        ] {
            if is_new {
                registry.changed(&topic);
            }
        }
        for id in news.left {
            registry.workflow_changed(id);
        }
        if registry.tasks.is_empty() && registry.workflows.is_empty() {
            return;
        }
        for id in news.gone {
            registry.task_changed(id);
        }
        for key in news.tasks {
            if let Some((task, workflow)) = scheduler.ids(*key) {
                registry.task_changed(task);
                registry.workflow_changed(workflow);
            }
        }
    }

    /// Tells each watch of all that it watches.
    pub(super) fn tell_all(&self) {
        let mut registry = self.lock();
        let topics = registry.watches.values().flat_map(|watch| watch.topics.iter().cloned());
        for topic in topics.collect::<BTreeSet<_>>() {
            registry.changed(&topic);
        }
    }

    /// Nothing that panics runs under this lock.
    fn lock(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Invariant: of a watch's topics, each is either armed or dirty, once.
#[derive(Debug, Default)]
struct Registry {
    next: u64,
    watches: HashMap<u64, Watching>,
    /// Who is armed for a topic that is neither a task nor a workflow.
    fixed: HashMap<Topic, Vec<u64>>,
    /// Who is armed for a task, and for a workflow.
    tasks: HashMap<Arc<str>, Vec<u64>>,
    workflows: HashMap<Arc<str>, Vec<u64>>,
}

#[derive(Debug)]
struct Watching {
    topics: BTreeSet<Topic>,
    dirty: Vec<Topic>,
    woken: Arc<Notify>,
}

impl Registry {
    fn admit(&mut self, woken: Arc<Notify>) -> u64 {
        let number = self.next;
        self.next += 1;
        let (topics, dirty) = (BTreeSet::new(), Vec::new());
        self.watches.insert(number, Watching { topics, dirty, woken });
        number
    }

    fn add(&mut self, number: u64, topic: Topic, count: &AtomicUsize) -> bool {
        let is_new =
            self.watches.get_mut(&number).is_some_and(|watch| watch.topics.insert(topic.clone()));
        if is_new {
            self.arm(number, topic);
            count.fetch_add(1, Ordering::SeqCst);
        }
        is_new
    }

    fn remove(&mut self, number: u64, topic: &Topic, count: &AtomicUsize) -> bool {
        let Some(watch) = self.watches.get_mut(&number) else { return false };
        let was_there = watch.topics.remove(topic);
        if was_there {
            watch.dirty.retain(|dirty| dirty != topic);
            self.disarm(number, topic);
            count.fetch_sub(1, Ordering::SeqCst);
        }
        was_there
    }

    fn forget(&mut self, number: u64, count: &AtomicUsize) {
        let Some(watch) = self.watches.remove(&number) else { return };
        count.fetch_sub(watch.topics.len(), Ordering::SeqCst);
        for topic in &watch.topics {
            self.disarm(number, topic);
        }
    }

    fn is_dirty(&self, number: u64) -> bool {
        self.watches.get(&number).is_some_and(|watch| !watch.dirty.is_empty())
    }

    fn take(&mut self, number: u64) -> Vec<Topic> {
        let Some(watch) = self.watches.get_mut(&number) else { return Vec::new() };
        let taken = std::mem::take(&mut watch.dirty);
        for topic in &taken {
            self.arm(number, topic.clone());
        }
        taken
    }

    fn arm(&mut self, number: u64, topic: Topic) {
        let armed = match topic {
            Topic::Task(id) => self.tasks.entry(id).or_default(),
            Topic::Workflow(id) => self.workflows.entry(id).or_default(),
            fixed => self.fixed.entry(fixed).or_default(),
        };
        armed.push(number);
    }

    fn disarm(&mut self, number: u64, topic: &Topic) {
        fn leave<
            K: std::hash::Hash + Eq + ?Sized,
            Q: std::hash::Hash + Eq + std::borrow::Borrow<K>,
        >(
            armed: &mut HashMap<Q, Vec<u64>>,
            key: &K,
            number: u64,
        ) {
            if let Some(numbers) = armed.get_mut(key) {
                numbers.retain(|other| *other != number);
                if numbers.is_empty() {
                    armed.remove(key);
                }
            }
        }
        match topic {
            Topic::Task(id) => leave::<str, _>(&mut self.tasks, id, number),
            Topic::Workflow(id) => leave::<str, _>(&mut self.workflows, id, number),
            fixed => leave(&mut self.fixed, fixed, number),
        }
    }

    fn changed(&mut self, topic: &Topic) {
        match topic {
            Topic::Task(id) => self.task_changed(id),
            Topic::Workflow(id) => self.workflow_changed(id),
            fixed => {
                if let Some((topic, armed)) = self.fixed.remove_entry(fixed) {
                    self.wake(&topic, armed);
                }
            }
        }
    }

    fn task_changed(&mut self, id: &str) {
        if let Some((id, armed)) = self.tasks.remove_entry(id) {
            self.wake(&Topic::Task(id), armed);
        }
    }

    fn workflow_changed(&mut self, id: &str) {
        if let Some((id, armed)) = self.workflows.remove_entry(id) {
            self.wake(&Topic::Workflow(id), armed);
        }
    }

    fn wake(&mut self, topic: &Topic, armed: Vec<u64>) {
        for number in armed {
            if let Some(watch) = self.watches.get_mut(&number) {
                if watch.dirty.is_empty() {
                    watch.woken.notify_one();
                }
                watch.dirty.push(topic.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scheduler::{Caller, Config, Mark, Now, P2PTask, TagSet, Want};

    fn scheduler() -> P2PWorkflowScheduler {
        P2PWorkflowScheduler::new("me", "me/1", Config::default(), Box::new(|| 0))
    }

    fn task(id: &str, workflow: &str) -> P2PTask {
        P2PTask::new(id, workflow, "n", TagSet::default())
    }

    /// As the node does after each call.
    fn settle(watches: &Watches, scheduler: &mut P2PWorkflowScheduler) {
        watches.tell(scheduler);
        scheduler.take_changes();
    }

    #[test]
    fn a_change_is_told_to_those_who_watch_it_and_to_nobody_else() {
        let (watches, mut scheduler) = (Arc::<Watches>::default(), scheduler());
        let (one, other) = (watches.watch(), watches.watch());
        for topic in [Topic::Task("a".into()), Topic::Workflow("w".into()), Topic::Status] {
            assert!(one.add(topic.clone()) && !one.add(topic));
        }
        other.add(Topic::Task("b".into()));
        scheduler.submit(Now::default(), task("a", "w")).unwrap();
        settle(&watches, &mut scheduler);
        let all = [Topic::Status, Topic::Task("a".into()), Topic::Workflow("w".into())];
        assert_eq!(one.take(), all);
        assert_eq!((one.take(), other.take()), (vec![], vec![]));
        // A question changes nothing.
        let _status = scheduler.status(Now::default());
        settle(&watches, &mut scheduler);
        assert_eq!(one.take(), []);
    }

    #[test]
    fn a_task_that_another_unblocks_is_told_of_though_its_record_did_not_change() {
        let (watches, mut scheduler) = (Arc::<Watches>::default(), scheduler());
        let (now, worker) = (Now::default(), Caller { worker: "worker".into(), shared: false });
        scheduler.submit(now, task("a", "w")).unwrap();
        let b = P2PTask { depends_on: vec!["a".into()], ..task("b", "v") };
        scheduler.submit(now, b).unwrap();
        let claimed = scheduler.claim(now, &worker, &Want::default()).unwrap();
        settle(&watches, &mut scheduler);
        let watch = watches.watch();
        watch.add(Topic::Task("b".into()));
        watch.add(Topic::Workflow("v".into()));
        let done = Mark::Completed { result: None };
        scheduler.mark(now, &worker, "a", done, Some(claimed.fence)).unwrap();
        settle(&watches, &mut scheduler);
        assert_eq!(watch.take(), [Topic::Task("b".into()), Topic::Workflow("v".into())]);
    }

    #[test]
    fn many_changes_are_told_once_and_the_next_one_again() {
        let (watches, mut scheduler) = (Arc::<Watches>::default(), scheduler());
        let watch = watches.watch();
        watch.add(Topic::Workflow("w".into()));
        watch.add(Topic::Workflows);
        for n in 0..1000 {
            scheduler.submit(Now::default(), task(&n.to_string(), "w")).unwrap();
            settle(&watches, &mut scheduler);
        }
        assert_eq!(watch.take(), [Topic::Workflows, Topic::Workflow("w".into())]);
        scheduler.submit(Now::default(), task("last", "w")).unwrap();
        settle(&watches, &mut scheduler);
        assert_eq!(watch.take(), [Topic::Workflow("w".into())]);
    }

    #[test]
    fn everybody_can_be_told_of_everything() {
        let watches = Arc::<Watches>::default();
        let (one, other) = (watches.watch(), watches.watch());
        one.add(Topic::Clock);
        one.add(Topic::Task("never seen".into()));
        other.add(Topic::Clock);
        watches.tell_all();
        watches.tell_all();
        assert_eq!(one.take(), [Topic::Clock, Topic::Task("never seen".into())]);
        assert_eq!(other.take(), [Topic::Clock]);
    }

    #[test]
    fn what_is_left_or_dropped_leaves_nothing_behind() {
        let watches = Arc::<Watches>::default();
        let topics = [
            Topic::Status,
            Topic::Clock,
            Topic::Peers,
            Topic::Workflows,
            Topic::Task("t".into()),
            Topic::Workflow("w".into()),
        ];
        let (stays, goes) = (watches.watch(), watches.watch());
        for topic in &topics {
            stays.add(topic.clone());
            goes.add(topic.clone());
        }
        // Some armed, some told of and not yet taken.
        watches.lock().changed(&Topic::Task("t".into()));
        assert!(stays.remove(&Topic::Task("t".into())) && !stays.remove(&Topic::Task("t".into())));
        assert_eq!(stays.take(), []);
        drop(goes);
        assert_eq!(watches.count(), topics.len() - 1);
        drop(stays);
        assert_eq!(watches.count(), 0);
        let registry = watches.lock();
        assert!(registry.watches.is_empty() && registry.fixed.is_empty());
        assert!(registry.tasks.is_empty() && registry.workflows.is_empty());
    }

    #[tokio::test]
    async fn whoever_waits_is_woken_also_where_the_change_came_first() {
        let watches = Arc::<Watches>::default();
        let watch = watches.watch();
        watch.add(Topic::Clock);
        watches.tell_all();
        watch.changed().await;
        assert_eq!(watch.take(), [Topic::Clock]);
        let waiting = async {
            watch.changed().await;
            watch.take()
        };
        let telling = async { watches.tell_all() };
        assert_eq!(tokio::join!(waiting, telling).0, [Topic::Clock]);
    }
}
