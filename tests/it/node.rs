//! The node on a real disk: what an answer means, who waits for what, what a session's end does.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use p2p_workflow_scheduler::P2PTask;
use p2p_workflow_scheduler::node::{
    Attached, CallError, Given, Hello, Next, Node, Options, Session, Topic, attach,
};
use p2p_workflow_scheduler::scheduler::{Filter, Mark, State, TagSet, Want};
use tempfile::TempDir;

/// A bound on what is waited for, never reached where things work.
const LONG: Duration = Duration::from_secs(40);

fn options(folder: &TempDir) -> Options {
    Options::new(folder.path().join("data"))
}

async fn node(folder: &TempDir) -> Node {
    match attach(&options(folder)).await.unwrap() {
        Attached::Node(node) => node,
        Attached::Peer(_) => panic!("somebody else is the node of {folder:?}"),
    }
}

fn task(id: &str) -> P2PTask {
    P2PTask::new(id, "workflow", "a task", TagSet::default())
}

async fn take(session: &Session) -> Given {
    match session.next(Want::default(), LONG, pending()).await.unwrap() {
        Next::Given(given) => *given,
        Next::Nothing(nothing) => panic!("{}", nothing.reason),
    }
}

async fn take_nothing(session: &Session) {
    match session.next(Want::default(), Duration::ZERO, pending()).await.unwrap() {
        Next::Nothing(_) => {}
        Next::Given(given) => panic!("was given {}", given.claimed.task.task_id),
    }
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_the_node_was_opened_again() {
    let folder = TempDir::new().unwrap();
    let first = node(&folder).await;
    let session = first.session(Hello::default());
    let payload = Some(r#"{"big":12345678901234567890,"a":[1,2]}"#.to_owned());
    let submitted =
        session.submit(P2PTask { payload: payload.clone(), ..task("a") }).await.unwrap();
    assert!(submitted.created);
    session.submit(P2PTask { depends_on: vec!["a".into()], ..task("b") }).await.unwrap();
    let given = take(&session).await;
    assert_eq!(given.payload, payload);
    let done = Mark::Completed { result: Some("[1]".into()) };
    let marked = session.mark("a", done, Some(given.claimed.fence)).await.unwrap();
    assert_eq!(marked.unblocked, ["b"]);
    let clock = session.clock().await.unwrap();
    session.end().await.unwrap();
    first.close().await;

    let second = node(&folder).await;
    let session = second.session(Hello::default());
    let (status, shown) = session.show("a").await.unwrap();
    assert_eq!(shown.task.state, State::Completed);
    assert_eq!((shown.payload, shown.result), (payload, Some("[1]".into())));
    assert_eq!((status.count(State::Completed), status.count(State::Pending)), (1, 1));
    let again = session.clock().await.unwrap();
    assert_eq!((again.node_id, again.merkle_root), (clock.node_id, clock.merkle_root));
    let given = take(&session).await;
    assert_eq!(given.dependency_results, [(Arc::from("a"), Some("[1]".to_owned()))]);
    second.close().await;
}

/// It was attached only after its end, and its leases went on until the node was opened again.
#[tokio::test]
async fn a_worker_that_comes_back_and_leaves_at_once_gives_back_what_it_held() {
    let folder = TempDir::new().unwrap();
    let first = node(&folder).await;
    let session = first.session(Hello::default());
    session.submit(task("a")).await.unwrap();
    let given = take(&session).await;
    first.close().await;

    let second = node(&folder).await;
    let leases = Some(vec![("a".to_owned(), given.claimed.fence)]);
    let hello = Hello { worker: Some(session.worker().to_string()), leases, shared: false };
    second.session(hello).end().await.unwrap();
    let next = second.session(Hello::default());
    assert_eq!(take(&next).await.claimed.task.task_id, "a".into());
    second.close().await;
}

#[tokio::test]
async fn a_worker_that_waits_is_given_the_task_that_becomes_ready() {
    let folder = TempDir::new().unwrap();
    let node = node(&folder).await;
    let (worker, submitter) = (node.session(Hello::default()), node.session(Hello::default()));
    let waiting = tokio::spawn({
        let worker = worker.clone();
        async move { take(&worker).await }
    });
    // It stands in line, or comes just after: either way it is given the task.
    tokio::task::yield_now().await;
    submitter.submit(task("a")).await.unwrap();
    let given = waiting.await.unwrap();
    assert_eq!(*given.claimed.task.task_id, *"a");
    assert_eq!(given.claimed.task.worker.as_ref(), Some(worker.worker()));
    node.close().await;
}

#[tokio::test]
async fn workers_that_wait_get_one_task_each() {
    let folder = TempDir::new().unwrap();
    let node = node(&folder).await;
    let waiting: Vec<_> = (0..5)
        .map(|_| {
            let worker = node.session(Hello::default());
            tokio::spawn(async move { take(&worker).await.claimed.task.task_id })
        })
        .collect();
    tokio::task::yield_now().await;
    let submitter = node.session(Hello::default());
    for id in ["a", "b", "c", "d", "e"] {
        submitter.submit(task(id)).await.unwrap();
    }
    let mut given = Vec::new();
    for worker in waiting {
        given.push(worker.await.unwrap().to_string());
    }
    given.sort();
    assert_eq!(given, ["a", "b", "c", "d", "e"]);
    node.close().await;
}

#[tokio::test]
async fn a_session_that_ends_gives_its_tasks_back() {
    let folder = TempDir::new().unwrap();
    let node = node(&folder).await;
    let (one, other) = (node.session(Hello::default()), node.session(Hello::default()));
    one.submit(task("a")).await.unwrap();
    let first = take(&one).await;
    take_nothing(&other).await;
    one.end().await.unwrap();
    let second = take(&other).await;
    assert_eq!(second.claimed.task.task_id, first.claimed.task.task_id);
    assert!(second.claimed.fence > first.claimed.fence);
    let late = one.mark("a", Mark::Completed { result: None }, Some(first.claimed.fence)).await;
    let code = late.map_err(|error| error.code());
    assert_eq!(code, Err("stale_fence"));
    node.close().await;
}

#[tokio::test]
async fn a_worker_that_comes_back_keeps_what_it_knows_of_and_loses_what_it_does_not() {
    let folder = TempDir::new().unwrap();
    let first = node(&folder).await;
    let session = first.session(Hello::default());
    session.submit(task("known")).await.unwrap();
    session.submit(task("lost")).await.unwrap();
    let known = take(&session).await;
    let lost = take(&session).await;
    assert_eq!(*lost.claimed.task.task_id, *"lost");
    let worker = Some(session.worker().to_string());
    first.close().await;

    let second = node(&folder).await;
    let leases = Some(vec![("known".to_owned(), known.claimed.fence)]);
    let session = second.session(Hello { worker, leases, shared: false });
    let again = take(&session).await;
    assert_eq!(*again.claimed.task.task_id, *"lost");
    assert!(again.claimed.fence > lost.claimed.fence);
    let marked = session.mark("known", Mark::Completed { result: None }, None).await.unwrap();
    assert_eq!(marked.state, State::Completed);
    second.close().await;
}

#[tokio::test]
async fn a_call_that_is_cancelled_while_it_waits_takes_nothing() {
    let folder = TempDir::new().unwrap();
    let node = node(&folder).await;
    let session = node.session(Hello::default());
    let cancelled = session.next(Want::default(), LONG, std::future::ready(())).await.unwrap();
    assert!(matches!(cancelled, Next::Nothing(_)));
    session.submit(task("a")).await.unwrap();
    let (_, page) = session.list(Filter { limit: 10, ..Filter::default() }).await.unwrap();
    assert_eq!(page.tasks[0].state, State::Pending);
    node.close().await;
}

#[tokio::test]
async fn commands_share_one_worker_whose_leases_run_on_time() {
    let folder = TempDir::new().unwrap();
    let node = node(&folder).await;
    let command = || {
        node.session(Hello {
            worker: Some("command-line".into()),
            shared: true,
            ..Hello::default()
        })
    };
    command().submit(task("a")).await.unwrap();
    let given = take(&command()).await;
    assert!(given.claimed.expires_at.is_some());
    let marked = command().mark("a", Mark::Completed { result: None }, None).await.unwrap();
    assert_eq!(marked.state, State::Completed);
    node.close().await;
}

#[tokio::test]
async fn a_delayed_task_comes_by_itself_when_its_time_has_come() {
    let folder = TempDir::new().unwrap();
    let node = node(&folder).await;
    let session = node.session(Hello::default());
    let submitted = session.submit(P2PTask { delay: 300, ..task("a") }).await.unwrap();
    assert_eq!(submitted.state, State::Pending);
    assert_eq!(*take(&session).await.claimed.task.task_id, *"a");
    node.close().await;
}

#[tokio::test]
async fn a_rejected_call_says_so_and_changes_nothing() {
    let folder = TempDir::new().unwrap();
    let node = node(&folder).await;
    let session = node.session(Hello::default());
    session.submit(task("a")).await.unwrap();
    let before = session.status().await.unwrap();
    let other = session.submit(P2PTask { priority: 9, ..task("a") }).await;
    let Err(CallError::Rejected(rejection)) = other else { panic!("{other:?}") };
    assert_eq!(rejection.code(), "task_exists");
    assert!(rejection.to_string().contains("priority"), "{rejection}");
    assert_eq!(session.status().await.unwrap(), before);
    node.close().await;
}

#[tokio::test]
async fn one_folder_has_one_node_and_the_next_process_is_connected_to_it() {
    let folder = TempDir::new().unwrap();
    let node = node(&folder).await;
    let options = options(&folder);
    let (accepted, second) = tokio::join!(node.accept(), attach(&options));
    accepted.unwrap();
    assert!(matches!(second.unwrap(), Attached::Peer(_)));
    node.close().await;
    assert!(matches!(attach(&options).await.unwrap(), Attached::Node(_)));
}

#[tokio::test]
async fn a_session_is_told_of_what_others_do_and_finds_it_done() {
    let folder = TempDir::new().unwrap();
    let node = node(&folder).await;
    let (one, other) = (node.session(Hello::default()), node.session(Hello::default()));
    let watch = one.watch();
    let blocked = Topic::Task("b".into());
    for topic in [Topic::Task("a".into()), blocked.clone(), Topic::Workflow("workflow".into())] {
        watch.add(topic);
    }
    assert_eq!(node.watched(), 3);
    other.submit(task("a")).await.unwrap();
    watch.changed().await;
    assert_eq!(watch.take(), [Topic::Task("a".into()), Topic::Workflow("workflow".into())]);
    other.submit(P2PTask { depends_on: vec!["a".into()], ..task("b") }).await.unwrap();
    let given = take(&other).await;
    watch.changed().await;
    let _seen = watch.take();
    let (counts, page) = one.workflow("workflow", 100).await.unwrap().unwrap();
    assert_eq!((counts, page.tasks.len()), ([0, 1, 1, 0, 0, 0], 2));

    // Whoever is told looks, and sees it, though it may not be on disk when it is told.
    let telling = async {
        watch.changed().await;
        let told = watch.take();
        let (_, shown) = one.show("b").await.unwrap();
        (told.contains(&blocked), shown.task.state)
    };
    let done = Mark::Completed { result: None };
    let marking = other.mark("a", done, Some(given.claimed.fence));
    let (told, marked) = tokio::join!(telling, marking);
    assert_eq!(told, (true, State::Pending));
    assert_eq!(marked.unwrap().unblocked, ["b"]);
    drop(watch);
    assert_eq!(node.watched(), 0);
    node.close().await;
}
