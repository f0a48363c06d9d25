//! Arbitrary histories of a few peers: calls of all kinds, lost, late and repeated messages,
//! restarts, clocks that jump, members that go down. After each step each promise that can be
//! looked at from outside is looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use p2p_workflow_scheduler::P2PTask;
use p2p_workflow_scheduler::scheduler::*;
use proptest::prelude::*;
use proptest::sample::Index;

use crate::support::{COMMAND_LINE, Disk, S, WALL_START, caller, scheduler, task, views};

const PEERS: usize = 3;
const TASKS: usize = 6;
const WORKERS: usize = 2;

#[derive(Clone, Debug)]
enum Step {
    Submit { task: usize, depends_on: u8, spec: u8 },
    Claim { worker: usize, want: Want },
    Mark { worker: usize, task: usize, mark: Mark, fence: Fence },
    Requeue { task: usize },
    Reprioritize { task: usize, priority: u8 },
    Attach { worker: usize, knows: bool },
    Detach { worker: usize },
    Dismiss { worker: usize },
    Beat { from: usize },
    ConnectionLost { from: usize },
    Report { from: usize },
    Deliver { message: Index, again: bool },
    Lose { message: Index },
    Pass { millis: u64, late: bool },
    WallJumps { forward: bool },
    Restart,
    ClaimAll,
}

#[derive(Clone, Copy, Debug)]
enum Fence {
    None,
    Known,
    Stale,
}

fn any_step() -> impl Strategy<Value = (usize, Step)> {
    let task = || 0..TASKS;
    let worker = || 0..WORKERS;
    let message = any::<Index>;
    let step = prop_oneof![
        6 => (task(), any::<u8>(), 0..8u8)
            .prop_map(|(task, depends_on, spec)| Step::Submit { task, depends_on, spec }),
        8 => (worker(), any_want()).prop_map(|(worker, want)| Step::Claim { worker, want }),
        8 => (worker(), task(), any_mark(), any_fence())
            .prop_map(|(worker, task, mark, fence)| Step::Mark { worker, task, mark, fence }),
        2 => task().prop_map(|task| Step::Requeue { task }),
        2 => (task(), 0..12u8).prop_map(|(task, priority)| Step::Reprioritize { task, priority }),
        3 => (worker(), any::<bool>()).prop_map(|(worker, knows)| Step::Attach { worker, knows }),
        1 => worker().prop_map(|worker| Step::Detach { worker }),
        1 => worker().prop_map(|worker| Step::Dismiss { worker }),
        3 => (0..PEERS).prop_map(|from| Step::Beat { from }),
        1 => (0..PEERS).prop_map(|from| Step::ConnectionLost { from }),
        1 => (0..PEERS + 1).prop_map(|from| Step::Report { from }),
        12 => (message(), any::<bool>())
            .prop_map(|(message, again)| Step::Deliver { message, again }),
        2 => message().prop_map(|message| Step::Lose { message }),
        8 => (any_time(), any::<bool>()).prop_map(|(millis, late)| Step::Pass { millis, late }),
        1 => any::<bool>().prop_map(|forward| Step::WallJumps { forward }),
        1 => Just(Step::Restart),
        1 => Just(Step::ClaimAll),
    ];
    (0..PEERS, step)
}

fn any_want() -> impl Strategy<Value = Want> {
    let lease = prop_oneof![
        Just(LeaseTerm::Session),
        Just(LeaseTerm::Timed(0)),
        Just(LeaseTerm::Timed(2 * S)),
        Just(LeaseTerm::Timed(30 * S)),
    ];
    (lease, any::<bool>(), 0..4u8).prop_map(|(lease, capable, narrow)| Want {
        capabilities: if capable { vec!["gpu".into()] } else { vec![] },
        tags: if narrow == 1 {
            TagSet::from_iter([WorkflowTag::UnitTest])
        } else {
            TagSet::default()
        },
        workflow_id: (narrow == 2).then(|| "w".into()),
        workflow_prefixes: if narrow == 3 { vec!["w".into()] } else { vec![] },
        lease,
    })
}

fn any_mark() -> impl Strategy<Value = Mark> {
    let text = || prop_oneof![Just(None), Just(Some("text".to_owned()))];
    prop_oneof![
        3 => text().prop_map(|result| Mark::Completed { result }),
        3 => (text(), text(), any::<bool>())
            .prop_map(|(error, result, retry)| Mark::Failed { error, result, retry }),
        2 => Just(Mark::Released),
        2 => text().prop_map(|note| Mark::InProgress { note }),
        1 => text().prop_map(|error| Mark::Cancelled { error }),
    ]
}

fn any_fence() -> impl Strategy<Value = Fence> {
    prop_oneof![2 => Just(Fence::None), 3 => Just(Fence::Known), 1 => Just(Fence::Stale)]
}

fn any_time() -> impl Strategy<Value = u64> {
    prop_oneof![Just(1), Just(700), Just(3 * S), Just(11 * S), Just(70 * S), Just(4000 * S)]
}

/// One peer, its disk, and what it said that must hold for ever.
struct Peer {
    scheduler: P2PWorkflowScheduler,
    disk: Disk,
    wall: u64,
    beats: u64,
    /// The last fence given out for each task, and to whom.
    fences: BTreeMap<Arc<str>, u64>,
    acknowledged: BTreeMap<String, Class>,
    told: Told,
}

type Workflow = ([u64; 6], Vec<Arc<str>>);

/// What somebody knows who looks at a thing only when it is in the news.
struct Told {
    tasks: BTreeMap<Arc<str>, TaskView>,
    /// Counts by state, and the tasks.
    workflows: BTreeMap<Arc<str>, Workflow>,
    newest: Vec<Arc<str>>,
    members: Vec<MemberView>,
    root: String,
    status: Status,
}

/// A record on its way.
#[derive(Clone)]
struct Message {
    to: usize,
    change: TaskChange,
}

struct World {
    peers: Vec<Peer>,
    messages: Vec<Message>,
    monotonic: u64,
    /// Everything that was answered and changed, to compare two runs.
    log: Vec<String>,
}

fn peer_name(index: usize) -> String {
    format!("peer-{index}")
}

fn task_name(index: usize) -> String {
    format!("task-{index}")
}

fn worker_name(peer: usize, worker: usize) -> Arc<str> {
    match worker {
        0 => COMMAND_LINE.into(),
        _ => format!("{}-worker-{worker}", peer_name(peer)).into(),
    }
}

impl World {
    fn new() -> Self {
        let begin = Now { wall: WALL_START, monotonic: 0 };
        let peers = (0..PEERS).map(|index| Peer {
            told: Told::of(&scheduler(&peer_name(index)), begin),
            scheduler: scheduler(&peer_name(index)),
            disk: Disk::default(),
            wall: WALL_START,
            beats: 0,
            fences: BTreeMap::new(),
            acknowledged: BTreeMap::new(),
        });
        World { peers: peers.collect(), messages: Vec::new(), monotonic: 0, log: Vec::new() }
    }

    fn now(&self, peer: usize) -> Now {
        Now { wall: self.peers[peer].wall + self.monotonic, monotonic: self.monotonic }
    }

    fn take(&mut self, p: usize, step: &Step) {
        match step {
            Step::Deliver { message, again } => return self.deliver(message, *again),
            Step::Lose { message } if !self.messages.is_empty() => {
                self.messages.swap_remove(message.index(self.messages.len()));
            }
            Step::Lose { .. } => {}
            Step::Pass { millis, late } => return self.pass(*millis, *late),
            Step::WallJumps { forward } => {
                let peer = &mut self.peers[p];
                peer.wall = if *forward { peer.wall + 600 * S } else { peer.wall - 600 * S };
            }
            Step::Restart => self.restart(p),
            Step::ClaimAll => self.claim_all(p),
            step => self.call(p, step),
        }
        self.commit(p);
    }

    /// A call by a worker or a person. If it is turned down, nothing has changed.
    fn call(&mut self, p: usize, step: &Step) {
        let now = self.now(p);
        let before = self.shown(p);
        let Peer { scheduler, fences, acknowledged, .. } = &mut self.peers[p];
        let (answer, ok) = match step {
            Step::Submit { task, depends_on, spec } => {
                let submission = submission(*task, *depends_on, *spec);
                let answer = scheduler.submit(now, submission);
                if answer.is_ok() {
                    acknowledged.entry(task_name(*task)).or_insert(Class::Live);
                }
                (format!("{answer:?}"), answer.is_ok())
            }
            Step::Claim { worker, want } => {
                let answer = scheduler.claim(now, &caller(&worker_name(p, *worker)), want);
                if let Ok(claimed) = &answer {
                    let last = fences.insert(claimed.task.task_id.clone(), claimed.fence);
                    assert!(last < Some(claimed.fence), "fences rise");
                    assert_eq!(claimed.task.state, State::Assigned);
                }
                (format!("{answer:?}"), answer.is_ok())
            }
            Step::Mark { worker, task, mark, fence } => {
                let id = task_name(*task);
                let known = fences.get(&*id).copied();
                let fence = match fence {
                    Fence::None => None,
                    Fence::Known => known,
                    Fence::Stale => known.map(|fence| fence - 1),
                };
                let who = caller(&worker_name(p, *worker));
                let answer = scheduler.mark(now, &who, &id, mark.clone(), fence);
                let class = match mark {
                    Mark::Completed { .. } => Class::Completed,
                    Mark::Cancelled { .. } => Class::Cancelled,
                    _ => Class::Live,
                };
                if answer.is_ok() {
                    let acknowledged = acknowledged.entry(id).or_insert(class);
                    *acknowledged = class.max(*acknowledged);
                }
                (format!("{answer:?}"), answer.is_ok())
            }
            Step::Requeue { task } => {
                let answer = scheduler.requeue(now, &task_name(*task));
                (format!("{answer:?}"), answer.is_ok())
            }
            Step::Reprioritize { task, priority } => {
                let answer = scheduler.reprioritize(now, &task_name(*task), *priority);
                (format!("{answer:?}"), answer.is_ok())
            }
            step => (self.tell(p, step), true),
        };
        if !ok {
            assert_eq!(self.peers[p].scheduler.take_changes(), Changes::default(), "{step:?}");
            assert_eq!(self.shown(p), before, "{step:?}: {answer}");
        }
        self.log.push(answer);
    }

    /// Something that is not answered.
    fn tell(&mut self, p: usize, step: &Step) -> String {
        let now = self.now(p);
        let Peer { scheduler, fences, beats, .. } = &mut self.peers[p];
        match step {
            Step::Attach { worker, knows } => {
                let known: Vec<(String, u64)> = fences
                    .iter()
                    .filter(|_| *knows)
                    .map(|(id, at)| (id.to_string(), *at))
                    .collect();
                scheduler.attach(now, &worker_name(p, *worker), Some(&known));
            }
            Step::Detach { worker } => scheduler.detach(now, &worker_name(p, *worker)),
            Step::Dismiss { worker } => scheduler.dismiss(now, &worker_name(p, *worker)),
            Step::Beat { from } => {
                *beats += 1;
                let beat = Heartbeat { incarnation: 1, counter: *beats, presence: Presence::Works };
                scheduler.heartbeat(now, &peer_name(*from).into(), beat);
            }
            Step::ConnectionLost { from } => {
                scheduler.connection_lost(now, &peer_name(*from).into());
            }
            Step::Report { from } => {
                let name = peer_name(*from);
                let clock = match self.peers.get(*from) {
                    Some(peer) => peer.scheduler.clock().clone(),
                    None => MerkleClock::new(name.as_str()),
                };
                let scheduler = &mut self.peers[p].scheduler;
                let (vector, root) = (clock.vector(), clock.merkle_root());
                return format!("{:?}", scheduler.update_peer(now, &name, &name, vector, &root));
            }
            step => unreachable!("{step:?} is not told"),
        }
        String::new()
    }

    fn deliver(&mut self, message: &Index, again: bool) {
        if self.messages.is_empty() {
            return;
        }
        let index = message.index(self.messages.len());
        let Message { to, change } = match again {
            true => self.messages[index].clone(),
            false => self.messages.swap_remove(index),
        };
        let now = self.now(to);
        self.peers[to].scheduler.merge(now, change.record, change.payload, change.result);
        self.commit(to);
    }

    /// Each peer is called at its deadlines, or only once in the end.
    fn pass(&mut self, millis: u64, late: bool) {
        let end = self.monotonic + millis;
        let begin = self.monotonic;
        for p in 0..self.peers.len() {
            self.monotonic = begin;
            while let Some(next) = self.peers[p].scheduler.next_deadline().filter(|n| *n <= end) {
                self.monotonic = if late { end } else { next.max(self.monotonic) };
                let now = self.now(p);
                self.peers[p].scheduler.advance(now);
                let next = self.peers[p].scheduler.next_deadline();
                assert!(next.is_none_or(|next| next > now.monotonic), "a call at a deadline helps");
                self.commit(p);
            }
            self.monotonic = end;
            self.extra_calls_change_nothing(p);
        }
    }

    fn extra_calls_change_nothing(&mut self, p: usize) {
        let now = self.now(p);
        self.peers[p].scheduler.advance(now);
        self.commit(p);
        let (before, deadline) = (self.shown(p), self.peers[p].scheduler.next_deadline());
        for _ in 0..2 {
            self.peers[p].scheduler.advance(now);
            assert!(self.peers[p].scheduler.take_changes().is_empty());
            assert_eq!(self.shown(p), before);
            assert_eq!(self.peers[p].scheduler.next_deadline(), deadline);
        }
    }

    fn restart(&mut self, p: usize) {
        self.commit(p);
        let now = self.now(p);
        self.peers[p].scheduler = self.peers[p].disk.restore(&peer_name(p), now);
        self.peers[p].told = Told::of(&self.peers[p].scheduler, now);
        assert!(self.peers[p].scheduler.take_changes().is_empty(), "starting changes nothing");
    }

    /// What is counted as ready is what can be claimed, each once.
    fn claim_all(&mut self, p: usize) {
        let now = self.now(p);
        let worker = caller(&worker_name(p, 0));
        let want = Want {
            capabilities: vec!["gpu".into()],
            lease: LeaseTerm::Timed(3 * S),
            ..Want::default()
        };
        let Peer { scheduler, fences, .. } = &mut self.peers[p];
        let ready = scheduler.status(now).queue_size;
        let mut last = u8::MAX;
        for _ in 0..ready {
            let claimed = scheduler.claim(now, &worker, &want).unwrap();
            assert!(claimed.task.priority <= last, "higher priorities come first");
            last = claimed.task.priority;
            let fence = fences.insert(claimed.task.task_id, claimed.fence);
            assert!(fence < Some(claimed.fence), "fences rise");
        }
        assert!(scheduler.claim(now, &worker, &want).is_err());
    }

    fn shown(&self, p: usize) -> (Vec<TaskView>, Status) {
        let Peer { scheduler, .. } = &self.peers[p];
        (views(scheduler, self.now(p)), scheduler.status(self.now(p)))
    }

    /// Puts on disk what changed, and sends it to the others.
    fn commit(&mut self, p: usize) {
        let now = self.now(p);
        let Peer { scheduler, told, .. } = &mut self.peers[p];
        told.look(scheduler, now);
        let changes = self.peers[p].scheduler.take_changes();
        self.peers[p].disk.keep(&changes);
        for change in &changes.tasks {
            for to in (0..self.peers.len()).filter(|to| *to != p) {
                self.messages.push(Message { to, change: change.clone() });
            }
        }
        self.log.push(format!("{changes:?}"));
        self.what_is_kept_shows_the_same(p);
    }

    /// All but what only a running scheduler knows: who is down, whose turn it is, when a lease
    /// ends.
    fn what_is_kept_shows_the_same(&self, p: usize) {
        let (now, Peer { scheduler, disk, .. }) = (self.now(p), &self.peers[p]);
        let mut live = views(scheduler, now);
        let down = |view: &TaskView| {
            let holder = view.assigned_peer.as_deref();
            holder.and_then(|peer| scheduler.liveness(peer)) == Some(Liveness::Down)
        };
        if live.iter().any(down) {
            return;
        }
        let restored = disk.restore(&peer_name(p), now);
        let mut kept = views(&restored, now);
        for view in live.iter_mut().chain(&mut kept) {
            view.expires_at = None;
            if view.state == State::Pending {
                view.reason = None;
            }
        }
        assert_eq!(live, kept);
        assert_eq!(scheduler.clock(), restored.clock());
        assert_eq!(scheduler.have(), restored.have());
        assert_eq!(scheduler.status(now).counts, restored.status(now).counts);
    }

    /// Everybody hears all, in the end. Then all hold the same, and what was acknowledged stands.
    fn converge(&mut self) {
        for _ in 0..2 {
            for from in 0..self.peers.len() {
                let records = self.peers[from].disk.records();
                for to in (0..self.peers.len()).filter(|to| *to != from) {
                    for record in records.values() {
                        let now = self.now(to);
                        self.peers[to].scheduler.merge(now, record.clone(), None, None);
                    }
                    self.commit(to);
                }
            }
        }
        let first = self.peers[0].disk.records();
        let observed = by_id(&self.peers[0].disk);
        for peer in &self.peers {
            assert_eq!(peer.disk.records(), first);
            assert_eq!(by_id(&peer.disk), observed, "derived alike");
            for (id, class) in &peer.acknowledged {
                assert!(first[id.as_str()].class >= *class, "{id} was acknowledged as {class:?}");
            }
        }
    }
}

impl Told {
    fn of(scheduler: &P2PWorkflowScheduler, now: Now) -> Self {
        let tasks: Vec<TaskView> = views(scheduler, now).into_iter().map(without_time).collect();
        let mut workflows = BTreeMap::<Arc<str>, Workflow>::new();
        for task in &tasks {
            let counts = scheduler.workflow_counts(&task.workflow_id).unwrap();
            let workflow = workflows.entry(task.workflow_id.clone()).or_insert((counts, vec![]));
            workflow.1.push(task.task_id.clone());
        }
        let mut members = scheduler.members(now);
        members.iter_mut().for_each(|member| member.heard_at = None);
        Told {
            tasks: tasks.into_iter().map(|task| (task.task_id.clone(), task)).collect(),
            workflows,
            newest: scheduler.newest_workflows(),
            members,
            root: scheduler.clock().merkle_root(),
            status: scheduler.status(now),
        }
    }

    /// Looks at what is in the news, and then at whether all else is as it was.
    fn look(&mut self, scheduler: &P2PWorkflowScheduler, now: Now) {
        let news = scheduler.news();
        let named = news.tasks.iter().filter_map(|key| scheduler.ids(*key));
        let mut workflows: BTreeSet<&Arc<str>> = news.left.iter().collect();
        let mut tasks = BTreeSet::new();
        for (task, workflow) in named {
            tasks.insert(task);
            workflows.insert(workflow);
        }
        // Whose turn it is shows at once, and is in the news as the tasks are gone through.
        let sweeps = scheduler.next_deadline().is_some_and(|at| at <= now.monotonic);
        let mut shown = Told::of(scheduler, now);
        for (id, task) in &mut shown.tasks {
            let before = self.tasks.get(id);
            if !tasks.contains(id) && before != Some(&*task) {
                assert!(sweeps && task.state == State::Pending, "no news of {before:?}, {task:?}");
                *task = before.unwrap().clone();
            }
        }
        let ids: BTreeSet<_> = self.workflows.keys().chain(shown.workflows.keys()).collect();
        for id in ids.into_iter().filter(|id| !workflows.contains(id)) {
            assert_eq!(self.workflows.get(id), shown.workflows.get(id), "no news of {id}");
        }
        assert!(news.workflows || self.newest == shown.newest, "no news of workflows");
        assert!(news.members || self.members == shown.members, "no news of members");
        assert!(news.clock || self.root == shown.root, "no news of the clock");
        assert!(!news.is_empty() || self.status == shown.status, "no news at all");
        *self = shown;
    }
}

/// But for what changes as time passes, where nothing else does.
fn without_time(mut task: TaskView) -> TaskView {
    task.not_before = None;
    task.expires_at = task.expires_at.map(|_| 0);
    task.reason = task.reason.filter(|reason| !reason.ends_with(" s"));
    task
}

/// What an outsider makes of a peer's records, whatever their order of arrival.
fn by_id(disk: &Disk) -> Vec<TaskView> {
    let now = Now { wall: WALL_START, monotonic: 0 };
    let mut views = views(&disk.restore("observer", now), now);
    views.sort_by(|a, b| a.task_id.cmp(&b.task_id));
    views.iter_mut().for_each(|view| view.key = 0);
    views
}

fn submission(index: usize, depends_on: u8, spec: u8) -> P2PTask {
    let others = (0..TASKS).filter(|other| *other != index);
    // Few dependencies, or hardly anything would ever be ready.
    let depends_on = others.filter(|other| depends_on >= 128 && depends_on & 1 << other > 0);
    let [tagged, delayed, fragile] = [1, 2, 4].map(|bit| spec & bit > 0);
    P2PTask {
        depends_on: depends_on.take(2).map(task_name).collect(),
        tags: if tagged { TagSet::from_iter([WorkflowTag::UnitTest]) } else { TagSet::default() },
        requires: if tagged && fragile { vec!["gpu".into()] } else { vec![] },
        delay: if delayed { 5 * S } else { 0 },
        max_attempts: if fragile { 1 } else { 0 },
        priority: 1 + (index % 3) as u8,
        workflow_id: if delayed && fragile { "v".into() } else { "w".into() },
        ..task(&task_name(index))
    }
}

fn run(steps: &[(usize, Step)]) -> Vec<String> {
    let mut world = World::new();
    for (peer, step) in steps {
        world.take(*peer, step);
    }
    world.converge();
    world.log
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        max_shrink_iters: 20_000,
        ..ProptestConfig::with_cases(60)
    })]

    #[test]
    fn every_promise_holds_after_every_step_and_the_same_steps_give_the_same(
        steps in proptest::collection::vec(any_step(), 1..90)
    ) {
        let first = run(&steps);
        prop_assert!(first == run(&steps), "the same calls give the same answers and changes");
    }
}
