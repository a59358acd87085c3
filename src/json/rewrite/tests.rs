use super::*;

fn written(json: &str, layout: Layout) -> String {
    let mut out = Vec::new();
    rewrite(json.as_bytes(), layout, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn a_document_is_spelled_as_python_spells_it() {
    for (json, expected) in [
        (
            r#" { "a" : [ 1 , -0 , 1.0 , 1e-7, 1E400 ] } "#,
            r#"{"a":[1,0,1.0,1e-07,Infinity]}"#,
        ),
        (
            r#""\u00e9\u0041\/\n\u001f\ud83d\ude00""#,
            "\"éA/\\n\\u001f😀\"",
        ),
        ("[NaN, -Infinity, {}, [ ]]", "[NaN,-Infinity,{},[]]"),
        (
            "[true, false, null, Infinity]",
            "[true,false,null,Infinity]",
        ),
        (r#"{"a":1,"b":2,"\u0061":3}"#, r#"{"a":3,"b":2}"#),
        (
            r#""\ud800x\uDC00\u00e9\ud83d\ude00\"""#,
            "\"\\ud800x\\udc00é😀\\\"\"",
        ),
        (r#""\ud800é😀x""#, "\"\\ud800é😀x\""),
    ] {
        assert_eq!(written(json, Layout::Compact), expected);
    }
}

#[test]
fn escapes_are_written_as_python_writes_what_they_say() {
    let pieces = [
        "x",
        "é",
        r"\n",
        r"\\",
        r#"\""#,
        r"\/",
        r"\u000a",
        r"\u001F",
        r"\b\f\r\t",
    ];
    for before in [0, 1, 29, 30, 31, 32, 33, 62, 63, 64] {
        for (one, two) in pieces.iter().flat_map(|one| pieces.map(|two| (one, two))) {
            let json = format!("\"{}{one}{two}x{one}\"", "a".repeat(before));
            let mut unescaped = Vec::new();
            let mut cursor = Cursor {
                json: json.as_bytes(),
                at: 0,
            };
            if let Text::Plain(text) = cursor.string(&mut unescaped).unwrap() {
                unescaped.extend_from_slice(text);
            }
            let mut expected = Vec::new();
            write_utf8(&unescaped, &mut expected);
            assert_eq!(
                written(&json, Layout::Compact).as_bytes(),
                expected,
                "{json}"
            );
        }
    }
}

#[test]
fn the_first_document_of_a_text_is_found_where_it_is_whole() {
    for json in [r#"{"a": ["\u00e9\n", 1.50]}"#, "[ ]", r#""\"\\""#] {
        for rest in ["", ", \"b\": 1", "}", "\"", "\u{e9}"] {
            let mut out = b"before".to_vec();
            let first = rewrite_first(
                format!("{json}{rest}").as_bytes(),
                Layout::Compact,
                &mut out,
            );
            assert_eq!(first, Some(json.len()));
            let expected = format!("before{}", written(json, Layout::Compact));
            assert_eq!(out, expected.as_bytes());
        }
        for length in 0..json.len() {
            let mut out = b"before".to_vec();
            assert_eq!(
                rewrite_first(&json.as_bytes()[..length], Layout::Compact, &mut out),
                None
            );
            assert_eq!(out, b"before");
        }
    }
    // These may go on behind the text, and those are none.
    for text in [
        &b"12"[..],
        b"null",
        b"-",
        b"[1e]",
        b"\"\xff\"",
        b"{\"\\/\xff\":1}",
    ] {
        assert_eq!(rewrite_first(text, Layout::Compact, &mut Vec::new()), None);
    }
}

#[test]
fn keys_of_any_number_are_sorted_and_the_last_of_equal_ones_stays() {
    let json = r#"{"b":1,"a":{"d":1,"c":2,"d":3},"b":4}"#;
    assert_eq!(
        written(json, Layout::Sorted),
        r#"{"a":{"c":2,"d":3},"b":4}"#
    );
    for (json, expected) in [
        (r#"{"b":1,"a":2}"#, r#"{"a":2,"b":1}"#),
        (r#"{"a":1,"a":2}"#, r#"{"a":2}"#),
        (r#"{"a":1,"b":2}"#, r#"{"a":1,"b":2}"#),
    ] {
        assert_eq!(written(json, Layout::Sorted), expected);
    }
    let equal = r#"{"a":1,"a":2,"a":3}"#;
    assert_eq!(written(equal, Layout::Compact), r#"{"a":3}"#);
    let many: Vec<String> = (0..40).map(|n| format!("\"{}\":{n}", n % 20)).collect();
    let compact = written(&format!("{{{}}}", many.join(",")), Layout::Compact);
    let expected: Vec<String> = (20..40).map(|n| format!("\"{}\":{n}", n - 20)).collect();
    assert_eq!(compact, format!("{{{}}}", expected.join(",")));
}

#[test]
fn the_hosts_layout_is_two_spaces_a_level() {
    let json = r#"{"a":[1,{"b":[],"c":{}}],"d":"x"}"#;
    let expected = "{\n  \"a\": [\n    1,\n    {\n      \"b\": [],\n      \"c\": {}\n    }\n  ],\n  \"d\": \"x\"\n}";
    assert_eq!(written(json, Layout::Indented(0)), expected);
    assert_eq!(written("[1]", Layout::Indented(1)), "[\n    1\n  ]");
}

#[test]
fn what_is_no_json_is_refused_with_its_place() {
    for (json, at) in [
        (&b"[1,]"[..], 3),
        (b"{\"a\"}", 4),
        (b"\"\x01\"", 1),
        (b"\"\xff\"", 1),
        (b"1 2", 2),
        (b"\"\\/\xff\"", 3),
        (b"-", 1),
        (b"01", 2),
        (b"-01", 3),
        (b"1.", 1),
        (b"1.e1", 1),
        (b"1e", 1),
        (b"1e+", 1),
        (b"", 0),
    ] {
        let fault = rewrite(json, Layout::Compact, &mut Vec::new()).unwrap_err();
        assert_eq!(fault.at(), at, "{}", fault.what());
    }
    for (digits, is_read) in [(MAX_INT_DIGITS, true), (MAX_INT_DIGITS + 1, false)] {
        for sign in ["", "-"] {
            let integer = format!("{sign}{}", "1".repeat(digits));
            let read = rewrite(integer.as_bytes(), Layout::Compact, &mut Vec::new());
            assert_eq!(read.is_ok(), is_read, "{sign} {digits}");
        }
    }
    let fault = rewrite(b"[", Layout::Compact, &mut Vec::new()).unwrap_err();
    assert!(fault.what().contains("ends early"), "{}", fault.what());
}
