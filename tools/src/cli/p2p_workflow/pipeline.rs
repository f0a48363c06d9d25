//! Submissions, many in flight: what hands in files of tasks does so through here.
//!
//! The oldest call is settled before one more than the bound is started, so that neither tasks nor
//! answers pile up, and answers come in the order of the tasks.

use std::collections::VecDeque;

use serde_json::json;

use super::submit;
use crate::client::{Arguments, CallError, Client, Ticket};

/// Calls in flight: enough to fill the node's group commits, a quarter of what a session may have.
pub(super) const MAX_IN_FLIGHT: usize = 64;

/// Submissions on their way, each with what the caller knows it by.
pub(super) struct Pipeline<'c, L> {
    client: &'c mut Client,
    in_flight: VecDeque<(L, Ticket)>,
}

/// What came of one.
#[derive(Debug)]
pub(super) enum Settled {
    Created,
    AlreadyThere,
    Rejected(String),
}

impl<'c, L> Pipeline<'c, L> {
    pub(super) fn new(client: &'c mut Client) -> Self {
        Pipeline { client, in_flight: VecDeque::new() }
    }

    /// Settles the oldest one if there is no room for another.
    pub(super) async fn make_room(&mut self) -> Result<Option<(L, Settled)>, CallError> {
        match self.in_flight.len() < MAX_IN_FLIGHT {
            true => Ok(None),
            false => self.settle_oldest().await,
        }
    }

    /// Sends one, for which [room was made](Self::make_room).
    pub(super) async fn submit(&mut self, label: L, task: Arguments) -> Result<(), CallError> {
        let ticket = self.client.start_call(submit::TOOL, task).await?;
        self.in_flight.push_back((label, ticket));
        Ok(())
    }

    /// `None` when all are settled.
    pub(super) async fn settle_oldest(&mut self) -> Result<Option<(L, Settled)>, CallError> {
        let Some((label, ticket)) = self.in_flight.pop_front() else { return Ok(None) };
        let settled = match self.client.answer(ticket).await {
            Ok(answer) if answer.value()?["created"] == json!(false) => Settled::AlreadyThere,
            Ok(_) => Settled::Created,
            Err(CallError::Rejected(text)) => Settled::Rejected(text),
            Err(error) => return Err(error),
        };
        Ok(Some((label, settled)))
    }
}
