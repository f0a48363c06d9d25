//! Which tasks a worker takes, and what it leaves to others for a while.
//!
//! A command that cannot run a task here and now says so by its exit code. The task goes back, and
//! this worker does not ask for its kind for a while that is longer than a turn, so that the machine
//! whose turn is next has it, and not this one again.
//!
//! Where kinds are told apart, as those of repositories are, many tasks of one kind may be for other
//! machines while others of it are for this one: the cells of a matrix of operating systems. So such
//! a kind rests only once a task comes back that was turned down before: all others were seen.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How long a kind of tasks is left to others: three turns.
const REST: Duration = Duration::from_secs(30);

/// How long a task that was turned down is remembered. Afterwards what lies behind many such tasks is
/// come to again.
const MEMORY: Duration = Duration::from_secs(300);

/// Kinds of tasks, by how the ids of their workflows begin.
#[derive(Debug)]
pub(super) struct Scope {
    /// Empty: one kind, all tasks.
    prefixes: Vec<String>,
    /// Until when each is left to others.
    rests_until: Mutex<Vec<Option<Instant>>>,
    /// Tasks that were turned down, and when first.
    turned_down: Mutex<HashMap<String, Instant>>,
}

impl Scope {
    pub(super) fn new(prefixes: Vec<String>) -> Self {
        let rests_until = Mutex::new(vec![None; prefixes.len().max(1)]);
        Scope { prefixes, rests_until, turned_down: Mutex::default() }
    }

    /// Whether it takes tasks of this workflow at all.
    pub(super) fn covers(&self, workflow_id: &str) -> bool {
        self.prefixes.is_empty() || self.prefixes.iter().any(|it| workflow_id.starts_with(&**it))
    }

    /// A task cannot be run here. Leaves it, and those of its kind, to others for a while.
    pub(super) fn turn_down(&self, task_id: &str, workflow_id: &str, now: Instant) {
        if !self.prefixes.is_empty() && self.is_new(task_id, now) {
            return;
        }
        let until = now + REST;
        let mut rests = self.lock();
        for (index, rest) in rests.iter_mut().enumerate() {
            let prefix = self.prefixes.get(index);
            if prefix.is_none_or(|prefix| workflow_id.starts_with(&**prefix)) {
                *rest = Some(until);
            }
        }
    }

    fn is_new(&self, task_id: &str, now: Instant) -> bool {
        let mut turned_down = self.turned_down.lock().unwrap_or_else(PoisonError::into_inner);
        turned_down.retain(|_, at| now.saturating_duration_since(*at) < MEMORY);
        let is_new = !turned_down.contains_key(task_id);
        turned_down.entry(task_id.to_owned()).or_insert(now);
        is_new
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
        let turn_down_twice = |workflow: &str, now| {
            (0..2).for_each(|_| scope.turn_down(workflow, workflow, now));
        };
        turn_down_twice("a/ci.yml@1", begin);
        assert_eq!(scope.awake(begin), Ok(vec!["b/"]));
        let later = begin + REST / 2;
        turn_down_twice("b/x.yml@1", later);
        assert_eq!(scope.awake(later), Err(begin + REST));
        assert_eq!(scope.awake(begin + REST), Ok(vec!["a/"]));
    }

    /// Eight cells for Windows before eight for Linux had a worker on Linux wait half a minute for
    /// each of them before it came to its own.
    #[test]
    fn a_kind_rests_only_once_a_task_of_it_comes_back() {
        let scope = Scope::new(vec!["a/".into()]);
        let begin = Instant::now();
        for n in 0..8 {
            scope.turn_down(&format!("windows-{n}"), "a/ci.yml@1", begin);
            assert_eq!(scope.awake(begin), Ok(vec!["a/"]));
        }
        scope.turn_down("windows-0", "a/ci.yml@1", begin);
        assert_eq!(scope.awake(begin), Err(begin + REST));
        // Remembered since the first time, not the last.
        let later = begin + MEMORY;
        scope.turn_down("windows-0", "a/ci.yml@1", later);
        assert_eq!(scope.awake(later), Ok(vec!["a/"]));
        scope.turn_down("windows-0", "a/ci.yml@1", later);
        assert_eq!(scope.awake(later), Err(later + REST));
    }

    #[test]
    fn a_worker_for_everything_rests_as_a_whole() {
        let scope = Scope::new(Vec::new());
        let begin = Instant::now();
        assert!(scope.covers("any"));
        assert_eq!(scope.awake(begin), Ok(vec![]));
        scope.turn_down("t", "any", begin);
        assert_eq!(scope.awake(begin), Err(begin + REST));
        assert_eq!(scope.awake(begin + REST), Ok(vec![]));
    }
}
