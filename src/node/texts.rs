//! Payloads and results that were handed in lately, so that a task which is taken soon after it was
//! submitted costs no read from the disk.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::scheduler::TaskChange;

/// Memory for texts, at most: thousands of usual payloads, a dozen of the largest.
const MAX_BYTES: usize = 4 * 1024 * 1024;
/// What a text costs beyond its length.
const OVERHEAD: usize = 128;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Payload,
    Result,
}

/// The texts that came last, first in, first out. A text that is not here is on the disk.
#[derive(Default)]
pub(super) struct Texts {
    texts: BTreeMap<(Kind, u64), Arc<str>>,
    /// In the order in which they came; those that were replaced are here twice.
    came: VecDeque<(Kind, u64)>,
    bytes: usize,
}

impl Texts {
    /// Follows a change that goes to the disk.
    pub(super) fn follow(&mut self, change: &TaskChange) {
        if change.spec_is_new {
            self.put((Kind::Payload, change.key), change.payload.as_ref());
        }
        if change.result.is_some() {
            self.put((Kind::Result, change.key), change.result.as_ref());
        }
    }

    pub(super) fn payload(&self, key: u64) -> Option<Arc<str>> {
        self.texts.get(&(Kind::Payload, key)).cloned()
    }

    pub(super) fn result(&self, key: u64) -> Option<Arc<str>> {
        self.texts.get(&(Kind::Result, key)).cloned()
    }

    fn put(&mut self, at: (Kind, u64), text: Option<&Arc<str>>) {
        self.drop_text(at);
        let Some(text) = text else { return };
        self.bytes += text.len() + OVERHEAD;
        self.texts.insert(at, text.clone());
        self.came.push_back(at);
        while self.bytes > MAX_BYTES {
            let Some(oldest) = self.came.pop_front() else { return };
            self.drop_text(oldest);
        }
    }

    fn drop_text(&mut self, at: (Kind, u64)) {
        if let Some(text) = self.texts.remove(&at) {
            self.bytes -= text.len() + OVERHEAD;
        }
    }
}
