//! Named topics: sinks that rules publish notifications into, and that other rules subscribe to with `FROM name`.
//!
//! A notification is a record of the log on a topic of its own, below `$hedgerow/notify/`, where no client may publish. So
//! a subscription is a rule like any other: its WHERE is the filter, its INTO says where notifications go, and its rows
//! are exactly once. The last level says whether the notification has a text for each protocol (`json`, the
//! `messageFormat` of an AWS document) or is the same for all (`raw`).

use std::borrow::Cow;

/// The connector of sinks that are topics.
pub const CONNECTOR: &str = "notify";

const BELOW: &str = "$hedgerow/notify/";
const SAME: &str = "raw";
const BY_PROTOCOL: &str = "json";
/// The member of a notification with texts by protocol that is for all others.
const DEFAULT: &str = "default";

/// Where notifications of the topic `name` are published.
pub fn topic(name: &str, by_protocol: bool) -> String {
    format!("{BELOW}{}/{}", escape(name), if by_protocol { BY_PROTOCOL } else { SAME })
}

/// The filter of `FROM name`.
pub fn filter(name: &str) -> String {
    format!("{BELOW}{}/+", escape(name))
}

/// The topic that a filter, or the topic of a notification, stands for.
pub fn name(text: &str) -> Option<String> {
    let (name, last) = text.strip_prefix(BELOW)?.split_once('/')?;
    ["+", SAME, BY_PROTOCOL].contains(&last).then(|| unescape(name)).flatten()
}

/// What a notification says over one of these protocols, the first that it names: the row itself, unless it was published
/// with texts by protocol.
pub fn text<'a>(topic: &str, row: &'a [u8], protocols: &[&str]) -> Cow<'a, [u8]> {
    let by_protocol = topic.strip_prefix(BELOW).is_some_and(|rest| rest.ends_with("/json"));
    if !by_protocol {
        return Cow::Borrowed(row);
    }
    let Ok(serde_json::Value::Object(mut members)) = serde_json::from_slice(row) else { return Cow::Borrowed(row) };
    let found = protocols.iter().copied().chain([DEFAULT]).find_map(|name| members.remove(name));
    match found {
        Some(serde_json::Value::String(text)) => Cow::Owned(text.into_bytes()),
        Some(other) => Cow::Owned(other.to_string().into_bytes()),
        None => Cow::Borrowed(row),
    }
}

/// A name as one level of a topic, whatever characters are in it.
fn escape(name: &str) -> String {
    let plain = |c: char| match c {
        c if c.is_alphanumeric() || c == '_' || c == '-' => c.to_string(),
        other => format!("%{:x}.", u32::from(other)),
    };
    name.chars().map(plain).collect()
}

fn unescape(level: &str) -> Option<String> {
    let mut pieces = level.split('%');
    let mut name = pieces.next()?.to_owned();
    for piece in pieces {
        let (code, rest) = piece.split_once('.')?;
        name.push(char::from_u32(u32::from_str_radix(code, 16).ok()?)?);
        name.push_str(rest);
    }
    Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_a_topic_of_its_own() {
        for one in ["alarms", "my-alarms", "a/b", "+", "é x", "%2f.", "a.b", ""] {
            assert_eq!(name(&filter(one)).as_deref(), Some(one));
            assert_eq!(name(&topic(one, true)).as_deref(), Some(one));
            assert_eq!(topic(one, false).matches('/').count(), 3);
        }
        for other in ["$hedgerow/notify/a", "$hedgerow/notify/a/b", "$hedgerow/errors/a", "$hedgerow/notify/%zz./raw"] {
            assert_eq!(name(other), None, "{other}");
        }
    }

    #[test]
    fn each_protocol_has_its_text() {
        let row = br#"{"default": "d", "https": "h", "sqs": {"a": 1}}"#;
        let of = |topic: &str, protocols: &[&str]| String::from_utf8(text(topic, row, protocols).into_owned()).unwrap();
        let json = topic("alarms", true);
        assert_eq!(of(&json, &["https", "http"]), "h");
        assert_eq!(of(&json, &["http"]), "d");
        assert_eq!(of(&json, &["sqs"]), "{\"a\":1}");
        assert_eq!(of(&topic("alarms", false), &["https"]).as_bytes(), row);
        assert_eq!(of("a/json", &["https"]).as_bytes(), row);
        assert_eq!(&*text(&json, b"[1]", &["https"]), b"[1]");
        assert_eq!(
            &*text(&json, b"{\"a\": 1}", &["https"]),
            b"{\"a\": 1}",
            "a subscription may have selected something else"
        );
    }
}
