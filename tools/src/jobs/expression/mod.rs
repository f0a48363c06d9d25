//! Expressions in workflow files: `${{ matrix.os == 'linux' && always() }}`.
//!
//! ```text
//!   text ─ Template ─► texts and expressions ─ parse ─► Expression ─ evaluate, Scope ─► JSON value
//!                                                 └─ names ─► what it speaks of, before anything runs
//! ```
//!
//! The language is GitHub's ("Evaluate expressions in workflows and actions"), without `.*`, and
//! without `hashFiles`. Whatever else there may be is refused where it is parsed, and names are
//! looked through before the first step: nothing is guessed.

mod evaluate;
mod parse;

use std::fmt;

use serde_json::Value;

pub(super) use self::evaluate::{Scope, Status, is_true, text};
use self::parse::Parser;

/// An expression, or a part of one.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Expression {
    Literal(Value),
    /// A context, as `env`.
    Name(String),
    /// A property or an item.
    Index(Box<Expression>, Box<Expression>),
    Not(Box<Expression>),
    Binary(Operator, Box<Expression>, Box<Expression>),
    Call(Function, Vec<Expression>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Or,
    And,
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
    Contains,
    StartsWith,
    EndsWith,
    Format,
    Join,
    ToJson,
    FromJson,
    Success,
    Failure,
    Always,
    Cancelled,
}

impl Function {
    /// By its name, in any case, with how many arguments it takes at least and at most.
    fn named(name: &str) -> Option<(Self, usize, usize)> {
        Some(match name.to_ascii_lowercase().as_str() {
            "contains" => (Function::Contains, 2, 2),
            "startswith" => (Function::StartsWith, 2, 2),
            "endswith" => (Function::EndsWith, 2, 2),
            "format" => (Function::Format, 1, usize::MAX),
            "join" => (Function::Join, 1, 2),
            "tojson" => (Function::ToJson, 1, 1),
            "fromjson" => (Function::FromJson, 1, 1),
            "success" => (Function::Success, 0, 0),
            "failure" => (Function::Failure, 0, 0),
            "always" => (Function::Always, 0, 0),
            "cancelled" => (Function::Cancelled, 0, 0),
            _ => return None,
        })
    }

    /// Whether it asks how the job has gone so far.
    fn is_about_status(self) -> bool {
        matches!(
            self,
            Function::Success | Function::Failure | Function::Always | Function::Cancelled
        )
    }
}

/// What an expression speaks of: a context, and what of it where that is written out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Named<'a> {
    pub(super) context: &'a str,
    /// `None` where the whole context is meant, or which part is known only when it is evaluated.
    pub(super) part: Option<&'a str>,
}

impl Expression {
    /// Reads all of `text` as one expression, as `if` has it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        Parser::new(text).whole()
    }

    /// All that it speaks of.
    pub(super) fn names(&self) -> Vec<Named<'_>> {
        let mut found = Vec::new();
        self.collect_names(&mut found);
        found
    }

    fn collect_names<'a>(&'a self, found: &mut Vec<Named<'a>>) {
        match self {
            Expression::Literal(_) => {}
            Expression::Name(context) => found.push(Named { context, part: None }),
            Expression::Index(of, key) => match (&**of, &**key) {
                (Expression::Name(context), Expression::Literal(Value::String(part))) => {
                    found.push(Named { context, part: Some(part) });
                }
                (of, key) => {
                    of.collect_names(found);
                    key.collect_names(found);
                }
            },
            Expression::Not(of) => of.collect_names(found),
            Expression::Binary(_, left, right) => {
                left.collect_names(found);
                right.collect_names(found);
            }
            Expression::Call(_, arguments) => {
                arguments.iter().for_each(|argument| argument.collect_names(found));
            }
        }
    }

    /// Whether it asks itself how the job has gone, so that `success()` is not implied.
    pub(super) fn asks_for_status(&self) -> bool {
        match self {
            Expression::Literal(_) | Expression::Name(_) => false,
            Expression::Index(left, right) | Expression::Binary(_, left, right) => {
                left.asks_for_status() || right.asks_for_status()
            }
            Expression::Not(of) => of.asks_for_status(),
            Expression::Call(function, arguments) => {
                function.is_about_status() || arguments.iter().any(Expression::asks_for_status)
            }
        }
    }
}

/// A text with expressions in it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Template(Vec<Part>);

#[derive(Clone, Debug, PartialEq)]
enum Part {
    Text(String),
    Expression(Expression),
}

impl Template {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(begin) = rest.find("${{") {
            if begin > 0 {
                parts.push(Part::Text(rest[..begin].to_owned()));
            }
            let (expression, after) = Parser::new(&rest[begin + 3..]).embedded()?;
            parts.push(Part::Expression(expression));
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Template(parts))
    }

    /// A text without expressions.
    pub(super) fn plain(text: impl Into<String>) -> Self {
        Template(vec![Part::Text(text.into())])
    }

    /// Its expressions.
    pub(super) fn expressions(&self) -> impl Iterator<Item = &Expression> {
        self.0.iter().filter_map(|part| match part {
            Part::Text(_) => None,
            Part::Expression(expression) => Some(expression),
        })
    }

    /// The expression, where it is nothing but one.
    pub(super) fn only_expression(&self) -> Option<&Expression> {
        match &self.0[..] {
            [Part::Expression(expression)] => Some(expression),
            _ => None,
        }
    }

    /// The text that it comes to.
    pub(super) fn fill(&self, scope: &Scope<'_>) -> Result<String, String> {
        let mut filled = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => filled += text,
                Part::Expression(expression) => filled += &text(&expression.evaluate(scope)?),
            }
        }
        Ok(filled)
    }

    /// The value that it comes to: that of the expression where it is nothing but one.
    pub(super) fn value(&self, scope: &Scope<'_>) -> Result<Value, String> {
        match self.only_expression() {
            Some(expression) => expression.evaluate(scope),
            None => self.fill(scope).map(Value::String),
        }
    }
}

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.part {
            Some(part) => write!(f, "{}.{part}", self.context),
            None => f.write_str(self.context),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn contexts() -> Value {
        json!({
            "env": {"NAME": "World", "EMPTY": ""},
            "matrix": {"os": "linux", "n": 3, "list": ["a", "B"], "flag": true, "half": 1.5},
            "steps": {"one": {"outputs": {"key-name": "v"}, "outcome": "failure"}},
        })
    }

    fn evaluate(text: &str) -> Result<Value, String> {
        let contexts = contexts();
        let scope = Scope { contexts: contexts.as_object().unwrap(), status: Status::Success };
        Expression::parse(text)?.evaluate(&scope)
    }

    #[test]
    fn expressions_are_evaluated_as_github_does() {
        for (text, value) in [
            ("'it''s'", json!("it's")),
            ("matrix.os", json!("linux")),
            ("MATRIX['OS']", json!("linux")),
            ("matrix.list[1]", json!("B")),
            ("matrix.list[7]", json!(null)),
            ("matrix.none.at.all", json!(null)),
            ("steps.one.outputs.key-name", json!("v")),
            ("-1.5e1", json!(-15)),
            ("0xff", json!(255)),
            ("null == ''", json!(true)),
            ("matrix.os == 'LINUX'", json!(true)),
            ("matrix.n == '3'", json!(true)),
            ("matrix.n >= 3 && matrix.n < 4", json!(true)),
            ("true == 1", json!(true)),
            ("'abc' == 0", json!(false)),
            ("'a' < 'B'", json!(true)),
            ("matrix.list == matrix.list", json!(false)),
            ("env.EMPTY || 'default'", json!("default")),
            ("matrix.flag && 'yes' || 'no'", json!("yes")),
            ("!(matrix.flag)", json!(false)),
            ("!matrix.none", json!(true)),
            ("contains(matrix.list, 'b')", json!(true)),
            ("contains('Hello', 'ELL')", json!(true)),
            ("startsWith(env.NAME, 'wor') && endsWith(env.NAME, 'LD')", json!(true)),
            ("format('{0} {{x}} {1}', 'a', matrix.n)", json!("a {x} 3")),
            ("join(matrix.list, '-')", json!("a-B")),
            ("join('x')", json!("x")),
            ("fromJSON('{\"a\": [1, 2]}').a[1]", json!(2)),
            ("toJSON(matrix.list)", json!("[\n  \"a\",\n  \"B\"\n]")),
            ("success() && !failure() && always() && !cancelled()", json!(true)),
            ("matrix.half", json!(1.5)),
        ] {
            assert_eq!(evaluate(text), Ok(value), "{text}");
        }
    }

    #[test]
    fn what_is_not_of_the_language_is_refused_with_what_it_is() {
        for (text, why) in [
            ("", "ends"),
            ("a b", "\"b\""),
            ("'open", "closed"),
            ("matrix.*", "`*`"),
            ("hashFiles('x')", "hashFiles"),
            ("contains('a')", "2 arguments"),
            ("\"double\"", "single quotes"),
            ("(1", "`)`"),
            ("1 +", "`+`"),
            ("matrix.", "name"),
            ("a = b", "`==`"),
            ("1 2", "2"),
        ] {
            let error = evaluate(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
        let deep = format!("{}1{}", "(".repeat(10_000), ")".repeat(10_000));
        assert!(evaluate(&deep).unwrap_err().contains("deep"));
        // A chain as long as a file allows ended the process: each operator is a call deeper.
        let long = |count| format!("1{}", "||1".repeat(count));
        assert_eq!(evaluate(&long(250)), Ok(json!(1)));
        assert!(evaluate(&long(100_000)).unwrap_err().contains("operators"));
        let long = format!("env{}", "['x'].y".repeat(100_000));
        assert!(evaluate(&long).unwrap_err().contains("operators"));
        assert!(evaluate("format('{1}', 1)").unwrap_err().contains("{1}"));
        assert!(evaluate("fromJSON('nonsense')").is_err());
    }

    #[test]
    fn a_template_is_filled_with_texts_as_github_writes_them() {
        let contexts = contexts();
        let scope = Scope { contexts: contexts.as_object().unwrap(), status: Status::Success };
        let fill = |text: &str| Template::parse(text).unwrap().fill(&scope).unwrap();
        assert_eq!(fill("no ${X} {{x}}"), "no ${X} {{x}}");
        assert_eq!(
            fill("${{ matrix.n }}-${{matrix.half}}-${{ matrix.flag }}-${{ null }}!"),
            "3-1.5-true-!"
        );
        assert_eq!(fill("${{ '}}' }}${{ matrix.list }}"), "}}Array");
        assert!(Template::parse("${{ 'open }}").is_err());
        assert!(Template::parse("${{ matrix.os").unwrap_err().contains("}}"));
        let value = |text: &str| Template::parse(text).unwrap().value(&scope).unwrap();
        assert_eq!(value("${{ matrix.flag }}"), json!(true));
        assert_eq!(value(" ${{ matrix.flag }}"), json!(" true"));
    }

    #[test]
    fn names_are_all_that_is_spoken_of() {
        let names = |text: &str| {
            let expression = Expression::parse(text).unwrap();
            expression.names().iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(
            names("github.sha == env['X'] || contains(needs.a.result, steps)"),
            ["github.sha", "env.X", "needs.a", "steps"]
        );
        assert_eq!(names("env[matrix.os]"), ["env", "matrix.os"]);
        assert!(Expression::parse("!(env.x && ALWAYS())").unwrap().asks_for_status());
        assert!(!Expression::parse("contains(env.x, 'always()')").unwrap().asks_for_status());
    }
}
