//! Topics and topic filters as the MQTT standard defines them (3.1.1 §4.7, 5.0 §4.7).
//!
//! `sensor/#` also matches `sensor`; a filter that begins with a wildcard never matches a topic that begins with `$`.
//! Shared subscriptions (`$share/…`) belong to the gateway and are unknown here.

mod trie;

use std::sync::Arc;

use thiserror::Error;

pub use trie::FilterTrie;

/// The longest topic or filter, in bytes: what MQTT's two-byte length can say.
pub const MAX_BYTES: usize = 65_535;

/// A checked topic filter.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TopicFilter(Arc<str>);

/// Why a text is no topic, or no topic filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TopicError {
    /// No characters at all.
    #[error("a topic has at least one character")]
    Empty,
    /// Longer than [`MAX_BYTES`].
    #[error("a topic has at most 65535 bytes")]
    TooLong,
    /// Holds U+0000.
    #[error("a topic cannot hold the character U+0000")]
    Nul {
        /// Byte position.
        at: usize,
    },
    /// A topic to publish to holds `+` or `#`.
    #[error("a topic to publish to cannot hold `+` or `#`")]
    Wildcard {
        /// Byte position.
        at: usize,
    },
    /// `+` beside other characters of its level.
    #[error("`+` stands alone in its level: write `a/+/b`, not `a/b+`")]
    PlusInsideLevel {
        /// Byte position.
        at: usize,
    },
    /// `#` not alone in the last level.
    #[error("`#` stands alone in the last level: write `a/#`")]
    HashNotLast {
        /// Byte position.
        at: usize,
    },
}

impl TopicError {
    /// Byte position of the offending character, if one is to blame.
    pub fn position(&self) -> Option<usize> {
        match *self {
            Self::Empty | Self::TooLong => None,
            Self::Nul { at } | Self::Wildcard { at } | Self::PlusInsideLevel { at } | Self::HashNotLast { at } => {
                Some(at)
            }
        }
    }
}

fn validate_common(text: &str) -> Result<(), TopicError> {
    if text.is_empty() {
        return Err(TopicError::Empty);
    }
    if text.len() > MAX_BYTES {
        return Err(TopicError::TooLong);
    }
    match memchr::memchr(0, text.as_bytes()) {
        Some(at) => Err(TopicError::Nul { at }),
        None => Ok(()),
    }
}

/// Checks a topic that a message is published to.
pub fn validate_topic(topic: &str) -> Result<(), TopicError> {
    validate_common(topic)?;
    match memchr::memchr2(b'+', b'#', topic.as_bytes()) {
        Some(at) => Err(TopicError::Wildcard { at }),
        None => Ok(()),
    }
}

/// Checks a topic filter.
pub fn validate_filter(filter: &str) -> Result<(), TopicError> {
    validate_common(filter)?;
    let mut at = 0;
    for level in filter.split('/') {
        if let Some(inside) = level.find('+')
            && level != "+"
        {
            return Err(TopicError::PlusInsideLevel { at: at + inside });
        }
        if let Some(inside) = level.find('#')
            && (level != "#" || at + 1 != filter.len())
        {
            return Err(TopicError::HashNotLast { at: at + inside });
        }
        at += level.len() + 1;
    }
    Ok(())
}

/// Does the (valid) filter match the (valid) topic?
pub fn matches(filter: &str, topic: &str) -> bool {
    if topic.starts_with('$') && (filter.starts_with('+') || filter.starts_with('#')) {
        return false;
    }
    let mut filter = filter.split('/');
    let mut topic = topic.split('/');
    loop {
        match (filter.next(), topic.next()) {
            (Some("#"), _) | (None, None) => return true,
            (Some("+"), Some(_)) => {}
            (Some(want), Some(level)) if want == level => {}
            _ => return false,
        }
    }
}

impl TopicFilter {
    /// Checks the text.
    pub fn new(text: &str) -> Result<Self, TopicError> {
        validate_filter(text)?;
        Ok(Self(Arc::from(text)))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text, shared.
    pub fn text(&self) -> &Arc<str> {
        &self.0
    }

    /// Does it match the (valid) topic?
    pub fn matches(&self, topic: &str) -> bool {
        matches(&self.0, topic)
    }

    /// Without wildcards it matches one topic only.
    pub fn is_exact(&self) -> bool {
        memchr::memchr2(b'+', b'#', self.0.as_bytes()).is_none()
    }

    /// How many levels a matching topic has at most; `None` with `#`.
    pub fn max_levels(&self) -> Option<usize> {
        if self.0.ends_with('#') { None } else { Some(self.0.split('/').count()) }
    }
}

impl std::fmt::Display for TopicFilter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_standards_own_examples() {
        for (filter, topic, expected) in [
            ("sport/tennis/player1/#", "sport/tennis/player1", true),
            ("sport/tennis/player1/#", "sport/tennis/player1/ranking", true),
            ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true),
            ("sport/#", "sport", true),
            ("sport/#", "sports", false),
            ("sport/tennis/+", "sport/tennis/player1", true),
            ("sport/tennis/+", "sport/tennis/player1/ranking", false),
            ("sport/+", "sport", false),
            ("sport/+", "sport/", true),
            ("+/+", "/finance", true),
            ("/+", "/finance", true),
            ("+", "/finance", false),
            ("#", "$SYS/monitor/Clients", false),
            ("+/monitor/Clients", "$SYS/monitor/Clients", false),
            ("$SYS/#", "$SYS/monitor/Clients", true),
            ("$SYS/monitor/+", "$SYS/monitor/Clients", true),
            ("a/+/c/#", "a/b/c", true),
            ("a/+/c/#", "a//c/d", true),
            ("é/+", "é/x", true),
            ("a", "A", false),
        ] {
            let filter = TopicFilter::new(filter).unwrap();
            assert_eq!(filter.matches(topic), expected, "{filter} {topic}");
            let mut trie = FilterTrie::new();
            trie.insert(&filter, ());
            let mut found = Vec::new();
            trie.matches(topic, &mut found);
            assert_eq!(found.len() == 1, expected, "trie: {filter} {topic}");
        }
    }

    #[test]
    fn invalid_filters_and_topics_say_where() {
        assert_eq!(TopicFilter::new(""), Err(TopicError::Empty));
        assert_eq!(TopicFilter::new("a/b+"), Err(TopicError::PlusInsideLevel { at: 3 }));
        assert_eq!(TopicFilter::new("a/#/b"), Err(TopicError::HashNotLast { at: 2 }));
        assert_eq!(TopicFilter::new("a/b#"), Err(TopicError::HashNotLast { at: 3 }));
        assert_eq!(TopicFilter::new("a\0"), Err(TopicError::Nul { at: 1 }));
        assert_eq!(TopicFilter::new(&"a".repeat(MAX_BYTES + 1)), Err(TopicError::TooLong));
        assert_eq!(validate_topic("a/+"), Err(TopicError::Wildcard { at: 2 }));
        assert_eq!(validate_topic("é/x"), Ok(()));
    }
}
