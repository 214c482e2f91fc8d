//! The difference between two JSON values, line by line.

use super::judge::same;
use crate::json;
use crate::value::Value;

/// Longer texts of a line are cut.
const LONGEST: usize = 300;

/// A line of a difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Whose line it is.
    pub side: Side,
    /// Its text, indented as JSON is.
    pub text: String,
}

/// Whose line it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Both have it.
    Both,
    /// It is expected, and is not there.
    Expected,
    /// It is there, and is not expected.
    Actual,
}

/// The lines of both values: members that are alike once, others once for each side. `some`: the expected object may lack
/// members that the actual one has.
pub(super) fn diff(expected: &Value, actual: &Value, approx: Option<f64>, some: bool) -> Vec<Line> {
    let mut diff = Diff { lines: Vec::new(), approx };
    diff.value("", 0, Some(expected), Some(actual), some);
    diff.lines
}

struct Diff {
    lines: Vec<Line>,
    approx: Option<f64>,
}

impl Diff {
    fn push(&mut self, side: Side, depth: usize, text: String) {
        let mut text = format!("{}{text}", "  ".repeat(depth));
        if text.chars().count() > LONGEST {
            text = format!("{}…", text.chars().take(LONGEST).collect::<String>());
        }
        self.lines.push(Line { side, text });
    }

    /// `label` is the member's name with its colon, or nothing.
    fn value(&mut self, label: &str, depth: usize, expected: Option<&Value>, actual: Option<&Value>, some: bool) {
        match (expected, actual) {
            (Some(a), Some(b)) if same(a, b, self.approx) => {
                self.push(Side::Both, depth, format!("{label}{}", text(a)))
            }
            (Some(Value::Object(a)), Some(Value::Object(b))) => {
                self.push(Side::Both, depth, format!("{label}{{"));
                for (name, value) in a.iter() {
                    self.value(&quoted(name), depth + 1, Some(value), b.get(name), false);
                }
                for (name, value) in b.iter().filter(|(name, _)| !some && a.get(name).is_none()) {
                    self.value(&quoted(name), depth + 1, None, Some(value), false);
                }
                self.push(Side::Both, depth, "}".to_owned());
            }
            (Some(Value::Array(a)), Some(Value::Array(b))) => {
                self.push(Side::Both, depth, format!("{label}["));
                for index in 0..a.len().max(b.len()) {
                    self.value("", depth + 1, a.get(index), b.get(index), false);
                }
                self.push(Side::Both, depth, "]".to_owned());
            }
            (expected, actual) => {
                expected.iter().for_each(|value| self.push(Side::Expected, depth, format!("{label}{}", text(value))));
                actual.iter().for_each(|value| self.push(Side::Actual, depth, format!("{label}{}", text(value))));
            }
        }
    }
}

fn quoted(name: &str) -> String {
    let mut text = String::new();
    json::write_string(name, &mut text);
    text + ": "
}

fn text(value: &Value) -> String {
    json::to_text(value, usize::MAX).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vectors::line::value;

    fn drawn(expected: &str, actual: &str, some: bool) -> Vec<String> {
        let lines = diff(&value(expected).unwrap(), &value(actual).unwrap(), None, some);
        let sign = |line: &Line| match line.side {
            Side::Both => ' ',
            Side::Expected => '-',
            Side::Actual => '+',
        };
        lines.iter().map(|line| format!("{}{}", sign(line), line.text)).collect()
    }

    #[test]
    fn members_that_are_alike_stand_once() {
        let lines = drawn(r#"{"a":1,"b":{"c":[1,2]},"d":"x"}"#, r#"{"a":1.0,"b":{"c":[1,3]},"e":"y"}"#, false);
        let expected = [
            " {",
            "   \"a\": 1",
            "   \"b\": {",
            "     \"c\": [",
            "       1",
            "-      2",
            "+      3",
            "     ]",
            "   }",
            "-  \"d\": \"x\"",
            "+  \"e\": \"y\"",
            " }",
        ];
        assert_eq!(lines, expected);
        assert_eq!(drawn(r#"{"a":1}"#, r#"{"a":2,"b":3}"#, true), [" {", "-  \"a\": 1", "+  \"a\": 2", " }"]);
        assert_eq!(drawn("1", "\"1\"", false), ["-1", "+\"1\""]);
    }
}
