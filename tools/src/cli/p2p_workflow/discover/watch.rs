//! `discover --watch`: looks again and again, and hands in what is new.
//!
//! ```text
//!   every 3 s ─► each place: does it look as before? ─ no ─► survey ─► submit all its tasks
//!            └─► each file's schedule: is it due? ─ yes ─► submit its tasks with that time
//! ```
//!
//! What a place comes to is submitted as a whole, since what is there already stays as it is. A
//! scheduled task carries the time in its id, so that two machines that watch submit it once. Times
//! that pass while nothing watches are not made up.
//!
//! What cannot be submitted for the time being is tried again at the next look: the place is taken
//! for one that was never seen.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use p2p_workflow_scheduler::node::process::Requests;
use serde_json::json;
use tokio::task::spawn_blocking;

use super::super::Failure;
use super::report::{Counts, rejection, say, tell};
use super::{places, submit};
use crate::cli::render::done;
use crate::client::{CallError, Client};
use crate::start::{Way, new_worker};
use crate::workflows::{File, Mark, Moment, Place, Problem, Survey, Task, due, tasks};

/// How often it looks: soon enough for a person who just committed, and one git process a checkout.
const INTERVAL: Duration = Duration::from_secs(3);
/// Messages that are remembered, so that each is said once; beyond it some are said again.
const MAX_SAID: usize = 10_000;

pub(super) struct Watch {
    paths: Vec<PathBuf>,
    requires: Arc<[String]>,
    /// What each place came to when it was looked through.
    known: HashMap<Place, Known>,
    /// What was said already.
    said: HashSet<Problem>,
    counts: Counts,
    /// Until when schedules were followed.
    followed: Moment,
}

/// A place that was looked through.
struct Known {
    mark: Mark,
    files: Vec<File>,
    /// Whether all its tasks are submitted.
    is_submitted: bool,
}

impl Watch {
    pub(super) fn new(paths: Vec<PathBuf>, requires: Arc<[String]>) -> Self {
        Watch {
            paths,
            requires,
            known: HashMap::new(),
            said: HashSet::new(),
            counts: Counts::default(),
            followed: Moment::now(),
        }
    }

    /// Watches until the process is asked to end, or a person stops the node.
    pub(super) async fn run(mut self, way: &Way, json: bool) -> Result<String, Failure> {
        let mut requests = Requests::watch()
            .map_err(|error| Failure::Failed(format!("signals cannot be watched: {error}")))?;
        let mut client = Client::attach_introduced(way.link(new_worker())).await?;
        let watching = async {
            let mut is_first = true;
            loop {
                self.look(&mut client).await?;
                self.follow_schedules(&mut client, Moment::now()).await?;
                // Else it would look as if it hung, where nothing is new.
                if std::mem::take(&mut is_first) {
                    say(&format!("Watching: {} so far. Ctrl-C ends it.\n", self.counts));
                }
                tokio::time::sleep(INTERVAL).await;
            }
        };
        let ended: Result<(), Failure> = tokio::select! {
            ended = watching => ended,
            _ = requests.next() => Ok(()),
            () = way.stop().cancelled() => Ok(()),
        };
        ended?;
        Ok(match json {
            true => format!("{}\n", json!(self.counts)),
            false => done(&format!("{} while watching", self.counts)),
        })
    }

    /// Looks at every place, and submits what those come to that changed.
    async fn look(&mut self, client: &mut Client) -> Result<(), Failure> {
        let paths = self.paths.clone();
        let (places, problems) = off_thread(move || places(&paths)).await?;
        problems.into_iter().for_each(|problem| self.tell(problem));
        self.known.retain(|place, _| places.contains(place));
        for place in places {
            if let Some(known) = self.changed(place.clone()).await? {
                self.known.insert(place.clone(), known);
            }
            let Some(mut known) = self.known.remove(&place) else { continue };
            if !known.is_submitted {
                let files = known.files.iter().map(|file| (file, file.tasks.as_slice()));
                known.is_submitted = self.submit(client, files.collect()).await?;
            }
            self.known.insert(place, known);
        }
        Ok(())
    }

    /// Looks through a place unless it looks as before.
    async fn changed(&mut self, place: Place) -> Result<Option<Known>, Failure> {
        let before = self.known.get(&place).map(|known| known.mark.clone());
        let requires = self.requires.clone();
        let shown = place.folder.display().to_string();
        let looked = off_thread(move || {
            let mark = place.mark()?;
            let is_changed = before.as_ref() != Some(&mark);
            Ok(is_changed.then(|| (mark, Survey::of(&place, &requires))))
        });
        match looked.await? {
            Ok(None) => Ok(None),
            Ok(Some((mark, survey))) => {
                survey.problems.into_iter().for_each(|problem| self.tell(problem));
                Ok(Some(Known { mark, files: survey.files, is_submitted: false }))
            }
            Err(why) => {
                self.tell(Problem::of(shown, why));
                Ok(None)
            }
        }
    }

    /// Submits the tasks of the schedules that were due since they were followed last.
    async fn follow_schedules(&mut self, client: &mut Client, now: Moment) -> Result<(), Failure> {
        let known = std::mem::take(&mut self.known);
        let files = known.values().flat_map(|known| &known.files);
        let fired = fired(files, &self.requires, self.followed, now);
        let submitted = match fired.is_empty() {
            true => Ok(true),
            false => {
                let tasks = fired.iter().map(|(file, tasks)| (*file, tasks.as_slice()));
                self.submit(client, tasks.collect()).await
            }
        };
        self.known = known;
        if submitted? {
            self.followed = now;
        }
        Ok(())
    }

    /// Submits tasks, and says of each file what came of it; false where the node cannot take them
    /// for the time being.
    async fn submit(
        &mut self,
        client: &mut Client,
        files: Vec<(&File, &[Task])>,
    ) -> Result<bool, Failure> {
        let mut counts = vec![Counts::default(); files.len()];
        let mut rejected = Vec::new();
        let all = files
            .iter()
            .enumerate()
            .flat_map(|(index, (_, tasks))| tasks.iter().map(move |task| (index, task)));
        let submitted = submit(client, all, |index: usize, task, settled| {
            if let Some(why) = counts[index].add(settled) {
                rejected.push(rejection(files[index].0, task, &why));
            }
        });
        match submitted.await {
            Ok(()) => {}
            Err(CallError::Failed(why)) => {
                self.tell(Problem::of("the node".into(), why));
                return Ok(false);
            }
            Err(error) => return Err(error.into()),
        }
        let is_temporary =
            rejected.iter().any(|problem| problem.what.ends_with("code: overloaded"));
        rejected.into_iter().for_each(|problem| self.tell(problem));
        for ((file, _), counts) in files.iter().zip(counts) {
            if counts.new > 0 {
                say(&done(&format!("{}: {counts}", file.shown)));
            }
            self.counts.tasks += counts.tasks;
            self.counts.new += counts.new;
            self.counts.rejected += counts.rejected;
        }
        Ok(!is_temporary)
    }

    /// Says something once.
    fn tell(&mut self, problem: Problem) {
        if self.said.len() >= MAX_SAID {
            self.said.clear();
        }
        if !self.said.contains(&problem) {
            tell(&problem);
            self.said.insert(problem);
        }
    }
}

/// The tasks of the files whose schedules were due after `after` and until `now`.
fn fired<'f>(
    files: impl Iterator<Item = &'f File>,
    requires: &Arc<[String]>,
    after: Moment,
    now: Moment,
) -> Vec<(&'f File, Vec<Task>)> {
    let mut fired = Vec::new();
    for file in files {
        for moment in due(&file.plan.schedules, after, now) {
            fired.push((file, tasks(&file.origin, &file.plan, requires, Some(moment))));
        }
    }
    fired
}

/// Reads files and runs git beside the thread on which the node may be.
async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    spawn_blocking(work).await.map_err(|bug| Failure::Failed(bug.to_string()))
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    /// The files of a folder without git that has this workflow.
    fn files(text: &str) -> Vec<File> {
        let folder = TempDir::new().unwrap();
        let workflows = folder.path().join(".github/workflows");
        std::fs::create_dir_all(&workflows).unwrap();
        std::fs::write(workflows.join("w.yml"), text).unwrap();
        let (places, problems) = places(&[folder.path().to_owned()]);
        assert_eq!(problems, []);
        places.iter().flat_map(|place| Survey::of(place, &Arc::from([])).files).collect()
    }

    #[test]
    fn a_schedule_submits_all_jobs_with_its_time_each_after_those_of_the_same_time() {
        let files = files(
            "# P2P: p2p-eligible\non: {schedule: [{cron: '*/2 * * * *'}]}\njobs: {a: {}, b: {needs: a}}\n",
        );
        let (before, now) = (Moment::at(1_767_225_599), Moment::at(1_767_225_720));
        let fired = fired(files.iter(), &Arc::from([]), before, now);
        let times: Vec<String> = fired
            .iter()
            .map(|(_, tasks)| json!(tasks[0].payload)["scheduled_at"].to_string())
            .collect();
        assert_eq!(times, ["\"2026-01-01T00:00:00Z\"", "\"2026-01-01T00:02:00Z\""]);
        let mut ids: HashSet<&str> = HashSet::new();
        for (file, tasks) in &fired {
            assert_eq!(tasks[1].depends_on[..], [tasks[0].task_id.clone()]);
            ids.extend(tasks.iter().chain(&file.tasks).map(|task| task.task_id.as_str()));
        }
        assert_eq!(ids.len(), 6, "those of no time, and of two");
        assert_eq!(super::fired(files.iter(), &Arc::from([]), now, now).len(), 0);
    }
}
