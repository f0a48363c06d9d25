//! What the person at the terminal wants: go on, finish, end, end at once.

use std::io;

use p2p_workflow_scheduler::node::process::{Request, Requests};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::report::say;

/// Each goes further than the one before it, and none is taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Order {
    /// Take tasks and run them.
    Work,
    /// Take nothing more, and finish what runs.
    Finish,
    /// Ask the commands to end, and hand their tasks back.
    EndCommands,
    /// Ask no longer.
    KillCommands,
}

/// The order in force. Clones are the same.
#[derive(Clone, Debug)]
pub(super) struct Orders(watch::Sender<Order>);

impl Orders {
    /// Follows signals, and `node_stopped`: a person stopped the node that the worker needs.
    pub(super) fn follow(node_stopped: CancellationToken) -> io::Result<Self> {
        let mut requests = Requests::watch()?;
        let orders = Orders(watch::Sender::new(Order::Work));
        let by_signals = orders.clone();
        tokio::spawn(async move {
            loop {
                let request = requests.next().await;
                by_signals.follow_request(request);
            }
        });
        let by_node = orders.clone();
        tokio::spawn(async move {
            node_stopped.cancelled().await;
            by_node.give(Order::EndCommands);
        });
        Ok(orders)
    }

    fn follow_request(&self, request: Request) {
        let next = match (self.now(), request) {
            (Order::Work, Request::Interrupt) => Order::Finish,
            (Order::Work | Order::Finish, _) => Order::EndCommands,
            (Order::EndCommands | Order::KillCommands, _) => Order::KillCommands,
        };
        match next {
            Order::Finish => say("finishing what runs; Ctrl-C once more ends it\n"),
            Order::EndCommands => say("ending what runs; its tasks go back to the queue\n"),
            Order::Work | Order::KillCommands => {}
        }
        self.give(next);
    }

    /// Gives an order, unless one that goes further is in force.
    pub(super) fn give(&self, order: Order) {
        self.0.send_if_modified(|now| {
            let further = order > *now;
            *now = order.max(*now);
            further
        });
    }

    /// The order in force.
    pub(super) fn now(&self) -> Order {
        *self.0.borrow()
    }

    /// Waits until this order, or one that goes further, is in force.
    pub(super) async fn reached(&self, order: Order) {
        let mut orders = self.0.subscribe();
        // The sender lives as long as this value.
        let _closed = orders.wait_for(|now| *now >= order).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn orders() -> Orders {
        Orders(watch::Sender::new(Order::Work))
    }

    #[tokio::test]
    async fn each_interrupt_goes_further() {
        let orders = orders();
        for order in [Order::Finish, Order::EndCommands, Order::KillCommands, Order::KillCommands] {
            orders.follow_request(Request::Interrupt);
            assert_eq!(orders.now(), order);
            orders.reached(order).await;
        }
    }

    #[test]
    fn a_request_to_end_does_not_wait_for_what_runs() {
        let orders = orders();
        orders.follow_request(Request::End);
        assert_eq!(orders.now(), Order::EndCommands);
    }

    #[test]
    fn no_order_is_taken_back() {
        let orders = orders();
        orders.give(Order::EndCommands);
        orders.give(Order::Finish);
        assert_eq!(orders.now(), Order::EndCommands);
    }
}
