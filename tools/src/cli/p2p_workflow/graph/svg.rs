//! A picture: boxes in columns, arrows from left to right. It has no script, no style sheet, and
//! refers to nothing.

use std::fmt::Write;

use super::layers::{Layout, Place, lay_out};
use super::model::{Colours, Graph, Node, Standing, one_line};
use crate::cli::render::shortened;

// In pixels.
const BOX: (f64, f64) = (220.0, 44.0);
const ROW: f64 = 60.0;
const COLUMN: f64 = 300.0;
const MARGIN: f64 = 24.0;
const TITLE: f64 = 36.0;
/// Columns of a terminal's characters that fit into a box; the rest is in its tool tip.
const NAME_WIDTH: usize = 30;
const SECOND_WIDTH: usize = 36;

pub(super) fn write(graph: &Graph) -> String {
    let layout = lay_out(graph);
    let width = COLUMN * layout.columns as f64 - (COLUMN - BOX.0) + 2.0 * MARGIN;
    let height = ROW * layout.rows + 2.0 * MARGIN + TITLE;
    let title = escaped(&one_line(&format!("Workflow {}", graph.workflow_id)));
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
         viewBox=\"0 0 {width:.0} {height:.0}\" font-family=\"sans-serif\" role=\"img\">\n\
         <title>{title}</title>\n\
         <defs><marker id=\"arrow\" viewBox=\"0 0 8 8\" refX=\"8\" refY=\"4\" markerWidth=\"8\" \
         markerHeight=\"8\" orient=\"auto\"><path d=\"M0 0 8 4 0 8z\" fill=\"#57606a\"/></marker></defs>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n\
         <text x=\"{MARGIN}\" y=\"{MARGIN}\" dominant-baseline=\"middle\" font-size=\"16\" \
         font-weight=\"bold\">{title}</text>\n\
         <g fill=\"none\" stroke=\"#57606a\" stroke-width=\"1.2\">\n"
    );
    for (edge, bends) in graph.edges.iter().zip(&layout.bends) {
        text += &arrow(&layout, *edge, bends);
    }
    text += "</g>\n";
    for (node, place) in graph.nodes.iter().zip(&layout.places) {
        text += &drawn(node, *place);
    }
    text + "</svg>\n"
}

/// The left end of a place, in the middle of its height.
fn left(place: Place) -> (f64, f64) {
    (MARGIN + COLUMN * place.column as f64, MARGIN + TITLE + ROW * place.row)
}

fn arrow(layout: &Layout, (from, to): (usize, usize), bends: &[Place]) -> String {
    let (x, y) = left(layout.places[from]);
    let mut at = (x + BOX.0, y);
    let mut path = format!("M{:.0} {:.1}", at.0, at.1);
    let mut lead_to = |(x, y): (f64, f64)| {
        let reach = ((x - at.0) / 2.0).abs().max(20.0);
        // Writing to a String cannot fail.
        let _ =
            write!(path, "C{:.0} {:.1} {:.0} {y:.1} {x:.0} {y:.1}", at.0 + reach, at.1, x - reach);
        at = (x, y);
    };
    for bend in bends {
        let (x, y) = left(*bend);
        lead_to((x, y));
        lead_to((x + BOX.0, y));
    }
    lead_to(left(layout.places[to]));
    format!("<path d=\"{path}\" marker-end=\"url(#arrow)\"/>\n")
}

fn drawn(node: &Node, place: Place) -> String {
    let (x, middle) = left(place);
    let y = middle - BOX.1 / 2.0;
    let Colours { area, border } = node.state.colours();
    let round = if node.is_outer() { BOX.1 / 2.0 } else { 4.0 };
    let dashes = if node.state == Standing::Unknown { " stroke-dasharray=\"5 4\"" } else { "" };
    let [name, second] = node.lines();
    let tip = escaped(&format!("{name} · {second}"));
    let (name, second) =
        (escaped(&shortened(&name, NAME_WIDTH)), escaped(&shortened(&second, SECOND_WIDTH)));
    let (text_x, name_y, second_y) = (x + BOX.0 / 2.0, middle - 5.0, middle + 12.0);
    let (width, height) = BOX;
    format!(
        "<g><title>{tip}</title>\
         <rect x=\"{x:.0}\" y=\"{y:.1}\" width=\"{width}\" height=\"{height}\" rx=\"{round}\" \
         fill=\"{area}\" stroke=\"{border}\"{dashes}/>\
         <text x=\"{text_x:.0}\" y=\"{name_y:.1}\" text-anchor=\"middle\" font-size=\"13\">{name}</text>\
         <text x=\"{text_x:.0}\" y=\"{second_y:.1}\" text-anchor=\"middle\" font-size=\"11\" \
         fill=\"#424a53\">{second}</text></g>\n"
    )
}

fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        match c {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            '\'' => escaped += "&#39;",
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::super::model::testing::{HOSTILE, chain};
    use super::*;

    #[test]
    fn a_picture_has_a_box_for_each_task_and_an_arrow_for_each_dependency() {
        let text = write(&chain(&["a", "b", "c"]));
        assert!(
            text.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"868\""),
            "{text}"
        );
        assert_eq!(text.matches("<g><title>").count(), 3);
        assert_eq!(text.matches("<path d=\"M").count(), 2 + 1, "arrows, and their head");
    }

    #[test]
    fn nothing_in_a_name_is_a_tag_an_entity_or_a_character_that_xml_forbids() {
        let text = write(&chain(&HOSTILE));
        let ours = ["svg", "title", "defs", "marker", "path", "rect", "text", "g"];
        for tag in text.split('<').skip(1) {
            let name = tag.trim_start_matches('/').split([' ', '>', '/']).next().unwrap();
            assert!(ours.contains(&name), "{tag}");
        }
        for entity in text.split('&').skip(1) {
            let name = entity.split(';').next().unwrap();
            assert!(["amp", "lt", "gt", "quot", "#39"].contains(&name), "{entity}");
        }
        assert!(text.chars().all(|c| c == '\n' || !c.is_control()));
    }

    #[test]
    fn outer_tasks_are_round_and_unknown_ones_dashed() {
        let mut graph = chain(&["a", "b"]);
        graph.nodes[0].workflow_id = Some("other".into());
        assert_eq!(write(&graph).matches("rx=\"22\"").count(), 1);
        graph.nodes[1] = Node::unknown("b");
        let text = write(&graph);
        assert_eq!(text.matches("rx=\"22\"").count(), 2);
        assert_eq!(text.matches("stroke-dasharray").count(), 1);
    }
}
