//! `swarm peers`: a table of the machines, and what else there is to know of who is let in.

use std::fmt::Write;

use serde_json::Value;

use crate::cli::render;

/// The table with whole ids fits into lines of so many characters.
const WIDE: usize = 118;
/// Characters at the start and at the end of an id's short form.
const KEPT: usize = 8;
/// Refusals that are shown; the others are in `--json`.
const MAX_REFUSALS: usize = 10;

/// What people are shown.
pub(super) fn shown(answer: &Value) -> String {
    text(answer, render::terminal_width())
}

fn text(answer: &Value, width: Option<usize>) -> String {
    let shorten = width.is_some_and(|width| width < WIDE);
    let id = |id: &Value| match (id.as_str().unwrap_or_default(), shorten) {
        (id, true) => short(id),
        (id, false) => id.to_owned(),
    };
    let list = |key: &str| answer[key].as_array().map(Vec::as_slice).unwrap_or_default();
    let rows = list("peers").iter().map(|peer| row(peer, id(&peer["peer_id"])));
    let header = ["peer", "state", "connected", "last seen", "clock", "held"];
    let mut text = render::plain_table(header, rows);
    if list("peers").len() == 1 {
        text += "No other machine is known yet. `swarm invite` prints what one needs.\n";
    }
    for (key, label) in
        [("trusted", "Only these are let in, who are trusted:"), ("blocked", "Blocked:")]
    {
        if !list(key).is_empty() {
            let ids: Vec<String> = list(key).iter().map(id).collect();
            text += &format!("\n{label}\n  {}\n", ids.join("\n  "));
        }
    }
    text + &refusals(list("refusals"), id)
}

/// `12D3KooW…9bQKWJ9W`, which `swarm trust` and `swarm block` understand.
fn short(id: &str) -> String {
    match (id.get(..KEPT), id.len().checked_sub(KEPT).and_then(|at| id.get(at..))) {
        (Some(start), Some(end)) if id.len() > 2 * KEPT => format!("{start}…{end}"),
        _ => id.to_owned(),
    }
}

fn row(peer: &Value, id: String) -> [String; 6] {
    let word = |key: &str| peer[key].as_str().unwrap_or_default().to_owned();
    let is_this = peer["this_peer"] == true;
    let state = if is_this { "this machine".to_owned() } else { word("state") };
    let connected = match (is_this, peer["connected"] == true, peer["round_trip_ms"].as_f64()) {
        (true, ..) => String::new(),
        (false, false, _) => "no".to_owned(),
        (false, true, None) => "yes".to_owned(),
        (false, true, Some(millis)) => format!("yes, {millis:.1} ms"),
    };
    let seen = peer["heard_at"].as_u64().map(render::time).unwrap_or_default();
    [id, state, connected, seen, word("clock_order"), peer["held"].to_string()]
}

fn refusals(refusals: &[Value], id: impl Fn(&Value) -> String) -> String {
    let mut text = String::new();
    if !refusals.is_empty() {
        text += "\nRefused since the node started, here or by the other side:\n";
    }
    for refusal in refusals.iter().take(MAX_REFUSALS) {
        let who = match (refusal["peer_id"].is_string(), refusal["address"].as_str()) {
            (true, _) => id(&refusal["peer_id"]),
            (false, Some(address)) => address.to_owned(),
            (false, None) => "others".to_owned(),
        };
        let why = refusal["why"].as_str().unwrap_or_default();
        writeln!(text, "  {} × {who}: {why}", refusal["count"]).expect("a String takes any text");
    }
    if let Some(more) = refusals.len().checked_sub(MAX_REFUSALS).filter(|more| *more > 0) {
        writeln!(text, "  and {more} more: `swarm peers --json`").expect("a String takes any text");
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ME: &str = "12D3KooWCD6GPLKj8umF1ysMZTGzmEeRWnQH3MpH25VBxF1XqYvr";
    const OTHER: &str = "12D3KooWGWTtibP31YJvCbwyNN38C712SA8kkueSZKgpBfxCr6pQ";

    fn answer() -> Value {
        let since = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
        let an_hour_ago = since.as_millis() as u64 - 3_540_000;
        json!({
            "peers": [
                {"peer_id": ME, "this_peer": true, "state": "alive", "connected": false,
                 "held": 12, "addresses": []},
                {"peer_id": OTHER, "this_peer": false, "state": "suspect", "connected": true,
                 "held": 123_456, "round_trip_ms": 123.456, "clock_order": "concurrent",
                 "heard_at": an_hour_ago, "addresses": []},
            ],
            "trusted": [OTHER],
            "blocked": [],
            "refusals": [{"peer_id": OTHER, "why": "no reason", "count": 3}],
        })
    }

    #[test]
    fn the_table_fits_eighty_characters_with_short_ids_and_others_with_whole_ones() {
        let narrow = text(&answer(), Some(80));
        let table: Vec<&str> = narrow.lines().take(3).collect();
        assert!(table.iter().all(|line| line.chars().count() <= 80), "{narrow}");
        assert!(table[1].contains(&short(ME)), "{narrow}");
        let wide = text(&answer(), None);
        assert!(wide.lines().take(3).all(|line| line.chars().count() <= WIDE), "{wide}");
        assert!(wide.contains(ME) && wide.contains(OTHER), "{wide}");
    }

    #[test]
    fn who_is_let_in_and_who_was_refused_is_told_below() {
        let shown = text(&answer(), None);
        assert!(shown.contains("this machine"), "{shown}");
        assert!(shown.contains(&format!("who are trusted:\n  {OTHER}\n")), "{shown}");
        assert!(shown.contains(&format!("  3 × {OTHER}: no reason\n")), "{shown}");
        assert!(!shown.contains("Blocked"), "{shown}");
        let many = json!({"peers": [], "refusals": vec![json!({"why": "x", "count": 1}); 13]});
        assert!(text(&many, None).contains("and 3 more"), "{}", text(&many, None));
    }

    #[test]
    fn whoever_is_alone_is_told_how_to_invite() {
        let mut alone = answer();
        alone["peers"].as_array_mut().unwrap().pop();
        assert!(text(&alone, None).contains("swarm invite"));
    }
}
