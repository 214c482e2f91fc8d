//! The examples of the documentation hold: each is run message by message and on columns, every rule file in it is
//! sound, and every function has an example of its own.
//!
//! An example is a fenced block of SQL: a statement, then comments `-- on TOPIC PAYLOAD` and `-- gives RESULT`, several
//! times if need be, and then perhaps the next statement. `-- with {…}` in between adds members of a rule test to the
//! message. Without a first line `-- in …` it must hold in `.sql` files and in AWS documents of 2016-03-23. A block that
//! begins with CREATE is a rule file.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by it")]

use std::fmt::Write as _;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hedgerow_sql::analyze::read_file;
use hedgerow_sql::diagnostic::{Style, render};
use hedgerow_sql::functions;
use hedgerow_sql::vectors::{Alone, Report, read, run};

const LANGUAGE: &str = include_str!("../../docs/language.md");
const FUNCTIONS: &str = include_str!("../../docs/functions.md");
const DIFFERENCES: &str = include_str!("../../docs/differences-from-aws.md");
const ABSENCE: &str = include_str!("../../docs/absence.md");

/// A fenced block, with the heading it stands under.
struct Block<'a> {
    heading: &'a str,
    line: usize,
    text: String,
}

fn blocks(page: &str) -> Vec<Block<'_>> {
    let mut blocks: Vec<Block<'_>> = Vec::new();
    let mut heading = "";
    let mut inside = false;
    for (number, line) in page.lines().enumerate() {
        if inside && line == "```" {
            inside = false;
        } else if inside {
            let block = blocks.last_mut().expect("a block is open");
            block.text.push_str(line);
            block.text.push('\n');
        } else if line == "```sql" {
            inside = true;
            blocks.push(Block { heading, line: number + 2, text: String::new() });
        } else if line.starts_with('#') {
            heading = line.trim_start_matches(['#', ' ']);
        }
    }
    assert!(!inside, "a block is not closed");
    blocks
}

impl Block<'_> {
    fn is_file(&self) -> bool {
        let first = self.text.lines().find(|line| !line.trim().is_empty() && !line.starts_with("--"));
        first.is_some_and(|line| line.starts_with("CREATE") || line.starts_with("DROP"))
    }

    /// The examples as lines of a vector file.
    fn cases(&self, out: &mut String) {
        let mut versions: &[&str] = &["native", "2016-03-23"];
        let (mut statement, mut complete) = (String::new(), false);
        let (mut message, mut with) = (None, "");
        for (number, line) in self.text.lines().enumerate() {
            let place = self.line + number;
            if let Some(versions_of) = line.strip_prefix("-- in ") {
                versions = match versions_of {
                    ".sql files" => &["native"],
                    "AWS documents" => &["2016-03-23"],
                    "AWS documents of 2015-10-08" => &["2015-10-08"],
                    "AWS documents of either version" => &["2015-10-08", "2016-03-23"],
                    other => panic!("line {place}: `in {other}` says no version"),
                };
            } else if let Some(on) = line.strip_prefix("-- on ") {
                let (topic, payload) = on.split_once(' ').unwrap_or((on, ""));
                let topic = format!(r#""topic":"{topic}","payload_base64":"{}""#, BASE64_STANDARD.encode(payload));
                (message, with) = (Some(topic), "");
            } else if let Some(members) = line.strip_prefix("-- with ") {
                with = members.strip_prefix('{').and_then(|m| m.strip_suffix('}')).expect("an object");
            } else if let Some(result) = line.strip_prefix("-- gives ") {
                complete = true;
                let message = message.take().unwrap_or_else(|| panic!("line {place}: on which message?"));
                let more = if with.is_empty() { String::new() } else { format!(",{with}") };
                let result = expectation(result, with.contains("\"template\""));
                let sql = serde_json::to_string(statement.trim()).unwrap();
                for version in versions {
                    let id = format!("line {place}, {version}");
                    writeln!(
                        out,
                        r#"{{"id":"{id}","section":"docs","sqlVersion":"{version}","sql":{sql},{message}{more},{result}}}"#
                    )
                    .unwrap();
                }
            } else if !line.trim().is_empty() {
                assert!(!line.starts_with("--"), "line {place}: what is this comment?");
                if std::mem::take(&mut complete) {
                    statement.clear();
                }
                statement.push_str(line);
                statement.push(' ');
            }
        }
        assert!(complete, "line {}: the example gives nothing", self.line);
    }
}

/// What an example gives, as a member of a vector.
fn expectation(result: &str, template: bool) -> String {
    if let Some(patterns) = result.strip_prefix("like ") {
        return format!(r#""expect_regex":{patterns}"#);
    }
    if let Some(text) = result.strip_prefix("text ") {
        let name = if template { "expect_template" } else { "expect_raw" };
        return format!(r#""{name}":{}"#, serde_json::to_string(text).unwrap());
    }
    match result {
        "nothing" => r#""expect_no_match":true"#.to_owned(),
        "an error" => r#""expect_error":true"#.to_owned(),
        "{}" => r#""expect_undefined":true"#.to_owned(),
        json => format!(r#""expect":{json}"#),
    }
}

#[track_caller]
fn check(page: &str, at_least: usize) {
    let mut cases = String::new();
    for block in blocks(page) {
        if block.is_file() {
            let reading = read_file(&block.text);
            let drawn = render(&reading.diagnostics, "example", &block.text, Style::Plain);
            assert!(reading.diagnostics.is_empty(), "line {}: {drawn}", block.line);
        } else {
            block.cases(&mut cases);
        }
    }
    let report = report(&cases);
    let told: String = report.failed.iter().map(|failure| failure.render("page", Style::Plain)).collect();
    assert!(report.failed.is_empty(), "{told}");
    assert!(report.passed >= at_least, "only {} examples", report.passed);
}

/// Runs cases on columns and message by message.
fn report(cases: &str) -> Report {
    let (cases, problems) = read(cases);
    assert!(problems.is_empty(), "{problems:?}");
    run(&cases, &Alone, |_| true)
}

#[test]
fn the_language() {
    check(LANGUAGE, 70);
}

#[test]
fn the_functions() {
    check(FUNCTIONS, 190);
}

#[test]
fn the_differences() {
    check(DIFFERENCES, 20);
}

#[test]
fn absence() {
    check(ABSENCE, 0);
}

/// Each function is named in a heading of its page, and called by an example under it.
#[test]
fn every_function_has_an_example() {
    let blocks = blocks(FUNCTIONS);
    for function in functions::all() {
        let call = format!("{}(", function.name);
        let calls = |text: &str| {
            let text = text.to_lowercase();
            let mut found = text.match_indices(&call);
            found.any(|(at, _)| !text[..at].ends_with(|c: char| c == '_' || c.is_alphanumeric()))
        };
        assert!(
            blocks.iter().any(|block| calls(block.heading) && calls(&block.text)),
            "docs/functions.md has no example of {}",
            function.name
        );
    }
}

/// The test can fail: a wrong result is told, and so is a function without an example.
#[test]
fn a_wrong_example_is_found() {
    let wrong = "```sql\nSELECT abs(x) AS r FROM 'a'\n-- on a {\"x\": -1}\n-- gives {\"r\": 2}\n```\n";
    let mut cases = String::new();
    blocks(wrong).iter().for_each(|block| block.cases(&mut cases));
    let report = report(&cases);
    assert_eq!((report.passed, report.failed.len()), (0, 2));
}
