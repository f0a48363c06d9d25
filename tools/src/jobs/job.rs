//! A job as it is written in a workflow file, with all that it asks for known to be supported.
//!
//! Reading is where things are refused: a key, a shell, an action or a name in an expression that
//! is not among those that run here ends it before the first step, with its place.

use crate::workflows::yaml::{Node, YamlError};

use super::context::{Available, Place};
use super::expression::{Expression, Template};

/// Keys of a workflow, a job and a step. Those behind the gap say how GitHub is to treat it, and
/// mean nothing here.
const WORKFLOW_KEYS: [&str; 7] =
    ["name", "env", "defaults", "jobs", /* */ "on", "run-name", "permissions"];
const JOB_KEYS: [&str; 12] = [
    "name",
    "needs",
    "if",
    "env",
    "defaults",
    "steps",
    "outputs",
    "timeout-minutes",
    "continue-on-error",
    "runs-on",
    "strategy",
    /* */ "permissions",
];
const STEP_KEYS: [&str; 11] = [
    "id",
    "name",
    "if",
    "env",
    "run",
    "shell",
    "working-directory",
    "continue-on-error",
    "timeout-minutes",
    "uses",
    "with",
];
/// What `actions/checkout` may be asked for: what is so here anyway, or does not matter.
const CHECKOUT_INPUTS: [(&str, &[&str]); 7] = [
    ("fetch-depth", &[]),
    ("fetch-tags", &[]),
    ("show-progress", &[]),
    ("persist-credentials", &[]),
    ("clean", &["true"]),
    ("submodules", &["false"]),
    ("lfs", &["false"]),
];

/// A job, ready to run.
#[derive(Debug)]
pub(super) struct Job {
    /// The workflow's name; where it has none, its path.
    pub(super) workflow: String,
    pub(super) id: String,
    pub(super) needs: Vec<String>,
    pub(super) workflow_env: Vec<(String, Template)>,
    pub(super) env: Vec<(String, Template)>,
    pub(super) condition: Option<Expression>,
    pub(super) runs_on: Vec<Template>,
    pub(super) steps: Vec<Step>,
    pub(super) outputs: Vec<(String, Template)>,
    pub(super) timeout: Option<Template>,
    pub(super) continue_on_error: Option<Template>,
}

/// A step, ready to run.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) id: Option<String>,
    /// What it is called in the log.
    pub(super) title: Template,
    pub(super) condition: Option<Expression>,
    pub(super) env: Vec<(String, Template)>,
    pub(super) action: Action,
    pub(super) timeout: Option<Template>,
    pub(super) continue_on_error: Option<Template>,
}

/// What a step does.
#[derive(Debug)]
pub(super) enum Action {
    Run {
        script: Template,
        shell: Shell,
        working_directory: Option<Template>,
    },
    /// `actions/checkout`: the working tree is there already.
    Checkout,
}

/// What a script is handed to: a command line in which `{0}` is the script's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shell {
    pub(super) words: Vec<String>,
    pub(super) extension: &'static str,
}

impl Shell {
    /// GitHub's own ways to call each.
    fn named(name: Option<&str>) -> Result<Self, String> {
        let (line, extension) = match name {
            None => ("bash -e {0}", "sh"),
            Some("bash") => ("bash --noprofile --norc -eo pipefail {0}", "sh"),
            Some("sh") => ("sh -e {0}", "sh"),
            Some("python") => ("python3 {0}", "py"),
            Some("pwsh") => ("pwsh -NoProfile -NonInteractive -File {0}", "ps1"),
            // GitHub fills no expressions there either, and would look for a program `${{`.
            Some(line) if line.contains("${{") => {
                return Err(format!("the shell {line:?}: no expression can stand in it"));
            }
            Some(line) if line.split_whitespace().any(|word| word == "{0}") => (line, "script"),
            Some(other) => {
                return Err(format!(
                    "the shell {other:?} is not supported here: bash, sh, python, pwsh, or a \
                     command line with {{0}} for the script's file"
                ));
            }
        };
        Ok(Shell { words: line.split_whitespace().map(str::to_owned).collect(), extension })
    }
}

/// What a reader keeps in mind: what there is to speak of, and the defaults.
struct Reader<'w> {
    available: Available<'w>,
    shell: Option<String>,
    working_directory: Option<Template>,
}

impl Job {
    /// Reads one job of a workflow. `path` names the file, `secrets` are those that it may ask for.
    ///
    /// # Errors
    /// What is not supported, with its place.
    pub(super) fn read(
        workflow: &Node,
        path: &str,
        id: &str,
        secrets: &[String],
    ) -> Result<Self, YamlError> {
        check_keys(workflow, "a workflow", &WORKFLOW_KEYS)?;
        let name = workflow.get("name").and_then(Node::as_str).unwrap_or(path);
        let Some((key, job)) = workflow.get("jobs").and_then(|jobs| jobs.entry(id)) else {
            return Err(workflow.error(format!("there is no job {id:?}")));
        };
        if let Some((uses, _)) = job.entry("uses") {
            return Err(uses.error("reusable workflows are not supported here"));
        }
        check_keys(job, "a job", &JOB_KEYS)?;
        let needs = texts(job.get("needs"));
        let mut reader = Reader {
            available: Available::new(secrets, &needs),
            shell: None,
            working_directory: None,
        };
        let workflow_env = reader.env(workflow, Place::WorkflowEnv)?;
        let env = reader.env(job, Place::JobEnv)?;
        for level in [workflow, job] {
            reader.defaults(level)?;
        }
        let condition = reader.condition(job, Place::JobIf)?;
        let runs_on = reader.runs_on(job)?;
        let Some(steps) = job.get("steps").and_then(Node::items) else {
            return Err(key.error("a job needs `steps`"));
        };
        let steps = steps.iter().map(|step| reader.step(step)).collect::<Result<_, _>>()?;
        Ok(Job {
            workflow: name.to_owned(),
            id: id.to_owned(),
            needs,
            workflow_env,
            env,
            condition,
            runs_on,
            steps,
            outputs: reader.pairs(job, "outputs", Place::Outputs)?,
            timeout: reader.template(job.get("timeout-minutes"), Place::JobEnv)?,
            continue_on_error: reader.template(job.get("continue-on-error"), Place::JobEnv)?,
        })
    }
}

impl<'w> Reader<'w> {
    fn step(&mut self, step: &'w Node) -> Result<Step, YamlError> {
        check_keys(step, "a step", &STEP_KEYS)?;
        let env = self.env(step, Place::Step)?;
        let condition = self.condition(step, Place::StepIf)?;
        let action = match (step.get("run"), step.get("uses")) {
            (Some(run), None) => self.script(step, run)?,
            (None, Some(uses)) => checkout(step, uses)?,
            _ => return Err(step.error("a step has either `run` or `uses`")),
        };
        let title = self.template(step.get("name"), Place::Step)?;
        let title = title.unwrap_or_else(|| Template::plain(first_words(step)));
        let timeout = self.template(step.get("timeout-minutes"), Place::Step)?;
        let continue_on_error = self.template(step.get("continue-on-error"), Place::Step)?;
        let id = step.get("id").and_then(Node::text).map(str::to_owned);
        // Only steps behind it can speak of it.
        if let Some(id) = step.get("id").and_then(Node::text) {
            self.available.steps.push(id);
        }
        self.available.forget_step_env();
        Ok(Step { id, title, condition, env, action, timeout, continue_on_error })
    }

    fn script(&self, step: &Node, run: &Node) -> Result<Action, YamlError> {
        let shell = match step.entry("shell") {
            Some((_, shell)) => shell.as_str().map(str::to_owned),
            None => self.shell.clone(),
        };
        let place = step.get("shell").unwrap_or(step);
        let shell = Shell::named(shell.as_deref()).map_err(|why| place.error(why))?;
        let script = self.template(Some(run), Place::Script)?;
        let script = script.ok_or_else(|| run.error("`run` is a text"))?;
        let directory = self.template(step.get("working-directory"), Place::Step)?;
        let working_directory = directory.or_else(|| self.working_directory.clone());
        Ok(Action::Run { script, shell, working_directory })
    }

    /// `defaults.run` of a workflow or a job.
    fn defaults(&mut self, level: &Node) -> Result<(), YamlError> {
        let Some(defaults) = level.get("defaults") else { return Ok(()) };
        check_keys(defaults, "`defaults`", &["run"])?;
        let Some(run) = defaults.get("run") else { return Ok(()) };
        check_keys(run, "`defaults.run`", &["shell", "working-directory"])?;
        if let Some(shell) = run.get("shell") {
            let name = shell.as_str().map(str::to_owned);
            Shell::named(name.as_deref()).map_err(|why| shell.error(why))?;
            self.shell = name;
        }
        if let Some(directory) = self.template(run.get("working-directory"), Place::JobEnv)? {
            self.working_directory = Some(directory);
        }
        Ok(())
    }

    fn runs_on(&self, job: &Node) -> Result<Vec<Template>, YamlError> {
        let Some(runs_on) = job.get("runs-on") else { return Ok(Vec::new()) };
        let labels = runs_on.get("labels").unwrap_or(runs_on);
        let labels = labels.items().unwrap_or(std::slice::from_ref(labels));
        let templates = labels.iter().map(|label| self.template(Some(label), Place::JobEnv));
        Ok(templates.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
    }

    /// `if`, with or without `${{ }}` around it.
    fn condition(&self, level: &Node, place: Place) -> Result<Option<Expression>, YamlError> {
        let Some(node) = level.get("if").filter(|node| !node.is_null()) else { return Ok(None) };
        let text = node.text().ok_or_else(|| node.error("`if` is an expression"))?.trim();
        let inner = text.strip_prefix("${{").and_then(|rest| rest.strip_suffix("}}"));
        let inner = inner.filter(|inner| !inner.contains("${{")).unwrap_or(text);
        if inner.contains("${{") {
            return Err(node.error("`if` is one expression, and not a text with expressions in it"));
        }
        let expression = Expression::parse(inner).map_err(|why| node.error(why))?;
        self.available.check(&expression, place).map_err(|why| node.error(why))?;
        Ok(Some(expression))
    }

    fn env(&mut self, level: &'w Node, place: Place) -> Result<Vec<(String, Template)>, YamlError> {
        let pairs = self.pairs(level, "env", place)?;
        for (name, template) in &pairs {
            self.available.note_env(name, template, place);
        }
        Ok(pairs)
    }

    fn pairs(
        &self,
        level: &Node,
        key: &str,
        place: Place,
    ) -> Result<Vec<(String, Template)>, YamlError> {
        let Some(node) = level.get(key).filter(|node| !node.is_null()) else {
            return Ok(Vec::new());
        };
        if node.text().is_some() || node.items().is_some() {
            return Err(node.error(format!("`{key}` is a mapping of names to texts")));
        }
        let pair = |(name, value): &(Node, Node)| {
            let template = match value.is_null() {
                true => Template::default(),
                false => self
                    .template(Some(value), place)?
                    .ok_or_else(|| value.error("a text is needed here"))?,
            };
            Ok((name.text().unwrap_or_default().to_owned(), template))
        };
        node.pairs().iter().map(pair).collect()
    }

    fn template(&self, node: Option<&Node>, place: Place) -> Result<Option<Template>, YamlError> {
        let Some(node) = node.filter(|node| !node.is_null()) else { return Ok(None) };
        let text = node.text().ok_or_else(|| node.error("a text is needed here"))?;
        let template = Template::parse(text).map_err(|why| node.error(why))?;
        for expression in template.expressions() {
            self.available.check(expression, place).map_err(|why| node.error(why))?;
        }
        Ok(Some(template))
    }
}

fn checkout(step: &Node, uses: &Node) -> Result<Action, YamlError> {
    let action = uses.as_str().unwrap_or_default();
    if action.split('@').next() != Some("actions/checkout") {
        return Err(uses.error(format!(
            "the action {action:?} is not supported here: `run` steps and actions/checkout are"
        )));
    }
    for (name, value) in step.get("with").map(Node::pairs).unwrap_or_default() {
        let name_text = name.text().unwrap_or_default();
        let known = CHECKOUT_INPUTS.iter().find(|(known, _)| *known == name_text);
        let allowed = known.is_some_and(|(_, values)| {
            values.is_empty() || values.contains(&value.text().unwrap_or_default())
        });
        if !allowed {
            return Err(name.error(format!(
                "actions/checkout with {name_text:?} is not supported here: the commit that the \
                 task names is checked out, and nothing else"
            )));
        }
    }
    Ok(Action::Checkout)
}

fn check_keys(node: &Node, what: &str, known: &[&str]) -> Result<(), YamlError> {
    let is_unknown = |(key, _): &&(Node, Node)| !key.text().is_some_and(|key| known.contains(&key));
    match node.pairs().iter().find(is_unknown) {
        Some((key, _)) => {
            let name = key.text().unwrap_or_default();
            Err(key.error(format!("{name:?} in {what} is not supported here")))
        }
        None => Ok(()),
    }
}

/// A text, or a list of texts.
fn texts(node: Option<&Node>) -> Vec<String> {
    let Some(node) = node else { return Vec::new() };
    let items = node.items().unwrap_or(std::slice::from_ref(node));
    items.iter().filter_map(Node::text).map(str::to_owned).collect()
}

/// What a step without a name is called, as on GitHub.
fn first_words(step: &Node) -> String {
    let run = step.get("run").or(step.get("uses")).and_then(Node::text).unwrap_or_default();
    format!("Run {}", run.trim().lines().next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workflows::yaml;

    fn read(text: &str) -> Result<Job, String> {
        let workflow = yaml::parse(text).unwrap();
        let secrets = ["TOKEN".to_owned()];
        Job::read(&workflow, "ci.yml", "a", &secrets).map_err(|error| error.to_string())
    }

    fn with_step(step: &str) -> Result<Job, String> {
        let text = format!(
            "env: {{TOP: '1'}}\njobs:\n  a:\n    needs: [b]\n    env: {{OF_PEER: '${{{{ needs.b.outputs.x }}}}'}}\n    steps:\n      - {{id: one, run: 'true'}}\n      - {step}\n"
        );
        read(&text)
    }

    #[test]
    fn a_job_is_read_with_its_steps() {
        let job = read(
            "name: CI\non: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps:\n      - uses: actions/checkout@v4\n        with: {fetch-depth: 0}\n      - run: |\n          make\n          make test\n        shell: bash\n",
        )
        .unwrap();
        assert_eq!((&*job.workflow, job.steps.len()), ("CI", 2));
        assert!(matches!(job.steps[0].action, Action::Checkout));
        assert_eq!(job.steps[1].title, Template::plain("Run make"));
    }

    #[test]
    fn what_is_not_supported_is_refused_with_its_place() {
        for (step, why) in [
            ("uses: actions/setup-node@v4", "actions/setup-node@v4"),
            ("{uses: actions/checkout@v4, with: {ref: main}}", "\"ref\""),
            ("{uses: actions/checkout@v4, with: {submodules: recursive}}", "submodules"),
            ("{run: x, shell: fish}", "fish"),
            ("{run: x, shell: 'bash ${{ env.TOP }} {0}'}", "no expression"),
            ("{run: x, colour: blue}", "\"colour\""),
            ("{name: neither}", "either"),
            ("run: echo ${{ hashFiles('x') }}", "hashFiles"),
            ("run: echo ${{ vars.X }}", "vars.X"),
            ("run: echo ${{ github.ref }}", "github.ref"),
            ("run: echo ${{ github }}", "github"),
            ("run: echo ${{ secrets.OTHER }}", "OTHER"),
            ("run: echo ${{ steps.two.outputs.x }}", "steps.two"),
            ("run: echo ${{ needs.c.result }}", "needs.c"),
            ("{run: x, if: secrets.TOKEN}", "secrets"),
            ("{run: x, if: 'a ${{ env.TOP }}'}", "one expression"),
        ] {
            let error = with_step(step).unwrap_err();
            assert!(error.contains(why) && error.starts_with("line 8"), "{step}: {error}");
        }
    }

    #[test]
    fn what_other_machines_answered_is_never_a_part_of_a_script() {
        for script in [
            "echo ${{ needs.b.outputs.x }}",
            "echo ${{ format('{0}', needs.b.result) }}",
            "echo ${{ env.OF_PEER }}",
            "echo ${{ toJSON(env) }}",
            "echo ${{ env['of_peer'] }}",
        ] {
            let error = with_step(&format!("run: \"{script}\"")).unwrap_err();
            assert!(error.contains("another machine"), "{script}: {error}");
        }
        let own = "{run: 'echo ${{ env.MINE }}', env: {MINE: '${{ needs.b.outputs.x }}'}}";
        assert!(with_step(own).unwrap_err().contains("another machine"));
        for fine in [
            "{run: 'echo $OF_PEER ${{ env.TOP }}', if: \"needs.b.result == 'success'\"}",
            "{run: 'echo ${{ steps.one.outputs.x }} ${{ secrets.TOKEN }}'}",
        ] {
            with_step(fine).unwrap();
        }
    }

    #[test]
    fn jobs_that_need_what_is_not_here_are_refused() {
        for (job, why) in [
            ("{container: alpine, steps: []}", "\"container\""),
            ("{services: {db: {image: x}}, steps: []}", "\"services\""),
            ("{uses: ./.github/workflows/x.yml}", "reusable"),
            ("{runs-on: x}", "steps"),
            ("{steps: [], if: matrix.os == 'x'}", "matrix.os"),
            ("{steps: [], env: {X: '${{ env.Y }}'}}", "env.Y"),
            ("{steps: [], defaults: {run: {shell: cmd}}}", "cmd"),
        ] {
            let error = read(&format!("jobs:\n  a: {job}\n")).unwrap_err();
            assert!(error.contains(why), "{job}: {error}");
        }
    }
}
