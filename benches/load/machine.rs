//! What only the operating system can say or do: memory, pipes, CPUs.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// After this nothing is expected any more.
const PATIENCE: Duration = Duration::from_secs(60);

/// The present resident memory of a process, in bytes.
pub(crate) fn resident_memory(pid: u32) -> io::Result<u64> {
    memory(pid, "VmRSS:")
}

/// The largest resident memory a process has had, in bytes.
pub(crate) fn peak_memory(pid: u32) -> io::Result<u64> {
    memory(pid, "VmHWM:")
}

fn memory(pid: u32, field: &str) -> io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kibibytes: Option<u64> = status
        .lines()
        .find_map(|line| line.strip_prefix(field))
        .and_then(|value| value.trim().strip_suffix(" kB")?.parse().ok());
    kibibytes
        .map(|kibibytes| kibibytes * 1024)
        .ok_or_else(|| io::Error::other(format!("/proc/{pid}/status has no {field}")))
}

/// The processor time that a process used so far, in all its threads.
pub(crate) fn processor_time(pid: u32) -> io::Result<Duration> {
    /// The kernel's clock ticks a second, for whoever reads this file.
    const TICKS: f64 = 100.0;
    let path = format!("/proc/{pid}/stat");
    let stat = fs::read_to_string(&path)?;
    // The name, in parentheses, may hold anything.
    let fields = stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace());
    let ticks = fields.into_iter().flatten().skip(11).take(2).map(str::parse::<f64>);
    match ticks.collect::<Result<Vec<_>, _>>() {
        Ok(ticks) if ticks.len() == 2 => Ok(Duration::from_secs_f64((ticks[0] + ticks[1]) / TICKS)),
        _ => Err(io::Error::other(format!("{path} names no processor time"))),
    }
}

/// Waits until one of these can be read, and says which; at most [`PATIENCE`].
pub(crate) fn first_readable<'fd>(
    files: impl Iterator<Item = BorrowedFd<'fd>>,
) -> io::Result<usize> {
    let mut polled: Vec<_> =
        files.map(|file| PollFd::from_borrowed_fd(file, PollFlags::IN)).collect();
    let timeout = Timespec { tv_sec: PATIENCE.as_secs() as i64, tv_nsec: 0 };
    poll(&mut polled, Some(&timeout))?;
    let readable = polled.iter().position(|file| !file.revents().is_empty());
    readable.ok_or_else(|| io::Error::other(format!("nothing came in {PATIENCE:?}")))
}

/// Gives a pipe room for `size` bytes.
#[cfg(target_os = "linux")]
pub(crate) fn enlarge_pipe(pipe: impl AsFd, size: usize) -> io::Result<()> {
    rustix::pipe::fcntl_setpipe_size(pipe, size)?;
    Ok(())
}

/// Runs `work` with this thread, and every process it starts, on one CPU.
///
/// Waking an idle virtual CPU costs more than a call does; on one CPU nobody is woken, and what
/// is left is the work itself.
#[cfg(target_os = "linux")]
pub(crate) fn on_one_cpu<T>(work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

    let allowed = sched_getaffinity(None)?;
    let first = (0..CpuSet::MAX_CPU)
        .find(|&cpu| allowed.is_set(cpu))
        .ok_or_else(|| io::Error::other("this thread may run on no CPU"))?;
    let mut one = CpuSet::new();
    one.set(first);
    sched_setaffinity(None, &one)?;
    let outcome = work();
    sched_setaffinity(None, &allowed)?;
    outcome
}

/// Only Linux can: elsewhere a pipe keeps the size it has.
#[cfg(not(target_os = "linux"))]
pub(crate) fn enlarge_pipe(_pipe: impl AsFd, _size: usize) -> io::Result<()> {
    Ok(())
}

/// Only Linux can.
#[cfg(not(target_os = "linux"))]
pub(crate) fn on_one_cpu<T>(_work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    Err(io::ErrorKind::Unsupported.into())
}
