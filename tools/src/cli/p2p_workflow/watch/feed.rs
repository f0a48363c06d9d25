//! Asks the node: for an overview once an interval, and for what the person wants at once.

use std::time::Duration;

use anstream::adapter::strip_str;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::super::{complete, requeue, show};
use super::data::{self, Id, Look};
use super::model::{News, Order};
use crate::cli::{Failure, render};
use crate::client::{Arguments, CallError, Client};

/// The peers are asked for every so many times: they change rarely.
const PEERS_EVERY: u32 = 5;
/// Orders that wait while the node answers: more than a person types.
const ORDERS: usize = 64;

/// The end of the connection to a feed, and what came from it. Dropped, the feed ends.
pub(super) struct Feed {
    pub(super) orders: mpsc::Sender<Order>,
    pub(super) news: mpsc::Receiver<News>,
}

/// Starts asking.
pub(super) fn start(client: Client, look: Look, every: Duration) -> Feed {
    let (orders, taken) = mpsc::channel(ORDERS);
    let (tell, news) = mpsc::channel(ORDERS);
    tokio::spawn(Asker { client, look, tell }.run(taken, every));
    Feed { orders, news }
}

struct Asker {
    client: Client,
    look: Look,
    tell: mpsc::Sender<News>,
}

/// Nobody reads any more.
struct Unread;

impl Asker {
    async fn run(mut self, mut orders: mpsc::Receiver<Order>, every: Duration) {
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut count = 0;
        loop {
            let done = tokio::select! {
                order = orders.recv() => match order {
                    Some(order) => {
                        // What it changed is seen at once.
                        ticks.reset_at(Instant::now());
                        self.follow(order).await
                    }
                    None => return,
                },
                _ = ticks.tick() => {
                    count += 1;
                    self.look(count % PEERS_EVERY == 1).await
                }
            };
            if let Err(Unread) = done {
                return;
            }
        }
    }

    async fn look(&mut self, at_peers: bool) -> Result<(), Unread> {
        let overview = data::overview(&mut self.client, &self.look).await;
        let (of, now) = (self.look.clone(), render::now());
        self.tell(overview.map(|overview| News::Overview { overview, of, now })).await?;
        if at_peers {
            let peers = data::peers(&mut self.client).await;
            let peers = match peers {
                // It is in no swarm.
                Err(CallError::Rejected(why)) => Ok(Err(first_line(&why))),
                peers => peers.map(Ok),
            };
            self.tell(peers.map(News::Peers)).await?;
        }
        Ok(())
    }

    async fn follow(&mut self, order: Order) -> Result<(), Unread> {
        match order {
            Order::Look(look) => {
                self.look = look;
                Ok(())
            }
            Order::Show(task) => {
                let text = match show::whole(&mut self.client, &task.known).await {
                    Ok(text) => strip_str(&text).to_string(),
                    Err(failure) => strip_str(&failure.message()).to_string(),
                };
                self.tell(Ok(News::Detail { task, text })).await
            }
            Order::Cancel(task) => {
                let input = of(&task).with("outcome", "cancelled");
                let answer = self.client.call(complete::TOOL, input).await;
                self.tell(answer.map(|_| News::Done(format!("cancelled {}", task.shown)))).await
            }
            Order::Requeue(task) => {
                let answer = self.client.request(requeue::REQUEST, of(&task)).await;
                self.tell(answer.map(|_| News::Done(format!("requeued {}", task.shown)))).await
            }
        }
    }

    async fn tell(&mut self, news: Result<News, CallError>) -> Result<(), Unread> {
        let news = news.unwrap_or_else(|error| match Failure::from(error) {
            Failure::Rejected(text) => News::Refused(first_line(&text)),
            failure => News::Failed(first_line(&strip_str(&failure.message()).to_string())),
        });
        self.tell.send(news).await.map_err(|_| Unread)
    }
}

fn of(task: &Id) -> Arguments {
    Arguments::new().with("task_id", &task.known)
}

/// Of a refusal, without its code.
fn first_line(text: &str) -> String {
    render::one_line(text.lines().next().unwrap_or_default().trim_start_matches("✗ "))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::client::fake;

    #[tokio::test]
    async fn it_looks_at_once_follows_orders_and_tells_what_came_of_them() {
        let overview = json!({
            "peer_id": "p", "pending_tasks": 1, "blocked_tasks": 0, "assigned_tasks": 0,
            "completed_tasks": 0, "failed_tasks": 0, "cancelled_tasks": 0, "known_peers": 1,
            "alive_peers": 1, "in_sync": true, "completions": 0, "known_workflows": 1,
            "workflows": [], "tasks": [], "more_tasks": false,
        });
        let cancel = json!({"task_id": "a", "outcome": "cancelled"});
        let look = || fake::request(data::OVERVIEW, json!({}), overview.clone());
        let script = vec![
            look(),
            fake::request("ipfs-accelerate/swarm/peers", json!({}), json!({"peers": []})),
            fake::rejected(complete::TOOL, cancel.clone(), "no \u{1b}[2J.\ncode: not_holder"),
            look(),
        ];
        let (stream, node) = fake::node(script);
        let client = Client::attach(stream).await.unwrap();
        let mut feed = start(client, Look::default(), Duration::from_secs(3600));
        assert!(matches!(feed.news.recv().await, Some(News::Overview { .. })));
        assert!(matches!(feed.news.recv().await, Some(News::Peers(_))));
        feed.orders.send(Order::Cancel("a".into())).await.unwrap();
        let news = feed.news.recv().await;
        assert!(matches!(&news, Some(News::Refused(why)) if why == "no \u{fffd}[2J."), "{news:?}");
        assert!(matches!(feed.news.recv().await, Some(News::Overview { .. })));
        drop(feed);
        node.await.unwrap();
    }
}
