//! Regular expressions in Java's manner: look-around, back-references, `$1` in replacements.
//!
//! Every search is bounded: in the size of the compiled pattern, in the length of the text for that size, in steps back,
//! in matches and in the length of what it makes. A pattern that does not compile, or a search beyond its bounds, is
//! Undefined. The bounds look at pattern and text only, so that a replay meets them in the same places.

mod behind;
mod java;

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use fancy_regex::{Captures, Expr, Regex, RegexBuilder};

use super::Function;
use super::Since::Always;
use crate::value::{MAX_TEXT, Value};

/// Steps back in one search.
const MAX_BACKTRACKS: usize = 50_000;
/// Bytes of a compiled pattern.
const MAX_COMPILED: usize = 1 << 20;
/// Bytes of a pattern's text.
const MAX_PATTERN: usize = 4096;
/// Replacements in one call, and in one by a pattern that may step back.
const MAX_MATCHES: usize = 1 << 16;
const MAX_HARD_MATCHES: usize = 1 << 11;
/// Characters compared in one search at the worst, each with each part of the pattern.
const MAX_WORK: usize = 1 << 28;
/// The same where a search may go over the rest of the text again and again.
const MAX_HARD_WORK: usize = 1 << 30;
/// Compiled patterns kept by each thread. They are a cache: results do not depend on them.
const MAX_KEPT: usize = 64;

pub(super) const FUNCTIONS: &[Function] = &[
    Function::pure("regexp_matches", (2, 2), Always, matches),
    Function::pure("regexp_replace", (3, 3), Always, replace),
    Function::pure("regexp_substr", (2, 2), Always, substr),
];

/// A compiled pattern, and what a search by it may cost.
struct Compiled {
    regex: Regex,
    /// Parts, counted repeats written out.
    size: usize,
    /// It is not for an automaton: look-around, back-references, atomic groups.
    hard: bool,
    /// Groups whose text is not known.
    lost: Vec<usize>,
}

impl Compiled {
    fn new(pattern: &str, before_line_end: bool) -> Option<Compiled> {
        let java::Translated { text, lost } = java::translate(pattern, before_line_end)?;
        let tree = Expr::parse_tree(&text).ok()?;
        let regex = RegexBuilder::new(&text)
            .backtrack_limit(MAX_BACKTRACKS)
            .delegate_size_limit(MAX_COMPILED)
            .delegate_dfa_size_limit(MAX_COMPILED)
            .build()
            .ok()?;
        let lost = lost.into_iter().map(|group| group as usize).collect();
        Some(Compiled { regex, size: size(&tree.expr), hard: tree.expr.has_descendant_or_self(is_hard), lost })
    }

    /// Characters compared in a search at the worst.
    fn work(&self, text: &str) -> usize {
        let once = self.size.saturating_mul(text.len());
        if self.hard { once.saturating_mul(text.len()) } else { once }
    }

    /// Whether a search of a text is within the bounds.
    fn fits(&self, text: &str) -> bool {
        self.work(text) <= if self.hard { MAX_HARD_WORK } else { MAX_WORK }
    }
}

/// The parts of a pattern that a character may be compared with.
fn size(expr: &Expr) -> usize {
    let inside = expr.children_iter().fold(0_usize, |sum, child| sum.saturating_add(size(child)));
    match expr {
        Expr::Repeat { lo, hi, .. } => {
            let times = if *hi == usize::MAX { lo.saturating_add(1) } else { (*hi).max(1) };
            inside.saturating_mul(times)
        }
        Expr::Literal { val, .. } => val.len(),
        _ => inside.saturating_add(1),
    }
}

fn is_hard(expr: &Expr) -> bool {
    !matches!(
        expr,
        Expr::Empty
            | Expr::Any { .. }
            | Expr::Assertion(_)
            | Expr::Literal { .. }
            | Expr::Concat(_)
            | Expr::Alt(_)
            | Expr::Group(_)
            | Expr::Repeat { .. }
            | Expr::Delegate { .. }
    )
}

/// Patterns by their text.
type Kept = HashMap<String, Option<Rc<Compiled>>>;

thread_local! {
    static KEPT: RefCell<Kept> = RefCell::new(HashMap::new());
    /// Those for texts that end with a line end.
    static KEPT_FOR_LINES: RefCell<Kept> = RefCell::new(HashMap::new());
}

fn compile(pattern: &str, text: &str) -> Option<Rc<Compiled>> {
    if pattern.len() > MAX_PATTERN {
        return None;
    }
    let before_line_end = java::ends_line(text);
    let kept = if before_line_end { &KEPT_FOR_LINES } else { &KEPT };
    kept.with_borrow_mut(|kept| {
        if let Some(compiled) = kept.get(pattern) {
            return compiled.clone();
        }
        if kept.len() == MAX_KEPT {
            kept.clear();
        }
        let compiled = Compiled::new(pattern, before_line_end).map(Rc::new);
        kept.insert(pattern.to_owned(), compiled.clone());
        compiled
    })
}

/// The pattern, if the text may be searched by it.
fn searchable(pattern: &str, text: &str) -> Option<Rc<Compiled>> {
    compile(pattern, text).filter(|compiled| compiled.fits(text))
}

/// The work of a call, in the units of [`crate::eval::Scope`]: that of a search at the worst, far more than it mostly is.
pub(super) fn cost(args: &[Value]) -> u64 {
    const CALL: u64 = 500;
    let [text, pattern, ..] = args else { return CALL };
    let (Some(text), Some(pattern)) = (text.to_text(), pattern.to_text()) else { return CALL };
    let work = searchable(&pattern, &text).map_or(0, |compiled| compiled.work(&text) / 256);
    CALL + work as u64 + (text.len() + pattern.len()) as u64 / 64
}

/// True if the pattern is found anywhere.
fn matches(args: &[Value]) -> Value {
    let [text, pattern] = args else { return Value::Undefined };
    let (Some(text), Some(pattern)) = (text.to_text(), pattern.to_text()) else { return Value::Undefined };
    is_match(&text, &pattern).into()
}

/// Whether the pattern is found anywhere; `None` where that is Undefined.
pub(crate) fn is_match(text: &str, pattern: &str) -> Option<bool> {
    searchable(pattern, text)?.regex.is_match(text).ok()
}

/// The first match.
fn substr(args: &[Value]) -> Value {
    let [text, pattern] = args else { return Value::Undefined };
    let (Some(text), Some(pattern)) = (text.to_text(), pattern.to_text()) else { return Value::Undefined };
    first_match(&text, &pattern).into()
}

/// The text of the first match, if there is one.
pub(crate) fn first_match<'t>(text: &'t str, pattern: &str) -> Option<&'t str> {
    let found = searchable(pattern, text)?.regex.find(text).ok()??.range();
    text.get(found)
}

/// Every match replaced.
fn replace(args: &[Value]) -> Value {
    let [text, pattern, replacement] = args else { return Value::Undefined };
    let (Some(text), Some(pattern), Some(replacement)) = (text.to_text(), pattern.to_text(), replacement.to_text())
    else {
        return Value::Undefined;
    };
    searchable(&pattern, &text).and_then(|compiled| replace_all(&compiled, &text, &replacement)).into()
}

/// As `Matcher.replaceAll`: a search goes on where the last match ended, one character further after an empty match.
fn replace_all(compiled: &Compiled, text: &str, replacement: &str) -> Option<String> {
    let regex = &compiled.regex;
    let mut result = String::new();
    let (mut copied, mut from) = (0, 0);
    for _ in 0..if compiled.hard { MAX_HARD_MATCHES } else { MAX_MATCHES } {
        let captures = if from <= text.len() { regex.captures_from_pos(text, from).ok()? } else { None };
        let Some(captures) = captures else {
            result.push_str(text.get(copied..)?);
            return Some(result);
        };
        let found = captures.get(0)?.range();
        result.push_str(text.get(copied..found.start)?);
        expand(replacement, &captures, compiled, &mut result)?;
        if result.len() > MAX_TEXT {
            return None;
        }
        copied = found.end;
        let step = text.get(found.end..).and_then(|rest| rest.chars().next()).map_or(1, char::len_utf8);
        from = if found.is_empty() { found.end + step } else { found.end };
    }
    None
}

/// Appends a replacement: `$n` and `${name}` are groups, a backslash takes the next character as it is. `None` for a
/// group that does not exist or whose text is not known, and for a lone `$` or backslash.
fn expand(replacement: &str, captures: &Captures<'_, str>, compiled: &Compiled, result: &mut String) -> Option<()> {
    let regex = &compiled.regex;
    let groups = regex.captures_len();
    let mut characters = replacement.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\\' => result.push(characters.next()?),
            '$' if characters.next_if_eq(&'{').is_some() => {
                let name: String = characters.by_ref().take_while(|character| *character != '}').collect();
                if !regex.capture_names().any(|group| group == Some(name.as_str())) {
                    return None;
                }
                result.push_str(captures.name(&name).map_or("", |group| group.as_str()));
            }
            '$' => {
                let mut group = digit(characters.next()?).filter(|group| *group < groups)?;
                // Further digits belong to the number as long as such a group exists.
                while let Some(longer) = characters.peek().and_then(|next| digit(*next)).map(|next| group * 10 + next) {
                    if longer >= groups {
                        break;
                    }
                    group = longer;
                    characters.next();
                }
                if compiled.lost.contains(&group) {
                    return None;
                }
                result.push_str(captures.get(group).map_or("", |group| group.as_str()));
            }
            other => result.push(other),
        }
    }
    Some(())
}

fn digit(character: char) -> Option<usize> {
    character.to_digit(10).map(|digit| digit as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replaced(text: &str, pattern: &str, replacement: &str) -> Value {
        replace(&[text.into(), pattern.into(), replacement.into()])
    }

    #[test]
    fn replacements_are_javas() {
        assert_eq!(replaced("John Smith", "(.*) (.*)", "$2 $1"), "Smith John".into());
        assert_eq!(replaced("ab", "(a)", "$1a"), "aab".into());
        assert_eq!(replaced("ab", "(a)", "$12"), "a2b".into());
        assert_eq!(replaced("ab", "(?<first>a)", "${first}${first}"), "aab".into());
        assert_eq!(replaced("ab", "a", "\\$1"), "$1b".into());
        assert_eq!(replaced("baac", "a*", "x"), "xbxxcx".into());
        assert_eq!(replaced("\u{20ac}", "", "-"), "-\u{20ac}-".into());
        for bad in ["$9", "$", "$x", "\\", "${none}"] {
            assert_eq!(replaced("a", "a", bad), Value::Undefined, "{bad}");
        }
        assert_eq!(replaced("b", "a", "$9"), "b".into());
        assert_eq!(replaced("a\n", "$", "x"), "ax\nx".into());
    }

    /// What Java's own regular expressions find, and replace, in patterns with look-behind. The vectors were printed by
    /// `sql/tests/java/LookBehind.java` (OpenJDK 17).
    #[test]
    fn looking_back_finds_what_java_finds() {
        // Atomic and possessive parts of different lengths are Undefined here, and what is too large when written out.
        let not_here = [
            r"(?<!(?:(?<=c[ab]??b{0,3})[ab]){2}(?:\b\b\b){0,3}(?=ba?c{0,3}|a))a",
            r"(?<=b(?:a(?<=b|[ab][ab]{0,3})){1,2}\b|a{1,2}a{2}a)\b",
            "(?<=a?+a)b",
            "(?<=(?>a|ab)c)d",
            "(?<=(?>a?)b)c",
            "(?<=a{1,2}+)b",
            "(?<=(?:ab){1,2}+)c",
        ];
        let mut wrong = Vec::new();
        for line in include_str!("../../tests/java/look-behind.jsonl").lines() {
            let case: serde_json::Value = serde_json::from_str(line).unwrap();
            let (pattern, text) = (case["pattern"].as_str().unwrap(), case["text"].as_str().unwrap());
            let value = |name: &str| case[name].as_str().map_or(Value::Undefined, Value::from);
            let (found, marked) = (substr(&[text.into(), pattern.into()]), replaced(text, pattern, "<$0>"));
            let expected = if not_here.contains(&pattern) {
                (Value::Undefined, Value::Undefined)
            } else {
                (value("found"), value("marked"))
            };
            if (found, marked) != expected {
                wrong.push(line);
            }
        }
        assert!(wrong.is_empty(), "{} cases: {:#?}", wrong.len(), &wrong[..wrong.len().min(20)]);
    }

    #[test]
    fn long_texts_are_for_small_patterns() {
        let text = "a".repeat(1 << 20);
        assert_eq!(is_match(&text, "b|a$"), Some(true));
        assert_eq!(is_match(&text, "(a?){300}b"), None);
        assert_eq!(is_match(&text, "a(?=b)"), None);
        assert_eq!(is_match(text.get(..8000).unwrap(), "a(?!a)"), Some(true));
    }

    #[test]
    fn hopeless_searches_end() {
        let text = "a".repeat(5000);
        assert_eq!(matches(&[text.as_str().into(), "(?=(a+)+$)(a|aa)+\\1b".into()]), Value::Undefined);
        assert_eq!(matches(&[text.as_str().into(), "(((a{1000}){1000}){1000})".into()]), Value::Undefined);
    }
}
