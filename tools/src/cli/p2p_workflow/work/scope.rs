//! Which tasks a worker takes, and what it leaves to others for a while.
//!
//! A command that cannot run a task here and now says so by its exit code. The task goes back, and
//! this worker does not ask for its kind for a while that is longer than a turn, so that the machine
//! whose turn is next has it, and not this one again.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How long a kind of tasks is left to others: three turns.
const REST: Duration = Duration::from_secs(30);

/// Kinds of tasks, by how the ids of their workflows begin.
#[derive(Debug)]
pub(super) struct Scope {
    /// Empty: one kind, all tasks.
    prefixes: Vec<String>,
    /// Until when each is left to others.
    rests_until: Mutex<Vec<Option<Instant>>>,
}

impl Scope {
    pub(super) fn new(prefixes: Vec<String>) -> Self {
        let rests_until = Mutex::new(vec![None; prefixes.len().max(1)]);
        Scope { prefixes, rests_until }
    }

    /// Whether it takes tasks of this workflow at all.
    pub(super) fn covers(&self, workflow_id: &str) -> bool {
        self.prefixes.is_empty() || self.prefixes.iter().any(|it| workflow_id.starts_with(&**it))
    }

    /// Leaves the tasks of this workflow, and of those of its kind, to others for a while.
    pub(super) fn rest(&self, workflow_id: &str, now: Instant) {
        let until = now + REST;
        let mut rests = self.lock();
        for (index, rest) in rests.iter_mut().enumerate() {
            let prefix = self.prefixes.get(index);
            if prefix.is_none_or(|prefix| workflow_id.starts_with(&**prefix)) {
                *rest = Some(until);
            }
        }
    }

    /// What to ask for now: prefixes, none where everything is meant.
    ///
    /// # Errors
    /// All is left to others until then.
    pub(super) fn awake(&self, now: Instant) -> Result<Vec<&str>, Instant> {
        let rests = self.lock();
        let is_awake = |rest: &Option<Instant>| rest.is_none_or(|until| until <= now);
        if !rests.iter().any(is_awake) {
            return Err(rests.iter().flatten().min().copied().unwrap_or(now));
        }
        let awake = rests.iter().zip(&self.prefixes).filter(|(rest, _)| is_awake(rest));
        Ok(awake.map(|(_, prefix)| &**prefix).collect())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Option<Instant>>> {
        self.rests_until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_run_here_is_left_to_others_for_a_while() {
        let scope = Scope::new(vec!["a/".into(), "b/".into()]);
        let begin = Instant::now();
        assert!(scope.covers("a/ci.yml@1") && !scope.covers("c/ci.yml@1"));
        assert_eq!(scope.awake(begin), Ok(vec!["a/", "b/"]));
        scope.rest("a/ci.yml@1", begin);
        assert_eq!(scope.awake(begin), Ok(vec!["b/"]));
        let later = begin + REST / 2;
        scope.rest("b/x.yml@1", later);
        assert_eq!(scope.awake(later), Err(begin + REST));
        assert_eq!(scope.awake(begin + REST), Ok(vec!["a/"]));
    }

    #[test]
    fn a_worker_for_everything_rests_as_a_whole() {
        let scope = Scope::new(Vec::new());
        let begin = Instant::now();
        assert!(scope.covers("any"));
        assert_eq!(scope.awake(begin), Ok(vec![]));
        scope.rest("any", begin);
        assert_eq!(scope.awake(begin), Err(begin + REST));
        assert_eq!(scope.awake(begin + REST), Ok(vec![]));
    }
}
