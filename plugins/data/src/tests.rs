//! Tables as they come: quoted, ragged, cut, in other encodings, with names twice, empty, enormous.

use super::*;
use runner_plugin::{Base64, test};
use serde_json::{Value, json};

fn run(args: &[u8]) -> Result<Value, Failure> {
    test::run(csv, args, &test::job("data.csv").context()).map(|out| serde_json::from_slice(&out).unwrap())
}

/// One column without header: its type, min, max, mean.
#[track_caller]
fn check_column(values: &[&str], expected: Value) {
    let args = json!({"csv": values.join("\n"), "header": false, "nulls": ["NA"]}).to_string();
    let output = run(args.as_bytes()).unwrap();
    let column = &output["columns"][0];
    assert_eq!(json!([column["type"], column["min"], column["max"], column["mean"]]), expected);
}

#[track_caller]
fn check_discard(args: &[u8], expected: &str) {
    match run(args) {
        Err(Failure::Discard { message }) => assert!(message.contains(expected), "{message}"),
        other => panic!("not discarded: {other:?}"),
    }
}

#[test]
fn a_table_is_summarised() {
    let output = run(b"id,name,day\n1,\"a, \"\"b\"\"\",2024-02-29\n2,,2023-12-31\n2,z,\n").unwrap();
    let expected = json!({"rows": 3, "columns": [
        {"name": "id", "type": "integer", "values": 3, "nulls": 0, "min": 1, "max": 2, "mean": 5.0 / 3.0, "distinct": 2},
        {"name": "name", "type": "text", "values": 2, "nulls": 1, "min": "a, \"b\"", "max": "z", "mean": null, "distinct": 2},
        {"name": "day", "type": "date", "values": 2, "nulls": 1, "min": "2023-12-31", "max": "2024-02-29", "mean": null,
         "distinct": 2},
    ]});
    assert_eq!(output, expected);
}

#[test]
fn types_are_what_all_values_are() {
    check_column(&["1", "-5", "3"], json!(["integer", -5, 3, -1.0 / 3.0]));
    check_column(&["1", "2.5", "1e1"], json!(["number", 1.0, 10.0, 4.5]));
    check_column(
        &["9223372036854775808", "1"],
        json!(["number", 1.0, 9223372036854775808_f64, 4611686018427387904_f64]),
    );
    check_column(&["true", "FALSE"], json!(["boolean", false, true, null]));
    check_column(&["2024-02-29", "2024-01-01"], json!(["date", "2024-01-01", "2024-02-29", null]));
    check_column(&["2023-02-29", "2024-01-01"], json!(["text", "2023-02-29", "2024-01-01", null]));
    check_column(&["2023-13-01"], json!(["text", "2023-13-01", "2023-13-01", null]));
    check_column(&["01067", "10115"], json!(["text", "01067", "10115", null]));
    check_column(&["0", "0.5", "-0.5"], json!(["number", -0.5, 0.5, 0.0]));
    check_column(&["inf", "nan"], json!(["text", "inf", "nan", null]));
    check_column(&["1", "x", "NA"], json!(["text", "1", "x", null]));
    check_column(&["NA", "NA"], json!(["empty", null, null, null]));
    check_column(&["1", "true"], json!(["text", "1", "true", null]));
    check_column(&["1e999"], json!(["text", "1e999", "1e999", null]));
}

#[test]
fn files_and_options() {
    assert_eq!(run(b"\xEF\xBB\xBFa;b\r\n1;2\r\n").unwrap()["columns"][0]["name"], "a;b");
    let options =
        json!({"file_base64": Base64(b"\xEF\xBB\xBFa;b\r\n1;2\r\n".to_vec()), "file_name": "x.csv", "delimiter": ";"});
    let output = run(options.to_string().as_bytes()).unwrap();
    assert_eq!((&output["columns"][0]["name"], &output["columns"][1]["max"]), (&json!("a"), &json!(2)));
    assert_eq!(run(b"a,b").unwrap()["rows"], 0);
    check_discard(b"{}", "there is no table");
    check_discard(br#"{"csv": "a", "delimiter": ";;"}"#, "`delimiter` is one character");
    check_discard(br#"{"csv": "a", "delimiter": "\""}"#, "`delimiter` is one character");
    check_discard(br#"{"csv": "a", "header": 1}"#, "`header`: invalid type");
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    check_discard(b"", "the file is empty");
    check_discard(b"\n\n", "the file is empty");
    check_discard(b"a,b\n1,2\n3\n", "line 3: 1 values in 2 columns");
    check_discard(b"a,b\n\"1\n1\",2\n3,4,5\n", "line 4: 3 values in 2 columns");
    check_discard(b"a,b\n1,\xFF\n", "line 2, column 2: the value is not UTF-8");
    check_discard(b"a,\xFF\n", "line 1, column 2: the value is not UTF-8");
    check_discard(b"a,b, a\n", "the header names the column \"a\" twice");
    check_discard(b"a,,b\n", "column 2 has no name");
    check_discard(",".repeat(1_000).as_bytes(), "1001 columns, more than 500");
    check_discard("a".repeat(300).as_bytes(), "too long for a header");
    check_discard(b"\x89PNG\r\n\x1a\n\0\0\0", "not UTF-8");
}

#[test]
fn distinct_values_are_counted_to_a_bound() {
    let table = |rows: usize| (0..rows).fold("n\n".to_owned(), |table, row| table + &row.to_string() + "\n");
    let column = |rows| run(table(rows).as_bytes()).unwrap()["columns"][0].clone();
    let (exact, more) = (column(DISTINCT_MAX), column(DISTINCT_MAX + 1));
    assert_eq!((&exact["distinct"], &exact["distinct_at_least"]), (&json!(DISTINCT_MAX), &Value::Null));
    assert_eq!((&more["distinct"], &more["distinct_at_least"]), (&Value::Null, &json!(DISTINCT_MAX + 1)));
    let long = run(format!("t\n{}\n", "ä".repeat(1_000)).as_bytes()).unwrap();
    assert_eq!(long["columns"][0]["max"], format!("{}…", "ä".repeat(50)));
}

#[test]
fn the_widest_table_fits_into_an_output() {
    let header: Vec<String> = (0..COLUMNS_MAX).map(|at| format!("{at:0>200}")).collect();
    let row = vec!["\u{1}".repeat(150); COLUMNS_MAX].join(",");
    let output = test::run(csv, format!("{}\n{row}\n", header.join(",")).as_bytes(), &test::job("data.csv").context());
    assert!(output.unwrap().len() < 1 << 20);
}
