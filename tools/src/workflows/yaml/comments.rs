//! The comments of a document, which the parser leaves out.
//!
//! A comment is a `#` at the start of a line or behind a space, outside of every scalar: the
//! parser tells where those are. So a `#` in a script or in quotes is none.

use std::ops::Range;

use saphyr_parser::{ScalarStyle, Span};

/// A comment, to the end of its line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Comment {
    pub(crate) line: usize,
    pub(crate) column: usize,
    /// What follows the `#`.
    pub(crate) text: String,
    /// Whether nothing but spaces stands before it.
    pub(crate) is_alone: bool,
}

/// Where a scalar stands, and how it is written.
pub(super) type Place = (Span, ScalarStyle);

/// The comments of `text`, of which `scalars` are the scalars in their order.
pub(super) fn find(text: &str, scalars: &[Place]) -> Vec<Comment> {
    let mut comments = Vec::new();
    let mut ahead = scalars;
    for (index, line) in lines(text).enumerate() {
        let number = index + 1;
        let passed = ahead.iter().take_while(|(span, _)| span.end.line() < number).count();
        ahead = ahead.get(passed..).unwrap_or_default();
        if !line.contains('#') {
            continue;
        }
        let line: Vec<char> = line.chars().collect();
        let here = ahead.iter().take_while(|(span, _)| span.start.line() <= number);
        let inside: Vec<Range<usize>> = here.map(|place| columns(place, number, &line)).collect();
        comments.extend(comment(number, &line, &inside));
    }
    comments
}

/// The comment of a line of which these columns belong to scalars.
fn comment(number: usize, line: &[char], inside: &[Range<usize>]) -> Option<Comment> {
    let mut before = ' ';
    let mut is_alone = true;
    let mut ahead = inside;
    for (column, &c) in line.iter().enumerate() {
        while ahead.first().is_some_and(|columns| columns.end <= column) {
            ahead = &ahead[1..];
        }
        let is_outside = ahead.first().is_none_or(|columns| column < columns.start);
        if c == '#' && matches!(before, ' ' | '\t') && is_outside {
            let text = line[column + 1..].iter().collect();
            return Some(Comment { line: number, column: column + 1, text, is_alone });
        }
        before = c;
        is_alone &= matches!(c, ' ' | '\t');
    }
    None
}

/// The columns of a line that belong to a scalar.
fn columns((span, style): &Place, number: usize, line: &[char]) -> Range<usize> {
    let start = if span.start.line() == number { span.start.col() } else { 0 };
    let end = match style {
        _ if span.end.line() > number => usize::MAX,
        // The parser's span of these reaches to the end of the line, over a comment.
        ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted => {
            let opens = usize::from(span.start.line() == number);
            let rest = line.get(start + opens..).unwrap_or_default();
            start + opens + quoted(rest.iter().copied(), *style)
        }
        _ => span.end.col(),
    };
    start..end
}

/// Characters up to and with the closing quote.
fn quoted(mut chars: impl Iterator<Item = char>, style: ScalarStyle) -> usize {
    let mut count = 0;
    let mut next = || chars.next().inspect(|_| count += 1);
    let mut c = next();
    loop {
        c = match (c, style) {
            (None, _) => return count,
            (Some('"'), ScalarStyle::DoubleQuoted) => return count,
            (Some('\\'), ScalarStyle::DoubleQuoted) => next().and_then(|_| next()),
            (Some('\''), ScalarStyle::SingleQuoted) => match next() {
                Some('\'') => next(),
                // One too many was looked at, and no `#` can be it: a space must stand before one.
                _ => return count,
            },
            _ => next(),
        };
    }
}

/// Lines as the parser counts them: ended by a line feed, a carriage return, or both.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    let text = text.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line));
    text.flat_map(|line| line.split('\r'))
}
