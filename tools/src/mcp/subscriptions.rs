//! Subscriptions: a client is told that something it may read has changed.
//!
//! ```text
//!   the node marks ─► watch ─► tell: wait for a change, wait for room, take, notify, pause
//! ```
//! Each connection has its own watch of the node and one task that tells its client: of a change
//! that comes alone at once, then of all that changed meanwhile, each address once, after a pause.
//! The last change is always told. What is told waits in the node's watch, once for each topic, as
//! long as the client reads nothing: memory does not grow with changes, and nobody waits for it.
//!
//! Both ways of the protocol end here: `resources/subscribe` for one address after the other, and
//! from 2026-07-28 on `subscriptions/listen`, one request for each set of addresses, whose
//! notifications carry its id. A client is told that the list changed once it has listed, or where
//! it listens for that.
//!
//! Who is told reads what it was told of: see the node's `watch` for why it is there by then.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use p2p_workflow_scheduler::node::{Session, Topic, Watch};
use rmcp::model::{
    ErrorData, NotificationMetaObject, RequestId, ResourceListChangedNotification,
    ResourceUpdatedNotification, ResourceUpdatedNotificationParam, ServerNotification,
    SubscriptionFilter,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::AbortOnDropHandle;

use super::resources::{not_found, topic_of};
use super::wire::Notices;

/// Addresses that one connection may watch: more than anyone follows one by one (a workflow's own
/// address tells of all its tasks), and what is kept for them stays under 4 MB.
pub(super) const MAX_SUBSCRIPTIONS: usize = 1024;
/// Between two rounds of updates: shorter than anyone notices, and a flood of changes costs a client
/// ten lines a second for each address.
const UPDATE_INTERVAL: Duration = Duration::from_millis(100);
/// Between two notifications that the list changed: whoever is told reads all of it.
const LIST_INTERVAL: Duration = Duration::from_secs(1);

/// The subscriptions of one connection. Dropped, they end.
pub(super) struct Subscriptions {
    room: Arc<Semaphore>,
    /// Of `resources/subscribe`.
    updates: OnceLock<(Arc<Told>, AbortOnDropHandle<()>)>,
    /// Whoever has listed is told of changes of the list.
    list: OnceLock<AbortOnDropHandle<()>>,
}

impl Default for Subscriptions {
    fn default() -> Self {
        let room = Arc::new(Semaphore::new(MAX_SUBSCRIPTIONS));
        Subscriptions { room, updates: OnceLock::new(), list: OnceLock::new() }
    }
}

impl Subscriptions {
    /// Tells the client of each change of a resource from now on. It need not be there yet.
    pub(super) fn subscribe(
        &self,
        session: &Session,
        notices: &Notices,
        uri: &str,
    ) -> Result<(), ErrorData> {
        let topic = topic_of(uri).ok_or_else(|| not_found(uri))?;
        let permit = self.room(1)?;
        let (told, _) = self.updates.get_or_init(|| {
            let told = Arc::new(Told::nothing(session.watch(), notices.clone()));
            let telling = told.clone();
            let task = tokio::spawn(async move { telling.tell(UPDATE_INTERVAL).await });
            (told, AbortOnDropHandle::new(task))
        });
        if told.add(topic, uri) {
            // Given back by `unsubscribe`.
            permit.forget();
        }
        Ok(())
    }

    /// Tells the client nothing more of a resource, if it did.
    pub(super) fn unsubscribe(&self, uri: &str) -> Result<(), ErrorData> {
        let topic = topic_of(uri).ok_or_else(|| not_found(uri))?;
        if self.updates.get().is_some_and(|(told, _)| told.remove(&topic, uri)) {
            self.room.add_permits(1);
        }
        Ok(())
    }

    /// Tells a client that lists the resources when the list changes.
    pub(super) fn has_listed(&self, session: &Session, notices: &Notices) {
        self.list.get_or_init(|| {
            let told = Told::nothing(session.watch(), notices.clone());
            told.watch.add(Topic::Workflows);
            AbortOnDropHandle::new(tokio::spawn(async move { told.tell(LIST_INTERVAL).await }))
        });
    }

    /// Tells the client of what `accepted` holds, under the id of its request, until `ended`.
    pub(super) async fn listen(
        &self,
        session: &Session,
        notices: &Notices,
        (id, requested, accepted): (&RequestId, &SubscriptionFilter, &SubscriptionFilter),
        ended: impl Future<Output = ()>,
    ) -> Result<(), ErrorData> {
        let uris = accepted.resource_subscriptions.as_deref().unwrap_or_default();
        let asked = requested.resource_subscriptions.as_ref().map_or(0, Vec::len);
        let _permit = self.room(if too_many(requested) { asked } else { uris.len() })?;
        let under_id = || Told {
            listener: Some(id.clone()),
            ..Told::nothing(session.watch(), notices.clone())
        };
        let (updates, list) = (under_id(), under_id());
        for uri in uris {
            if let Some(topic) = topic_of(uri) {
                updates.add(topic, uri);
            }
        }
        if accepted.resources_list_changed == Some(true) {
            list.watch.add(Topic::Workflows);
        }
        tokio::select! {
            () = updates.tell(UPDATE_INTERVAL) => {}
            () = list.tell(LIST_INTERVAL) => {}
            () = ended => {}
        }
        Ok(())
    }

    fn room(&self, addresses: usize) -> Result<OwnedSemaphorePermit, ErrorData> {
        let wanted = u32::try_from(addresses).ok();
        let permit = wanted.and_then(|n| self.room.clone().try_acquire_many_owned(n).ok());
        permit.ok_or_else(|| {
            let text = format!(
                "this connection may watch {MAX_SUBSCRIPTIONS} addresses, {} more than it does. \
                 Unsubscribe from some, or watch a workflow instead of each of its tasks.\n\
                 code: too_large",
                self.room.available_permits()
            );
            ErrorData::invalid_params(text, None)
        })
    }
}

/// What of a listener's wish can be told: addresses that are ours. Of too many none, since rmcp
/// looks each of them up in the list of all; [`Subscriptions::listen`] refuses them.
pub(super) fn accepted(requested: &SubscriptionFilter) -> SubscriptionFilter {
    let mut accepted = requested.clone();
    if let Some(uris) = &mut accepted.resource_subscriptions {
        match too_many(requested) {
            true => uris.clear(),
            false => uris.retain(|uri| topic_of(uri).is_some()),
        }
    }
    accepted
}

fn too_many(requested: &SubscriptionFilter) -> bool {
    requested.resource_subscriptions.as_ref().is_some_and(|uris| uris.len() > MAX_SUBSCRIPTIONS)
}

/// What one client is told, and how it called it.
struct Told {
    watch: Watch,
    /// As the client wrote them: one id may be encoded in several ways.
    uris: Mutex<BTreeMap<Topic, BTreeSet<String>>>,
    notices: Notices,
    /// The request that listens, if one does.
    listener: Option<RequestId>,
}

impl Told {
    fn nothing(watch: Watch, notices: Notices) -> Self {
        Told { watch, uris: Mutex::default(), notices, listener: None }
    }

    /// Returns false if it is told of that already.
    fn add(&self, topic: Topic, uri: &str) -> bool {
        let mut uris = self.lock();
        self.watch.add(topic.clone());
        uris.entry(topic).or_default().insert(uri.to_owned())
    }

    /// Returns false if it was not told of that. No notification of it follows.
    fn remove(&self, topic: &Topic, uri: &str) -> bool {
        let mut uris = self.lock();
        let Some(of_topic) = uris.get_mut(topic) else { return false };
        let was_there = of_topic.remove(uri);
        if of_topic.is_empty() {
            uris.remove(topic);
            self.watch.remove(topic);
        }
        was_there
    }

    /// Tells of what changes, in rounds, until the client is gone.
    async fn tell(&self, interval: Duration) {
        loop {
            self.watch.changed().await;
            // What changes while the client does not read is taken once, after it did.
            if !self.notices.room().await || !self.tell_once() {
                return;
            }
            tokio::time::sleep(interval).await;
        }
    }

    /// Returns whether the client is there.
    fn tell_once(&self) -> bool {
        let uris = self.lock();
        self.watch.take().iter().all(|topic| match topic {
            Topic::Workflows => self.notices.send(self.list_changed()),
            topic => {
                let mut uris = uris.get(topic).into_iter().flatten();
                uris.all(|uri| self.notices.send(self.updated(uri)))
            }
        })
    }

    fn updated(&self, uri: &str) -> ServerNotification {
        let params = ResourceUpdatedNotificationParam::new(uri);
        let mut updated = ResourceUpdatedNotification::new(params);
        if let Some(meta) = self.meta() {
            updated.extensions.insert(meta);
        }
        updated.into()
    }

    fn list_changed(&self) -> ServerNotification {
        let mut changed = ResourceListChangedNotification::default();
        if let Some(meta) = self.meta() {
            changed.extensions.insert(meta);
        }
        changed.into()
    }

    fn meta(&self) -> Option<NotificationMetaObject> {
        let mut meta = NotificationMetaObject::new();
        meta.set_subscription_id(self.listener.clone()?);
        Some(meta)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Topic, BTreeSet<String>>> {
        self.uris.lock().expect("nothing panics while it holds the addresses")
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use p2p_workflow_scheduler::P2PTask;
    use p2p_workflow_scheduler::node::Hello;
    use p2p_workflow_scheduler::scheduler::TagSet;

    use super::super::outbox::Outbox;
    use super::super::tests::node;
    use super::*;

    const TASKS: usize = 600;

    #[tokio::test]
    async fn what_a_client_does_not_read_is_kept_once_however_often_it_changes() {
        let (node, _folder) = node().await;
        let session = node.session(Hello::default());
        let outbox = Arc::<Outbox>::default();
        let told = Told::nothing(session.watch(), Notices(outbox.clone()));
        let ids: Vec<String> = (0..TASKS).map(|n| format!("{n:0100}")).collect();
        for id in &ids {
            told.add(Topic::Task(id.as_str().into()), &format!("p2p://tasks/{id}"));
        }
        let mut telling = pin!(told.tell(Duration::ZERO));
        for id in &ids {
            session.submit(P2PTask::new(id, "w", "n", TagSet::default())).await.unwrap();
        }
        let mut written = Vec::new();
        for round in 0..10 {
            for id in &ids {
                session.reprioritize(id, 1 + round).await.unwrap();
                tokio::select! {
                    biased;
                    () = &mut telling => panic!("the client is there"),
                    () = tokio::task::yield_now() => {}
                }
            }
        }
        assert!(!outbox.has_room_for_notices(), "nobody has read");

        // Then somebody reads, until nothing more comes.
        let reading = async {
            while changed(&told.watch).await {
                tokio::task::yield_now().await;
            }
            outbox.close().await;
        };
        tokio::select! {
            () = &mut telling => panic!("the client is there"),
            _ = futures::future::join(outbox.run(&mut written), reading) => {}
        }
        let lines = written.iter().filter(|byte| **byte == b'\n').count();
        assert_eq!(lines, 2 * TASKS, "one round at the beginning, and one of all that came since");
        node.close().await;
    }

    async fn changed(watch: &Watch) -> bool {
        tokio::select! {
            biased;
            () = watch.changed() => true,
            () = std::future::ready(()) => false,
        }
    }
}
