//! What happened, for people to read where something went wrong, and one hash over all of it.

use std::collections::VecDeque;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use p2p_workflow_scheduler::scheduler::{Class, Dot, Phase, Record};

/// How many lines are kept.
const KEPT: usize = 200_000;

/// What happened at a peer.
#[derive(Clone, Debug, Hash)]
pub(crate) enum What {
    Started {
        actor: Arc<str>,
    },
    Crashed {
        with_commit: bool,
    },
    Left,
    Joined,
    Connected {
        other: usize,
    },
    Disconnected {
        other: usize,
    },
    Asked {
        task: Arc<str>,
        what: &'static str,
        by: Arc<str>,
        fence: Option<u64>,
        answer: &'static str,
    },
    Given {
        task: Arc<str>,
        to: Arc<str>,
        fence: u64,
    },
    Told {
        task: Arc<str>,
        what: &'static str,
    },
    Changed(Summary),
    Kept(Summary),
    SecondRun {
        task: Arc<str>,
        dot: Dot,
    },
    /// What is left of a task: a tombstone of this write, or nothing.
    Buried {
        task: Arc<str>,
        dot: Option<Dot>,
    },
    /// Another node holds the task under a lease that was given so many milliseconds ago.
    Twice {
        task: Arc<str>,
        lease: Dot,
        since: u64,
    },
    CommitFailed {
        kept: bool,
    },
    Weather {
        loss: u64,
        doubled: u64,
        delay: u64,
    },
    Fault {
        what: &'static str,
        detail: u64,
    },
    Over {
        what: &'static str,
    },
}

/// A record, as far as people want to read it.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Summary {
    task: Arc<str>,
    class: u8,
    phase: u8,
    epoch: u32,
    rev: u32,
    failures: u32,
    fence: Option<u64>,
    lease: Option<(Arc<str>, Dot)>,
    dot: Dot,
}

impl Summary {
    pub(crate) fn of(record: &Record) -> Self {
        Summary {
            task: record.spec.task_id.clone(),
            class: record.class as u8,
            phase: record.phase as u8,
            epoch: record.epoch,
            rev: record.rev,
            failures: record.failures,
            fence: record.fence(),
            lease: record.lease.as_ref().map(|lease| (lease.worker.clone(), lease.dot.clone())),
            dot: record.dot.clone(),
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Summary { task, epoch, rev, failures, dot, .. } = self;
        let state = match (self.class, self.phase) {
            (class, _) if class == Class::Completed as u8 => "completed",
            (class, _) if class == Class::Cancelled as u8 => "cancelled",
            (_, phase) if phase == Phase::Leased as u8 => "leased",
            (_, phase) if phase == Phase::Failed as u8 => "failed",
            _ => "pending",
        };
        write!(f, "{task} {state} epoch {epoch} rev {rev} failures {failures}")?;
        if let (Some((worker, claim)), Some(fence)) = (&self.lease, self.fence) {
            let Dot { actor, counter } = claim;
            write!(f, " lease {actor}:{counter} of {worker} fence {fence}")?;
        }
        write!(f, " dot {}:{}", dot.actor, dot.counter)
    }
}

impl What {
    /// The task that it is about.
    fn task(&self) -> Option<&Arc<str>> {
        match self {
            What::Asked { task, .. }
            | What::Given { task, .. }
            | What::Told { task, .. }
            | What::SecondRun { task, .. }
            | What::Buried { task, .. }
            | What::Twice { task, .. } => Some(task),
            What::Changed(summary) | What::Kept(summary) => Some(&summary.task),
            _ => None,
        }
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            What::Started { actor } => write!(f, "starts as {actor}"),
            What::Crashed { with_commit: true } => f.write_str("crashes after its commit"),
            What::Crashed { with_commit: false } => f.write_str("crashes"),
            What::Left => f.write_str("leaves for good"),
            What::Joined => f.write_str("joins"),
            What::Connected { other } => write!(f, "is connected to p{other}"),
            What::Disconnected { other } => write!(f, "is no longer connected to p{other}"),
            What::Asked { task, what, by, fence, answer } => {
                write!(f, "{by} asks: {what} {task}")?;
                match fence {
                    Some(fence) => write!(f, " with fence {fence}: {answer}"),
                    None => write!(f, ": {answer}"),
                }
            }
            What::Given { task, to, fence } => write!(f, "gives {task} to {to}, fence {fence}"),
            What::Told { task, what } => write!(f, "tells its caller that {task} is {what}"),
            What::Changed(summary) => write!(f, "has    {summary}"),
            What::Kept(summary) => write!(f, "keeps  {summary}"),
            What::SecondRun { task, dot } => {
                write!(f, "reports a second run of {task}, begun as {}:{}", dot.actor, dot.counter)
            }
            What::Buried { task, dot: None } => write!(f, "drops  {task}"),
            What::Buried { task, dot: Some(Dot { actor, counter }) } => {
                write!(f, "keeps  a tombstone of {task}, dot {actor}:{counter}")
            }
            What::Twice { task, lease: Dot { actor, counter }, since } => {
                write!(f, "claims {task}, which {actor}:{counter} holds since {since} ms")
            }
            What::CommitFailed { kept } => {
                let kept = if *kept { ", though it is on disk" } else { "" };
                write!(f, "has a commit fail{kept}")
            }
            What::Weather { loss, doubled, delay } => {
                write!(f, "weather: loss {loss} %, doubled {doubled} %, delay {delay} ms")
            }
            What::Fault { what, detail } => write!(f, "fault: {what} ({detail})"),
            What::Over { what } => write!(f, "over: {what}"),
        }
    }
}

/// One line.
#[derive(Clone, Debug)]
struct Line {
    at: u64,
    /// `None`: it is about the world.
    peer: Option<usize>,
    what: What,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, millis) = (self.at / 1000, self.at % 1000);
        match self.peer {
            Some(peer) => write!(f, "{seconds:>6}.{millis:03} p{peer:<3} {}", self.what),
            None => write!(f, "{seconds:>6}.{millis:03} ---- {}", self.what),
        }
    }
}

/// What a violation is about, to choose the lines that tell of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct About {
    pub(crate) task: Option<Arc<str>>,
    pub(crate) peer: Option<usize>,
}

impl About {
    pub(crate) fn task(task: &Arc<str>) -> Self {
        About { task: Some(task.clone()), peer: None }
    }

    /// By the name of a task or peer; anything else stands for all.
    pub(crate) fn named(name: &str) -> Self {
        match name.strip_prefix('p').map(str::parse) {
            Some(Ok(peer)) => About::peer(peer),
            _ if name.starts_with('t') => About::task(&name.into()),
            _ => About::default(),
        }
    }

    pub(crate) fn peer(peer: usize) -> Self {
        About { task: None, peer: Some(peer) }
    }
}

/// See the module's page.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    lines: VecDeque<Line>,
    hash: Fnv,
}

impl Trace {
    pub(crate) fn note(&mut self, at: u64, peer: Option<usize>, what: What) {
        (at, peer, &what).hash(&mut self.hash);
        if self.lines.len() == KEPT {
            self.lines.pop_front();
        }
        self.lines.push_back(Line { at, peer, what });
    }

    /// Counts what is too common for a line in the hash.
    pub(crate) fn count(&mut self, what: impl Hash) {
        what.hash(&mut self.hash);
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash.finish()
    }

    /// The last lines about a task or peer, and what befell the peers meanwhile.
    pub(crate) fn about(&self, about: &About, count: usize) -> Vec<String> {
        let is_about = |line: &&Line| match (&about.task, line.what.task()) {
            (Some(task), Some(of)) => task == of,
            (Some(_), None) => !matches!(
                line.what,
                What::Connected { .. }
                    | What::Disconnected { .. }
                    | What::CommitFailed { .. }
                    | What::Weather { .. }
            ),
            (None, of) => about.peer.is_none_or(|peer| line.peer == Some(peer) || of.is_none()),
        };
        let mut lines: Vec<String> =
            self.lines.iter().rev().filter(is_about).take(count).map(Line::to_string).collect();
        lines.reverse();
        lines
    }
}

/// FNV-1a, which is the same everywhere.
#[derive(Debug)]
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Fnv(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}
