//! One YAML document as a tree that knows where each value stands.
//!
//! ```text
//!   text ── saphyr's parser ──► events, bounded ──► tree      aliases replay their anchor's events
//!                                             └───► comments  what is a `#` outside of every scalar
//! ```
//!
//! Workflow files come from repositories that nobody has read before, so everything about them is
//! bounded before it is built: the file, its depth, and what it grows to where aliases repeat what
//! they name. An alias is replayed from the events of its anchor, and each value that comes of it
//! counts like one that was written: a bomb of aliases ends at the bound, before it takes memory.
//!
//! Two things are stricter than YAML: a mapping that has a key twice is refused, since readers
//! differ in which of the two counts, and so are tags of other schemas than the core one. `on`,
//! `yes` and `off` are texts, as in YAML 1.2 and on GitHub.

mod comments;

use std::collections::{HashMap, HashSet};
use std::fmt;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span};
use serde_json::{Map, Value};

pub(crate) use self::comments::Comment;

/// The longest file: far above any workflow that people write, and read in milliseconds.
pub(super) const MAX_BYTES: usize = 1024 * 1024;
/// Mappings and sequences in one another. Workflows use about ten; the tree is walked recursively.
const MAX_DEPTH: usize = 64;
/// Values and keys after aliases are replayed: a megabyte of workflow has about this many at most.
const MAX_NODES: usize = 100_000;
/// Bytes of text after aliases are replayed: few nodes may repeat one long script.
const MAX_EXPANDED_BYTES: usize = 4 * MAX_BYTES;
/// Where values merge into a mapping from others.
const MERGE: &str = "<<";

/// A value, and where it begins. Lines and columns count from 1; columns count characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) line: usize,
    pub(crate) column: usize,
    pub(crate) kind: Kind,
}

/// What a value is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A text. One that is plain, without quotes, may stand for null, a boolean or a number.
    Scalar { text: String, is_plain: bool },
    /// A list.
    Sequence(Vec<Node>),
    /// Pairs in the order of the file. Keys are scalars, and none stands there twice.
    Mapping(Vec<(Node, Node)>),
}

/// Why a text is not a document, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {what}")]
pub(crate) struct YamlError {
    pub(crate) line: usize,
    pub(crate) column: usize,
    pub(crate) what: String,
}

/// Reads a document. An empty one is null.
///
/// # Errors
/// It is no YAML, or beyond a bound.
pub(crate) fn parse(text: &str) -> Result<Node, YamlError> {
    Events::read(text)?.tree()
}

/// The same, with its comments in the order of the file.
///
/// # Errors
/// As [`parse`].
pub(crate) fn parse_with_comments(text: &str) -> Result<(Node, Vec<Comment>), YamlError> {
    let events = Events::read(text)?;
    let comments = comments::find(events.text, &events.scalars);
    Ok((events.tree()?, comments))
}

impl Node {
    /// The value of a key.
    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|(_, value)| value)
    }

    /// A key with its value.
    pub(crate) fn entry(&self, key: &str) -> Option<&(Node, Node)> {
        self.pairs().iter().find(|(name, _)| name.text() == Some(key))
    }

    /// The pairs of a mapping, and none of anything else.
    pub(crate) fn pairs(&self) -> &[(Node, Node)] {
        match &self.kind {
            Kind::Mapping(pairs) => pairs,
            _ => &[],
        }
    }

    /// The items of a sequence.
    pub(crate) fn items(&self) -> Option<&[Node]> {
        match &self.kind {
            Kind::Sequence(items) => Some(items),
            _ => None,
        }
    }

    /// The text of a scalar that is not null, as it was written.
    pub(crate) fn as_str(&self) -> Option<&str> {
        self.text().filter(|_| !self.is_null())
    }

    /// What a plain `true` or `false` says.
    pub(crate) fn as_bool(&self) -> Option<bool> {
        match self.plain()? {
            "true" | "True" | "TRUE" => Some(true),
            "false" | "False" | "FALSE" => Some(false),
            _ => None,
        }
    }

    /// Whether it is null, or nothing was written.
    pub(crate) fn is_null(&self) -> bool {
        matches!(self.plain(), Some("" | "~" | "null" | "Null" | "NULL"))
    }

    /// The value as YAML 1.2's core schema has it, which is GitHub's too. Whole numbers have no
    /// fraction, however they were written, and infinities are texts: JSON has none.
    pub(crate) fn to_json(&self) -> Value {
        match &self.kind {
            Kind::Sequence(items) => items.iter().map(Node::to_json).collect(),
            Kind::Mapping(pairs) => {
                let text = |key: &Node| key.text().unwrap_or_default().to_owned();
                let pairs = pairs.iter().map(|(key, value)| (text(key), value.to_json()));
                Value::Object(pairs.collect::<Map<_, _>>())
            }
            Kind::Scalar { .. } if self.is_null() => Value::Null,
            Kind::Scalar { text, is_plain } => {
                let number = is_plain.then(|| number(text)).flatten();
                self.as_bool().map(Value::from).or(number).unwrap_or_else(|| text.as_str().into())
            }
        }
    }

    /// An error about this value.
    pub(crate) fn error(&self, what: impl Into<String>) -> YamlError {
        YamlError { line: self.line, column: self.column, what: what.into() }
    }

    /// The text of any scalar.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }

    fn plain(&self) -> Option<&str> {
        match &self.kind {
            Kind::Scalar { text, is_plain: true } => Some(text),
            _ => None,
        }
    }
}

/// A number of the core schema; `None` for any other text.
fn number(text: &str) -> Option<Value> {
    let radix = |digits: &str, radix| u64::from_str_radix(digits, radix).ok().map(Value::from);
    if let Some(digits) = text.strip_prefix("0x") {
        return digits.bytes().all(|c| c.is_ascii_hexdigit()).then(|| radix(digits, 16)).flatten();
    }
    if let Some(digits) = text.strip_prefix("0o") {
        return digits.bytes().all(|c| c.is_ascii_digit()).then(|| radix(digits, 8)).flatten();
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let begins =
        unsigned.strip_prefix('.').unwrap_or(unsigned).starts_with(|c: char| c.is_ascii_digit());
    // Rust reads `inf` and `nan` too, and those begin with a letter.
    if !begins {
        return None;
    }
    let float: f64 = text.parse().ok().filter(|float: &f64| float.is_finite())?;
    let whole = text.parse::<i64>().ok().or_else(|| exact(float));
    Some(whole.map_or_else(|| Value::from(float), Value::from))
}

/// A float without a fraction as an integer, where that loses nothing.
fn exact(float: f64) -> Option<i64> {
    const LARGEST: f64 = 9_007_199_254_740_992.0; // 2^53: beyond it floats skip integers
    let is_exact = float.fract() == 0.0 && float.abs() <= LARGEST;
    #[expect(clippy::cast_possible_truncation, reason = "a whole number below 2^53")]
    is_exact.then_some(float as i64)
}

/// The events of one document, within the bounds.
struct Events<'t> {
    /// Without a byte order mark.
    text: &'t str,
    events: Vec<(Event<'t>, Span)>,
    /// Where scalars stand, in the order of the file.
    scalars: Vec<comments::Place>,
    /// Where the value with an anchor begins.
    anchors: HashMap<usize, usize>,
}

impl<'t> Events<'t> {
    fn read(text: &'t str) -> Result<Self, YamlError> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        check_text(text)?;
        let mut read =
            Events { text, events: Vec::new(), scalars: Vec::new(), anchors: HashMap::new() };
        let (mut depth, mut documents) = (0_usize, 0);
        for event in Parser::new_from_str(text) {
            let (event, span) = event.map_err(YamlError::from)?;
            match &event {
                Event::DocumentStart(_) => documents += 1,
                Event::SequenceStart(..) | Event::MappingStart(..) => depth += 1,
                Event::SequenceEnd | Event::MappingEnd => depth = depth.saturating_sub(1),
                _ => {}
            }
            if documents > 1 {
                return Err(error_at(span, "a second document: a workflow is one"));
            }
            if depth > MAX_DEPTH {
                return Err(too_deep(span));
            }
            read.push(event, span)?;
        }
        Ok(read)
    }

    /// Keeps an event, if it is part of a value.
    fn push(&mut self, event: Event<'t>, span: Span) -> Result<(), YamlError> {
        let anchor = match &event {
            Event::Scalar(_, style, anchor, _) => {
                self.scalars.push((span, *style));
                *anchor
            }
            Event::SequenceStart(anchor, _) | Event::MappingStart(anchor, _) => *anchor,
            Event::Alias(_) | Event::SequenceEnd | Event::MappingEnd => 0,
            _ => return Ok(()),
        };
        // Each value has at most two events.
        if self.events.len() >= 2 * MAX_NODES {
            return Err(too_many(span));
        }
        if anchor != 0 {
            self.anchors.insert(anchor, self.events.len());
        }
        self.events.push((event, span));
        Ok(())
    }

    fn tree(&self) -> Result<Node, YamlError> {
        let mut builder = Builder { events: self, nodes: 0, bytes: 0, open: Vec::new() };
        match self.events.is_empty() {
            true => Ok(Node { line: 1, column: 1, kind: Kind::null() }),
            false => builder.node(&mut 0, 0),
        }
    }
}

impl Kind {
    fn null() -> Self {
        Kind::Scalar { text: String::new(), is_plain: true }
    }
}

/// Refuses what the parser would read otherwise than people do: it takes a NUL for the end.
fn check_text(text: &str) -> Result<(), YamlError> {
    let position = |at: usize| {
        let before = text.get(..at).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        (line, before.chars().rev().take_while(|c| *c != '\n').count() + 1)
    };
    if text.len() > MAX_BYTES {
        let what = format!("longer than {MAX_BYTES} bytes");
        return Err(YamlError { line: 1, column: 1, what });
    }
    let is_odd = |c: char| c.is_ascii_control() && !matches!(c, '\t' | '\n' | '\r');
    match text.char_indices().find(|(_, c)| is_odd(*c)) {
        None => Ok(()),
        Some((at, c)) => {
            let (line, column) = position(at);
            let what = format!("the control character U+{:04X}", u32::from(c));
            Err(YamlError { line, column, what })
        }
    }
}

/// Builds the tree from the events.
struct Builder<'e, 't> {
    events: &'e Events<'t>,
    nodes: usize,
    bytes: usize,
    /// The values being built, by where they begin: an alias to one of them has no end.
    open: Vec<usize>,
}

impl Builder<'_, '_> {
    /// The value that begins at `at`, which is moved behind it.
    fn node(&mut self, at: &mut usize, depth: usize) -> Result<Node, YamlError> {
        let begin = *at;
        let (event, span) = &self.events.events[begin];
        *at += 1;
        if depth > MAX_DEPTH {
            return Err(too_deep(*span));
        }
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(too_many(*span));
        }
        let kind = match event {
            Event::Alias(anchor) => return self.alias(*anchor, *span, depth),
            Event::Scalar(text, style, _, tag) => {
                self.bytes += text.len();
                if self.bytes > MAX_EXPANDED_BYTES {
                    return Err(too_many(*span));
                }
                let is_plain = *style == ScalarStyle::Plain && is_untagged(tag.as_deref(), *span)?;
                Kind::Scalar { text: text.to_string(), is_plain }
            }
            Event::SequenceStart(_, tag) => {
                is_untagged(tag.as_deref(), *span)?;
                self.open.push(begin);
                let items = self.sequence(at, depth)?;
                self.open.pop();
                Kind::Sequence(items)
            }
            Event::MappingStart(_, tag) => {
                is_untagged(tag.as_deref(), *span)?;
                self.open.push(begin);
                let pairs = self.mapping(at, depth)?;
                self.open.pop();
                Kind::Mapping(pairs)
            }
            _ => return Err(error_at(*span, "a value is missing here")),
        };
        Ok(Node { line: span.start.line(), column: span.start.col() + 1, kind })
    }

    fn alias(&mut self, anchor: usize, span: Span, depth: usize) -> Result<Node, YamlError> {
        match self.events.anchors.get(&anchor) {
            Some(begin) if self.open.contains(begin) => {
                Err(error_at(span, "an alias of the value that it stands in"))
            }
            Some(begin) => self.node(&mut begin.clone(), depth),
            None => Err(error_at(span, "an alias without its anchor")),
        }
    }

    fn sequence(&mut self, at: &mut usize, depth: usize) -> Result<Vec<Node>, YamlError> {
        let mut items = Vec::new();
        while self.take_unless_end(at, &Event::SequenceEnd) {
            items.push(self.node(at, depth + 1)?);
        }
        Ok(items)
    }

    fn mapping(&mut self, at: &mut usize, depth: usize) -> Result<Vec<(Node, Node)>, YamlError> {
        let mut pairs = Vec::new();
        while self.take_unless_end(at, &Event::MappingEnd) {
            let key = self.node(at, depth + 1)?;
            let value = self.node(at, depth + 1)?;
            pairs.push((key, value));
        }
        unique(pairs)
    }

    /// Whether more follows; the end itself is passed over.
    fn take_unless_end(&self, at: &mut usize, end: &Event<'_>) -> bool {
        let is_end = self.events.events.get(*at).is_none_or(|(event, _)| event == end);
        *at += usize::from(is_end);
        !is_end
    }
}

/// The pairs with others merged in where `<<` asks for it. What a mapping says itself counts more,
/// then what was merged first.
fn unique(pairs: Vec<(Node, Node)>) -> Result<Vec<(Node, Node)>, YamlError> {
    let mut own = HashSet::new();
    for (key, _) in &pairs {
        let Some(text) = key.text() else { return Err(key.error("a key that is no text")) };
        if !own.insert(text.to_owned()) {
            return Err(key.error(format!("the key {text:?} stands here twice")));
        }
    }
    if !own.contains(MERGE) {
        return Ok(pairs);
    }
    let mut merged = Vec::new();
    for (key, value) in pairs {
        if key.plain() != Some(MERGE) {
            merged.push((key, value));
            continue;
        }
        let sources = match value.kind {
            Kind::Sequence(items) => items,
            _ => vec![value],
        };
        for source in sources {
            let Kind::Mapping(pairs) = source.kind else {
                return Err(source.error("`<<` merges mappings, and this is none"));
            };
            let mut is_new = |key: &Node| own.insert(key.text().unwrap_or_default().to_owned());
            merged.extend(pairs.into_iter().filter(|(key, _)| is_new(key)));
        }
    }
    Ok(merged)
}

/// Whether a value is what it looks like. The core schema's tags are taken for what they say where
/// that is a text; a tag of a program's own means something that is not known here.
fn is_untagged(tag: Option<&saphyr_parser::Tag>, span: Span) -> Result<bool, YamlError> {
    let Some(tag) = tag else { return Ok(true) };
    match (tag.handle.as_str(), tag.suffix.as_str()) {
        ("tag:yaml.org,2002:", "str") | ("", "!") | ("!", "") => Ok(false),
        ("tag:yaml.org,2002:", "null" | "bool" | "int" | "float" | "seq" | "map") => Ok(true),
        _ => Err(error_at(span, &format!("the tag {tag}, which workflows do not have"))),
    }
}

fn too_deep(span: Span) -> YamlError {
    error_at(span, &format!("nested deeper than {MAX_DEPTH}"))
}

fn too_many(span: Span) -> YamlError {
    error_at(
        span,
        &format!(
            "more than {MAX_NODES} values or {MAX_EXPANDED_BYTES} bytes, counting what aliases repeat"
        ),
    )
}

fn error_at(span: Span, what: &str) -> YamlError {
    YamlError { line: span.start.line(), column: span.start.col() + 1, what: what.to_owned() }
}

impl From<ScanError> for YamlError {
    fn from(error: ScanError) -> Self {
        let at = error.marker();
        YamlError { line: at.line(), column: at.col() + 1, what: error.info().to_owned() }
    }
}

impl fmt::Display for Node {
    /// A scalar as it was written, anything else as JSON.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.text() {
            Some(text) => f.write_str(text),
            None => write!(f, "{}", self.to_json()),
        }
    }
}

#[cfg(test)]
mod tests;
