//! LIKE: `%` is any text, `_` any character, a backslash takes the next character as it is.

use super::scope::Scope;
use crate::value::Value;

/// One step of a pattern.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Any,
    One,
    Exactly(char),
}

/// `value LIKE pattern`; `None` (Undefined) if a side has no text.
pub(super) fn like(value: &Value, pattern: &Value, scope: &Scope<'_>) -> Option<bool> {
    let (value, pattern) = (value.to_text()?, pattern.to_text()?);
    let steps = steps(&pattern);
    let text: Vec<char> = value.chars().collect();
    // Matching looks at every pair in the worst case.
    let pairs = (text.len() as u64 / 8 + 1).saturating_mul(steps.len() as u64 / 8 + 1);
    scope.charge(pairs).then(|| matches(&steps, &text))
}

fn steps(pattern: &str) -> Vec<Step> {
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
    steps
}

/// Greedy with one point of return: after a `%` only the latest one needs to be tried again.
fn matches(steps: &[Step], text: &[char]) -> bool {
    let (mut step, mut at) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    loop {
        match (steps.get(step), text.get(at)) {
            (None, None) => return true,
            (Some(Step::Any), _) => {
                retry = Some((step, at));
                step += 1;
                continue;
            }
            (Some(Step::One), Some(_)) => {
                (step, at) = (step + 1, at + 1);
                continue;
            }
            (Some(Step::Exactly(wanted)), Some(character)) if wanted == character => {
                (step, at) = (step + 1, at + 1);
                continue;
            }
            _ => {}
        }
        match retry {
            Some((any, from)) if from < text.len() => {
                retry = Some((any, from + 1));
                (step, at) = (any + 1, from + 1);
            }
            _ => return false,
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
            let text: Vec<char> = text.chars().collect();
            assert_eq!(matches(&steps(pattern), &text), expected, "{text:?} LIKE {pattern}");
        }
    }
}
