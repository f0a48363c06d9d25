//! Completion: the known ids that begin as what was typed, and the tags.

use p2p_workflow_scheduler::node::Session;
use p2p_workflow_scheduler::scheduler::{Ids, Offer, WorkflowTag};
use rmcp::model::{
    ArgumentInfo, CompleteRequestParams, CompleteResult, CompletionInfo, ErrorData, Reference,
};

use super::answers::{fault, invalid};
use super::{prompts, resources};

/// What can be offered for an argument.
#[derive(Clone, Copy)]
enum Kind {
    Ids(Ids),
    Tags,
    /// Free text.
    Nothing,
}

/// Every argument of every template and prompt.
const ARGUMENTS: [(&str, &str, Kind); 7] = [
    (resources::TASK_TEMPLATE, "task_id", Kind::Ids(Ids::Tasks)),
    (resources::WORKFLOW_TEMPLATE, "workflow_id", Kind::Ids(Ids::Workflows)),
    (prompts::WORK_LOOP, "workflow_id", Kind::Ids(Ids::Workflows)),
    (prompts::WORK_LOOP, "tags", Kind::Tags),
    (prompts::WORK_LOOP, "capabilities", Kind::Nothing),
    (prompts::PLAN_WORKFLOW, "goal", Kind::Nothing),
    (prompts::PLAN_WORKFLOW, "workflow_id", Kind::Ids(Ids::Workflows)),
];

/// Offers values for an argument that was begun.
pub(super) async fn complete(
    session: &Session,
    request: CompleteRequestParams,
) -> Result<CompleteResult, ErrorData> {
    let ArgumentInfo { name, value, .. } = request.argument;
    let offer = match kind(&request.r#ref, &name)? {
        Kind::Ids(ids) => session.offer(ids, &value).await.map_err(|error| fault(&error))?,
        Kind::Tags => tags(&value),
        Kind::Nothing => Offer { ids: Vec::new(), total: Some(0) },
    };
    let values: Vec<String> = offer.ids.iter().map(ToString::to_string).collect();
    let has_more = offer.total.is_none_or(|total| total > values.len());
    let total = offer.total.and_then(|total| u32::try_from(total).ok());
    let info = CompletionInfo::with_pagination(values, total, has_more);
    info.map(CompleteResult::new).map_err(|error| ErrorData::internal_error(error, None))
}

fn kind(of: &Reference, argument: &str) -> Result<Kind, ErrorData> {
    let of = match of {
        Reference::Resource(template) => template.uri.as_str(),
        Reference::Prompt(prompt) => prompt.name.as_str(),
        _ => return Err(invalid("ref/resource and ref/prompt can be completed".to_owned())),
    };
    let known: Vec<_> = ARGUMENTS.iter().filter(|(name, ..)| *name == of).collect();
    if let Some((_, _, kind)) = known.iter().find(|(_, name, _)| *name == argument) {
        return Ok(*kind);
    }
    let listed = |names: Vec<&str>| names.join(", ");
    Err(invalid(match known.is_empty() {
        true => {
            let mut all: Vec<&str> = ARGUMENTS.iter().map(|(name, ..)| *name).collect();
            all.dedup();
            format!("{of:?} is neither a template nor a prompt. There are: {}.", listed(all))
        }
        false => {
            let names = known.iter().map(|(_, name, _)| *name).collect();
            format!("{of} has no argument {argument:?}. It takes: {}.", listed(names))
        }
    }))
}

/// The tags that go on as the last name of a list does, after those that stand before it.
fn tags(typed: &str) -> Offer {
    let (before, begun) = match typed.rsplit_once(',') {
        Some((before, begun)) => (format!("{before},"), begun.trim_start()),
        None => (String::new(), typed.trim_start()),
    };
    let named: Vec<&str> = before.split(',').map(str::trim).collect();
    let tags = WorkflowTag::ALL.into_iter().map(WorkflowTag::as_str);
    let fitting = tags.filter(|tag| tag.starts_with(begun) && !named.contains(tag));
    let ids: Vec<_> = fitting.map(|tag| format!("{before}{tag}").into()).collect();
    Offer { total: Some(ids.len()), ids }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_several_tags_is_completed() {
        let offered =
            |typed: &str| tags(typed).ids.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(offered("p2p-"), ["p2p-eligible", "p2p-only"]);
        assert_eq!(offered("p2p-only, p2p-"), ["p2p-only,p2p-eligible"]);
        assert_eq!(offered("").len(), 7);
        assert_eq!(offered("x"), [""; 0]);
    }

    #[test]
    fn what_cannot_be_completed_is_refused_with_what_can() {
        let text = |of, argument| kind(&of, argument).err().unwrap().message.into_owned();
        let unknown = text(Reference::for_prompt("work"), "x");
        assert!(unknown.contains("work-loop") && unknown.contains("p2p://tasks/{task_id}"));
        let wrong = text(Reference::for_resource(resources::TASK_TEMPLATE), "id");
        assert!(wrong.contains("task_id"), "{wrong}");
    }

    #[test]
    fn every_argument_of_every_prompt_can_be_asked_for() {
        for prompt in prompts::list().prompts {
            for argument in prompt.arguments.unwrap() {
                assert!(kind(&Reference::for_prompt(&prompt.name), &argument.name).is_ok());
            }
        }
    }
}
