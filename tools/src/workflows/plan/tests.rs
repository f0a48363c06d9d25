use super::*;

/// Each job with its tags, how many cells it has, and the jobs that it needs.
fn jobs(text: &str) -> Vec<String> {
    let plan = plan(text).unwrap_or_else(|error| panic!("{error}"));
    let line = |job: &Job| {
        let tags = job.tags.iter().map(|tag| tag.as_str()).collect::<Vec<_>>().join("+");
        let needs: Vec<&str> = job.needs.iter().map(|need| plan.jobs[*need].id.as_str()).collect();
        format!("{} {tags} {} [{}]", job.id, job.cells.len(), needs.join(" "))
    };
    plan.jobs.iter().map(line).collect()
}

fn remarks(text: &str) -> Vec<String> {
    plan(text).expect("a workflow").remarks.iter().map(ToString::to_string).collect()
}

fn refused(text: &str) -> String {
    plan(text).expect_err("refused").to_string()
}

const ELIGIBLE: &str = "# P2P: p2p-eligible\n";

#[test]
fn jobs_come_behind_those_that_they_need() {
    let text = "# P2P: p2p-eligible
jobs:
  last: {needs: [middle, first, middle]}
  middle:
    needs: first
    strategy: {matrix: {os: [a, b]}}
  first:
    env: {P2P_TAGS: p2p-only}
  called: {uses: ./.github/workflows/other.yml}
";
    assert_eq!(
        jobs(text),
        [
            "first p2p-eligible+p2p-only 1 []",
            "called p2p-eligible 1 []",
            "middle p2p-eligible 2 [first]",
            "last p2p-eligible 1 [middle first]",
        ]
    );
}

#[test]
fn a_workflow_without_tags_is_looked_into_no_further() {
    for text in [
        "",
        "# nothing\n",
        "jobs:\n",
        "name: x\n",
        "jobs: {a: {needs: nobody}, b: 1}",
        "env: {P2P_TAGS: unit-test}\njobs: {a: {strategy: {matrix: 1}}}",
    ] {
        assert_eq!(jobs(text), [""; 0], "{text}");
        assert_eq!(remarks(text), [""; 0], "{text}");
    }
}

#[test]
fn a_workflow_that_is_tagged_and_has_no_jobs_is_told() {
    for text in ["# P2P: p2p-only\njob: {a: {}}\n", "# P2P: p2p-only\njobs: {}\n"] {
        assert!(remarks(text)[0].starts_with("2:1: the workflow is tagged"), "{text}");
    }
}

#[test]
fn a_tag_of_a_job_chooses_that_job_alone() {
    let text = "jobs:\n  a: {steps: []}\n  b: {env: {WORKFLOW_TAGS: P2P_ONLY}}\n";
    assert_eq!(jobs(text), ["b p2p-only 1 []"]);
}

#[test]
fn what_needs_a_job_that_is_left_out_is_left_out_too() {
    let text = "# P2P: p2p-eligible
jobs:
  known: {steps: []}
  unknown:
    strategy:
      matrix: {os: '${{ fromJSON(inputs.os) }}'}
  after: {needs: [known, unknown]}
  long-after: {needs: after}
  clash: {env: {P2P_TAGS: 'p2p-only github-api'}}
  empty: {strategy: {matrix: {include: []}}}
  whole: {strategy: '${{ fromJSON(inputs.strategy) }}'}
";
    assert_eq!(jobs(text), ["known p2p-eligible 1 []"]);
    let remarks = remarks(text);
    for (place, what) in [
        ("6:20", "unknown is left out: its matrix holds an expression"),
        ("7:3", "after is left out: it needs unknown, which is left out"),
        ("8:3", "long-after is left out: it needs after, which is left out"),
        ("9:3", "clash is left out: p2p-only and github-api contradict"),
        ("10:30", "empty is left out: its matrix has no cells"),
        ("11:21", "whole is left out: its strategy is an expression"),
    ] {
        let told = |remark: &&String| remark.starts_with(place) && remark.contains(what);
        assert!(remarks.iter().any(|remark| told(&remark)), "{place} {what}: {remarks:#?}");
    }
    assert_eq!(remarks.len(), 6);
    let text = "jobs: {build: {}, ship: {needs: build, env: {P2P_TAGS: p2p-only}}}";
    assert_eq!(jobs(text), [""; 0]);
    assert!(self::remarks(text)[0].contains("it needs build, which is for GitHub"));
}

#[test]
fn needs_that_cannot_be_met_are_an_error_with_their_place() {
    let unknown = format!("{ELIGIBLE}jobs:\n  a:\n    needs: [b, c]\n  b: {{}}\n");
    assert_eq!(refused(&unknown), "line 4, column 16: there is no job \"c\"");
    let circle =
        "jobs: {start: {}, a: {needs: [start, c]}, b: {needs: a}, c: {needs: b}, d: {needs: c}}";
    let circle = refused(&format!("{ELIGIBLE}{circle}\n"));
    assert!(circle.ends_with("jobs that need each other: a → c → b → a"), "{circle}");
    let oneself = refused(&format!("{ELIGIBLE}jobs:\n  a: {{needs: a}}\n"));
    assert_eq!(oneself, "line 3, column 3: jobs that need each other: a → a");
}

#[test]
fn what_is_no_workflow_is_an_error() {
    for (text, what) in [
        ("- a\n", "a workflow is a mapping"),
        ("text\n", "a workflow is a mapping"),
        ("jobs: [a]\n", "`jobs` is a mapping"),
        ("# P2P: p2p-only\njobs: {a: 1}\n", "the job a is no mapping"),
        ("# P2P: p2p-only\njobs: {a: {needs: {b: c}}}\n", "`needs` names jobs"),
        ("# P2P: p2p-only\njobs: {a: {strategy: {matrix: [1]}}}\n", "a matrix is a mapping"),
    ] {
        assert!(refused(text).contains(what), "{text}: {}", refused(text));
    }
}

#[test]
fn more_dependencies_than_a_task_may_have_are_told() {
    let row: Vec<String> = (0..129).map(|cell| cell.to_string()).collect();
    let matrix = format!("{{strategy: {{matrix: {{n: [{}]}}}}}}", row.join(","));
    let text = format!(
        "{ELIGIBLE}jobs: {{a: {matrix}, b: {matrix}, c: {{needs: a}}, d: {{needs: [a, b]}}}}"
    );
    let jobs = jobs(&text);
    assert_eq!(jobs.len(), 3);
    assert_eq!(jobs[2], "c p2p-eligible 1 [a]");
    assert!(remarks(&text)[0].contains("it needs 258 tasks, and a task may depend on 256"));
}

#[test]
fn more_tasks_than_any_workflow_has_are_refused() {
    let row: Vec<String> = (0..256).map(|cell| cell.to_string()).collect();
    let jobs: String = (0..40)
        .map(|job| format!("  j{job}: {{strategy: {{matrix: {{n: [{}]}}}}}}\n", row.join(",")))
        .collect();
    assert!(refused(&format!("{ELIGIBLE}jobs:\n{jobs}")).contains("more than 10000 tasks"));
}

#[test]
fn names_that_are_expressions_are_left_to_the_ids() {
    let text =
        "# P2P: p2p-only\nname: 5\njobs: {a: {name: Build}, b: {name: 'on ${{ matrix.os }}'}}";
    let plan = plan(text).unwrap();
    assert_eq!(plan.name.as_deref(), Some("5"));
    let names: Vec<_> = plan.jobs.iter().map(|job| job.name.as_deref()).collect();
    assert_eq!(names, [Some("Build"), None]);
}
