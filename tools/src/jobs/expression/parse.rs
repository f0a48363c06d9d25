//! From text to an expression, by recursive descent over tokens.

use serde_json::{Number, Value};

use super::{Expression, Function, Operator};

/// Parentheses, brackets and negations in one another: GitHub's own bound.
const MAX_DEPTH: usize = 50;
/// Operators and indices of one expression: each is one more around what stands before it.
const MAX_OPERATORS: usize = 250;

/// Reads one expression of a text.
pub(super) struct Parser<'a> {
    rest: &'a str,
    depth: usize,
    operators: usize,
}

#[derive(Clone, Debug, PartialEq)]
enum Token<'a> {
    Text(String),
    Number(Number),
    Name(&'a str),
    Symbol(&'static str),
    /// `}}`, or the end of the text.
    Close,
    End,
}

/// Longer ones first: the first that fits counts.
const SYMBOLS: [&str; 15] =
    ["&&", "||", "==", "!=", "<=", ">=", "<", ">", "!", "(", ")", "[", "]", ",", "."];

/// Binary operators, those that bind least first.
const LEVELS: [&[(&str, Operator)]; 4] = [
    &[("||", Operator::Or)],
    &[("&&", Operator::And)],
    &[("==", Operator::Equal), ("!=", Operator::NotEqual)],
    &[
        ("<=", Operator::LessOrEqual),
        (">=", Operator::GreaterOrEqual),
        ("<", Operator::Less),
        (">", Operator::Greater),
    ],
];

impl<'a> Parser<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Parser { rest: text, depth: 0, operators: 0 }
    }

    /// All of the text.
    pub(super) fn whole(mut self) -> Result<Expression, String> {
        let expression = self.binary(0)?;
        match self.next()? {
            Token::End => Ok(expression),
            token => Err(unexpected(&token)),
        }
    }

    /// Up to `}}`, with what follows it.
    pub(super) fn embedded(mut self) -> Result<(Expression, &'a str), String> {
        let expression = self.binary(0)?;
        match self.next()? {
            Token::Close => Ok((expression, self.rest)),
            Token::End => Err("an expression without its `}}`".into()),
            token => Err(unexpected(&token)),
        }
    }

    fn binary(&mut self, level: usize) -> Result<Expression, String> {
        let Some(operators) = LEVELS.get(level) else { return self.unary() };
        let mut left = self.binary(level + 1)?;
        loop {
            let token = self.peek()?;
            let found = operators.iter().find(|(symbol, _)| token == Token::Symbol(symbol));
            let Some((_, operator)) = found else { return Ok(left) };
            self.next()?;
            self.count_operator()?;
            let right = self.binary(level + 1)?;
            left = Expression::Binary(*operator, left.into(), right.into());
        }
    }

    fn count_operator(&mut self) -> Result<(), String> {
        self.operators += 1;
        match self.operators > MAX_OPERATORS {
            true => Err(format!("an expression of more than {MAX_OPERATORS} operators")),
            false => Ok(()),
        }
    }

    fn unary(&mut self) -> Result<Expression, String> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(format!("an expression more than {MAX_DEPTH} deep"));
        }
        let expression = match self.peek()? {
            Token::Symbol("!") => {
                self.next()?;
                Expression::Not(self.unary()?.into())
            }
            _ => self.postfix()?,
        };
        self.depth -= 1;
        Ok(expression)
    }

    fn postfix(&mut self) -> Result<Expression, String> {
        let mut expression = self.primary()?;
        loop {
            if self.peek()? == Token::Symbol(".") {
                self.next()?;
                let Token::Name(name) = self.next()? else {
                    return Err("a `.` without a name after it".into());
                };
                self.count_operator()?;
                let name = Expression::Literal(name.into());
                expression = Expression::Index(expression.into(), name.into());
            } else if self.peek()? == Token::Symbol("[") {
                self.next()?;
                let index = self.binary(0)?;
                self.expect("]")?;
                self.count_operator()?;
                expression = Expression::Index(expression.into(), index.into());
            } else {
                return Ok(expression);
            }
        }
    }

    fn primary(&mut self) -> Result<Expression, String> {
        match self.next()? {
            Token::Text(text) => Ok(Expression::Literal(text.into())),
            Token::Number(number) => Ok(Expression::Literal(number.into())),
            Token::Name("true") => Ok(Expression::Literal(true.into())),
            Token::Name("false") => Ok(Expression::Literal(false.into())),
            Token::Name("null") => Ok(Expression::Literal(Value::Null)),
            Token::Name(name) if self.peek()? == Token::Symbol("(") => self.call(name),
            Token::Name(name) => Ok(Expression::Name(name.to_ascii_lowercase())),
            Token::Symbol("(") => {
                let expression = self.binary(0)?;
                self.expect(")")?;
                Ok(expression)
            }
            token => Err(unexpected(&token)),
        }
    }

    fn call(&mut self, name: &str) -> Result<Expression, String> {
        self.expect("(")?;
        let mut arguments = Vec::new();
        while self.peek()? != Token::Symbol(")") {
            if !arguments.is_empty() {
                self.expect(",")?;
            }
            arguments.push(self.binary(0)?);
        }
        self.expect(")")?;
        let Some((function, least, most)) = Function::named(name) else {
            return Err(format!("the function {name}() is not supported here"));
        };
        if !(least..=most).contains(&arguments.len()) {
            let takes = if least == most { most.to_string() } else { format!("at least {least}") };
            return Err(format!("{name}() takes {takes} arguments"));
        }
        Ok(Expression::Call(function, arguments))
    }

    fn expect(&mut self, symbol: &'static str) -> Result<(), String> {
        match self.next()? {
            Token::Symbol(found) if found == symbol => Ok(()),
            token => Err(format!("{} where `{symbol}` should stand", token.shown())),
        }
    }

    fn peek(&self) -> Result<Token<'a>, String> {
        token(self.rest).map(|(token, _)| token)
    }

    fn next(&mut self) -> Result<Token<'a>, String> {
        let (token, rest) = token(self.rest)?;
        self.rest = rest;
        Ok(token)
    }
}

/// The next token of a text, and what follows it.
fn token(text: &str) -> Result<(Token<'_>, &str), String> {
    let text = text.trim_start();
    let Some(first) = text.chars().next() else { return Ok((Token::End, text)) };
    if let Some(rest) = text.strip_prefix("}}") {
        return Ok((Token::Close, rest));
    }
    if first == '\'' {
        return quoted(&text[1..]);
    }
    let is_before_digits =
        text.get(1..).unwrap_or_default().starts_with(|c: char| c.is_ascii_digit() || c == '.');
    if first.is_ascii_digit() || matches!(first, '-' | '+' | '.') && is_before_digits {
        return number(text);
    }
    if first.is_ascii_alphabetic() || first == '_' {
        let is_in_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        let end = text.find(|c| !is_in_name(c)).unwrap_or(text.len());
        return Ok((Token::Name(&text[..end]), &text[end..]));
    }
    if let Some(symbol) = SYMBOLS.iter().find(|symbol| text.starts_with(**symbol)) {
        return Ok((Token::Symbol(symbol), &text[symbol.len()..]));
    }
    Err(match first {
        '"' => "texts in expressions stand in single quotes".into(),
        '=' => "`=` compares nothing: `==` does".into(),
        other => format!("`{other}` is not supported in expressions here"),
    })
}

fn quoted(text: &str) -> Result<(Token<'_>, &str), String> {
    let (mut unquoted, mut rest) = (String::new(), text);
    loop {
        let Some((before, after)) = rest.split_once('\'') else {
            return Err("a text whose quote is not closed".into());
        };
        unquoted += before;
        let Some(more) = after.strip_prefix('\'') else {
            return Ok((Token::Text(unquoted), after));
        };
        unquoted.push('\'');
        rest = more;
    }
}

fn number(text: &str) -> Result<(Token<'_>, &str), String> {
    let is_in_number = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+');
    let end = text.find(|c| !is_in_number(c)).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    let value = match digits.strip_prefix("0x").or(digits.strip_prefix("0X")) {
        Some(hex) => u32::from_str_radix(hex, 16).ok().map(f64::from),
        None => digits.parse().ok().filter(|value: &f64| value.is_finite()),
    };
    match value.and_then(number_of) {
        Some(number) => Ok((Token::Number(number), rest)),
        None => Err(format!("{digits:?} is no number")),
    }
}

/// Whole numbers have no fraction.
pub(super) fn number_of(value: f64) -> Option<Number> {
    // Beyond 2^53 not every whole number is one.
    let is_whole = value.fract() == 0.0 && value.abs() < 9_007_199_254_740_992.0;
    match is_whole {
        #[expect(clippy::cast_possible_truncation, reason = "whole, and within the range")]
        true => Some(Number::from(value as i64)),
        false => Number::from_f64(value),
    }
}

fn unexpected(token: &Token<'_>) -> String {
    match token {
        Token::End | Token::Close => "it ends where a value should stand".into(),
        token => format!("{} is not expected there", token.shown()),
    }
}

impl Token<'_> {
    fn shown(&self) -> String {
        match self {
            Token::Text(text) => format!("'{text}'"),
            Token::Number(number) => number.to_string(),
            Token::Name(name) => format!("{name:?}"),
            Token::Symbol(symbol) => format!("`{symbol}`"),
            Token::Close => "`}}`".into(),
            Token::End => "the end".into(),
        }
    }
}
