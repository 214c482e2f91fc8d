//! Many short texts in one piece of memory: whom the messages of a batch came from.

/// Texts by their place. Equal ones that follow each other are kept once.
#[derive(Debug, Default)]
pub struct Names {
    text: String,
    /// Start and end.
    spans: Vec<(usize, usize)>,
}

impl Names {
    /// Makes room for so many texts of so many bytes together.
    pub fn with_capacity(texts: usize, bytes: usize) -> Self {
        Self { text: String::with_capacity(bytes), spans: Vec::with_capacity(texts) }
    }

    /// Appends a text.
    pub fn push(&mut self, text: &str) {
        let last = self.spans.last().copied().unwrap_or_default();
        if self.text.as_bytes().get(last.0..last.1) == Some(text.as_bytes()) {
            self.spans.push(last);
            return;
        }
        let start = self.text.len();
        self.text.push_str(text);
        self.spans.push((start, self.text.len()));
    }

    /// The text at a place; empty beyond the last.
    pub fn get(&self, place: usize) -> &str {
        self.spans.get(place).and_then(|(start, end)| self.text.get(*start..*end)).unwrap_or_default()
    }
}

impl<'a> FromIterator<&'a str> for Names {
    fn from_iter<I: IntoIterator<Item = &'a str>>(texts: I) -> Self {
        let mut names = Self::default();
        texts.into_iter().for_each(|text| names.push(text));
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_found_by_their_place() {
        let all = ["", "a/b", "a/b", "é", "", "", "a/b"];
        let names: Names = all.into_iter().collect();
        assert_eq!(
            all.map(|text| text.to_owned()).to_vec(),
            (0..7).map(|at| names.get(at).to_owned()).collect::<Vec<_>>()
        );
        assert_eq!(names.get(7), "");
        assert_eq!(names.text, "a/béa/b");
    }
}
