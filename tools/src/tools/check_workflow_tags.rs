//! `p2p_check_workflow_tags`: what tags mean for a GitHub workflow. Asks nobody.

use p2p_workflow_scheduler::node::CallError;
use p2p_workflow_scheduler::scheduler::TagCheck;
use rmcp::model::Tool;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Answer;
use super::fields::{few_tags, names, parse};
use super::schema::{self, Effect};

pub(super) const NAME: &str = "p2p_check_workflow_tags";

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Input {
    /// The workflow's tags, as written.
    tags: Vec<String>,
}

#[derive(Serialize, JsonSchema)]
struct Output {
    /// p2p-only or p2p-eligible is present
    should_bypass_github: bool,
    is_p2p_only: bool,
    tags: Vec<&'static str>,
    unknown_tags: Vec<String>,
    /// p2p-only together with github-api
    conflict: bool,
}

pub(super) fn definition() -> Tool {
    schema::definition::<Input, Output>(
        NAME,
        "Check workflow tags",
        "Tells whether a workflow with these tags bypasses GitHub and runs on the peers. Use it \
         before p2p_submit_task or before starting a GitHub workflow. It never fails for unknown \
         tags: they are listed in unknown_tags.",
        Effect::Reads,
    )
}

pub(super) fn call(arguments: &str) -> Result<Answer, CallError> {
    let input: Input = parse(arguments)?;
    few_tags(&input.tags)?;
    Ok(shape(TagCheck::of(&input.tags)))
}

fn shape(check: TagCheck) -> Answer {
    let output = Output {
        should_bypass_github: check.tags.should_bypass_github(),
        is_p2p_only: check.tags.is_p2p_only(),
        tags: names(check.tags),
        unknown_tags: check.unknown,
        conflict: check.tags.conflict(),
    };
    let mut text = match (output.is_p2p_only, output.should_bypass_github) {
        (true, _) => "Bypass GitHub: p2p-only must run on the peers.",
        (false, true) => "Bypass GitHub: p2p-eligible may run on the peers.",
        (false, false) => "Do not bypass GitHub: neither p2p-only nor p2p-eligible is present.",
    }
    .to_owned();
    if output.conflict {
        text += " Conflict: p2p-only and github-api exclude each other; drop one.";
    }
    if !output.unknown_tags.is_empty() {
        text += &format!(" Unknown tags: {}.", output.unknown_tags.join(", "));
    }
    Answer::new(&output, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_normalised_and_unknown_ones_are_listed() {
        let answer = call(r#"{"tags":["P2P_ONLY","github-api","gpu"]}"#).unwrap();
        assert_eq!(
            answer.structured,
            r#"{"should_bypass_github":true,"is_p2p_only":true,"tags":["github-api","p2p-only"],"unknown_tags":["gpu"],"conflict":true}"#
        );
        assert_eq!(
            answer.text,
            "Bypass GitHub: p2p-only must run on the peers. Conflict: p2p-only and github-api \
             exclude each other; drop one. Unknown tags: gpu."
        );
    }

    #[test]
    fn no_tags_do_not_bypass_and_too_many_are_refused() {
        assert!(call(r#"{"tags":[]}"#).unwrap().text.starts_with("Do not bypass"));
        let many = format!(r#"{{"tags":[{}]}}"#, vec!["\"x\""; 65].join(","));
        assert_eq!(call(&many).unwrap_err().code(), "too_large");
    }
}
