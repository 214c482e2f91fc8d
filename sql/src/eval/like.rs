//! LIKE: `%` is any text, `_` any character, a backslash takes the next character as it is.

use std::str::Chars;

use super::scope::Scope;
use crate::value::Value;

/// A pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pattern {
    steps: Vec<Step>,
}

/// One step of a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Any,
    One,
    Exactly(char),
}

/// `value LIKE pattern`; `None` (Undefined) if a side has no text.
pub(super) fn like(value: &Value, pattern: &Value, scope: &Scope<'_>) -> Option<bool> {
    let (value, pattern) = (value.to_text()?, pattern.to_text()?);
    let pattern = Pattern::new(&pattern);
    // Matching looks at every pair in the worst case.
    let pairs = (value.len() as u64 / 8 + 1).saturating_mul(pattern.steps.len() as u64 / 8 + 1);
    scope.charge(pairs).then(|| pattern.matches(&value))
}

impl Pattern {
    pub(crate) fn new(pattern: &str) -> Self {
        let mut characters = pattern.chars();
        let mut steps = Vec::new();
        while let Some(character) = characters.next() {
            steps.push(match character {
                '%' => Step::Any,
                '_' => Step::One,
                '\\' => Step::Exactly(characters.next().unwrap_or('\\')),
                other => Step::Exactly(other),
            });
        }
        Self { steps }
    }

    /// Greedy with one point of return: after a `%` only the latest one needs to be tried again.
    pub(crate) fn matches(&self, text: &str) -> bool {
        let (mut step, mut rest) = (0, text.chars());
        let mut retry: Option<(usize, Chars<'_>)> = None;
        loop {
            let mut after = rest.clone();
            match (self.steps.get(step), after.next()) {
                (None, None) => return true,
                (Some(Step::Any), _) => {
                    retry = Some((step, rest.clone()));
                    step += 1;
                    continue;
                }
                (Some(Step::One), Some(_)) => {
                    (step, rest) = (step + 1, after);
                    continue;
                }
                (Some(Step::Exactly(wanted)), Some(character)) if *wanted == character => {
                    (step, rest) = (step + 1, after);
                    continue;
                }
                _ => {}
            }
            let Some((any, from)) = &mut retry else { return false };
            if from.next().is_none() {
                return false;
            }
            (step, rest) = (*any + 1, from.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (text, pattern, expected) in [
            ("sensor/1", "sensor/%", true),
            ("sensor", "sensor/%", false),
            ("abcabd", "%abd", true),
            ("abc", "a_c", true),
            ("a\u{20ac}c", "a_c", true),
            ("100%", "100\\%", true),
            ("1000", "100\\%", false),
            ("", "%", true),
            ("", "_", false),
            ("aXbXc", "a%b%c", true),
        ] {
            assert_eq!(Pattern::new(pattern).matches(text), expected, "{text:?} LIKE {pattern}");
        }
    }
}
