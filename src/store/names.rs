//! Names that many rows share, held once.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use rusqlite::{Connection, params};

use super::row::integer;

/// The table `actors`: what records call each actor, counted from 1.
#[derive(Debug, Default)]
pub(super) struct Actors {
    numbers: HashMap<Arc<str>, u64>,
}

impl Actors {
    pub(super) fn load(connection: &Connection) -> rusqlite::Result<Self> {
        let mut actors = Actors::default();
        for (number, actor) in (1..).zip(names(connection)?) {
            actors.numbers.insert(actor, number);
        }
        Ok(actors)
    }

    /// The actor's number; a new actor gets the next one, within the caller's transaction.
    pub(super) fn number(
        &mut self,
        actor: &Arc<str>,
        connection: &Connection,
    ) -> rusqlite::Result<u64> {
        if let Some(&number) = self.numbers.get(actor) {
            return Ok(number);
        }
        let number = self.numbers.len() as u64 + 1;
        connection
            .prepare_cached("INSERT INTO actors (id, actor) VALUES (?1, ?2)")?
            .execute(params![integer(number), &**actor])?;
        self.numbers.insert(actor.clone(), number);
        Ok(number)
    }
}

/// The names of all actors, in the order of their numbers.
///
/// Numbers have no gaps: rows of `actors` are added one after the other and never removed.
pub(super) fn names(connection: &Connection) -> rusqlite::Result<Vec<Arc<str>>> {
    connection
        .prepare("SELECT actor FROM actors ORDER BY id")?
        .query_map([], |row| row.get(0))?
        .collect()
}

/// Gives equal texts one allocation while tasks are loaded.
#[derive(Default)]
pub(super) struct Interner {
    texts: HashSet<Arc<str>>,
}

impl Interner {
    pub(super) fn intern(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.texts.get(text) {
            return known.clone();
        }
        let new: Arc<str> = text.into();
        self.texts.insert(new.clone());
        new
    }
}
