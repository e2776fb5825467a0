//! Texts as they come, and as an attacker writes them.

use super::*;
use runner_plugin::test;
use serde_json::{Value, json};

fn run(args: &[u8]) -> Result<Value, Failure> {
    test::run(markdown, args, &test::job("text.markdown").context()).map(|out| serde_json::from_slice(&out).unwrap())
}

#[track_caller]
fn check(text: &str, html: &str) {
    assert_eq!(run(text.as_bytes()).unwrap()["html"].as_str().unwrap().trim_end(), html);
}

/// None of this survives, whatever else does.
#[track_caller]
fn check_safe(text: &str) {
    let output = run(text.as_bytes()).unwrap();
    let html = output["html"].as_str().unwrap();
    // Within a tag; as text, or as the value of a harmless attribute, all of it may be read. Values are quoted, so every other
    // piece of a tag is one.
    for tag in html.split('<').skip(1) {
        let pieces: Vec<&str> = tag.split('"').collect();
        let end = pieces.iter().step_by(2).position(|piece| piece.contains('>')).map_or(pieces.len(), |at| 2 * at + 1);
        for (names, value) in pieces[..end].chunks(2).map(|pair| (pair[0], pair.get(1).unwrap_or(&""))) {
            let names = names.split('>').next().unwrap_or_default().to_lowercase();
            for bad in ["script", " on", "style", "iframe", "form", "object", "srcdoc"] {
                assert!(!names.contains(bad), "{bad} in {html}");
            }
            if names.ends_with("href=") || names.ends_with("src=") {
                let scheme = value.split_once(':').map_or("", |(scheme, _)| scheme);
                assert!(["", "http", "https", "mailto"].contains(&scheme), "{value} in {html}");
            }
        }
    }
}

#[track_caller]
fn check_discard(args: &[u8], expected: &str) {
    match run(args) {
        Err(Failure::Discard { message }) => assert!(message.contains(expected), "{message}"),
        other => panic!("not discarded: {other:?}"),
    }
}

#[test]
fn commonmark_and_extensions() {
    check("# A *b*\n\ntext", "<h1>A <em>b</em></h1>\n<p>text</p>");
    check("~~a~~ `b<c`", "<p><del>a</del> <code>b&lt;c</code></p>");
    let link = "<p><a href=\"https://a.test/?x=1&amp;y=2\" rel=\"noopener noreferrer\">a</a></p>";
    check("[a](https://a.test/?x=1&y=2)", link);
    check("[a](b.md#c)", "<p><a href=\"b.md#c\" rel=\"noopener noreferrer\">a</a></p>");
    check("a <b>bold</b> word", "<p>a <b>bold</b> word</p>");
    check("|a|\n|-|\n|1|", "<table><thead><tr><th>a</th></tr></thead><tbody>\n<tr><td>1</td></tr>\n</tbody></table>");
    check("\u{feff}# A", "<h1>A</h1>");
    check("", "");
}

#[test]
fn task_lists_are_dead_boxes() {
    for text in ["- [x] done", "<input type=\"password\" name=\"p\" onfocus=\"alert(1)\" autofocus>"] {
        let output = run(text.as_bytes()).unwrap();
        let html = output["html"].as_str().unwrap();
        assert!(html.contains("type=\"checkbox\"") && html.contains("disabled"), "{html}");
        assert!(!html.contains("password") && !html.contains("name=") && !html.contains("autofocus"), "{html}");
    }
}

#[test]
fn what_is_in_it_is_counted() {
    let text = "# One *two*\n\nthree fo*ur* [five](https://a.test/six) ![seven](b.png)\n\n```\neight\n```\n\n## Nine";
    let output = run(text.as_bytes()).unwrap();
    let expected = json!([{"level": 1, "text": "One two"}, {"level": 2, "text": "Nine"}]);
    assert_eq!(output["headings"], expected);
    assert_eq!(output["title"], "One two");
    let counts = ["words", "links", "images", "code_blocks"].map(|field| output[field].as_u64().unwrap());
    assert_eq!(counts, [8, 1, 1, 1]);
    assert_eq!(run(b"").unwrap()["title"], Value::Null);
}

#[test]
fn attacks_come_to_nothing() {
    check_safe("<script>alert(1)</script>");
    check_safe("[a](javascript:alert(1)) [b](JaVaScRiPt:alert(1)) [c](java\tscript:alert(1)) <javascript:alert(1)>");
    check_safe("[a](&#106;avascript:alert(1)) ![x](data:text/html;base64,PHNjcmlwdD4=) [v](vbscript:x)");
    check_safe("<img src=x onerror=alert(1)> <a href='javascript:alert(1)'>x</a> <svg/onload=alert(1)>");
    check_safe("<div style=\"background:url(javascript:alert(1))\" onclick=x>x</div>");
    check_safe("<iframe srcdoc='<script>alert(1)</script>'></iframe><object data=x></object><form action=x><button>");
    check_safe("<scr<script>ipt>alert(1)</script>");
    check_safe("<math><mtext><table><mglyph><style><img src=x onerror=alert(1)>");
    check_safe("<noscript><p title=\"</noscript><img src=x onerror=alert(1)>\">");
    check_safe("![a\" onerror=\"alert(1)](b) [a](b \"c\\\" onmouseover=\\\"alert(1)\")");
    check_safe("```html\" onclick=\"x\n<script>alert(1)</script>\n```");
    check_safe("<!-- --><script>x</script> <![CDATA[<script>x</script>]]> <?php x ?>");
    check_safe("# <svg><style>*{}</style><script>x</script>\n\n[^1]: <script>x</script>\n\na[^1]");
}

#[test]
fn enormous_and_deep_texts_end() {
    check_discard(">".repeat(500).as_bytes(), "nested more than 100 deep");
    check_discard("&".repeat(400_000).as_bytes(), "more than 921600");
    for text in
        ["[".repeat(50_000), "*a_ ".repeat(20_000), "`".repeat(50_000), "<a>".repeat(2_000), "![](".repeat(20_000)]
    {
        assert!(run(text.as_bytes()).is_ok());
    }
    let many = run("# a\n".repeat(300).as_bytes()).unwrap();
    assert_eq!((many["headings"].as_array().unwrap().len(), &many["headings_omitted"]), (200, &json!(100)));
    let long = run(format!("# {}", "ä".repeat(500)).as_bytes()).unwrap();
    assert_eq!(long["title"], "ä".repeat(100));
}

#[test]
fn args_in_each_form() {
    let html = |args: &[u8]| run(args).unwrap()["html"].clone();
    assert_eq!(html(br#"{"markdown": "*a*"}"#), html(b"*a*"));
    assert_eq!(html(br#"{"file_base64": "KmEq", "file_name": "a.md"}"#), html(b"*a*"));
    check_discard(b"{}", "there is no text");
    check_discard(br#"{"markdown": 1}"#, "`markdown`: invalid type");
    check_discard(br#"{"mardown": "a"}"#, "unknown field `mardown`");
    check_discard(b"abc\xFFdef", "the text is not UTF-8: byte 3 is wrong");
}
