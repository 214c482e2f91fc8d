//! "Did you mean …?": the nearest known word to an unknown one.

/// The candidate nearest to the word, if it is near enough to be a slip: one edit for a short word, three for a long
/// one, where an edit is a letter too many, missing, wrong, or swapped with its neighbour. Case does not count. The word
/// itself is no suggestion.
pub fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let lower: Vec<char> = word.to_lowercase().chars().take(MAX_LENGTH + 1).collect();
    if lower.len() > MAX_LENGTH {
        return None;
    }
    let allowed = match lower.len() {
        0..=2 => 0,
        3..=5 => 1,
        6..=8 => 2,
        _ => 3,
    };
    candidates
        .filter(|candidate| *candidate != word)
        .filter_map(|candidate| {
            let other: Vec<char> = candidate.to_lowercase().chars().collect();
            if other.len().abs_diff(lower.len()) > allowed {
                return None;
            }
            let distance = distance(&lower, &other);
            (distance <= allowed).then_some((distance, candidate))
        })
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, candidate)| candidate)
}

/// "did you mean `x`?", if there is something near.
pub fn did_you_mean<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<String> {
    nearest(word, candidates).map(|near| format!("did you mean `{near}`?"))
}

const MAX_LENGTH: usize = 64;

/// Edits between two words, a swap of neighbours counting as one (optimal string alignment).
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    let mut previous_a = None;
    for (row, &ca) in a.iter().enumerate() {
        let mut current = Vec::with_capacity(b.len() + 1);
        let mut left = row + 1;
        current.push(left);
        let mut previous_b = None;
        for (column, &cb) in b.iter().enumerate() {
            let at = |cells: &[usize], index: usize| cells.get(index).copied().unwrap_or(usize::MAX - 1);
            let mut best = (at(&last, column) + usize::from(ca != cb)).min(at(&last, column + 1) + 1).min(left + 1);
            if previous_a == Some(cb) && previous_b == Some(ca) && column > 0 {
                best = best.min(at(&before, column - 1) + 1);
            }
            current.push(best);
            left = best;
            previous_b = Some(cb);
        }
        before = std::mem::replace(&mut last, current);
        previous_a = Some(ca);
    }
    last.last().copied().unwrap_or(a.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_found_and_other_words_are_not() {
        let words = ["timestamp", "topic", "FROM", "replace", "abs"];
        let near = |word| nearest(word, words.iter().copied());
        assert_eq!(near("timestmp"), Some("timestamp"));
        assert_eq!(near("FORM"), Some("FROM"));
        assert_eq!(near("tpoic"), Some("topic"));
        assert_eq!(near("TOPIC"), Some("topic"));
        assert_eq!(near("topic"), None);
        assert_eq!(near("temperature"), None);
        assert_eq!(near("ab"), None);
        assert_eq!(near(&"x".repeat(1000)), None);
    }
}
