//! Puts an entry into TOML: a table `[mcp_servers.NAME]`, or whatever the text writes it as.
//!
//! The text is edited as a document that keeps comments, order and layout. It writes line feeds
//! only, so a text with Windows' line ends gets them back.

use toml_edit::{Array, DocumentMut, Item, Table, TableLike, value};

use super::file::{crlf, lf, line_and_column};
use super::{Change, Entry, Merged};

/// Puts the entry at `key`, `name`.
///
/// # Errors
/// Why the text was left alone, with line and column where it is about a place.
pub(super) fn merge(text: &str, key: &str, name: &str, entry: &Entry) -> Result<Merged, String> {
    let mut document: DocumentMut = lf(text).parse().map_err(|error: toml_edit::TomlError| {
        let at = error.span().map_or(0, |span| span.start);
        format!("{}: {}", line_and_column(&lf(text), at), error.message())
    })?;
    let servers = document.entry(key).or_insert_with(|| {
        let mut table = Table::new();
        // Without a header of its own: `[mcp_servers.NAME]` says it all.
        table.set_implicit(true);
        Item::Table(table)
    });
    let servers = servers.as_table_like_mut().ok_or_else(|| format!("its {key:?} is no table"))?;
    let change = match servers.get_mut(name) {
        None => {
            servers.insert(name, Item::Table(Table::new()));
            Change::Added
        }
        Some(found) => match found.as_table_like() {
            Some(found) if is_same(found, entry) => Change::Unchanged,
            Some(_) => Change::Replaced,
            None => return Err(format!("its \"{key}.{name}\" is no table")),
        },
    };
    if change == Change::Unchanged {
        return Ok(Merged { text: text.to_owned(), change });
    }
    let table = servers.get_mut(name).and_then(Item::as_table_like_mut);
    fill(table.ok_or("it takes no tables")?, entry);
    let written = document.to_string();
    let text = if text.contains("\r\n") { crlf(&written) } else { written };
    Ok(Merged { text, change })
}

/// Makes the table hold the entry and nothing else. The comments above it stay.
fn fill(table: &mut dyn TableLike, entry: &Entry) {
    let keys: Vec<String> = table.iter().map(|(key, _)| key.to_owned()).collect();
    for key in keys.iter().filter(|key| !entry.contains_key(*key)) {
        table.remove(key);
    }
    for (key, field) in entry {
        table.insert(key, item(field));
    }
}

/// An entry's fields are strings and lists of strings.
fn item(field: &serde_json::Value) -> Item {
    match field.as_array() {
        Some(items) => value(items.iter().filter_map(|item| item.as_str()).collect::<Array>()),
        None => value(field.as_str().unwrap_or_default()),
    }
}

fn is_same(table: &dyn TableLike, entry: &Entry) -> bool {
    table.len() == entry.len()
        && entry.iter().all(|(key, field)| match (table.get(key), field.as_array()) {
            (Some(found), None) => found.as_str().is_some() && found.as_str() == field.as_str(),
            (Some(found), Some(items)) => found.as_array().is_some_and(|found| {
                found.len() == items.len()
                    && found.iter().zip(items).all(|(found, item)| found.as_str() == item.as_str())
            }),
            (None, _) => false,
        })
}
