use proptest::prelude::*;
use serde_json::json;

use super::*;

fn json_of(text: &str) -> Value {
    parse(text).unwrap_or_else(|error| panic!("{error}\n{text}")).to_json()
}

fn refused(text: &str) -> String {
    parse(text).expect_err("refused").to_string()
}

fn comments_of(text: &str) -> Vec<(usize, usize, String)> {
    let (_, comments) = parse_with_comments(text).expect("a document");
    comments.into_iter().map(|comment| (comment.line, comment.column, comment.text)).collect()
}

#[test]
fn plain_scalars_are_what_the_core_schema_says() {
    for (text, value) in [
        ("", json!(null)),
        ("~", json!(null)),
        ("Null", json!(null)),
        ("true", json!(true)),
        ("False", json!(false)),
        ("on", json!("on")),
        ("yes", json!("yes")),
        ("12", json!(12)),
        ("-3", json!(-3)),
        ("0x1F", json!(31)),
        ("0o17", json!(15)),
        ("017", json!(17)),
        ("3.10", json!(3.1)),
        ("3.0", json!(3)),
        ("1e3", json!(1000)),
        (".5", json!(0.5)),
        ("1_000", json!("1_000")),
        ("1.2.3", json!("1.2.3")),
        ("0x", json!("0x")),
        ("0xfg", json!("0xfg")),
        ("1e999", json!("1e999")),
        (".inf", json!(".inf")),
        (".nan", json!(".nan")),
        ("inf", json!("inf")),
        ("nan", json!("nan")),
        ("+.", json!("+.")),
        ("12:30", json!("12:30")),
        ("\"12\"", json!("12")),
        ("'true'", json!("true")),
        ("!!str 12", json!("12")),
        ("|\n a\n b\n", json!("a\nb\n")),
        (">-\n a\n b\n", json!("a b")),
    ] {
        assert_eq!(json_of(text), value, "{text:?}");
    }
}

#[test]
fn order_places_and_lookups_are_kept() {
    let node = parse("name: CI\non:\n  push:\njobs:\n  b: {x: [1, two]}\n  a: '#'\n").unwrap();
    let keys: Vec<_> = node.pairs().iter().filter_map(|(key, _)| key.as_str()).collect();
    assert_eq!(keys, ["name", "on", "jobs"]);
    let jobs = node.get("jobs").unwrap();
    let (key, value) = jobs.entry("b").unwrap();
    assert_eq!((key.line, key.column, value.line, value.column), (5, 3, 5, 6));
    let items = value.get("x").unwrap().items().unwrap();
    assert_eq!((items[1].line, items[1].column, items[1].as_str()), (5, 14, Some("two")));
    assert!(node.get("on").unwrap().get("push").unwrap().is_null());
    assert_eq!(node.get("nothing"), None);
}

#[test]
fn anchors_aliases_and_merge_keys_work() {
    let text = "base: &b {a: 1, b: 2}\nlist: &l [x]\nboth:\n  <<: *b\n  b: 3\nmany:\n  \
                <<: [{c: 4}, *b, {a: 9}]\nsame: *l\n";
    assert_eq!(
        json_of(text),
        json!({"base": {"a": 1, "b": 2}, "list": ["x"], "both": {"a": 1, "b": 3},
               "many": {"c": 4, "a": 1, "b": 2}, "same": ["x"]})
    );
    assert!(refused("a: *b\n").contains("line 1, column 4"), "{}", refused("a: *b\n"));
    assert!(refused("a: &a [*a]\n").contains("it stands in"));
    assert!(refused("a: {<<: 1}\n").contains("merges mappings"));
}

#[test]
fn what_readers_would_differ_about_is_refused_with_its_place() {
    assert_eq!(refused("a: 1\nb: 2\na: 3\n"), "line 3, column 1: the key \"a\" stands here twice");
    assert!(refused("? [a]\n: 1\n").contains("a key that is no text"));
    assert!(refused("a: 1\n---\nb: 2\n").contains("second document"));
    assert!(refused("a: !ruby/object {}\n").contains("tag"));
    assert_eq!(refused("a: b\nc: d\0e\n"), "line 2, column 5: the control character U+0000");
    let tab = refused("jobs:\n\ta: b\n");
    assert!(tab.starts_with("line 2, column "), "{tab}");
    assert!(refused("a: [1\nb: 2").starts_with("line "));
}

#[test]
fn a_byte_order_mark_and_line_ends_of_any_kind_are_no_trouble() {
    for text in ["\u{feff}a: 1\nb:\n- x\n", "a: 1\r\nb:\r\n- x\r\n"] {
        assert_eq!(json_of(text), json!({"a": 1, "b": ["x"]}), "{text:?}");
        assert_eq!(parse(text).unwrap().get("b").unwrap().line, 3);
    }
    assert_eq!(json_of("# nothing\n"), json!(null));
    assert_eq!(json_of("---\na: 1\n...\n"), json!({"a": 1}));
}

#[test]
fn bombs_end_at_a_bound() {
    let mut laughs = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..10 {
        let of = format!("*a{}", level - 1);
        laughs += &format!("a{level}: &a{level} [{}]\n", [of.as_str(); 10].join(", "));
    }
    assert!(refused(&laughs).contains("counting what aliases repeat"));

    let long = format!("a: &a {}\nb: [{}]\n", "x".repeat(100_000), ["*a"; 100].join(","));
    assert!(refused(&long).contains("counting what aliases repeat"));
    assert!(refused(&"a".repeat(MAX_BYTES + 1)).contains("longer than"));
    assert!(refused(&format!("[{}]", "1,".repeat(200_000))).contains("more than"));
}

#[test]
fn depth_ends_at_a_bound() {
    for part in ["[", "{a: ", "- ", "? ", "a:\n ", "[[[{", "&a [", "- - ? - "] {
        let text = part.repeat(MAX_BYTES / 2 / part.len());
        assert!(parse(&text).is_err(), "{part:?}");
    }
    let nested: String = (0..2_000).map(|depth| " ".repeat(depth) + "a:\n").collect();
    assert!(refused(&nested[..nested.len().min(MAX_BYTES)]).contains("nested deeper"));
}

#[test]
fn comments_are_what_stands_outside_of_scalars() {
    let text = "# one\na: b # two\nc: 'd # e'\nf: \"#\" #three\nrun: | # four\n  # Tags: x\n  y # z\n\n\
                # five\ng: h#i\nj: >\n  # k\n  l\n  # m\n# six\nn: {o: p} # seven\nq:\n  - r # eight\n";
    let texts: Vec<String> = comments_of(text).into_iter().map(|(_, _, text)| text).collect();
    assert_eq!(texts, [" one", " two", "three", " four", " five", " six", " seven", " eight"]);
}

#[test]
fn quotes_end_where_they_close() {
    let text = "a: 'it''s #1 # no' # one 'x\nb: \"\\\" # no\\\\\" # two \"x\nc: {'d # no': \"e\", f: ' # no'} # three\n\
                g: \"h\n  # no\n  i\" # four\n";
    let texts: Vec<String> = comments_of(text).into_iter().map(|(_, _, text)| text).collect();
    assert_eq!(texts, [" one 'x", " two \"x", " three", " four"]);
}

/// Finding the end of each quote from the start of its line took minutes for such a line, which is
/// how a failure shows.
#[test]
fn a_line_of_many_quotes_is_read_once() {
    let keys: String = (0..40_000).map(|key| format!("\"#{key}\": 1, ")).collect();
    assert_eq!(comments_of(&format!("{{{keys}}} # end\n"))[0].2, " end");
}

#[test]
fn a_comment_right_behind_a_script_is_none_of_it() {
    let text = "a:\n    b:\n      run: |\n        # x\n        y\n    # P2P: p2p-only\n    c: 'd\n     # e\n     f'\n      # last\n";
    assert_eq!(comments_of(text), [(6, 5, " P2P: p2p-only".into()), (10, 7, " last".into())]);
    let (_, comments) = parse_with_comments("a: b # c\n  # d\n").unwrap();
    assert_eq!(comments.iter().map(|comment| comment.is_alone).collect::<Vec<_>>(), [false, true]);
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "[ -~\n\t#&*|>'\"{}\\[\\]:,-]{0,200}") {
        // Read or refused, either is an answer.
        let _answer = parse_with_comments(&text);
    }

    #[test]
    fn no_text_of_any_characters_makes_it_panic(text in "\\PC{0,100}") {
        // Read or refused, either is an answer.
        let _answer = parse_with_comments(&text);
    }
}
