//! What of a workflow file goes to the peers: its jobs with their tags, cells and needs.
//!
//! 1. Tags choose the jobs. A file in which they choose none is looked into no further, so that
//!    what is wrong with a workflow that stays on GitHub is GitHub's to tell.
//! 2. `needs` must name jobs and go in no circle, or the whole file is refused.
//! 3. A chosen job is left out where its tags contradict each other or its matrix is known on
//!    GitHub only, and so is every job that needs one which is left out or not chosen: it would
//!    wait for ever. Each is told with its place.
//!
//! Jobs come out with those that they need before them.

use std::collections::HashMap;

use p2p_workflow_scheduler::scheduler::TagSet;
use p2p_workflow_scheduler::scheduler::limits::MAX_DEPENDENCIES;

use super::Remark;
use super::cron::{self, Schedule};
use super::matrix::{self, Cell, Cells};
use super::tags::{self, Owned};
use super::yaml::{Node, YamlError, parse_with_comments};

/// Tasks that one file may come to: many times what GitHub runs of one.
const MAX_TASKS: usize = 10_000;
/// What is said of a workflow that would go to the peers, were there anything.
const NO_JOBS: &str = "the workflow is tagged for the peers, and has no jobs";

/// What a file comes to.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// The workflow's name, where it has one.
    pub(crate) name: Option<String>,
    /// Each behind those that it needs.
    pub(crate) jobs: Vec<Job>,
    /// When its jobs are due beside.
    pub(crate) schedules: Vec<Schedule>,
    pub(crate) remarks: Vec<Remark>,
}

/// A job that goes to the peers.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) id: String,
    /// Its name, where it has one that is no expression.
    pub(crate) name: Option<String>,
    pub(crate) tags: TagSet,
    /// Indices of jobs before it.
    pub(crate) needs: Vec<usize>,
    /// One task each; `None` where the job has no matrix.
    pub(crate) cells: Vec<Option<Cell>>,
}

/// Reads a workflow.
///
/// # Errors
/// It is no workflow, or one that GitHub would refuse.
pub(crate) fn plan(text: &str) -> Result<Plan, YamlError> {
    let (workflow, comments) = parse_with_comments(text)?;
    if workflow.is_null() {
        return Ok(Plan::default());
    }
    if workflow.text().is_some() || workflow.items().is_some() {
        return Err(workflow.error("a workflow is a mapping with the key `jobs`"));
    }
    let mut plan = Plan {
        name: workflow.get("name").and_then(Node::as_str).map(str::to_owned),
        ..Plan::default()
    };
    let owned = Owned::sort(&comments, &workflow);
    let listed = List::read(&workflow, &owned, &mut plan.remarks)?;
    if listed.jobs.iter().any(Listed::is_chosen) {
        let order = listed.order()?;
        plan.jobs = listed.choose(&order, &mut plan.remarks)?;
        plan.schedules = cron::schedules(&workflow, &mut plan.remarks);
    }
    plan.remarks.sort_by_key(|remark| (remark.line, remark.column));
    Ok(plan)
}

/// The jobs of a file, in its order.
struct List<'w> {
    jobs: Vec<Listed<'w>>,
    by_id: HashMap<&'w str, usize>,
}

struct Listed<'w> {
    key: &'w Node,
    job: &'w Node,
    tags: TagSet,
}

impl Listed<'_> {
    fn is_chosen(&self) -> bool {
        self.tags.should_bypass_github()
    }

    fn id(&self) -> &str {
        self.key.text().unwrap_or_default()
    }

    fn cells(&self) -> Result<Vec<Option<Cell>>, Refusal> {
        let Some(strategy) = self.job.get("strategy") else { return Ok(vec![None]) };
        if strategy.text().is_some_and(|text| text.contains("${{")) {
            let why = "its strategy is an expression, which is known on GitHub only";
            return Err(self.left_out(strategy, why));
        }
        let Some(matrix) = strategy.get("matrix").filter(|matrix| !matrix.is_null()) else {
            return Ok(vec![None]);
        };
        match matrix::expand(matrix)? {
            Cells::Known(cells) if cells.is_empty() => {
                Err(self.left_out(matrix, "its matrix has no cells"))
            }
            Cells::Known(cells) => Ok(cells.into_iter().map(Some).collect()),
            Cells::Unknown(place) => {
                let why = "its matrix holds an expression, which is known on GitHub only";
                Err(self.left_out(place, why))
            }
        }
    }

    fn left_out(&self, place: &Node, why: &str) -> Refusal {
        Refusal::Job(Remark::at(place, format!("the job {} is left out: {why}", self.id())))
    }
}

impl<'w> List<'w> {
    fn read(
        workflow: &'w Node,
        comments: &Owned<'_>,
        remarks: &mut Vec<Remark>,
    ) -> Result<Self, YamlError> {
        let shared = tags::of_workflow(workflow, comments, remarks);
        let mut list = List { jobs: Vec::new(), by_id: HashMap::new() };
        let Some((key, jobs)) = workflow.entry("jobs") else {
            if shared.should_bypass_github() {
                remarks.push(Remark::at(workflow, NO_JOBS));
            }
            return Ok(list);
        };
        if !jobs.is_null() && (jobs.text().is_some() || jobs.items().is_some()) {
            return Err(key.error("`jobs` is a mapping of ids to jobs"));
        }
        for (index, (key, job)) in jobs.pairs().iter().enumerate() {
            let own = tags::of_job(job, index, comments, remarks);
            let tags = shared.iter().chain(own.iter()).collect();
            list.by_id.insert(key.text().unwrap_or_default(), index);
            list.jobs.push(Listed { key, job, tags });
        }
        if list.jobs.is_empty() && shared.should_bypass_github() {
            remarks.push(Remark::at(key, NO_JOBS));
        }
        Ok(list)
    }

    /// The jobs by number, each behind those that it needs, with those numbers.
    fn order(&self) -> Result<Vec<(usize, Vec<usize>)>, YamlError> {
        let needs: Vec<Vec<usize>> =
            self.jobs.iter().map(|listed| self.needs(listed)).collect::<Result<_, _>>()?;
        let mut needed_by = vec![Vec::new(); needs.len()];
        for (index, needs) in needs.iter().enumerate() {
            needs.iter().for_each(|needed| needed_by[*needed].push(index));
        }
        let mut open: Vec<usize> = needs.iter().map(Vec::len).collect();
        // Ready ones are taken in the order of the file, and what they free follows them.
        let mut order: Vec<usize> = (0..needs.len()).filter(|index| open[*index] == 0).collect();
        let mut next = 0;
        while let Some(done) = order.get(next).copied() {
            next += 1;
            for waiting in &needed_by[done] {
                open[*waiting] -= 1;
                if open[*waiting] == 0 {
                    order.push(*waiting);
                }
            }
        }
        if let Some(stuck) = open.iter().position(|open| *open > 0) {
            return Err(self.circle(stuck, &needs, &open));
        }
        let mut needs = needs;
        Ok(order.into_iter().map(|index| (index, std::mem::take(&mut needs[index]))).collect())
    }

    /// The jobs that one needs, each once.
    fn needs(&self, listed: &Listed<'_>) -> Result<Vec<usize>, YamlError> {
        let Some(needs) = listed.job.get("needs").filter(|needs| !needs.is_null()) else {
            return Ok(Vec::new());
        };
        let mut found = Vec::new();
        for need in needs.items().unwrap_or(std::slice::from_ref(needs)) {
            let id = need.text().ok_or_else(|| need.error("`needs` names jobs by their ids"))?;
            let index = self.by_id.get(id).copied();
            let index = index.ok_or_else(|| need.error(format!("there is no job {id:?}")))?;
            found.push(index);
        }
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }

    fn circle(&self, stuck: usize, needs: &[Vec<usize>], open: &[usize]) -> YamlError {
        // A job that cannot be ordered needs another such one: following them comes back.
        let mut path = vec![stuck];
        let mut at = stuck;
        while let Some(next) = needs[at].iter().copied().find(|needed| open[*needed] > 0) {
            if let Some(begin) = path.iter().position(|passed| *passed == next) {
                path.drain(..begin);
                break;
            }
            path.push(next);
            at = next;
        }
        let ids: Vec<&str> =
            path.iter().chain(path.first()).map(|index| self.jobs[*index].id()).collect();
        let first = path.first().copied().unwrap_or(stuck);
        self.jobs[first].key.error(format!("jobs that need each other: {}", ids.join(" → ")))
    }

    /// The jobs that go to the peers.
    fn choose(
        &self,
        order: &[(usize, Vec<usize>)],
        remarks: &mut Vec<Remark>,
    ) -> Result<Vec<Job>, YamlError> {
        let mut jobs: Vec<Job> = Vec::new();
        let mut places: HashMap<usize, usize> = HashMap::new();
        let mut tasks = 0;
        for (index, needs) in order {
            let listed = &self.jobs[*index];
            if !listed.is_chosen() {
                continue;
            }
            let (cells, needed) = match self.settle(listed, needs, &places, &jobs) {
                Ok(settled) => settled,
                Err(Refusal::File(error)) => return Err(error),
                Err(Refusal::Job(remark)) => {
                    remarks.push(remark);
                    continue;
                }
            };
            tasks += cells.len();
            if tasks > MAX_TASKS {
                return Err(listed.key.error(format!("more than {MAX_TASKS} tasks in one file")));
            }
            places.insert(*index, jobs.len());
            let id = listed.id().to_owned();
            jobs.push(Job { id, name: name(listed.job), tags: listed.tags, needs: needed, cells });
        }
        Ok(jobs)
    }

    /// The cells of a job, and the places of those that it needs.
    fn settle(
        &self,
        listed: &Listed<'_>,
        needs: &[usize],
        places: &HashMap<usize, usize>,
        jobs: &[Job],
    ) -> Result<(Vec<Option<Cell>>, Vec<usize>), Refusal> {
        if listed.job.text().is_some() || listed.job.items().is_some() {
            return Err(listed.key.error(format!("the job {} is no mapping", listed.id())).into());
        }
        if listed.tags.conflict() {
            let why = "p2p-only and github-api contradict each other";
            return Err(listed.left_out(listed.key, why));
        }
        Ok((listed.cells()?, self.needed(listed, needs, places, jobs)?))
    }

    /// The places of the jobs that one needs, or why it is left out.
    fn needed(
        &self,
        listed: &Listed<'_>,
        needs: &[usize],
        places: &HashMap<usize, usize>,
        jobs: &[Job],
    ) -> Result<Vec<usize>, Refusal> {
        let mut needed = Vec::new();
        for need in needs {
            let Some(place) = places.get(need) else {
                let other = &self.jobs[*need];
                let why = match other.is_chosen() {
                    true => format!("it needs {}, which is left out", other.id()),
                    false => format!("it needs {}, which is for GitHub", other.id()),
                };
                return Err(listed.left_out(listed.key, &why));
            };
            needed.push(*place);
        }
        let dependencies: usize = needed.iter().map(|place| jobs[*place].cells.len()).sum();
        match dependencies > MAX_DEPENDENCIES {
            true => {
                let why = format!(
                    "it needs {dependencies} tasks, and a task may depend on {MAX_DEPENDENCIES}"
                );
                Err(listed.left_out(listed.key, &why))
            }
            false => Ok(needed),
        }
    }
}

/// Why a job does not go to the peers.
enum Refusal {
    /// The whole file is refused.
    File(YamlError),
    /// The job is left out.
    Job(Remark),
}

impl From<YamlError> for Refusal {
    fn from(error: YamlError) -> Self {
        Refusal::File(error)
    }
}

fn name(job: &Node) -> Option<String> {
    let name = job.get("name")?.as_str()?;
    (!name.contains("${{")).then(|| name.to_owned())
}

#[cfg(test)]
mod tests;
