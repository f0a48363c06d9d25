//! Progress of a call that waits, for clients that gave it a token.
//!
//! What is reported goes into the outbox at once, and the call ends reporting before it answers:
//! nothing about a call follows its answer.

use rmcp::model::{
    ProgressNotification, ProgressNotificationParam, ProgressToken, RequestMetaObject,
};

use super::wire::Notices;
use crate::tools::Progress;

/// Tells a client how long its call has waited.
pub(super) struct Reporter {
    token: ProgressToken,
    notices: Notices,
}

impl Reporter {
    /// `None` if the client did not ask for it.
    pub(super) fn of(meta: &RequestMetaObject, notices: &Notices) -> Option<Self> {
        let token = meta.get_progress_token()?;
        Some(Reporter { token, notices: notices.clone() })
    }

    /// Tells the client, unless it leaves what it was told unread.
    pub(super) fn report(&self, progress: Progress) {
        if !self.notices.has_room() {
            return;
        }
        let seconds = progress.waited.as_millis() as f64 / 1000.0;
        let params = ProgressNotificationParam::new(self.token.clone(), seconds)
            .with_total(progress.wait.as_secs_f64())
            .with_message(progress.why);
        // A client that is gone hears nothing more, nor the answer.
        let _there = self.notices.send(ProgressNotification::new(params).into());
    }
}
