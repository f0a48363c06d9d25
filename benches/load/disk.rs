//! The floor under every durable call: a small write and a sync, on the disk of the stores.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::series::Series;

/// About what one task takes in the store's log.
const RECORD: [u8; 400] = [b'x'; 400];

/// The preallocated file's length; writing starts over at its end.
const PREALLOCATED: u64 = 4 << 20;

/// A file that records are written to, each with a sync.
pub(crate) struct SyncFloor {
    file: File,
    at: u64,
    wrap_at: u64,
}

impl SyncFloor {
    /// A file that grows with every record, so that each sync also writes the file's length.
    pub(crate) fn appending(dir: &Path) -> io::Result<Self> {
        Self::open(&dir.join("append"), u64::MAX)
    }

    /// A file whose blocks are already written: the least that a sync can cost.
    pub(crate) fn preallocated(dir: &Path) -> io::Result<Self> {
        let floor = Self::open(&dir.join("preallocated"), PREALLOCATED)?;
        // Reserved blocks that were never written would still need their metadata synced.
        let zeros = [0; 1 << 16];
        for at in (0..PREALLOCATED).step_by(zeros.len()) {
            floor.file.write_all_at(&zeros, at)?;
        }
        floor.file.sync_all()?;
        Ok(floor)
    }

    fn open(path: &Path, wrap_at: u64) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).create(true).truncate(true).open(path)?;
        Ok(Self { file, at: 0, wrap_at })
    }

    /// Writes and syncs for the length of a round.
    pub(crate) fn round(&mut self, round: Duration) -> io::Result<Series> {
        let mut latencies = Vec::new();
        let began = Instant::now();
        while began.elapsed() < round {
            let sent = Instant::now();
            self.write()?;
            latencies.push(sent.elapsed());
        }
        Ok(Series::round(latencies, began.elapsed()))
    }

    fn write(&mut self) -> io::Result<()> {
        let length = RECORD.len() as u64;
        if self.at + length > self.wrap_at {
            self.at = 0;
        }
        self.file.write_all_at(&RECORD, self.at)?;
        self.at += length;
        self.file.sync_data()
    }
}
