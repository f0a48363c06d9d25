//! `swarm peers`: a table of the machines, and what else there is to know of who is let in.

use std::fmt::Write;

use serde_json::Value;

use crate::cli::{NodeLasts, render};

/// The table with whole ids fits into lines of so many characters.
const WIDE: usize = 118;
/// Refusals that are shown; the others are in `--json`.
const MAX_REFUSALS: usize = 10;

/// What people are shown.
pub(super) fn shown(answer: &Value, node: NodeLasts) -> String {
    text(answer, node, render::terminal_width())
}

fn text(answer: &Value, node: NodeLasts, width: Option<usize>) -> String {
    let shorten = width.is_some_and(|width| width < WIDE);
    let id = |id: &Value| match (id.as_str().unwrap_or_default(), shorten) {
        (id, true) => render::short_peer(id),
        (id, false) => id.to_owned(),
    };
    let list = |key: &str| answer[key].as_array().map(Vec::as_slice).unwrap_or_default();
    let rows = list("peers").iter().map(|peer| row(peer, id(&peer["peer_id"])));
    let header = ["peer", "state", "connected", "last seen", "clock", "held"];
    let mut text = render::plain_table(header, rows);
    text += &lonely(list("peers"), node);
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

/// Why nobody is connected, where that follows from how the machine is used.
fn lonely(peers: &[Value], node: NodeLasts) -> String {
    let others = peers.len().saturating_sub(1);
    let is_connected = peers.iter().any(|peer| peer["connected"] == true);
    match (others, node) {
        (_, NodeLasts::On) if others > 0 => String::new(),
        (0, _) => {
            "No other machine is known yet. `swarm invite` prints what one needs.\n".to_owned()
        }
        _ if !is_connected => {
            let known = if others == 1 { "machine is" } else { "machines are" };
            format!(
                "{others} other {known} known, and none is connected: no node stays on this machine.\n\
                 Start one with `ipfs-accelerate node start`.\n"
            )
        }
        _ => "It is connected while this command runs: no node stays on this machine.\n\
              Start one with `ipfs-accelerate node start`.\n"
            .to_owned(),
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
        (false, true, Some(millis)) => format!("yes, {}", rounded(millis)),
    };
    let seen = peer["heard_at"].as_u64().map(render::time).unwrap_or_default();
    [id, state, connected, seen, word("clock_order"), peer["held"].to_string()]
}

/// `0.4 ms`, `12 ms`.
fn rounded(millis: f64) -> String {
    match millis {
        ..9.95 => format!("{millis:.1} ms"),
        _ => format!("{millis:.0} ms"),
    }
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
        let narrow = text(&answer(), NodeLasts::On, Some(80));
        let table: Vec<&str> = narrow.lines().take(3).collect();
        assert!(table.iter().all(|line| line.chars().count() <= 80), "{narrow}");
        assert!(table[1].contains(&render::short_peer(ME)), "{narrow}");
        let wide = text(&answer(), NodeLasts::On, None);
        assert!(wide.lines().take(3).all(|line| line.chars().count() <= WIDE), "{wide}");
        assert!(wide.contains(ME) && wide.contains(OTHER), "{wide}");
    }

    #[test]
    fn who_is_let_in_and_who_was_refused_is_told_below() {
        let shown = text(&answer(), NodeLasts::On, None);
        assert!(shown.contains("this machine"), "{shown}");
        assert!(shown.contains(&format!("who are trusted:\n  {OTHER}\n")), "{shown}");
        assert!(shown.contains(&format!("  3 × {OTHER}: no reason\n")), "{shown}");
        assert!(!shown.contains("Blocked"), "{shown}");
        let many = json!({"peers": [], "refusals": vec![json!({"why": "x", "count": 1}); 13]});
        let shown = text(&many, NodeLasts::On, None);
        assert!(shown.contains("and 3 more"), "{shown}");
    }

    #[test]
    fn whoever_is_alone_is_told_how_to_invite() {
        let mut alone = answer();
        alone["peers"].as_array_mut().unwrap().pop();
        assert!(text(&alone, NodeLasts::On, None).contains("swarm invite"));
    }

    /// Once a machine that had joined showed the others as not connected, and not why.
    #[test]
    fn where_no_node_stays_and_so_nobody_is_connected_that_is_said() {
        let mut apart = answer();
        let shown = text(&apart, NodeLasts::UntilDone, None);
        assert!(shown.contains("It is connected while this command runs"), "{shown}");
        apart["peers"][1]["connected"] = json!(false);
        let shown = text(&apart, NodeLasts::UntilDone, None);
        assert!(shown.contains("1 other machine is known, and none is connected"), "{shown}");
        assert!(shown.contains("`ipfs-accelerate node start`"), "{shown}");
        assert!(!text(&apart, NodeLasts::On, None).contains("ipfs-accelerate node start"));
    }

    #[test]
    fn a_round_trip_is_rounded_to_what_it_tells() {
        let cases = [(0.412_345, "0.4 ms"), (1.0, "1.0 ms"), (9.96, "10 ms"), (123.456, "123 ms")];
        for (millis, shown) in cases {
            assert_eq!(rounded(millis), shown);
        }
    }
}
