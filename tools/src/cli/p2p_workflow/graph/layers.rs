//! Where the tasks of a drawing stand, in columns: each right of all that it depends on.
//!
//! The steps are those of Sugiyama, Tagawa and Toda ("Methods for Visual Understanding of
//! Hierarchical System Structures", 1981), each in its simplest form:
//!
//! 1. A task's column is the longest way to it. Where tasks wait for each other in a circle, which
//!    merges can bring about, the first of them goes on without what leads back to it.
//! 2. An arrow that passes columns gets a bend in each, so that it leads around what stands there.
//! 3. Each column is sorted by the mean place of what leads into it, once from left to right, and
//!    once by what it leads to, from right to left.
//! 4. From left to right, each stands as near to the mean height of what leads to it as those
//!    above it allow.

use super::model::Graph;

/// Bends in a drawing: beyond, arrows run straight, across what stands in their way.
const MAX_BENDS: usize = 20_000;
/// Heights, in rows of tasks.
const BEND_HEIGHT: f64 = 0.4;

#[derive(Debug, Default)]
pub(super) struct Layout {
    /// Of each task.
    pub(super) places: Vec<Place>,
    /// The bends of each arrow, from its start on.
    pub(super) bends: Vec<Vec<Place>>,
    pub(super) columns: usize,
    /// The height of all, in rows.
    pub(super) rows: f64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Place {
    pub(super) column: usize,
    /// The middle, in rows from the top.
    pub(super) row: f64,
}

/// Lays a graph out.
pub(super) fn lay_out(graph: &Graph) -> Layout {
    let columns = columns(graph);
    let (mut items, bends) = Items::of(graph, &columns);
    items.sort();
    items.stand();
    let count = graph.nodes.len();
    let place = |item: usize| Place { column: items.column[item], row: items.row[item] };
    Layout {
        places: (0..count).map(place).collect(),
        bends: bends.iter().map(|bends| bends.iter().copied().map(place).collect()).collect(),
        columns: items.columns.len(),
        rows: items.rows(),
    }
}

/// The column of each task.
fn columns(graph: &Graph) -> Vec<usize> {
    let count = graph.nodes.len();
    let mut after = vec![Vec::new(); count];
    let mut missing = vec![0_usize; count];
    for &(from, to) in &graph.edges {
        after[from].push(to);
        missing[to] += 1;
    }
    let mut columns = vec![0; count];
    let mut is_placed = vec![false; count];
    let mut ready: Vec<usize> = (0..count).filter(|node| missing[*node] == 0).collect();
    let mut first_left = 0;
    loop {
        let node = match ready.pop() {
            Some(node) => node,
            None => match (first_left..count).find(|node| !is_placed[*node]) {
                Some(node) => node,
                None => break,
            },
        };
        while first_left < count && is_placed[first_left] {
            first_left += 1;
        }
        is_placed[node] = true;
        for &next in after[node].iter().filter(|next| !is_placed[**next]) {
            columns[next] = columns[next].max(columns[node] + 1);
            missing[next] -= 1;
            if missing[next] == 0 {
                ready.push(next);
            }
        }
    }
    pull_outer_ones(graph, &after, &mut columns);
    columns
}

/// What stands outside of the workflow goes next to the first that depends on it.
fn pull_outer_ones(graph: &Graph, after: &[Vec<usize>], columns: &mut [usize]) {
    for (node, next) in after.iter().enumerate() {
        let nearest = next.iter().map(|next| columns[*next]).min();
        if let Some(nearest) = nearest.filter(|_| graph.nodes[node].is_outer()) {
            columns[node] = columns[node].max(nearest.saturating_sub(1));
        }
    }
}

/// Tasks, in their order, then bends.
#[derive(Default)]
struct Items {
    column: Vec<usize>,
    /// In the columns beside.
    before: Vec<Vec<usize>>,
    after: Vec<Vec<usize>>,
    row: Vec<f64>,
    tasks: usize,
    /// From top to bottom.
    columns: Vec<Vec<usize>>,
}

impl Items {
    fn of(graph: &Graph, columns: &[usize]) -> (Self, Vec<Vec<usize>>) {
        let mut items = Items { tasks: graph.nodes.len(), ..Items::default() };
        for column in columns {
            items.add(*column);
        }
        let passed = |(from, to): &(usize, usize)| {
            columns[*to].saturating_sub(columns[*from]).saturating_sub(1)
        };
        let is_bent = graph.edges.iter().map(passed).sum::<usize>() <= MAX_BENDS;
        let mut bends = Vec::new();
        for edge @ &(from, to) in &graph.edges {
            let count = if is_bent { passed(edge) } else { 0 };
            let first = items.column.len();
            let passing: Vec<usize> = (first..first + count).collect();
            let mut last = from;
            for (step, bend) in passing.iter().enumerate() {
                items.add(columns[from] + 1 + step);
                items.join(last, *bend);
                last = *bend;
            }
            items.join(last, to);
            bends.push(passing);
        }
        (items, bends)
    }

    fn add(&mut self, column: usize) {
        let item = self.column.len();
        self.column.push(column);
        self.before.push(Vec::new());
        self.after.push(Vec::new());
        self.row.push(0.0);
        while self.columns.len() <= column {
            self.columns.push(Vec::new());
        }
        self.columns[column].push(item);
    }

    fn join(&mut self, from: usize, to: usize) {
        if self.column[from] < self.column[to] {
            self.after[from].push(to);
            self.before[to].push(from);
        }
    }

    fn height(&self, item: usize) -> f64 {
        if item < self.tasks { 1.0 } else { BEND_HEIGHT }
    }

    /// Sorts each column by those beside it.
    fn sort(&mut self) {
        self.stack();
        for column in 0..self.columns.len() {
            self.sort_column(column, |items, item| items.before[item].as_slice());
        }
        for column in (0..self.columns.len()).rev() {
            self.sort_column(column, |items, item| items.after[item].as_slice());
        }
    }

    fn sort_column(&mut self, column: usize, beside: impl Fn(&Items, usize) -> &[usize]) {
        let mut sorted = std::mem::take(&mut self.columns[column]);
        let mean = |item: usize| self.mean(beside(self, item)).unwrap_or(self.row[item]);
        let mut keyed: Vec<(f64, usize)> = sorted.iter().map(|item| (mean(*item), *item)).collect();
        keyed.sort_by(|a, b| a.0.total_cmp(&b.0));
        sorted.clear();
        sorted.extend(keyed.iter().map(|(_, item)| *item));
        self.columns[column] = sorted;
        self.stack_column(column);
    }

    fn mean(&self, items: &[usize]) -> Option<f64> {
        let sum: f64 = items.iter().map(|item| self.row[*item]).sum();
        (!items.is_empty()).then(|| sum / items.len() as f64)
    }

    /// Stacks all columns around one middle line.
    fn stack(&mut self) {
        for column in 0..self.columns.len() {
            self.stack_column(column);
        }
    }

    fn stack_column(&mut self, column: usize) {
        let items = &self.columns[column];
        let height: f64 = items.iter().map(|item| self.height(*item)).sum();
        let mut top = -height / 2.0;
        for item in items {
            let height = if *item < self.tasks { 1.0 } else { BEND_HEIGHT };
            self.row[*item] = top + height / 2.0;
            top += height;
        }
    }

    /// Gives each its height, from left to right; then moves all below the top.
    fn stand(&mut self) {
        for column in 1..self.columns.len() {
            let mut free = f64::NEG_INFINITY;
            for item in self.columns[column].clone() {
                let half = self.height(item) / 2.0;
                let wanted = self.mean(&self.before[item]).unwrap_or(self.row[item]);
                self.row[item] = wanted.max(free + half);
                free = self.row[item] + half;
            }
        }
        let top = self.edge(f64::min, -0.5);
        for row in &mut self.row {
            *row -= top;
        }
    }

    fn rows(&self) -> f64 {
        self.edge(f64::max, 0.5)
    }

    fn edge(&self, further: fn(f64, f64) -> f64, half: f64) -> f64 {
        let tasks = self.row.iter().take(self.tasks);
        tasks.copied().reduce(further).unwrap_or_default() + half
    }
}

#[cfg(test)]
mod tests {
    use super::super::model::Node;
    use super::super::model::testing::chain;
    use super::*;

    fn graph(count: usize, edges: &[(usize, usize)]) -> Graph {
        let names: Vec<String> = (0..count).map(|n| n.to_string()).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut graph = chain(&names);
        for node in &mut graph.nodes {
            *node = Node { state: super::super::model::Standing::Pending, ..node.clone() };
            node.workflow_id = None;
        }
        graph.edges = edges.to_vec();
        graph
    }

    fn columns_of(layout: &Layout) -> Vec<usize> {
        layout.places.iter().map(|place| place.column).collect()
    }

    fn no_two_overlap(layout: &Layout) {
        for (n, one) in layout.places.iter().enumerate() {
            assert!(one.row >= 0.5 && one.row <= layout.rows - 0.5 + 1e-9, "{layout:?}");
            for other in &layout.places[n + 1..] {
                let apart = (one.row - other.row).abs() > 1.0 - 1e-9;
                assert!(apart || one.column != other.column, "{layout:?}");
            }
        }
    }

    #[test]
    fn each_task_stands_right_of_all_that_it_depends_on() {
        let edges = [(0, 1), (1, 2), (0, 2), (2, 3), (4, 3)];
        let layout = lay_out(&graph(5, &edges));
        assert_eq!(columns_of(&layout), [0, 1, 2, 3, 0]);
        assert_eq!(layout.columns, 4);
        no_two_overlap(&layout);
    }

    #[test]
    fn an_arrow_leads_around_what_stands_between_its_ends() {
        let layout = lay_out(&graph(3, &[(0, 1), (1, 2), (0, 2)]));
        let [bend] = layout.bends[2][..] else { panic!("one bend: {layout:?}") };
        assert_eq!(bend.column, 1);
        let gap = (bend.row - layout.places[1].row).abs();
        assert!(gap >= (1.0 + BEND_HEIGHT) / 2.0 - 1e-9, "{layout:?}");
    }

    #[test]
    fn two_chains_that_were_mixed_up_do_not_cross() {
        // 0 → 3 and 1 → 2, as handed in; sorted, the lines run side by side.
        let layout = lay_out(&graph(4, &[(0, 3), (1, 2)]));
        let row = |node: usize| layout.places[node].row;
        assert_eq!(row(0) < row(1), row(3) < row(2), "{layout:?}");
        no_two_overlap(&layout);
    }

    #[test]
    fn tasks_that_wait_for_each_other_are_drawn_all_the_same() {
        let layout = lay_out(&graph(4, &[(0, 1), (1, 2), (2, 0), (3, 3)]));
        assert_eq!(columns_of(&layout), [0, 1, 2, 0]);
        no_two_overlap(&layout);
    }

    #[test]
    fn an_outer_task_stands_next_to_the_first_that_depends_on_it() {
        let mut graph = graph(4, &[(0, 1), (1, 2), (3, 2)]);
        assert_eq!(columns_of(&lay_out(&graph))[3], 0);
        graph.nodes[3].workflow_id = Some("other".into());
        assert_eq!(columns_of(&lay_out(&graph))[3], 1);
    }

    #[test]
    fn the_largest_drawing_is_laid_out_without_bends_beyond_measure() {
        let count = 2_000;
        let edges: Vec<(usize, usize)> = (1..count)
            .flat_map(|to| (0..to).rev().step_by(97).take(20).map(move |from| (from, to)))
            .collect();
        let layout = lay_out(&graph(count, &edges));
        assert!(layout.bends.iter().all(Vec::is_empty));
        assert_eq!(layout.places.len(), count);
        no_two_overlap(&lay_out(&graph(300, &edges[..600])));
    }

    #[test]
    fn nothing_is_nothing() {
        let layout = lay_out(&graph(0, &[]));
        assert_eq!((layout.columns, layout.places.len()), (0, 0));
    }
}
