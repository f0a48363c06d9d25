//! A record as a row of the table `tasks` or `conflicts`, and back.
//!
//! Texts lie in columns of their own. Everything else lies packed in the column `record`, which is
//! why a million tasks load in about a second; the numbers that people look for are written a
//! second time in columns, by the same statement, and never read back.
//!
//! `record` is a version byte, then class, phase and [`Has`] as one byte each, numbers as LEB128
//! (seven bits a byte, the lowest first), hashes as 32 bytes, actors as their number in the table
//! `actors`, in the order in which [`Packer::pack`] writes them.

use std::sync::Arc;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row, Statement, params};

use crate::scheduler::{
    Body, Class, Dot, Hash256, KeptTask, Lease, More, Outcome, Phase, Record, Spec, Standing,
    State, TagSet, Tombstone,
};

use super::names::{Actors, Interner};

const VERSION: u8 = 1;

/// The columns of a record that are written, after the integer key.
pub(super) const WRITTEN: &str = "task_id, workflow_id, name, record, holder, worker, depends_on, \
     requires, error, note, tags, state, priority, attempt, created_at, not_before";

/// Those that are read: the others are for people.
pub(super) const READ: &str =
    "task_id, workflow_id, name, record, holder, worker, depends_on, requires, error, note";

/// The bits that say which optional parts a record has.
struct Has;

impl Has {
    const DEPENDS_ON: u8 = 1;
    const REQUIRES: u8 = 1 << 1;
    const LEASE: u8 = 1 << 2;
    const OUTCOME: u8 = 1 << 3;
    const RESULT: u8 = 1 << 4;
    const ERROR: u8 = 1 << 5;
    const NOTE: u8 = 1 << 6;
    const MORE: u8 = 1 << 7;

    fn of(record: &Record) -> u8 {
        let outcome = record.outcome.as_deref();
        [
            (Self::DEPENDS_ON, !record.spec.depends_on.is_empty()),
            (Self::REQUIRES, !record.spec.requires.is_empty()),
            (Self::LEASE, record.lease.is_some()),
            (Self::OUTCOME, outcome.is_some()),
            (Self::RESULT, outcome.is_some_and(|it| it.result.is_some())),
            (Self::ERROR, outcome.is_some_and(|it| it.error.is_some())),
            (Self::NOTE, outcome.is_some_and(|it| it.note.is_some())),
            (Self::MORE, record.more.is_some()),
        ]
        .into_iter()
        .filter(|&(_, has)| has)
        .fold(0, |bits, (bit, _)| bits | bit)
    }
}

/// Writes one row. `statement` takes the key, [`WRITTEN`], then the conflicting spec's payload
/// where `payload` is given.
pub(super) fn write(
    statement: &mut Statement<'_>,
    key: Option<i64>,
    record: &Record,
    packed: &[u8],
    payload: Option<Option<&str>>,
) -> rusqlite::Result<()> {
    let spec = &*record.spec;
    let lease = record.lease.as_deref();
    let outcome = record.outcome.as_deref();
    let columns = params![
        key,
        &*spec.task_id,
        &*spec.workflow_id,
        &*spec.name,
        packed,
        lease.map(|lease| &*lease.holder),
        lease.map(|lease| &*lease.worker),
        json_list(&spec.depends_on),
        json_list(&spec.requires),
        outcome.and_then(|outcome| outcome.error.as_deref()),
        outcome.and_then(|outcome| outcome.note.as_deref()),
        tag_names(spec.tags),
        state(record).as_str(),
        record.priority,
        record.attempt(),
        integer(spec.created_at),
        (record.not_before > 0).then(|| integer(record.not_before)),
    ];
    for (index, value) in columns.iter().enumerate() {
        statement.raw_bind_parameter(index + 1, value)?;
    }
    if let Some(payload) = payload {
        statement.raw_bind_parameter(columns.len() + 1, payload)?;
    }
    statement.raw_execute().map(drop)
}

/// As SQLite keeps it: times and counters beyond 2^63 − 1 are shown as that.
pub(super) fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A time or counter as it was kept.
pub(super) fn unsigned(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    let kept: i64 = row.get(column)?;
    u64::try_from(kept).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, kept))
}

/// Where the record stands by itself. Blocked, and failed because of a dependency, are derived by
/// the scheduler and written nowhere.
fn state(record: &Record) -> State {
    match (record.class, record.phase) {
        (Class::Completed, _) => State::Completed,
        (Class::Cancelled, _) => State::Cancelled,
        (Class::Live, Phase::Pending) => State::Pending,
        (Class::Live, Phase::Leased) => State::Assigned,
        (Class::Live, Phase::Failed) => State::Failed,
    }
}

fn tag_names(tags: TagSet) -> String {
    let names: Vec<&str> = tags.iter().map(|tag| tag.as_str()).collect();
    names.join(", ")
}

fn json_list(texts: &[Arc<str>]) -> Option<String> {
    let texts: Vec<&str> = texts.iter().map(|text| &**text).collect();
    (!texts.is_empty()).then(|| serde_json::json!(texts).to_string())
}

/// Makes the column `record`. One for all rows of a commit, so that its buffer is too.
pub(super) struct Packer<'a> {
    pub(super) actors: &'a mut Actors,
    pub(super) connection: &'a Connection,
    bytes: Vec<u8>,
}

impl<'a> Packer<'a> {
    pub(super) fn new(actors: &'a mut Actors, connection: &'a Connection) -> Self {
        Packer { actors, connection, bytes: Vec::new() }
    }

    pub(super) fn pack(&mut self, record: &Record, leases_here: u32) -> rusqlite::Result<&[u8]> {
        let spec = &*record.spec;
        self.bytes.clear();
        self.bytes.extend([VERSION, record.class as u8, record.phase as u8, Has::of(record)]);
        self.bytes.extend([spec.tags.bits(), spec.priority, record.priority]);
        let losses = record.losses.into();
        for number in [record.epoch, record.rev, record.failures, losses, leases_here] {
            self.number(number.into());
        }
        self.number(record.not_before);
        self.dot(&record.dot)?;
        self.hash(&spec.hash);
        self.hash(&spec.head);
        self.number(spec.created_at);
        self.number(spec.delay);
        self.number(spec.max_attempts.into());
        self.number(spec.lease_duration.into());
        self.number(spec.payload_size.into());
        if let Some(lease) = &record.lease {
            self.dot(&lease.dot)?;
            self.number(lease.duration);
        }
        if let Some(result) = record.outcome.as_ref().and_then(|outcome| outcome.result) {
            self.body(result);
        }
        if let Some(more) = &record.more {
            // What this version does not know of comes last, as JSON, to the end.
            self.bytes.extend(serde_json::json!(**more).to_string().bytes());
        }
        Ok(&self.bytes)
    }

    /// Makes the column `standing` of a tombstone: a version byte, class and phase, then as above.
    pub(super) fn pack_standing(&mut self, standing: &Standing) -> rusqlite::Result<&[u8]> {
        self.bytes.clear();
        self.bytes.extend([VERSION, standing.class as u8, standing.phase as u8]);
        for number in [standing.epoch, standing.tie, standing.rev] {
            self.number(number.into());
        }
        self.hash(&standing.spec_hash);
        self.hash(&standing.digest);
        self.dot(&standing.dot)?;
        Ok(&self.bytes)
    }

    fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.bytes.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.bytes.push(number as u8);
    }

    fn hash(&mut self, hash: &Hash256) {
        self.bytes.extend(hash.to_bytes());
    }

    fn body(&mut self, body: Body) {
        self.hash(&body.hash);
        self.number(body.size.into());
    }

    fn dot(&mut self, dot: &Dot) -> rusqlite::Result<()> {
        let actor = self.actors.number(&dot.actor, self.connection)?;
        self.number(actor);
        self.number(dot.counter);
        Ok(())
    }
}

/// What is wrong with a row.
pub(super) type Damage = &'static str;

/// Reads a row whose columns are the key, then [`READ`].
pub(super) fn read(
    row: &Row<'_>,
    actors: &[Arc<str>],
    texts: &mut Interner,
) -> Result<KeptTask, Damage> {
    let mut packed = Unpacker { bytes: blob(row, 4)?, actors };
    if packed.byte()? != VERSION {
        return Err("its record has an unknown format");
    }
    let (class, phase) = (class(packed.byte()?)?, phase(packed.byte()?)?);
    let has = packed.byte()?;
    let tags = TagSet::from_bits(packed.byte()?).ok_or("it has an unknown tag")?;
    let (priority_asked, priority) = (packed.byte()?, packed.byte()?);
    let (epoch, rev) = (packed.small()?, packed.small()?);
    let (failures, losses, leases_here) = (packed.small()?, packed.small()?, packed.small()?);
    let losses = u8::try_from(losses).map_err(|_| "a number in its record is too large")?;
    let not_before = packed.number()?;
    let dot = packed.dot()?;
    let spec = Spec {
        task_id: text(row, 1)?.into(),
        workflow_id: texts.intern(text(row, 2)?),
        name: text(row, 3)?.into(),
        tags,
        priority: priority_asked,
        depends_on: list(row, 7, has & Has::DEPENDS_ON, texts)?,
        requires: list(row, 8, has & Has::REQUIRES, texts)?,
        hash: packed.hash()?,
        head: packed.hash()?,
        created_at: packed.number()?,
        delay: packed.number()?,
        max_attempts: packed.small()?,
        lease_duration: packed.small()?,
        payload_size: packed.small()?,
    };
    let lease = match has & Has::LEASE {
        0 => None,
        _ => Some(Arc::new(Lease {
            holder: texts.intern(text(row, 5)?),
            worker: texts.intern(text(row, 6)?),
            dot: packed.dot()?,
            duration: packed.number()?,
        })),
    };
    let outcome = match has & Has::OUTCOME {
        0 => None,
        _ => Some(Arc::new(Outcome {
            result: packed.body(has & Has::RESULT)?,
            error: optional_text(row, 9, has & Has::ERROR)?,
            note: optional_text(row, 10, has & Has::NOTE)?,
        })),
    };
    let more = match has & Has::MORE {
        0 => None,
        _ => Some(Arc::new(packed.more()?)),
    };
    let record = Record {
        spec: Arc::new(spec),
        class,
        phase,
        priority,
        epoch,
        rev,
        failures,
        losses,
        not_before,
        lease,
        outcome,
        more,
        dot,
    };
    Ok(KeptTask { key: unsigned(row, 0).map_err(|_| "its key is negative")?, record, leases_here })
}

/// Reads a row whose columns are key, task id and standing.
pub(super) fn read_tombstone(
    row: &Row<'_>,
    actors: &[Arc<str>],
) -> Result<(u64, Tombstone), Damage> {
    let mut packed = Unpacker { bytes: blob(row, 2)?, actors };
    if packed.byte()? != VERSION {
        return Err("its standing has an unknown format");
    }
    let (class, phase) = (class(packed.byte()?)?, phase(packed.byte()?)?);
    let standing = Standing {
        class,
        phase,
        epoch: packed.small()?,
        tie: packed.small()?,
        rev: packed.small()?,
        spec_hash: packed.hash()?,
        digest: packed.hash()?,
        dot: packed.dot()?,
    };
    let key = unsigned(row, 0).map_err(|_| "its key is negative")?;
    Ok((key, Tombstone { task_id: text(row, 1)?.into(), standing }))
}

fn class(byte: u8) -> Result<Class, Damage> {
    [Class::Live, Class::Cancelled, Class::Completed]
        .into_iter()
        .find(|&class| class as u8 == byte)
        .ok_or("its class is unknown")
}

fn phase(byte: u8) -> Result<Phase, Damage> {
    [Phase::Pending, Phase::Leased, Phase::Failed]
        .into_iter()
        .find(|&phase| phase as u8 == byte)
        .ok_or("its phase is unknown")
}

fn blob<'a>(row: &'a Row<'_>, column: usize) -> Result<&'a [u8], Damage> {
    match row.get_ref(column) {
        Ok(ValueRef::Blob(bytes)) => Ok(bytes),
        _ => Err("its record is missing"),
    }
}

fn text<'a>(row: &'a Row<'_>, column: usize) -> Result<&'a str, Damage> {
    match row.get_ref(column) {
        Ok(ValueRef::Text(bytes)) => std::str::from_utf8(bytes).map_err(|_| "a text is not UTF-8"),
        _ => Err("a text is missing"),
    }
}

fn optional_text(row: &Row<'_>, column: usize, has: u8) -> Result<Option<Box<str>>, Damage> {
    match has {
        0 => Ok(None),
        _ => text(row, column).map(|text| Some(text.into())),
    }
}

fn list(
    row: &Row<'_>,
    column: usize,
    has: u8,
    texts: &mut Interner,
) -> Result<Box<[Arc<str>]>, Damage> {
    if has == 0 {
        return Ok(Box::default());
    }
    let list: Vec<String> =
        serde_json::from_str(text(row, column)?).map_err(|_| "a list is not JSON")?;
    Ok(list.iter().map(|item| texts.intern(item)).collect())
}

/// Takes the column `record` apart.
struct Unpacker<'a> {
    bytes: &'a [u8],
    actors: &'a [Arc<str>],
}

impl Unpacker<'_> {
    fn byte(&mut self) -> Result<u8, Damage> {
        let (&first, rest) = self.bytes.split_first().ok_or("its record is cut short")?;
        self.bytes = rest;
        Ok(first)
    }

    fn number(&mut self) -> Result<u64, Damage> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err("a number in its record is too long")
    }

    fn small(&mut self) -> Result<u32, Damage> {
        u32::try_from(self.number()?).map_err(|_| "a number in its record is too large")
    }

    fn hash(&mut self) -> Result<Hash256, Damage> {
        let (bytes, rest) = self.bytes.split_first_chunk().ok_or("its record is cut short")?;
        self.bytes = rest;
        Ok(Hash256::from_bytes(*bytes))
    }

    fn body(&mut self, has: u8) -> Result<Option<Body>, Damage> {
        match has {
            0 => Ok(None),
            _ => Ok(Some(Body { hash: self.hash()?, size: self.small()? })),
        }
    }

    fn more(&mut self) -> Result<More, Damage> {
        let text = std::mem::take(&mut self.bytes);
        serde_json::from_slice(text).map_err(|_| "what a later version wrote is not JSON")
    }

    fn dot(&mut self) -> Result<Dot, Damage> {
        let actor = self
            .number()?
            .checked_sub(1)
            .and_then(|index| self.actors.get(usize::try_from(index).ok()?))
            .ok_or("it names an unknown actor")?;
        Ok(Dot { actor: actor.clone(), counter: self.number()? })
    }
}
