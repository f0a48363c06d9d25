//! `strategy.matrix`: the cells that a job runs in, by GitHub's rules.
//!
//! 1. Every combination of the lists, in the order of the file, the last list turning fastest.
//! 2. Less those that an entry of `exclude` matches: all that it names, and it need not name all.
//! 3. Each entry of `include`, in order, goes into every combination of step 1 whose own values it
//!    does not contradict. What earlier entries put there it may overwrite, an original value never.
//!    An entry that goes into none becomes a cell of its own, which later entries leave alone.
//!
//! A matrix that holds an expression is known only while a workflow runs, and is said to be so.
//!
//! Source: GitHub's documentation, "Running variations of jobs in a workflow".

use std::collections::HashSet;

use serde_json::{Map, Value, json};

use super::yaml::{Kind, Node, YamlError};

/// Cells of one matrix: GitHub's limit.
const MAX_CELLS: usize = 256;
/// Combinations before `exclude`: each is looked at, and so many take no time.
const MAX_COMBINATIONS: usize = 100_000;
/// Bytes of a cell as JSON: it goes into a task's payload, beside some hundred bytes.
const MAX_CELL_BYTES: usize = 128 * 1024;

/// The values of one cell, in the order of the file.
pub(crate) type Cell = Map<String, Value>;

/// What a matrix comes to.
#[derive(Debug, PartialEq)]
pub(crate) enum Cells<'m> {
    Known(Vec<Cell>),
    /// It holds an expression, this one.
    Unknown(&'m Node),
}

/// Expands a job's `matrix`.
///
/// # Errors
/// GitHub would refuse it too, or it has too many cells.
pub(crate) fn expand(matrix: &Node) -> Result<Cells<'_>, YamlError> {
    if let Some(expression) = find_expression(matrix) {
        return Ok(Cells::Unknown(expression));
    }
    let Kind::Mapping(pairs) = &matrix.kind else {
        return Err(matrix.error("a matrix is a mapping of names to lists"));
    };
    let (mut lists, mut exclude, mut include) = (Vec::new(), Vec::new(), Vec::new());
    for (key, value) in pairs {
        match key.text().unwrap_or_default() {
            "exclude" => exclude = entries(key, value)?,
            "include" => include = entries(key, value)?,
            name => lists.push(List { name, values: values(key, value)? }),
        }
    }
    check_excluded(&lists, matrix, &exclude)?;
    check_sizes(&lists, matrix, &include)?;
    let originals = combinations(&lists, matrix, &exclude)?;
    let mut cells = include_all(originals, &include);
    if cells.len() > MAX_CELLS {
        return Err(too_many_cells(matrix));
    }
    // A task is named by its cell: two of the same are one.
    let mut seen = HashSet::new();
    cells.retain(|cell| seen.insert(json!(cell).to_string()));
    match cells.iter().any(|cell| bytes_of(cell.values()) > MAX_CELL_BYTES) {
        true => Err(matrix.error(format!("a cell of more than {MAX_CELL_BYTES} bytes"))),
        false => Ok(Cells::Known(cells)),
    }
}

struct List<'m> {
    name: &'m str,
    values: Vec<Value>,
}

fn find_expression(node: &Node) -> Option<&Node> {
    match &node.kind {
        Kind::Scalar { text, .. } => text.contains("${{").then_some(node),
        Kind::Sequence(items) => items.iter().find_map(find_expression),
        Kind::Mapping(pairs) => {
            pairs.iter().find_map(|(key, value)| find_expression(key).or(find_expression(value)))
        }
    }
}

fn values(key: &Node, value: &Node) -> Result<Vec<Value>, YamlError> {
    match value.items() {
        Some([]) => Err(key.error(format!("the list {key} of the matrix is empty"))),
        Some(items) => Ok(items.iter().map(Node::to_json).collect()),
        None => Err(value.error(format!("{key} of the matrix is no list"))),
    }
}

/// The entries of `include` or `exclude`.
fn entries(key: &Node, value: &Node) -> Result<Vec<Cell>, YamlError> {
    if value.is_null() {
        return Ok(Vec::new());
    }
    let items = value.items().ok_or_else(|| value.error(format!("{key} is no list")))?;
    let entry = |item: &Node| match item.to_json() {
        Value::Object(cell) => Ok(cell),
        _ => Err(item.error(format!("an entry of {key} is a mapping"))),
    };
    items.iter().map(entry).collect()
}

fn check_excluded(lists: &[List<'_>], matrix: &Node, exclude: &[Cell]) -> Result<(), YamlError> {
    let unknown = |name: &&String| !lists.iter().any(|list| list.name == name.as_str());
    match exclude.iter().flat_map(Map::keys).find(unknown) {
        None => Ok(()),
        Some(name) => Err(matrix.error(format!("exclude names {name:?}, which the matrix lacks"))),
    }
}

/// Bounds what is about to be built.
fn check_sizes(lists: &[List<'_>], matrix: &Node, include: &[Cell]) -> Result<(), YamlError> {
    let combinations = lists.iter().try_fold(1_usize, |product, list| {
        product.checked_mul(list.values.len()).filter(|product| *product <= MAX_COMBINATIONS)
    });
    if combinations.is_none() {
        return Err(matrix.error(format!("more than {MAX_COMBINATIONS} combinations")));
    }
    let longest = |list: &List<'_>| list.values.iter().map(|value| bytes_of([value])).max();
    let originals: usize = lists.iter().filter_map(longest).sum();
    let included: usize = include.iter().map(|cell| bytes_of(cell.values())).sum();
    match originals.max(included) > MAX_CELL_BYTES {
        true => Err(matrix.error(format!("a cell of more than {MAX_CELL_BYTES} bytes"))),
        false => Ok(()),
    }
}

fn bytes_of<'v>(values: impl IntoIterator<Item = &'v Value>) -> usize {
    values.into_iter().map(|value| value.to_string().len()).sum()
}

/// Every combination that is not excluded.
fn combinations(
    lists: &[List<'_>],
    matrix: &Node,
    exclude: &[Cell],
) -> Result<Vec<Cell>, YamlError> {
    let mut kept = Vec::new();
    if lists.is_empty() {
        return Ok(kept);
    }
    let total: usize = lists.iter().map(|list| list.values.len()).product();
    for number in 0..total {
        let cell = combination(lists, number);
        let is_excluded = exclude.iter().any(|entry| agrees(entry, &cell));
        if !is_excluded {
            kept.push(cell);
        }
        if kept.len() > MAX_CELLS {
            return Err(too_many_cells(matrix));
        }
    }
    Ok(kept)
}

/// The combination with this number, the last list counting ones.
fn combination(lists: &[List<'_>], mut number: usize) -> Cell {
    let mut reversed = Vec::with_capacity(lists.len());
    for list in lists.iter().rev() {
        let value = &list.values[number % list.values.len()];
        number /= list.values.len();
        reversed.push((list.name.to_owned(), value.clone()));
    }
    reversed.into_iter().rev().collect()
}

/// Whether the cell has every value that the entry names.
fn agrees(entry: &Cell, cell: &Cell) -> bool {
    entry.iter().all(|(name, value)| cell.get(name) == Some(value))
}

fn include_all(originals: Vec<Cell>, include: &[Cell]) -> Vec<Cell> {
    let mut cells = originals.clone();
    let mut alone = Vec::new();
    for entry in include {
        let mut is_placed = false;
        for (cell, original) in cells.iter_mut().zip(&originals) {
            let contradicts = |(name, value): (&String, &Value)| {
                original.get(name).is_some_and(|original| original != value)
            };
            if !entry.iter().any(contradicts) {
                cell.extend(entry.clone());
                is_placed = true;
            }
        }
        if !is_placed {
            alone.push(entry.clone());
        }
    }
    cells.append(&mut alone);
    cells
}

fn too_many_cells(matrix: &Node) -> YamlError {
    matrix.error(format!("a matrix of more than {MAX_CELLS} cells, which GitHub refuses too"))
}

#[cfg(test)]
mod tests {
    use super::super::yaml::parse;
    use super::*;

    fn cells(text: &str) -> Value {
        match expand(&parse(text).unwrap()) {
            Ok(Cells::Known(cells)) => json!(cells),
            other => panic!("{other:?}"),
        }
    }

    fn refused(text: &str) -> String {
        expand(&parse(text).unwrap()).expect_err("refused").to_string()
    }

    #[test]
    fn the_last_list_turns_fastest() {
        assert_eq!(
            cells("{version: [10, 12], os: [ubuntu, windows]}"),
            json!([{"version": 10, "os": "ubuntu"}, {"version": 10, "os": "windows"},
                   {"version": 12, "os": "ubuntu"}, {"version": 12, "os": "windows"}])
        );
    }

    #[test]
    fn an_exclusion_need_not_name_everything() {
        let text = "
            os: [macos, windows]
            version: [12, 14, 16]
            environment: [staging, production]
            exclude:
              - {os: macos, version: 12, environment: production}
              - {os: windows, version: 16}";
        let cells = cells(text);
        assert_eq!(cells.as_array().unwrap().len(), 9);
        let excluded = json!({"os": "windows", "version": 16, "environment": "staging"});
        assert!(!cells.as_array().unwrap().contains(&excluded));
    }

    /// The example of GitHub's documentation.
    #[test]
    fn inclusions_never_overwrite_an_original_value() {
        let text = "
            fruit: [apple, pear]
            animal: [cat, dog]
            include:
              - color: green
              - {color: pink, animal: cat}
              - {fruit: apple, shape: circle}
              - fruit: banana
              - {fruit: banana, animal: cat}";
        assert_eq!(
            cells(text),
            json!([
                {"fruit": "apple", "animal": "cat", "color": "pink", "shape": "circle"},
                {"fruit": "apple", "animal": "dog", "color": "green", "shape": "circle"},
                {"fruit": "pear", "animal": "cat", "color": "pink"},
                {"fruit": "pear", "animal": "dog", "color": "green"},
                {"fruit": "banana"},
                {"fruit": "banana", "animal": "cat"}
            ])
        );
    }

    #[test]
    fn inclusions_alone_are_the_cells() {
        assert_eq!(
            cells("include: [{os: linux, arch: {cpu: arm, bits: 64}}, {os: macos}]"),
            json!([{"os": "linux", "arch": {"cpu": "arm", "bits": 64}}, {"os": "macos"}])
        );
        assert_eq!(cells("{a: [1], exclude: [{a: 1}], include: [{b: 2}]}"), json!([{"b": 2}]));
        assert_eq!(cells("{a: [1], exclude: [{a: 1}], include:}"), json!([]));
        assert_eq!(cells("{include: [{a: 1}, {a: 1}]}"), json!([{"a": 1}]));
    }

    #[test]
    fn values_of_any_shape_are_compared_whole() {
        let text = "{target: [{os: a, gpu: true}, {os: b}], exclude: [{target: {os: b}}]}";
        assert_eq!(cells(text), json!([{"target": {"os": "a", "gpu": true}}]));
    }

    #[test]
    fn expressions_are_not_guessed_at() {
        for text in [
            "${{ fromJSON(needs.a.outputs.b) }}",
            "{os: '${{ fromJSON(inputs.os) }}'}",
            "{os: [linux, '${{ inputs.os }}']}",
            "{include: '${{ fromJSON(inputs.all) }}'}",
        ] {
            let matrix = parse(text).unwrap();
            assert!(matches!(expand(&matrix), Ok(Cells::Unknown(_))), "{text}");
        }
    }

    #[test]
    fn what_github_refuses_is_refused() {
        assert!(refused("linux").contains("mapping of names to lists"));
        assert!(refused("os: linux").contains("os of the matrix is no list"));
        assert!(refused("os: []").contains("is empty"));
        assert!(refused("{a: [1], exclude: [{b: 1}]}").contains("exclude names \"b\""));
        assert!(refused("{a: [1], include: [x]}").contains("an entry of include is a mapping"));
        let row = (0..17).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
        assert!(refused(&format!("{{a: [{row}], b: [{row}]}}")).contains("more than 256 cells"));
        let many = format!("{{a: [{row}], b: [{row}], c: [{row}], d: [{row}], e: [{row}]}}");
        assert!(refused(&many).contains("more than 100000 combinations"));
        let entries = vec!["{a: 1}"; 257].join(",");
        assert!(refused(&format!("include: [{entries}]")).contains("more than 256 cells"));
        let long = "x".repeat(200_000);
        assert!(refused(&format!("a: [{long}]")).contains("a cell of more than"));
    }
}
